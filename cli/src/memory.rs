//! How the allocator shares memory among threads.

#[cfg(target_env = "gnu")]
use std::thread::available_parallelism;

/// On very large machines, heaps cost more than what waiting for one another's costs.
#[cfg(target_env = "gnu")]
const HEAPS_MAX: usize = 16;

/// How much that is free a heap keeps at its end, instead of the 128 KiB that come with a fixed length from which on buffers are
/// given back.
#[cfg(target_env = "gnu")]
const KEPT: libc::c_int = 64 << 20;

/// Which buffers are given back to the system as soon as they are freed.
#[derive(Debug, Clone, Copy)]
pub enum GiveBack {
    /// From 512 KiB on: most frames. For a backup, which waits for its compressors anyway: it holds 170 MB instead of 180 to
    /// 205 where data of both expected lives is packed, in the same time. A restore would take a third more time.
    Frames,
    /// From 8 MiB on: whole packs. A deep verification takes 80 to 95 MB that way, and 145 to 240 MB else. It costs no time, since the
    /// room that packs are read into is used again (the vault's `store/buffers.rs`).
    Packs,
}

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

/// Has glibc give large buffers back when they are freed, instead of keeping their room in a heap, among what isn't free.
/// The system clears what it gives, which takes time.
///
/// To be called as [`share_heaps`] is.
pub fn give_back(large: GiveBack) {
    #[cfg(target_env = "gnu")]
    {
        let large = match large {
            GiveBack::Frames => 512 << 10,
            GiveBack::Packs => 8 << 20,
        };
        set(&[(libc::M_MMAP_THRESHOLD, large), (libc::M_TRIM_THRESHOLD, KEPT)]);
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = large;
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
