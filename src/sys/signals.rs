//! Signals of this process: how they are disposed of, and taking them as if they had never been caught.

use std::io;

/// Whether whoever started this process had the signal ignored, as nohup(1) does.
pub fn is_ignored(signal: i32) -> bool {
    // SAFETY: only reads into a zeroed, valid sigaction.
    unsafe {
        let mut current: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut current) == 0
            && current.sa_sigaction == libc::SIG_IGN
    }
}

/// Lets the calling thread take a signal that it has blocked, with its default action: the process ends or
/// stops. Returns where that action does neither, and after SIGCONT.
pub fn take(signal: i32) -> io::Result<()> {
    // SAFETY: zeroed sets are valid once sigemptyset has run, and the calls change this thread's mask and
    // one disposition only.
    unsafe {
        let mut default: libc::sigaction = std::mem::zeroed();
        default.sa_sigaction = libc::SIG_DFL;
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        if libc::sigaction(signal, &raw const default, std::ptr::null_mut()) != 0
            || libc::raise(signal) != 0
            || libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut()) != 0
            || libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0
        {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
