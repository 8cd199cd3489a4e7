//! The process that people talk to: the work is done by a child, so that a signal ends it at once and all that it has
//! started, whatever it was waiting for.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;
use rustix::event::{PollFd, PollFlags};
use rustix::process::{WaitOptions, getpid, set_child_subreaper, wait};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::build::leftover;
use crate::container::store::Store;
use crate::error::{Error, Result, Step};
use crate::host::paths::Runtime;
use crate::sys::channel::Channel;
use crate::sys::process::{Fork, die_with_parent, exit_now, fork, send_signal, wait_for};
use crate::sys::signals;
use crate::sys::terminal::{next_signal, signal_descriptor};

/// What ends a build. What its steps have left in the cache stays for the next one.
const ENDING: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];
/// How long what a build has started may take to end. What serves a network that others use stays.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(5);

/// Does `work` in a child. A signal that ends the build ends this process, too, as if it had never been caught, once the
/// containers of the build are gone.
///
/// # Errors
/// What `work` failed with, or that the child was killed.
pub fn run<T: Serialize + DeserializeOwned>(
    store: &Store,
    runtime: &Runtime,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let failed = || "cannot watch over the build";
    let mask = SigSet::thread_get_mask().step(failed)?;
    let caught: Vec<i32> = ENDING.into_iter().filter(|signal| !signals::is_ignored(*signal)).collect();
    let heard = [&caught[..], &[libc::SIGCHLD]].concat();
    let descriptor = signal_descriptor(&heard).step(failed)?;
    // Whatever is left of the build when its process is killed comes here, and can be waited for.
    set_child_subreaper(Some(getpid())).step(failed)?;
    let (ours, theirs) = Channel::pair().step(failed)?;
    let parent = std::process::id();
    let pid = match fork().step(failed)? {
        Fork::Parent(pid) => {
            drop(theirs);
            pid
        }
        Fork::Child => {
            drop((ours, descriptor));
            // The attribute of the parent's is not inherited (PR_SET_CHILD_SUBREAPER(2const)).
            let _ = die_with_parent(parent);
            let _ = mask.thread_set_mask();
            let sent = theirs.send(&work());
            exit_now(i32::from(sent.is_err()))
        }
    };
    let mut outcome = None;
    let mut signalled = None;
    loop {
        let mut polled = [PollFd::new(&ours, PollFlags::IN), PollFd::new(&descriptor, PollFlags::IN)];
        if rustix::event::poll(&mut polled, None).is_err_and(|errno| errno != rustix::io::Errno::INTR) {
            break;
        }
        let has_news = !polled[0].revents().is_empty();
        signalled = signalled.or(next_ending(descriptor.as_fd()));
        if signalled.is_some() {
            break;
        }
        if has_news {
            outcome = ours.receive::<Result<T>>().step(failed)?;
            break;
        }
        // Monitors that have outlived whoever started them.
        reap();
    }
    if outcome.is_some() {
        // It may be gone already.
        let _ = wait_for(pid);
        // Who was killed a moment before this build began was still there then.
        leftover::remove(store, &runtime.path);
    } else {
        let _ = send_signal(pid, libc::SIGKILL);
        let until = Instant::now() + PATIENCE;
        // A stage that is being killed may be making another container.
        while reap() && Instant::now() < until {
            leftover::remove(store, &runtime.path);
            std::thread::sleep(PAUSE);
        }
        leftover::remove(store, &runtime.path);
        // What was fetched for it is removed with it.
        drop(work);
        // It may have taken the same signal before this process has.
        if let Some(signal) = signalled.or_else(|| next_ending(descriptor.as_fd())) {
            let _ = signals::take(signal);
        }
    }
    let _ = mask.thread_set_mask();
    match outcome {
        Some((outcome, _)) => outcome,
        None => Err(Error::new("cannot build it").because("the process that builds it was killed")),
    }
}

/// The next signal that ends the build.
fn next_ending(descriptor: BorrowedFd<'_>) -> Option<i32> {
    std::iter::from_fn(|| next_signal(descriptor)).find(|signal| *signal != libc::SIGCHLD)
}

/// Takes leave of children that have ended; false: there are no others.
fn reap() -> bool {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}
