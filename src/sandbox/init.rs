//! `--init`: PID 1 reaps orphans and forwards signals to the command, which runs as its child.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::DumpableBehavior;

use crate::error::{Result, Step};
use crate::sys::process::{self, Fork, exit_now, fork, reap_any};
use crate::sys::terminal::{next_signal, signal_descriptor};

/// Forks: the child returns and executes the command; the parent stays as PID 1 and never returns. What others
/// may see or send is in order before there are others.
pub fn stay_behind(terminal: bool) -> Result<()> {
    let init = std::process::id();
    let failed = || "cannot set up init";
    rustix::thread::set_name(c"sbx-init").step(failed)?;
    // /proc/1/exe would hand out the sbx binary of the host, /proc/1/cmdline the caller's options and paths.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).step(failed)?;
    process::forget_arguments(c"sbx-init").step(failed)?;
    let every: Vec<i32> =
        (1..=libc::SIGRTMAX()).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)).collect();
    let signals = signal_descriptor(&every).step(failed)?;
    match fork().step(|| "cannot start the command below init")? {
        Fork::Child => {
            // Where the PID namespace is the host's, init's end does not end the others, and until the exec
            // nobody outside can see which namespaces this process is in.
            process::die_with_parent(init).step(|| "cannot bind the command to init")?;
            let own = rustix::process::getpid();
            let _ = rustix::process::setpgid(Some(own), Some(own));
            if terminal {
                // A process outside the foreground group gets SIGTTOU for this unless it is ignored or
                // blocked; the mask is opened again before the exec.
                let _ = rustix::termios::tcsetpgrp(std::io::stdin(), own);
            }
            Ok(())
        }
        Fork::Parent(command) => serve(command, &signals),
    }
}

fn serve(command: i32, signals: &OwnedFd) -> ! {
    process::close_all_but(&mut [0, 1, 2, signals.as_raw_fd()]);
    loop {
        while let Some((pid, code)) = reap_any() {
            if pid == command {
                exit_now(code);
            }
        }
        let mut polled = [PollFd::new(signals, PollFlags::IN)];
        let _ = poll(&mut polled, None);
        while let Some(signal) = next_signal(signals.as_fd()) {
            if ![libc::SIGCHLD, libc::SIGTTIN, libc::SIGTTOU].contains(&signal) {
                let _ = process::send_signal(command, signal);
            }
        }
    }
}
