//! The thread that hears from the kernel what containers with a list try and do.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use netlink_sys::{Socket, SocketAddr, protocols};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::attributes::messages;
use super::flows::{self, Event, What};
use super::record::{Record, Verdict};
use super::refused::{self, Refused};
use super::{Flow, State};
use crate::error::{Result, Step};

/// Where the kernel is told to count bytes; of the network namespace of whoever opens it.
const ACCOUNTING: &str = "/proc/sys/net/netfilter/nf_conntrack_acct";
/// Room for what the kernel has to tell while the thread is busy, in bytes.
const ROOM: usize = 1 << 20;
/// The longest datagram of the kernel.
const DATAGRAM: usize = 64 * 1024;
/// What was counted is told this often.
const TICK: Duration = Duration::from_secs(1);
/// How often a group that an earlier thread is letting go of is asked for, a few milliseconds apart.
const ATTEMPTS: usize = 200;
/// Datagrams from one socket before the other has its turn.
const TURN: usize = 64;

/// The thread; it ends when this is dropped, by somebody who does not hold the lock of the state.
pub struct Watch {
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
    /// For questions about single connections.
    asking: Socket,
}

/// Starts it in the network namespace of the calling thread.
///
/// # Errors
/// The kernel does not tell of refused packets (nfnetlink_log) or of connections (nf_conntrack_netlink).
pub fn start(state: Weak<Mutex<State>>) -> Result<Watch> {
    let failed = || "cannot hear what containers with `--net-allow` try to reach";
    if let Err(error) = std::fs::write(ACCOUNTING, "1") {
        log::warn!("bytes of connections are not counted: cannot write {ACCOUNTING}: {error}");
    }
    let (packets, connections, asking) = sockets().step(failed)?;
    let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).step(failed)?);
    let waken = wake.clone();
    let body = move || listen(&state, &packets, &connections, &waken);
    let thread = thread::Builder::new().name("sbx-allow".to_owned()).spawn(body).step(failed)?;
    Ok(Watch { wake, thread: Some(thread), asking })
}

impl Watch {
    /// Bytes of a connection, sent and received; none: the kernel has forgotten it.
    pub fn count(&self, family: u8, tuple: &[u8]) -> Option<(u64, u64)> {
        count(&self.asking, family, tuple)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = rustix::io::write(&*self.wake, &1_u64.to_ne_bytes());
        // The thread itself drops this where everything else is gone.
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

fn sockets() -> io::Result<(Socket, Socket, Socket)> {
    let open = |groups| {
        let mut socket = Socket::new(protocols::NETLINK_NETFILTER)?;
        socket.bind(&SocketAddr::new(0, groups))?;
        socket.set_non_blocking(true)?;
        socket.set_rx_buf_sz(libc::c_int::try_from(ROOM).unwrap_or(libc::c_int::MAX))?;
        Ok::<Socket, io::Error>(socket)
    };
    let packets = open(0)?;
    for message in refused::listen() {
        let ask = || {
            packets.send_to(&message, &SocketAddr::new(0, 0), 0)?;
            acknowledged(&packets)
        };
        let mut answer = ask();
        for _ in 0..ATTEMPTS {
            if !answer.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY)) {
                break;
            }
            thread::sleep(Duration::from_millis(5));
            answer = ask();
        }
        answer?;
    }
    Ok((packets, open(flows::GROUPS)?, open(0)?))
}

/// Reads the kernel's answer, which is there when the request was sent.
fn acknowledged(socket: &Socket) -> io::Result<()> {
    let mut answer = Vec::with_capacity(DATAGRAM);
    socket.recv_from(&mut answer, 0)?;
    // After the header, an error number or 0.
    match answer.get(16..20).and_then(|code| code.first_chunk().copied()).map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn listen(state: &Weak<Mutex<State>>, packets: &Socket, connections: &Socket, wake: &OwnedFd) {
    let mut buffer = Vec::with_capacity(DATAGRAM);
    let mut ticked = Instant::now();
    loop {
        let left = TICK.saturating_sub(ticked.elapsed());
        let left = Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() };
        let mut fds = [packets.as_fd(), connections.as_fd(), wake.as_fd()]
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let _ = poll(&mut fds, Some(&left));
        if !fds[2].revents().is_empty() {
            return;
        }
        let (new_packets, new_events) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
        let Some(state) = state.upgrade() else { return };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if new_packets {
            each(packets, &mut buffer, |datagram| {
                messages(datagram).filter_map(|one| refused::read(&one)).for_each(|one| state.refused(&one));
            });
        }
        if new_events {
            each(connections, &mut buffer, |datagram| {
                messages(datagram).filter_map(|one| flows::read(&one)).for_each(|one| state.happened(one));
            });
        }
        if ticked.elapsed() >= TICK {
            ticked = Instant::now();
            for live in state.members.values_mut() {
                for record in live.brake.due(ticked, false) {
                    (live.member.report)(record.line());
                }
            }
        }
    }
}

/// Reads what there is. Where there was too much the kernel says so once (ENOBUFS), and goes on.
fn each(socket: &Socket, buffer: &mut Vec<u8>, mut body: impl FnMut(&[u8])) {
    for _ in 0..TURN {
        buffer.clear();
        match socket.recv_from(buffer, 0) {
            // Another process, not the kernel.
            Ok((_, sender)) if sender.port_number() != 0 => {}
            Ok(_) => body(buffer),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                log::debug!("the kernel had more to tell of connections than was heard");
            }
            Err(_) => return,
        }
    }
}

fn count(socket: &Socket, family: u8, tuple: &[u8]) -> Option<(u64, u64)> {
    socket.send_to(&flows::ask(family, tuple), &SocketAddr::new(0, 0), 0).ok()?;
    let mut found = None;
    let mut buffer = Vec::with_capacity(DATAGRAM);
    each(socket, &mut buffer, |datagram| {
        for event in messages(datagram).filter_map(|message| flows::read(&message)) {
            if let What::Counted { sent: Some(sent), received: Some(received), .. } = event.what
                && event.tuple == tuple
            {
                found = Some((sent, received));
            }
        }
    });
    found
}

impl State {
    fn refused(&mut self, refused: &Refused) {
        let Some(live) = self.bridges.get(&refused.prefix).and_then(|owner| self.members.get_mut(owner))
        else {
            return;
        };
        let name = live.names.get(&refused.target.address).cloned();
        live.tell(Record::of(Verdict::Refused, &refused.target, name), Instant::now());
    }

    fn happened(&mut self, Event { what, source, target, tuple, family }: Event) {
        let Some(live) = self.addresses.get(&source).and_then(|owner| self.members.get_mut(owner)) else {
            return;
        };
        match what {
            What::Opened if live.member.gateways.contains(&target.address) => {}
            What::Opened => {
                let name = live.names.get(&target.address).cloned();
                live.tell(Record::of(Verdict::Allowed, &target, name.clone()), Instant::now());
                live.flows.insert(tuple, Flow { family, target, name });
            }
            What::Over => {
                if let Some(flow) = live.flows.remove(&tuple) {
                    let counted = self.watched.as_ref().and_then(|watch| watch.count(family, &tuple));
                    live.tell(flow.closed(counted), Instant::now());
                }
            }
            What::Counted { sent, received, gone: true } => {
                if let Some(flow) = live.flows.remove(&tuple) {
                    live.tell(flow.closed(sent.zip(received)), Instant::now());
                }
            }
            What::Counted { gone: false, .. } => {}
        }
    }
}
