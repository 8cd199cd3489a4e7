//! What a packet's address means to the host alone.
//!
//! slirp4netns takes addresses from packets and connects to them on the host. Whatever it was told of the host's
//! loopback interface, it finds it behind 127.0.0.0/8 and ::1, behind the unspecified addresses, which mean loopback to
//! connect(2), and behind IPv4 addresses in IPv6 ones. No program in a container gets such a packet onto the wire, but
//! a raw socket does. The filter sits on the tap device, where nobody in the container can take it off: that needs the
//! descriptor.

use std::fs;
use std::io;

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use std::os::fd::{AsFd, OwnedFd};

use crate::sys::tap::{self, Instruction};

const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF: u16 = 0x28;
const LOAD_WORD: u16 = 0x20;
const IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// Offsets are those in an Ethernet frame: the protocol at 12, the destination at 30 (IPv4) or 38 (IPv6).
const PROGRAM: [Instruction; 16] = [
    (LOAD_HALF, 0, 0, 12),
    (IF_EQUAL, 0, 3, 0x0800),
    (LOAD_BYTE, 0, 0, 30),
    (IF_EQUAL, 11, 0, 0),
    (IF_EQUAL, 10, 9, 127),
    (IF_EQUAL, 0, 8, 0x86dd),
    (LOAD_WORD, 0, 0, 38),
    (IF_EQUAL, 0, 6, 0),
    (LOAD_WORD, 0, 0, 42),
    (IF_EQUAL, 0, 4, 0),
    (LOAD_WORD, 0, 0, 46),
    // ::/96, with the unspecified and the loopback address; ::ffff:0:0/96; ::ffff:0:0:0/96 of some translators.
    (IF_EQUAL, 3, 0, 0),
    (IF_EQUAL, 2, 0, 0xffff),
    (IF_EQUAL, 1, 0, 0xffff_0000),
    (RETURN, 0, 0, u32::MAX),
    (RETURN, 0, 0, 0),
];

/// Keeps such packets from a helper of ours that has its tap device open.
///
/// # Errors
/// The device is not found, or may not be taken from the helper (Linux 5.6, ptrace(2)).
pub fn keep_from(helper: i32) -> io::Result<()> {
    let pid = Pid::from_raw(helper).ok_or(io::ErrorKind::InvalidInput)?;
    tap::filter(tap_of(pid)?.as_fd(), &PROGRAM)
}

fn tap_of(helper: Pid) -> io::Result<OwnedFd> {
    let process = pidfd_open(helper, PidfdFlags::empty())?;
    for entry in fs::read_dir(format!("/proc/{helper}/fd"))? {
        let entry = entry?;
        let is_tap = fs::read_link(entry.path()).is_ok_and(|target| target.ends_with("net/tun"));
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let (true, Some(number)) = (is_tap, number) {
            return Ok(pidfd_getfd(process, number, PidfdGetfdFlags::empty())?);
        }
    }
    Err(io::ErrorKind::NotFound.into())
}
