//! How the allocator shares memory among threads.

#[cfg(target_env = "gnu")]
use std::thread::available_parallelism;

/// On very large machines, heaps cost more than what waiting for one another's costs.
#[cfg(target_env = "gnu")]
const HEAPS_MAX: usize = 16;

/// Has glibc keep one heap for each processor, and two at least, instead of one for each thread up to eight times as
/// many. A heap doesn't give back what lies below its topmost block, so that with a dozen threads, each of which passes
/// buffers on to others, a restore held 200 to 240 MB where two heaps take 125 to 140 MB, in the same time.
///
/// To be called before threads are started; later it does nothing. Other allocators have no such setting, and are left as
/// they are.
#[cfg_attr(
    target_env = "gnu",
    expect(unsafe_code, reason = "there is no safe way to mallopt; the proof stands beside it")
)]
pub fn share_heaps() {
    #[cfg(target_env = "gnu")]
    {
        let alone = std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1);
        if !alone {
            return;
        }
        let heaps = available_parallelism().map_or(2, usize::from).clamp(2, HEAPS_MAX);
        let heaps = libc::c_int::try_from(heaps).unwrap_or(2);
        // SAFETY: `mallopt` takes two numbers and no pointers. By mallopt(3) it isn't safe beside other threads; there
        // are none, which was just seen, and none can come up meanwhile but from this one.
        let taken = unsafe { libc::mallopt(libc::M_ARENA_MAX, heaps) };
        // A limit that isn't taken costs memory only.
        debug_assert_ne!(taken, 0, "glibc knows this setting");
    }
}
