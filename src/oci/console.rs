//! Descriptors that go to somebody else over a socket: the container's terminal to who asked for it (`--console-socket`),
//! the listener of its filter to who answers.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType,
};

use crate::error::{Error, Result, Step};

/// How long a listener may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends the master of a terminal. The text is its name, as runc has it.
///
/// # Errors
/// Nobody listens there.
pub fn send(socket: &Path, master: BorrowedFd<'_>) -> Result<()> {
    send_with(socket, b"/dev/ptmx", master)
        .map_err(|error| error.while_doing("cannot hand over the container's terminal"))
}

/// Sends a text with a descriptor.
///
/// # Errors
/// As [`send`].
pub fn send_with(socket: &Path, text: &[u8], descriptor: BorrowedFd<'_>) -> Result<()> {
    let failed = || format!("cannot send to the socket `{}`", socket.display());
    let flags = SocketFlags::CLOEXEC;
    let stream =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).step(failed)?;
    // By a descriptor, since an address takes 108 bytes (unix(7)) and paths may be longer.
    let opened =
        rustix::fs::openat(CWD, socket, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step(failed)?;
    let address = format!("/proc/self/fd/{}", opened.as_fd().as_raw_fd());
    set_socket_timeout(&stream, Timeout::Send, Some(PATIENCE)).step(failed)?;
    rustix::net::connect(&stream, &SocketAddrUnix::new(address).step(failed)?).map_err(|error| {
        let failed = Error::new(failed()).because(error);
        match error {
            Errno::AGAIN => failed.hint("whoever listens there accepts no connections"),
            _ => failed,
        }
    })?;
    let descriptors = [descriptor];
    let mut rest = text;
    let mut first = true;
    while !rest.is_empty() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if first {
            control.push(SendAncillaryMessage::ScmRights(&descriptors));
        }
        match rustix::net::sendmsg(&stream, &[IoSlice::new(rest)], &mut control, SendFlags::NOSIGNAL) {
            Ok(sent) => {
                rest = rest.get(sent..).unwrap_or_default();
                first = false;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).step(failed),
        }
    }
    Ok(())
}
