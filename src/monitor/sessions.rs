//! Who is connected to the monitor, and what for.

use std::os::fd::{AsFd, BorrowedFd};

use serde::Serialize;

use crate::Error;
use crate::monitor::message::ToClient;
use crate::sys::channel::Channel;

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It has not said yet.
    New,
    /// Waits until the command runs.
    Starter,
    /// Has streams of the container; the owner takes it along when it goes.
    Client { owner: bool },
    /// Has a process in the container.
    Exec,
    /// Waits for the answer of a health check.
    Checker,
    /// Waits for the end of a life.
    Waiter,
    /// Waits until the container is down.
    Stopper,
}

#[derive(Debug)]
pub(super) struct Session {
    pub id: u64,
    pub channel: Channel,
    pub role: Role,
}

impl Session {
    /// One that does not read, or is gone, misses it: its end shows at the next message from there.
    pub fn tell(&self, message: &impl Serialize) {
        let _ = self.channel.send(message);
    }

    pub fn tell_with(&self, message: &impl Serialize, descriptor: BorrowedFd<'_>) {
        let _ = self.channel.send_with(message, descriptor);
    }
}

/// All sessions. The first is the one who started the monitor.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    all: Vec<Session>,
    last: u64,
}

impl Sessions {
    pub fn add(&mut self, channel: Channel, role: Role) -> u64 {
        self.last += 1;
        self.all.push(Session { id: self.last, channel, role });
        self.last
    }

    pub fn get(&self, id: u64) -> Option<&Session> {
        self.all.iter().find(|session| session.id == id)
    }

    pub fn set_role(&mut self, id: u64, role: Role) {
        if let Some(session) = self.all.iter_mut().find(|session| session.id == id) {
            session.role = role;
        }
    }

    pub fn remove(&mut self, id: u64) {
        self.all.retain(|session| session.id != id);
    }

    /// Answers one and lets go of it.
    pub fn dismiss(&mut self, id: u64, answer: &ToClient) {
        if let Some(session) = self.get(id) {
            session.tell(answer);
        }
        self.remove(id);
    }

    /// The one who started the container and takes it along when it goes.
    pub fn owner(&self) -> Option<&Session> {
        self.all.iter().find(|session| session.role == Role::Client { owner: true })
    }

    /// Tells everybody who has streams or waits for the command to run.
    pub fn notify(&self, message: &ToClient) {
        for session in &self.all {
            if matches!(session.role, Role::Client { .. } | Role::Starter) {
                session.tell(message);
            }
        }
    }

    /// The command runs.
    pub fn started(&mut self, pid: i32) {
        self.notify(&ToClient::Started { pid });
        self.all.retain(|session| session.role != Role::Starter);
    }

    /// A life has ended and all its output is written. Who waits for more than that stays, unless the container is
    /// `down`. The others are told; the client of the one who started the container ends when it is let go of.
    #[must_use]
    pub fn ended(&mut self, code: i32, error: Option<&str>, down: bool) -> Vec<Session> {
        let exited = ToClient::Exited { code, error: error.map(str::to_owned) };
        let stays = |role| !down && matches!(role, Role::Starter | Role::Stopper | Role::New);
        let told: Vec<Session> = self.all.extract_if(.., |session| !stays(session.role)).collect();
        told.iter().for_each(|session| session.tell(&exited));
        told
    }

    /// Another life did not begin.
    pub fn not_started(&mut self, error: &Error) {
        self.all.retain(|session| {
            let waits = session.role == Role::Starter;
            if waits {
                session.tell(&ToClient::Failed(error.clone()));
            }
            !waits
        });
    }

    /// The container could not be started.
    pub fn failed(&mut self, error: &Error) {
        for session in self.all.drain(..) {
            session.tell(&ToClient::Failed(error.clone()));
        }
    }

    pub fn descriptors(&self) -> impl Iterator<Item = (u64, BorrowedFd<'_>)> {
        self.all.iter().map(|session| (session.id, session.channel.as_fd()))
    }
}
