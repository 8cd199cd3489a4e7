//! A typed message channel between two processes of sbx: JSON datagrams over a SOCK_SEQPACKET pair, each
//! with at most one descriptor. A long message is a file in memory (memfd_create(2)), which the datagram carries before
//! that descriptor.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::AtFlags;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest datagram: errors with their causes, never file content.
const LONGEST: usize = 32 * 1024;

/// The longest message: what a container is in, and its names there, has no other limit.
const LONGEST_FILE: usize = 16 << 20;
/// Stands for a message that is in the first descriptor. No JSON begins so.
const IN_FILE: &[u8] = b"\0";

/// Connections that may wait to be taken.
const BACKLOG: i32 = 128;

/// One end; dropped or dead, the other end reads the end of the stream.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Both ends, close-on-exec.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(a), Self(b)))
    }

    /// A socket that others reach by its name in a directory. close-on-exec and non-blocking; what was there under
    /// that name goes.
    ///
    /// # Errors
    /// Those of bind(2) and listen(2).
    pub fn listen(directory: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        rustix::net::bind(&socket, &address(directory, name)?)?;
        rustix::net::listen(&socket, BACKLOG)?;
        Ok(socket)
    }

    /// The next one who connected to a socket of [`Self::listen`]; none: nobody waits. Messages to somebody who
    /// does not read them fail instead of blocking.
    ///
    /// # Errors
    /// Those of accept(2).
    pub fn accept(listener: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match rustix::net::accept_with(listener, flags) {
            Ok(socket) => Ok(Some(Self(socket))),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// # Errors
    /// ENOENT and ECONNREFUSED where nobody listens.
    pub fn connect(directory: BorrowedFd<'_>, name: &str) -> io::Result<Self> {
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        loop {
            match rustix::net::connect(&socket, &address(directory, name)?) {
                Err(rustix::io::Errno::INTR) => {}
                result => return Ok(result.map(|()| Self(socket))?),
            }
        }
    }

    /// The same end under another descriptor.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    pub fn send(&self, message: &impl Serialize) -> io::Result<()> {
        self.transmit(message, None)
    }

    pub fn send_with(&self, message: &impl Serialize, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        self.transmit(message, Some(descriptor))
    }

    fn transmit(&self, message: &impl Serialize, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        if bytes.len() <= LONGEST {
            return self.put(&bytes, descriptor.as_slice());
        }
        if bytes.len() > LONGEST_FILE {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        let mut file = File::from(rustix::fs::memfd_create(c"sbx-message", rustix::fs::MemfdFlags::CLOEXEC)?);
        file.write_all(&bytes)?;
        let descriptors: Vec<_> = [file.as_fd()].into_iter().chain(descriptor).collect();
        self.put(IN_FILE, &descriptors)
    }

    fn put(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        loop {
            match rustix::net::sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
                Err(rustix::io::Errno::INTR) => {}
                result => return result.map(|_| ()).map_err(io::Error::from),
            }
        }
    }

    /// Waits for the next message; none when the other end is closed.
    pub fn receive<M: DeserializeOwned>(&self) -> io::Result<Option<(M, Option<OwnedFd>)>> {
        // As much memory as the message takes: that for the longest would cost more page faults than this call.
        let Some(length) = self.next_length()? else { return Ok(None) };
        let mut bytes = vec![0_u8; length];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut buffers = [IoSliceMut::new(&mut bytes)];
        let read = loop {
            match rustix::net::recvmsg(&self.0, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC) {
                // The other end may be closed between the two calls, too.
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
                result => break result?.bytes,
            }
        };
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptors.extend(received);
            }
        }
        let mut descriptors = descriptors.into_iter();
        if &bytes[..read] == IN_FILE {
            let file = descriptors.next().ok_or(io::ErrorKind::InvalidData)?;
            return Ok(Some((serde_json::from_slice(&content(&File::from(file))?)?, descriptors.next())));
        }
        Ok(Some((serde_json::from_slice(&bytes[..read])?, descriptors.next())))
    }

    /// Waits for the next message and gives its length; none when the other end is closed.
    fn next_length(&self) -> io::Result<Option<usize>> {
        let flags = RecvFlags::PEEK | RecvFlags::TRUNC;
        loop {
            match rustix::net::recv(&self.0, &mut [0_u8; 1], flags) {
                // The other end was closed before it had read all: said once, before what it sent last.
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
                Ok((_, 0)) => return Ok(None),
                Ok((_, length)) if length > LONGEST => {
                    return Err(io::Error::from(io::ErrorKind::FileTooLarge));
                }
                result => return Ok(result.map(|(_, length)| Some(length))?),
            }
        }
    }
}

/// What is in a message's file. Reading at a place, it waits for nothing: a pipe has none.
fn content(file: &File) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    if length > LONGEST_FILE {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// By a descriptor, since an address takes 108 bytes (unix(7)) and paths may be longer.
fn address(directory: BorrowedFd<'_>, name: &str) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))?)
}

impl std::os::fd::AsRawFd for Channel {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_any_length_arrive_with_their_descriptor() {
        let (one, other) = Channel::pair().expect("a pair");
        let null = File::open("/dev/null").expect("/dev/null");
        for length in [0, 1000, LONGEST - 2, LONGEST - 1, LONGEST, 1 << 20] {
            let text = "x".repeat(length);
            one.send(&text).expect("sent");
            one.send_with(&text, null.as_fd()).expect("sent");
            let (read, descriptor) = other.receive::<String>().expect("a message").expect("one");
            assert!(read == text && descriptor.is_none(), "{length}");
            let (read, descriptor) = other.receive::<String>().expect("a message").expect("one");
            let kind = descriptor.map(|fd| File::from(fd).metadata().expect("a file").file_type());
            assert!(read == text && kind == Some(null.metadata().expect("a file").file_type()), "{length}");
        }
        one.send(&"x".repeat(LONGEST_FILE)).expect_err("more than anybody needs");
        one.send(&1).expect("sent");
        assert_eq!(other.receive::<i32>().expect("a message").expect("one").0, 1);
    }

    #[test]
    fn last_words_arrive_whenever_the_end_with_unread_messages_is_closed() {
        for _ in 0..4000 {
            let (one, other) = Channel::pair().expect("a pair");
            one.send(&"nobody reads this").expect("sent");
            let ending = std::thread::spawn(move || {
                other.send(&"last words").expect("sent");
                drop(other);
            });
            let (read, _) = one.receive::<String>().expect("no error").expect("a message");
            assert_eq!(read, "last words");
            assert!(one.receive::<String>().expect("no error").is_none());
            ending.join().expect("sent");
        }
    }

    #[test]
    fn a_file_that_is_none_is_an_error() {
        let (one, other) = Channel::pair().expect("a pair");
        let (reader, _writer) = std::io::pipe().expect("a pipe");
        one.put(IN_FILE, &[reader.as_fd()]).expect("sent");
        other.receive::<String>().expect_err("a pipe");
        one.put(IN_FILE, &[]).expect("sent");
        other.receive::<String>().expect_err("nothing");
    }
}
