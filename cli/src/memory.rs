//! How the allocator shares memory among threads.

#[cfg(target_env = "gnu")]
use std::thread::available_parallelism;

/// On very large machines, heaps cost more than what waiting for one another's costs.
#[cfg(target_env = "gnu")]
const HEAPS_MAX: usize = 16;

/// From which length on a buffer is given back to the system as soon as it is freed: whole packs, not frames.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 8 << 20;
/// How much that is free a heap keeps at its end, instead of the 128 KiB that come with a fixed [`LARGE`].
#[cfg(target_env = "gnu")]
const KEPT: libc::c_int = 64 << 20;

/// Has glibc keep one heap for each processor, and two at least, instead of one for each thread up to eight times as
/// many. A heap doesn't give back what lies below its topmost block, so that with a dozen threads, each of which passes
/// buffers on to others, a restore held 200 to 240 MB where two heaps take 125 to 140 MB, in the same time.
///
/// To be called before threads are started; later it does nothing. Other allocators have no such setting, and are left as
/// they are.
pub fn share_heaps() {
    #[cfg(target_env = "gnu")]
    {
        let heaps = available_parallelism().map_or(2, usize::from).clamp(2, HEAPS_MAX);
        set(&[(libc::M_ARENA_MAX, libc::c_int::try_from(heaps).unwrap_or(2))]);
    }
}

/// Has glibc give each buffer of 8 MiB or more back when it is freed, instead of keeping its room in a heap, among what isn't
/// free. A program that holds some whole packs at a time takes 80 MB that way, and 145 to 240 MB else, but a quarter
/// more time, since the system clears what it gives: for a verifier, not for an agent.
///
/// To be called as [`share_heaps`] is.
pub fn give_large_buffers_back() {
    #[cfg(target_env = "gnu")]
    set(&[(libc::M_MMAP_THRESHOLD, LARGE), (libc::M_TRIM_THRESHOLD, KEPT)]);
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "there is no safe way to mallopt; the proof stands beside it")]
fn set(options: &[(libc::c_int, libc::c_int)]) {
    let alone = std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1);
    if !alone {
        return;
    }
    for &(option, value) in options {
        // SAFETY: `mallopt` takes two numbers and no pointers. By mallopt(3) it isn't safe beside other threads; there
        // are none, which was just seen, and none can come up meanwhile but from this one.
        let taken = unsafe { libc::mallopt(option, value) };
        // A limit that isn't taken costs memory only.
        debug_assert_ne!(taken, 0, "glibc knows this setting");
    }
}
