//! A socket to the kernel's network configuration (netlink(7)): requests, and the kernel's answer to each.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer,
    NetlinkSerializable, NlasIterator,
};
use netlink_sys::{Socket as Raw, SocketAddr, protocols};

use super::net;
use crate::error::plain;

/// The kernel's datagrams are smaller where there is room for them: it never makes one larger than 32 KiB.
const ROOM: usize = 64 * 1024;
const HEADER: usize = 16;
/// NLMSGERR_ATTR_MSG of linux/netlink.h: what is wrong, in words.
const WORDS: u16 = 1;

/// It belongs to the network namespace in which it was opened, whoever uses it where.
#[derive(Debug)]
pub struct Socket {
    socket: Raw,
    sequence: u32,
    buffer: Vec<u8>,
}

/// Why the kernel did not do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// errno(3), 0 where the answer makes no sense.
    pub errno: i32,
    said: String,
}

/// The bodies of the messages that came in answer to one request; none for one that only changes something.
pub type Answer = Result<Vec<Vec<u8>>, Refusal>;

impl Socket {
    /// A socket for rtnetlink(7) in the calling thread's network namespace.
    ///
    /// # Errors
    /// EAFNOSUPPORT and EPERM below filters that hide netlink, EMFILE.
    pub fn open() -> io::Result<Self> {
        let mut socket = Raw::new(protocols::NETLINK_ROUTE)?;
        socket.bind_auto()?;
        // An error's number alone seldom tells what is wrong. Kernels before 4.12 do without.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(ROOM) })
    }

    /// The same in another network namespace, where the calling thread is for that moment.
    ///
    /// # Errors
    /// Those of [`Socket::open`] and [`net::within`].
    pub fn open_in(namespace: BorrowedFd<'_>) -> io::Result<Self> {
        net::within(namespace, Self::open)?
    }

    /// Sends all requests, each with its NLM_F_* flags, in one datagram, and waits for the answer to each. The kernel
    /// goes through them in their order and does not stop at one that fails.
    ///
    /// # Errors
    /// Those of sendto(2) and recvfrom(2): ENOBUFS where the answers don't fit into the socket's buffer.
    pub fn exchange<T: NetlinkSerializable>(&mut self, requests: &[(T, u16)]) -> io::Result<Vec<Answer>> {
        let first = self.sequence.wrapping_add(1);
        let mut datagram = Vec::with_capacity(1024);
        for (request, flags) in requests {
            self.sequence = self.sequence.wrapping_add(1);
            write_request(&mut datagram, request, *flags, self.sequence);
        }
        self.socket.send_to(&datagram, &SocketAddr::new(0, 0), 0)?;
        let mut answers: Vec<Answer> = requests.iter().map(|_| Ok(Vec::new())).collect();
        let mut waiting = requests.len();
        while waiting > 0 {
            self.buffer.clear();
            let (_, sender) = self.socket.recv_from(&mut self.buffer, 0)?;
            if sender.port_number() != 0 {
                // Another process, not the kernel.
                continue;
            }
            for message in Messages(&self.buffer) {
                let number = message.sequence_number().wrapping_sub(first) as usize;
                let Some(answer) = answers.get_mut(number) else { continue };
                let ended = match message.message_type() {
                    NLMSG_ERROR | NLMSG_DONE => {
                        if let Some(refusal) = refusal(&message) {
                            *answer = Err(refusal);
                        }
                        true
                    }
                    _ => {
                        if let Ok(bodies) = answer {
                            bodies.push(message.payload().to_vec());
                        }
                        false
                    }
                };
                waiting -= usize::from(ended);
            }
        }
        Ok(answers)
    }

    /// One request.
    ///
    /// # Errors
    /// The kernel's refusal, or that of the socket.
    pub fn ask<T: NetlinkSerializable>(&mut self, request: T, flags: u16) -> Answer {
        self.exchange(&[(request, flags)])?.pop().unwrap_or_else(|| Ok(Vec::new()))
    }
}

fn write_request<T: NetlinkSerializable>(datagram: &mut Vec<u8>, request: &T, flags: u16, sequence: u32) {
    let start = datagram.len();
    let length = HEADER + request.buffer_len();
    datagram.resize(start + length.next_multiple_of(4), 0);
    let mut header = NetlinkBuffer::new(&mut datagram[start..]);
    header.set_length(length as u32);
    header.set_message_type(request.message_type());
    header.set_flags(flags | NLM_F_REQUEST | NLM_F_ACK);
    header.set_sequence_number(sequence);
    header.set_port_number(0);
    request.serialize(&mut datagram[start + HEADER..start + length]);
}

/// The messages of a datagram, as far as it is well-formed.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = NetlinkBuffer<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let message = NetlinkBuffer::new_checked(self.0).ok()?;
        let length = message.length() as usize;
        let rest = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        let message = NetlinkBuffer::new(&self.0[..length]);
        self.0 = rest;
        Some(message)
    }
}

/// What an acknowledgement, or the end of a dump, says; none: it was done.
fn refusal(message: &NetlinkBuffer<&[u8]>) -> Option<Refusal> {
    let body = message.payload();
    let Some(code) = body.first_chunk::<4>() else {
        return Some(Refusal { errno: 0, said: "the kernel's answer is cut off".to_owned() });
    };
    let errno = i32::from_ne_bytes(*code).checked_neg().filter(|errno| *errno > 0)?;
    let mut said = String::new();
    if message.flags() & NLM_F_ACK_TLVS != 0 && message.message_type() == NLMSG_ERROR {
        // The request's header follows, and all of the request where the kernel was not asked to leave it out.
        let echoed = body.get(4..8).and_then(|length| length.try_into().ok()).map_or(0, u32::from_ne_bytes);
        let capped = message.flags() & NLM_F_CAPPED != 0;
        let skipped = 4 + if capped { HEADER } else { (echoed as usize).next_multiple_of(4) };
        let words = NlasIterator::new(body.get(skipped..).unwrap_or_default())
            .flatten()
            .find(|attribute| attribute.kind() == WORDS);
        if let Some(words) = words {
            said = String::from_utf8_lossy(words.value()).trim_end_matches('\0').to_owned();
        }
    }
    Some(Refusal { errno, said })
}

impl Refusal {
    pub fn from_errno(errno: i32) -> Self {
        Self { errno, said: String::new() }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self::from_errno(errno),
            None => Self { errno: 0, said: error.to_string() },
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.errno, self.said.as_str()) {
            (0, said) => f.write_str(said),
            (errno, said) => {
                f.write_str(&plain(&io::Error::from_raw_os_error(errno).to_string()))?;
                if said.is_empty() { Ok(()) } else { write!(f, " ({said})") }
            }
        }
    }
}
