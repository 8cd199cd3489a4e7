//! Allow-lists (`--net-allow`): a container reaches what is listed and nothing else, and its attempts are recorded.
//!
//! Such a container is alone in a network of its own, and the list is enforced in the shared namespace, where no
//! capability of the container counts. What the kernel enforces are addresses: those of a listed name are let through
//! for as long as the name server's answer is valid ([`Allowances::learned`]), and with them whoever else answers at
//! them. Connections that are open outlive that.
//!
//! [`watch`] hears of refused packets and of connections; [`record`] limits how much of that is told.

pub mod attributes;
pub mod flows;
pub mod hidden;
pub mod list;
pub mod log;
pub mod record;
pub mod refused;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::names::{Asker, Found, Policy};
use super::rules::Rules;
use crate::error::Result;
pub use list::List;
use record::{Brake, Record, Verdict};
use refused::Target;

/// An answer counts for so long at least: connecting may take longer than the few seconds of some answers.
const SHORTEST: u32 = 60;
const LONGEST: u32 = 24 * 60 * 60;
/// What is added to each time, so that the same answer given again soon needs no change.
const SLACK: u32 = 30;
/// Addresses of names that are remembered for a container.
const REMEMBERED: usize = 16 * 1024;

/// A container with an allow-list.
pub struct Member {
    /// Its ID.
    pub container: String,
    /// That of its hidden network.
    pub bridge: String,
    /// Its own.
    pub addresses: Vec<IpAddr>,
    /// Those of the bridge, where the name server is: connections to them are not recorded.
    pub gateways: Vec<IpAddr>,
    pub list: List,
    /// Takes the lines of its network log, without line feeds, in several threads.
    pub report: Box<dyn Fn(String) + Send + Sync>,
}

/// The allow-lists of all containers in the shared namespace.
pub struct Allowances {
    rules: Arc<Mutex<Rules>>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// By container.
    members: HashMap<String, Live>,
    /// The containers of bridges, and of addresses.
    bridges: HashMap<String, String>,
    addresses: HashMap<IpAddr, String>,
    watched: Option<watch::Watch>,
}

struct Live {
    member: Member,
    /// What an address was last the answer for.
    names: HashMap<IpAddr, String>,
    /// Until when an item has an address.
    valid: HashMap<(usize, IpAddr), Instant>,
    brake: Brake,
    /// Connections that are open, by the kernel's tuple.
    flows: HashMap<Vec<u8>, Flow>,
}

struct Flow {
    family: u8,
    target: Target,
    name: Option<String>,
}

impl Allowances {
    /// Nothing is limited yet.
    pub fn new(rules: Arc<Mutex<Rules>>) -> Self {
        Self { rules, state: Arc::default() }
    }

    /// Limits a container's network, and begins to record. The bridge is known to the rules and no packet of the
    /// container is under way yet: this commits.
    ///
    /// # Errors
    /// The kernel cannot filter so, or tells nothing of what it refuses; then the network is not limited.
    pub fn add(&self, member: Member) -> Result<()> {
        let mut state = self.state();
        if state.watched.is_none() {
            state.watched = Some(watch::start(Arc::downgrade(&self.state))?);
        }
        {
            let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
            rules.add_limit(&member.bridge, member.list.limit());
            rules.commit()?;
        }
        let container = member.container.clone();
        state.bridges.insert(member.bridge.clone(), container.clone());
        state.addresses.extend(member.addresses.iter().map(|address| (*address, container.clone())));
        let live = Live {
            member,
            names: HashMap::new(),
            valid: HashMap::new(),
            brake: Brake::new(Instant::now()),
            flows: HashMap::new(),
        };
        state.members.insert(container, live);
        Ok(())
    }

