//! Waiting for many sockets and alarms at once (epoll(7)).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

/// Stands for what is waited for; never given twice.
pub type Token = u64;

/// News taken at once.
const TURN: usize = 64;

#[derive(Debug)]
pub struct Watch {
    epoll: OwnedFd,
    last: Token,
    alarms: BinaryHeap<Reverse<(Instant, Token)>>,
}

impl Watch {
    /// # Errors
    /// No more descriptors, or no memory.
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)?, last: 0, alarms: BinaryHeap::new() })
    }

    pub fn fresh(&mut self) -> Token {
        self.last += 1;
        self.last
    }

    /// Waits for `wanted` from now on, until the descriptor is closed.
    ///
    /// # Errors
    /// No memory, or too many watches.
    pub fn add(&mut self, socket: impl AsFd, wanted: EventFlags) -> io::Result<Token> {
        let token = self.fresh();
        epoll::add(&self.epoll, socket, EventData::new_u64(token), wanted)?;
        Ok(token)
    }

    /// Waits for something else; errors are told in any case.
    pub fn change(&self, socket: impl AsFd, token: Token, wanted: EventFlags) {
        let _ = epoll::modify(&self.epoll, socket, EventData::new_u64(token), wanted);
    }

    /// Rings at `at`. An alarm cannot be taken back: whoever hears one asks whether it still matters.
    pub fn alarm(&mut self, at: Instant, token: Token) {
        self.alarms.push(Reverse((at, token)));
    }

    /// Waits for the next news or alarm.
    pub fn wait(&self) -> Vec<Token> {
        let patience = self.alarms.peek().map(|Reverse((at, _))| {
            let left = at.saturating_duration_since(Instant::now()).min(Duration::from_secs(3600));
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
        });
        let mut events: Vec<Event> = Vec::with_capacity(TURN);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), patience.as_ref()) {
            Ok(_) | Err(Errno::INTR) => events.iter().map(|event| event.data.u64()).collect(),
            // Nothing else can go wrong with a descriptor that is ours alone.
            Err(errno) => {
                log::error!("the name server cannot wait: {errno}");
                std::thread::sleep(Duration::from_secs(1));
                Vec::new()
            }
        }
    }

    /// The next alarm that has rung.
    pub fn due(&mut self, now: Instant) -> Option<Token> {
        if self.alarms.peek()?.0.0 > now {
            return None;
        }
        self.alarms.pop().map(|Reverse((_, token))| token)
    }
}
