//! The holder of the shared network namespace, two processes that are there as long as a container is in a network:
//!
//! - [`outside`], `sbx-network`, in the host's namespaces, starts the uplinks (slirp4netns or pasta) and nothing else;
//! - [`inside`], `sbx-bridge`, in the user and network namespace below which those of the containers are, makes bridges
//!   and interfaces, answers names, forwards ports.
//!
//! Neither outlives the other. What they know is in their memory alone: the monitors bring it along, again to the next
//! holder when this one was killed.

mod inside;
mod outside;
mod registry;
mod services;
mod uplink;

use std::ffi::CStr;
use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use serde::{Deserialize, Serialize};

use super::place::Place;
use super::session::Former;
use crate::error::{Error, Result, Step};
use crate::identity::Identity;
use crate::sys::channel::Channel;
use crate::sys::process::{Fork, close_all_but, exit_now, fork, wait_for};

use uplink::{Connected, Uplink};

/// The name of the process inside.
const INSIDE: &CStr = c"sbx-bridge";
/// How long a process that was killed is waited for.
const LAST_MOMENTS: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// From the process inside.
#[derive(Debug, Serialize, Deserialize)]
enum ToOutside {
    /// It is in its namespaces; or it cannot be.
    Ready,
    Failed(Error),
    /// Connect the namespace.
    Start(Uplink),
}

/// From the process outside.
#[derive(Debug, Serialize, Deserialize)]
enum ToInside {
    /// The ID maps are written.
    Mapped,
    Connected(Uplink, Connected),
    /// It cannot be connected.
    Unconnected(Uplink, Error),
}

/// Starts a holder, and returns when it can be connected to. The caller holds the place's lock alone and has one
/// thread. `former` is what an earlier holder left behind.
///
/// # Errors
/// No user or network namespace is to be had, or something that networks need is missing.
pub fn start(place: &Place, identity: &Identity, former: Option<Former>) -> Result<()> {
    let failed = || "cannot start the process that holds the networks";
    let listener = place.listen()?;
    let (ours, theirs) = Channel::pair().step(failed)?;
    let between = match fork().step(failed)? {
        Fork::Child => match fork() {
            // Nobody's child but init's, so that no monitor reaps it.
            Ok(Fork::Child) => {
                let _ = rustix::process::setsid();
                let _ = rustix::process::chdir("/");
                let mut kept = vec![listener.as_raw_fd(), theirs.as_raw_fd()];
                kept.extend(former.iter().map(|former| former.namespace.as_raw_fd()));
                close_all_but(&mut kept);
                if let Err(error) = null_streams() {
                    let _ = theirs.send(&Some(error));
                    exit_now(125);
                }
                outside::run(place, identity, listener, theirs, former)
            }
            _ => exit_now(0),
        },
        Fork::Parent(pid) => pid,
    };
    drop(theirs);
    let _ = wait_for(between);
    match ours.receive::<Option<Error>>().step(failed)? {
        Some((None, _)) => Ok(()),
        Some((Some(error), _)) => Err(error),
        None => Err(Error::new(failed()).because("it was killed")),
    }
}

/// Ends a holder that has the user namespace and that nobody can connect to: somebody emptied the runtime directory.
/// The monitors of its containers see that it is gone and come to the next one; else there would be two networks where
/// one is meant. The caller holds the place's lock alone.
pub fn end_unreachable(namespace: BorrowedFd<'_>) {
    let Ok(wanted) = rustix::fs::fstat(namespace) else { return };
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let path = process.path();
        let pid = process.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let Some(pid) = pid else { continue };
        if !fs::read(path.join("comm")).is_ok_and(|name| name.trim_ascii_end() == INSIDE.to_bytes()) {
            continue;
        }
        // Before the look, so that what is signalled is what was looked at.
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        let same = fs::metadata(path.join("ns/user"))
            .is_ok_and(|found| (found.dev(), found.ino()) == (wanted.st_dev, wanted.st_ino));
        if same && pidfd_send_signal(&process, Signal::KILL).is_ok() {
            let _ = rustix::event::poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&LAST_MOMENTS));
        }
    }
}

/// The descriptors 0 to 2 are closed.
fn null_streams() -> Result<()> {
    let failed = || "cannot open `/dev/null`";
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty()).step(failed)?;
    rustix::stdio::dup2_stdin(&null).step(failed)?;
    rustix::stdio::dup2_stdout(&null).step(failed)?;
    rustix::stdio::dup2_stderr(&null).step(failed)?;
    if null.as_raw_fd() <= 2 {
        // It is one of them.
        std::mem::forget(null);
    }
    Ok(())
}
