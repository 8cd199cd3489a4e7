//! The control socket of a container that runs: where other commands reach its monitor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};

use crate::container::store::short;
use crate::error::{Error, Result, Step};
use crate::monitor::message::Request;
use crate::sys::channel::Channel;

/// Its name in the runtime directory.
pub fn name(id: &str) -> String {
    format!("{id}.control")
}

/// Makes the socket, which nobody but the user reaches: the runtime directory is closed to others.
///
/// # Errors
/// The runtime directory cannot be made, or the socket cannot be.
pub fn listen(runtime: &Path, id: &str) -> Result<OwnedFd> {
    let directory = crate::host::paths::create_runtime(runtime, rustix::process::getuid().as_raw())?;
    let failed = || format!("cannot make the control socket of the container in `{}`", runtime.display());
    Channel::listen(directory.as_fd(), &name(id)).step(failed)
}

pub fn remove(runtime: &Path, id: &str) {
    let _ = std::fs::remove_file(runtime.join(name(id)));
}

/// Connects to the monitor of a container and says what for; none: nobody listens there, as when the container is
/// down.
///
/// # Errors
/// Somebody listens and does not take the request.
pub fn request(runtime: &Path, id: &str, request: &Request) -> Result<Option<Channel>> {
    request_with(runtime, id, request, None)
}

/// The same with a descriptor that the request takes.
///
/// # Errors
/// As [`request`].
pub fn request_with(
    runtime: &Path,
    id: &str,
    request: &Request,
    descriptor: Option<BorrowedFd<'_>>,
) -> Result<Option<Channel>> {
    let connected = open(runtime)
        .map_err(std::io::Error::from)
        .and_then(|directory| Channel::connect(directory.as_fd(), &name(id)));
    let Ok(channel) = connected else { return Ok(None) };
    let sent = match descriptor {
        Some(descriptor) => channel.send_with(request, descriptor),
        None => channel.send(request),
    };
    match sent {
        Ok(()) => Ok(Some(channel)),
        // It went meanwhile.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET)) => Ok(None),
        Err(error) => {
            Err(Error::new(format!("cannot talk to the monitor of container {}", short(id))).because(error))
        }
    }
}

fn open(runtime: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(CWD, runtime, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}
