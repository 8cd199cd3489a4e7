//! Who may ask what outside, and who has to know of the answers.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use super::watch::Token;

/// Answers that wait to be told; more are failures.
const QUEUE: usize = 512;

/// A container that asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Asker {
    /// Its ID.
    pub container: Arc<str>,
    pub address: IpAddr,
}

/// What a name has been found to be, over its aliases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// As it was asked for: lower case, no dot at the end.
    pub name: String,
    /// With the seconds for which each may be kept.
    pub addresses: Vec<(IpAddr, u32)>,
}

/// Rules for questions that go outside; names of containers are answered to all their neighbours.
pub trait Policy: Send + Sync {
    /// Whether there are rules for the container. Must not wait.
    fn restricts(&self, container: &str) -> bool;

    /// Whether somebody may be asked for `name` (lower case, no dot at the end), of whatever type. For containers with
    /// rules alone. Must not wait.
    fn allows(&self, asker: &Asker, name: &str) -> bool;

    /// Tells what a container with rules is about to learn: its answer is sent when this returns. Called from a thread
    /// of its own, one call at a time; it may take some milliseconds.
    fn answered(&self, asker: &Asker, found: &Found);
}

/// No rules.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unrestricted;

impl Policy for Unrestricted {
    fn restricts(&self, _container: &str) -> bool {
        false
    }

    fn allows(&self, _asker: &Asker, _name: &str) -> bool {
        true
    }

    fn answered(&self, _asker: &Asker, _found: &Found) {}
}

/// Tells the policy of answers, from a thread that is there once there is something to tell.
pub struct Teller {
    policy: Arc<dyn Policy>,
    /// Called with the token of what has been told.
    done: Arc<dyn Fn(Token) + Send + Sync>,
    jobs: Option<SyncSender<(Token, Asker, Found)>>,
}

impl Teller {
    pub fn new(policy: Arc<dyn Policy>, done: Arc<dyn Fn(Token) + Send + Sync>) -> Self {
        Self { policy, done, jobs: None }
    }

    /// Tells it in a moment. False: there is too much to tell.
    pub fn tell(&mut self, token: Token, asker: Asker, found: Found) -> bool {
        let jobs = self.jobs.get_or_insert_with(|| {
            let (sender, receiver) = sync_channel::<(Token, Asker, Found)>(QUEUE);
            let (policy, done) = (self.policy.clone(), self.done.clone());
            let work = move || {
                for (token, asker, found) in receiver {
                    policy.answered(&asker, &found);
                    done(token);
                }
            };
            if let Err(error) = thread::Builder::new().name("sbx-answers".to_owned()).spawn(work) {
                log::error!("cannot start a thread: {error}");
            }
            sender
        });
        jobs.try_send((token, asker, found)).is_ok()
    }
}
