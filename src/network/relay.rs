//! Published UDP ports, where the helper can't forward them to clients on the host itself.
//!
//! slirp4netns shows a client at 127.0.0.1 as its router, and with `--disable-host-loopback` drops the answers to
//! it; pasta before July 2024 loses answers where host and container port differ. So a small process of ours, which
//! exists only while such a port is published, holds the host's sockets, enters the container's network namespace
//! without any privilege left, and passes datagrams on. The container sees its own address as their source.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::pipe::{PipeFlags, pipe_with};

use super::free_ports::refused;
use super::{PortMapping, Protocol, host_socket, plan};
use crate::error::{Error, Result, Step};
use crate::sys;

/// A conversation without a datagram for so long is over (as docker's proxy has it).
const IDLE: Duration = Duration::from_secs(90);
/// Conversations at once; the oldest makes room.
const MOST: usize = 512;
/// Datagrams taken from one socket before the others have their turn.
const TURN: usize = 64;

/// The running process. It ends when this is dropped, or we are.
#[derive(Debug)]
pub struct Relay {
    pid: i32,
    _exit: OwnedFd,
}

impl Relay {
    /// Binds the host's ports and starts the process, in the namespaces of the process `target`.
    ///
    /// # Errors
    /// A port is taken; the process can't be started.
    pub fn start(mappings: &[PortMapping], target: i32) -> Result<Self> {
        let mut listeners = Vec::with_capacity(mappings.len());
        for mapping in mappings {
            let socket = host_socket::bind(Protocol::Udp, mapping.host_ip, mapping.host_port, false)
                .map_err(|cause| refused(&mapping.into(), mapping.host_port, &cause))?;
            listeners.push((UdpSocket::from(socket), mapping.container_port));
        }
        let (exit_end, exit) = pipe_with(PipeFlags::CLOEXEC).step(|| "cannot make a pipe")?;
        let mut keep: Vec<_> = listeners.iter().map(|(socket, _)| socket.as_raw_fd()).collect();
        keep.push(exit_end.as_raw_fd());
        let pid = sys::net::fork_into(target, &keep, || match sys::net::seclude() {
            Ok(()) => {
                let _ = rustix::thread::set_name(c"sbx-relay");
                serve(&listeners, &exit_end)
            }
            Err(_) => 97,
        })
        .step(|| "cannot start the relay of published UDP ports")?;
        Ok(Self { pid, _exit: exit })
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Fails if the process has ended, which it does at once where it can't enter the namespaces.
    pub fn check(&self) -> Result<()> {
        match waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => Err(Error::new("the relay of published UDP ports ended")
                .because(match code {
                    99 => "it cannot enter the container's network namespace".to_owned(),
                    97 => "it cannot give up its privileges".to_owned(),
                    code => format!("exit code {code}"),
                })),
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                Err(Error::new("the relay of published UDP ports ended").because(signal))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.pid);
        // ECHILD: the caller has reaped it already, and its process ID may be another's.
        if waitpid(pid, Some(WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive) {
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
        }
    }
}

/// One client of one listener, with a socket of its own inside.
struct Conversation {
    listener: usize,
    client: SocketAddr,
    inside: UdpSocket,
    last: Instant,
}

/// Passes datagrams on until the exit pipe hangs up; the exit code.
fn serve(listeners: &[(UdpSocket, u16)], exit: &OwnedFd) -> i32 {
    let mut conversations: Vec<Conversation> = Vec::new();
    let mut known: HashMap<(usize, SocketAddr), usize> = HashMap::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let mut fds = vec![PollFd::new(exit.as_fd(), PollFlags::POLLIN)];
        fds.extend(listeners.iter().map(|(socket, _)| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        fds.extend(conversations.iter().map(|c| PollFd::new(c.inside.as_fd(), PollFlags::POLLIN)));
        let wait = match conversations.iter().map(|c| c.last).min() {
            Some(oldest) => {
                PollTimeout::try_from(IDLE.saturating_sub(oldest.elapsed()) + Duration::from_millis(1))
                    .unwrap_or(PollTimeout::MAX)
            }
            None => PollTimeout::NONE,
        };
        match poll(&mut fds, wait) {
            Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => return 1,
            Ok(_) => {}
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        drop(fds);
        if ready[0] {
            return 0;
        }
        let (for_listeners, for_conversations) = ready[1..].split_at(listeners.len());
        for (conversation, _) in conversations.iter_mut().zip(for_conversations).filter(|(_, ready)| **ready)
        {
            answer(conversation, &listeners[conversation.listener].0, &mut buffer);
        }
        for (listener, _) in for_listeners.iter().enumerate().filter(|(_, ready)| **ready) {
            let (socket, port) = &listeners[listener];
            for _ in 0..TURN {
                let Ok((length, client)) = socket.recv_from(&mut buffer) else { break };
                let at = match known.get(&(listener, client)) {
                    Some(&at) => at,
                    None => {
                        let Ok(inside) = open(*port) else { continue };
                        if conversations.len() >= MOST {
                            forget_oldest(&mut conversations, &mut known);
                        }
                        conversations.push(Conversation { listener, client, inside, last: Instant::now() });
                        known.insert((listener, client), conversations.len() - 1);
                        conversations.len() - 1
                    }
                };
                // Lost as on any network: the port may be closed, or its buffer full.
                let _ = conversations[at].inside.send(&buffer[..length]);
                conversations[at].last = Instant::now();
            }
        }
        if conversations.iter().any(|c| c.last.elapsed() >= IDLE) {
            conversations.retain(|c| c.last.elapsed() < IDLE);
            index(&conversations, &mut known);
        }
    }
}

fn forget_oldest(conversations: &mut Vec<Conversation>, known: &mut HashMap<(usize, SocketAddr), usize>) {
    if let Some((oldest, _)) = conversations.iter().enumerate().min_by_key(|(_, c)| c.last) {
        conversations.swap_remove(oldest);
        index(conversations, known);
    }
}

fn index(conversations: &[Conversation], known: &mut HashMap<(usize, SocketAddr), usize>) {
    known.clear();
    known.extend(conversations.iter().enumerate().map(|(at, c)| ((c.listener, c.client), at)));
}

fn answer(conversation: &mut Conversation, listener: &UdpSocket, buffer: &mut [u8]) {
    for _ in 0..TURN {
        match conversation.inside.recv(buffer) {
            Ok(length) => {
                let _ = listener.send_to(&buffer[..length], conversation.client);
                conversation.last = Instant::now();
            }
            // Nothing more, or the report of a closed port (ICMP), which reading has cleared.
            Err(_) => break,
        }
    }
}

/// A socket towards the container's own address, which its services listen on if any does.
fn open(port: u16) -> io::Result<UdpSocket> {
    let own = plan::outgoing(Ipv4Addr::UNSPECIFIED.into()).unwrap_or(Ipv4Addr::LOCALHOST.into());
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((own, port))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
