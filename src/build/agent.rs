//! `RUN --mount=type=ssh`: a socket of the command's own, behind which the caller's agent signs. The agent sees the
//! caller, whoever runs the command, and is asked for nothing but keys and signatures: a command may not add keys, take
//! them away or lock the agent (draft-ietf-sshm-ssh-agent, section 3).

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{Mode, OFlags};

use crate::error::{Result, Step};
use crate::sys::process::{Fork, die_with_parent, exit_now, fork, send_signal, wait_for};

/// OpenSSH's own limit of a message, in bytes.
const LONGEST: u32 = 256 << 10;
/// Connections of one command at once.
const MOST: usize = 64;

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const SIGN_REQUEST: u8 = 13;
/// `session-bind@openssh.com` and the like, which keys that are bound to hosts need.
const EXTENSION: u8 = 27;

/// The process that passes messages on; it ends with the value.
#[derive(Debug)]
pub struct Relay(i32);

impl Relay {
    /// Listens at `name` in a directory for clients of the agent whose socket is at `agent`.
    ///
    /// # Errors
    /// The socket cannot be made, or there can be no process.
    pub fn start(agent: &Path, directory: &Path, name: &str) -> Result<Self> {
        let failed = || format!("cannot listen in `{}`", directory.display());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(directory, flags, Mode::empty()).step(failed)?;
        // An address of a socket has no more than 107 bytes (unix(7)).
        let listener =
            UnixListener::bind(format!("/proc/self/fd/{}/{name}", opened.as_raw_fd())).step(failed)?;
        let parent = std::process::id();
        match fork().step(|| "cannot start a process")? {
            Fork::Parent(pid) => Ok(Self(pid)),
            Fork::Child => {
                let _ = die_with_parent(parent);
                serve(&listener, agent);
                exit_now(0)
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = send_signal(self.0, libc::SIGKILL);
        let _ = wait_for(self.0);
    }
}

/// A thread for each client.
fn serve(listener: &UnixListener, agent: &Path) {
    let open = Arc::new(AtomicUsize::new(0));
    for client in listener.incoming() {
        let Ok(mut client) = client else { return };
        if open.fetch_add(1, Ordering::Relaxed) >= MOST {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (agent, counted) = (agent.to_owned(), Arc::clone(&open));
        let served = std::thread::Builder::new().spawn(move || {
            // An agent that is gone is one that hangs up.
            let _ = UnixStream::connect(agent).and_then(|mut agent| relay(&mut client, &mut agent));
            counted.fetch_sub(1, Ordering::Relaxed);
        });
        if served.is_err() {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Each message is answered by one.
fn relay(client: &mut (impl Read + Write), agent: &mut (impl Read + Write)) -> io::Result<()> {
    while let Some(request) = receive(client)? {
        match request.first() {
            Some(&REQUEST_IDENTITIES | &SIGN_REQUEST | &EXTENSION) => {
                send(agent, &request)?;
                let Some(answer) = receive(agent)? else { return Ok(()) };
                send(client, &answer)?;
            }
            _ => send(client, &[FAILURE])?,
        }
    }
    Ok(())
}

/// One message; none: the other end has hung up.
fn receive(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let length = u32::from_be_bytes(length);
    if length > LONGEST {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let mut message = vec![0; length as usize];
    from.read_exact(&mut message)?;
    Ok(Some(message))
}

fn send(to: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    to.write_all(&[&length.to_be_bytes()[..], message].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks through a relay whose agent answers each message with `answer`; what comes back.
    fn asked(request: &[u8], answer: u8) -> Option<Vec<u8>> {
        let ((mut client, mut served), (mut asking, mut agent)) =
            (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let relaying = std::thread::spawn(move || relay(&mut served, &mut asking).is_ok());
        let agent = std::thread::spawn(move || {
            while let Ok(Some(_)) = receive(&mut agent) {
                send(&mut agent, &[answer]).unwrap();
            }
        });
        client.write_all(request).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        // A connection that ends before all was read is reset.
        let came = receive(&mut client).unwrap_or_default();
        relaying.join().unwrap();
        agent.join().unwrap();
        came
    }

    #[test]
    fn keys_and_signatures_are_asked_for_and_nothing_else() {
        for (kind, answer) in [(11, 12), (13, 14), (27, 28)] {
            assert_eq!(asked(&[0, 0, 0, 1, kind], answer), Some(vec![answer]));
        }
        // Add, remove, remove all, lock, unlock, what a later version adds; and nothing at all.
        for kind in [17, 18, 19, 22, 23, 25, 99] {
            assert_eq!(asked(&[0, 0, 0, 1, kind], 6), Some(vec![FAILURE]));
        }
        assert_eq!(asked(&[0, 0, 0, 0], 6), Some(vec![FAILURE]));
    }

    #[test]
    fn what_is_too_long_or_cut_off_ends_the_connection() {
        assert_eq!(asked(&[0xff; 5], 6), None);
        assert_eq!(asked(&[0, 0, 0, 9, 11], 6), None);
        assert_eq!(asked(&[0, 0], 6), None);
    }
}