    /// A container has ended: what there is still to tell of it is told. The change of the rules waits for the next
    /// commit; the bridge goes by itself.
    pub fn remove(&self, container: &str) {
        let mut state = self.state();
        let Some(mut live) = state.members.remove(container) else { return };
        state.bridges.retain(|_, owner| owner != container);
        state.addresses.retain(|_, owner| owner != container);
        for (tuple, flow) in std::mem::take(&mut live.flows) {
            let counted = state.watched.as_ref().and_then(|watch| watch.count(flow.family, &tuple));
            live.tell(flow.closed(counted), Instant::now());
        }
        for record in live.brake.due(Instant::now(), true) {
            (live.member.report)(record.line());
        }
        // Where nobody is recorded the kernel need not tell. The thread may wait for the lock.
        let unneeded = if state.members.is_empty() { state.watched.take() } else { None };
        drop(state);
        drop(unneeded);
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).remove_limit(&live.member.bridge);
    }

    /// Whether a container may ask for a name (lower case, no dot at the end). If not, that is recorded.
    fn may_ask(&self, container: &str, name: &str) -> bool {
        let mut state = self.state();
        let Some(live) = state.members.get_mut(container) else { return true };
        let allowed = live.member.list.has_name(name);
        if !allowed {
            let record = Record { name: Some(name.to_owned()), ..Record::new(Verdict::Refused, "dns") };
            live.tell(record, Instant::now());
        }
        allowed
    }

    /// Lets a container reach what it is about to learn that a name is, for as many seconds as it may believe it. The
    /// container must not have the answer before this returns.
    fn learned(&self, container: &str, name: &str, addresses: &[(IpAddr, u32)]) {
        let now = Instant::now();
        let mut changes = Vec::new();
        let bridge = {
            let mut state = self.state();
            let Some(live) = state.members.get_mut(container) else { return };
            if !live.member.list.has_name(name) {
                return;
            }
            for entry in live.member.list.entries_of(name) {
                for (address, seconds) in addresses {
                    let seconds = (*seconds).clamp(SHORTEST, LONGEST);
                    let wanted = now + Duration::from_secs(seconds.into());
                    if live.valid.get(&(entry, *address)).is_some_and(|until| *until >= wanted) {
                        continue;
                    }
                    changes.push((entry, *address, seconds + SLACK));
                }
            }
            if live.valid.len() + live.names.len() > REMEMBERED {
                live.valid.retain(|_, until| *until > now);
                let valid: Vec<IpAddr> = live.valid.keys().map(|(_, address)| *address).collect();
                live.names.retain(|address, _| valid.contains(address));
            }
            if live.names.len() < REMEMBERED {
                live.names.extend(addresses.iter().map(|(address, _)| (*address, name.to_owned())));
            }
            live.member.bridge.clone()
        };
        if changes.is_empty() {
            return;
        }
        let committed = {
            let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
            for (entry, address, seconds) in &changes {
                rules.allow(&bridge, *entry, &[*address], *seconds);
            }
            rules.commit()
        };
        match committed {
            Ok(()) => {
                if let Some(live) = self.state().members.get_mut(container) {
                    live.valid.extend(changes.into_iter().map(|(entry, address, seconds)| {
                        ((entry, address), now + Duration::from_secs(seconds.into()))
                    }));
                }
            }
            Err(error) => ::log::error!("cannot let a container reach `{name}`: {error}"),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Policy for Allowances {
    fn restricts(&self, container: &str) -> bool {
        self.state().members.contains_key(container)
    }

    fn allows(&self, asker: &Asker, name: &str) -> bool {
        self.may_ask(&asker.container, name)
    }

    fn answered(&self, asker: &Asker, found: &Found) {
        self.learned(&asker.container, &found.name, &found.addresses);
    }
}

impl Live {
    fn tell(&mut self, record: Record, now: Instant) {
        if let Some(record) = self.brake.pass(record, now) {
            (self.member.report)(record.line());
        }
    }
}

impl Flow {
    fn closed(&self, counted: Option<(u64, u64)>) -> Record {
        Record {
            bytes_sent: counted.map(|(sent, _)| sent),
            bytes_received: counted.map(|(_, received)| received),
            ..Record::of(Verdict::Closed, &self.target, self.name.clone())
        }
    }
}

impl fmt::Debug for Allowances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Allowances").field("members", &self.state().members.len()).finish()
    }
}
