//! Giving back memory that an idle process holds only because it once used it.

use std::ffi::c_void;

use rustix::event::{PollFd, Timespec, poll};
use rustix::io::Errno;

/// Lets go of the pages of the program's own text; they come back from the page cache when they are used.
/// Only mappings that are executable: what relocations changed must stay. Without /proc nothing happens.
pub fn release_text() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for line in maps.lines().filter(|line| line.contains(" r-xp ") && line.contains('/')) {
        let Some((from, to)) = line.split(' ').next().and_then(|range| range.split_once('-')) else {
            continue;
        };
        let (Ok(from), Ok(to)) = (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16)) else {
            continue;
        };
        // SAFETY: the range is a private file mapping that nobody can have written to (madvise(2),
        // MADV_DONTNEED: later accesses are filled from the file again).
        unsafe { libc::madvise(from as *mut c_void, to - from, libc::MADV_DONTNEED) };
    }
}

/// poll(2) for processes that mostly wait: where nothing happens for a second, the memory goes back first.
pub fn poll_idly(polled: &mut [PollFd<'_>], timeout: Option<&Timespec>) -> Result<usize, Errno> {
    const PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
    if timeout.is_some_and(|timeout| timeout.tv_sec < 2) {
        return poll(polled, timeout);
    }
    match poll(polled, Some(&PATIENCE)) {
        Ok(0) => {}
        result => return result,
    }
    release_text();
    let left = timeout.map(|timeout| Timespec { tv_sec: timeout.tv_sec - 1, tv_nsec: timeout.tv_nsec });
    poll(polled, left.as_ref())
}

/// Lets all threads share one heap: those of the client allocate next to nothing, and a heap each would cost
/// more than the thread itself (mallopt(3), M_ARENA_MAX).
pub fn share_heap() {
    // SAFETY: sets a parameter of the allocator; called while there is one thread.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
