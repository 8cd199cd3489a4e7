//! Processes: helpers that may not outlive their parent.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes the command's process die with its parent (prctl(2), PR_SET_PDEATHSIG) in a process group of its
/// own, so that whatever it starts can be ended with it. The signal mask, which a monitor blocks, is reset.
///
/// The parent must be single-threaded: the kernel watches the parent *thread*.
pub fn bind_to_parent(command: &mut Command) -> &mut Command {
    let parent = std::process::id();
    command.process_group(0);
    // SAFETY: the closure runs between fork and exec and makes async-signal-safe system calls only.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            if libc::getppid() as u32 != parent {
                libc::_exit(125);
            }
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
            Ok(())
        })
    }
}
