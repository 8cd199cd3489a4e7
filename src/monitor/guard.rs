//! The guard: a second, idle process that ends the container when its monitor dies.
//!
//! The parent-death signal of the container's first process does not suffice, since the kernel clears it
//! when that process changes its user, as many entry points do (prctl(2), PR_SET_PDEATHSIG).

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::{Error, Result, Step};
use crate::sys::memory::poll_idly;
use crate::sys::process::{Fork, close_all_but, exit_now, fork, send_signal_to};

/// Forks the guard of the calling monitor. It holds `init` (a pidfd), and with `lock` the container's lock,
/// so that no other command takes the container for abandoned before the guard has done its work. Of `namespace`,
/// a user namespace, every process ends, too.
pub fn start(init: BorrowedFd<'_>, lock: BorrowedFd<'_>, namespace: Option<&File>) -> Result<i32> {
    let failed = || "cannot start the guard of the container";
    let own = Pid::from_raw(std::process::id().cast_signed()).ok_or_else(|| Error::new(failed()))?;
    let monitor = pidfd_open(own, PidfdFlags::empty()).step(failed)?;
    match fork().step(failed)? {
        Fork::Parent(pid) => Ok(pid),
        Fork::Child => {
            let _ = rustix::process::setsid();
            let _ = rustix::process::chdir("/");
            let _ = rustix::thread::set_name(c"sbx-guard");
            let mut kept = vec![monitor.as_raw_fd(), init.as_raw_fd(), lock.as_raw_fd()];
            kept.extend(namespace.map(AsRawFd::as_raw_fd));
            close_all_but(&mut kept);
            let mut polled = [PollFd::from_borrowed_fd(monitor.as_fd(), PollFlags::IN)];
            while poll_idly(&mut polled, None).is_err() {}
            let _ = send_signal_to(init, libc::SIGKILL);
            if let Some(found) = namespace.and_then(|namespace| namespace.metadata().ok()) {
                crate::container::process::kill_user_namespace(found.ino(), &[]);
            }
            exit_now(0)
        }
    }
}
