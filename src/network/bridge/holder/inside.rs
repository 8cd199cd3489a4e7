//! `sbx-bridge`: in the shared namespaces, serves the monitors of the containers.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::CloneFlags;
use rustix::event::{PollFd, PollFlags, Timespec};

use super::registry::{Registry, SessionId};
use super::services::Services;
use super::uplink::{Connected, Uplink};
use super::{ToInside, ToOutside};
use crate::error::{Error, Result, Step};
use crate::network::PortMapping;
use crate::network::bridge::allow::hidden;
use crate::network::bridge::place::Place;
use crate::network::bridge::protocol::{FromHolder, Joiner, ToHolder, Wanted};
use crate::network::bridge::{Endpoint, Former, links};
use crate::network::named::NamedNetwork;
use crate::sandbox::userns::become_root;
use crate::sys::channel::Channel;
use crate::sys::memory::poll_idly;
use crate::sys::process::{die_with_parent, exit_now};

/// Between attempts to end while somebody is about to connect.
const SHORTLY: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// The process's life.
pub fn run(place: &Place, listener: OwnedFd, outside: Channel, former: Option<Former>, parent: u32) -> ! {
    let _ = rustix::thread::set_name(super::INSIDE);
    let (former, addresses) = former.map(|former| (former.namespace, former.addresses)).unzip();
    let began = begin(&outside, former.as_ref(), parent)
        .and_then(|namespace| Ok((namespace, Services::start()?, place.lock_file()?)));
    drop(former);
    match began {
        Ok((namespace, services, lock)) => {
            let _ = outside.send(&ToOutside::Ready);
            Inside {
                place,
                lock,
                listener,
                outside,
                namespace,
                services,
                registry: Registry::expecting(addresses.unwrap_or_default()),
                sessions: HashMap::new(),
                next: 0,
                uplinks: HashMap::new(),
            }
            .serve();
        }
        Err(error) => {
            let _ = outside.send(&ToOutside::Failed(error));
        }
    }
    exit_now(0)
}

/// Enters the namespaces; gives the user namespace, to be handed to monitors.
fn begin(outside: &Channel, former: Option<&OwnedFd>, parent: u32) -> Result<File> {
    let failed = || "cannot make the network namespace of bridge networks";
    match former {
        Some(former) => nix::sched::setns(former, CloneFlags::CLONE_NEWUSER).step(failed)?,
        // Made when the process was.
        None => match outside.receive::<ToInside>().step(failed)? {
            Some((ToInside::Mapped, _)) => {}
            _ => exit_now(125),
        },
    }
    become_root()?;
    // The helpers join the namespaces by way of this process. Nobody in a container can look at it: that takes power
    // over this user namespace, which is above theirs.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable);
    die_with_parent(parent).step(failed)?;
    nix::sched::unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|errno| crate::host::userns::explain_clone_failure(&errno.into()))?;
    File::open("/proc/self/ns/user").step(failed)
}

/// A connection to a monitor, and what it has handed over.
struct Session {
    channel: Channel,
    network: Option<OwnedFd>,
    ports: Vec<(PortMapping, OwnedFd)>,
    /// Its interfaces are there, and the answer waits for the rules and the uplinks.
    plugging: bool,
}

enum Connection {
    Pending,
    There,
    Failed(Error),
}

struct Inside<'a> {
    place: &'a Place,
    lock: File,
    listener: OwnedFd,
    outside: Channel,
    namespace: File,
    services: Services,
    registry: Registry,
    sessions: HashMap<SessionId, Session>,
    next: SessionId,
    uplinks: HashMap<Uplink, Connection>,
}

impl Inside<'_> {
    /// Until nobody is in a network any more.
    fn serve(mut self) {
        loop {
            if self.sessions.is_empty() && self.may_end() {
                return;
            }
            let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
            let mut polled =
                vec![PollFd::new(&self.outside, PollFlags::IN), PollFd::new(&self.listener, PollFlags::IN)];
            let first = polled.len();
            polled.extend(ids.iter().map(|id| PollFd::new(&self.sessions[id].channel, PollFlags::IN)));
            let wait = self.sessions.is_empty().then_some(&SHORTLY);
            let _ = poll_idly(&mut polled, wait);
            let happened: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(polled);
            if happened[0] && !self.hear_outside() {
                return;
            }
            if happened[1] {
                self.take_connections();
            }
            for (id, _) in ids.iter().zip(&happened[first..]).filter(|(_, happened)| **happened) {
                self.serve_session(*id);
            }
            self.settle();
        }
    }

    /// Under the lock nobody starts another holder, and who connects to this one finds out that it has ended.
    fn may_end(&mut self) -> bool {
        if self.lock.try_lock().is_err() {
            return false;
        }
        self.take_connections();
        if self.sessions.is_empty() {
            self.place.remove_socket();
            return true;
        }
        let _ = self.lock.unlock();
        false
    }

    fn take_connections(&mut self) {
        while let Ok(Some(channel)) = Channel::accept(self.listener.as_fd()) {
            self.next += 1;
            let session = Session { channel, network: None, ports: Vec::new(), plugging: false };
            self.sessions.insert(self.next, session);
        }
    }

    /// False: the process outside is gone.
    fn hear_outside(&mut self) -> bool {
        match self.outside.receive::<ToInside>() {
            Ok(Some((ToInside::Connected(uplink, connected), _))) => {
                self.connected(uplink, &connected);
                true
            }
            Ok(Some((ToInside::Unconnected(uplink, error), _))) => {
                // One that was there is being started again.
                if !matches!(self.uplinks.get(&uplink), Some(Connection::There)) {
                    self.uplinks.insert(uplink, Connection::Failed(error));
                }
                true
            }
            Ok(Some((ToInside::Mapped, _))) => true,
            _ => false,
        }
    }

    fn connected(&mut self, uplink: Uplink, connected: &Connected) {
        let ready = match uplink {
            Uplink::World => {
                self.services.set_name_servers(&connected.name_servers);
                Ok(())
            }
            Uplink::Loopback => self.services.address_loopback_uplink(),
        };
        self.uplinks.insert(uplink, ready.map_or_else(Connection::Failed, |()| Connection::There));
    }

    fn serve_session(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Ok(Some((message, descriptor))) = session.channel.receive::<ToHolder>() else {
            return self.leave(id);
        };
        let answer = match (message, descriptor) {
            (ToHolder::Join(joiner), _) => return self.join(id, *joiner),
            (ToHolder::Publish(mapping), Some(socket)) => {
                session.ports.push((mapping, socket));
                return;
            }
            (ToHolder::Plug, Some(network)) => {
                session.network = Some(network);
                match self.plug(id) {
                    // Answered when the rules are there.
                    Ok(()) => return,
                    Err(error) => FromHolder::Failed(error),
                }
            }
            (ToHolder::Connect(wanted), _) => match self.connect(id, &wanted) {
                Ok(endpoint) => FromHolder::Connected(Box::new(endpoint)),
                Err(error) => FromHolder::Failed(error),
            },
            (ToHolder::Disconnect { network }, _) => {
                self.disconnect(id, &network);
                FromHolder::Done
            }
            (ToHolder::Rename { name }, _) => {
                self.rename(id, name);
                FromHolder::Done
            }
            (ToHolder::Leave, _) => {
                self.depart(id);
                FromHolder::Done
            }
            (ToHolder::Reload, _) => match self.reload(id) {
                Ok(()) => FromHolder::Done,
                Err(error) => FromHolder::Failed(error),
            },
            (ToHolder::Publish(_) | ToHolder::Plug, None) => {
                FromHolder::Failed(Error::new("a descriptor is missing"))
            }
        };
        self.answer(id, &answer);
    }

    fn answer(&mut self, id: SessionId, answer: &FromHolder) {
        let sent = self.sessions.get(&id).map(|session| session.channel.send(answer));
        if !matches!(sent, Some(Ok(()))) {
            self.leave(id);
        }
    }

    fn join(&mut self, id: SessionId, mut joiner: Joiner) {
        if let Some(allowed) = &joiner.allowed {
            match hidden::wanted(&joiner.id, allowed, &self.registry.ranges()) {
                Ok(wanted) => joiner.wanted = vec![wanted],
                Err(error) => {
                    self.answer(id, &FromHolder::Failed(error));
                    return self.leave(id);
                }
            }
        }
        let networks: Vec<NamedNetwork> = joiner.wanted.iter().map(|wanted| wanted.network.clone()).collect();
        let joined = self
            .registry
            .join(id, joiner)
            .map(|member| member.endpoints.clone())
            .and_then(|endpoints| self.open(&networks).map(|()| endpoints));
        let answered = match joined {
            Ok(endpoints) => self.sessions.get(&id).is_some_and(|session| {
                session.channel.send_with(&FromHolder::Joined(endpoints), self.namespace.as_fd()).is_ok()
            }),
            Err(error) => {
                self.answer(id, &FromHolder::Failed(error));
                false
            }
        };
        if !answered {
            self.leave(id);
        }
    }

    /// Makes the bridges of networks that are used from now on, and asks for their uplinks.
    fn open(&mut self, networks: &[NamedNetwork]) -> Result<()> {
        for network in networks {
            self.services.open(network)?;
            let wanted = [
                (Uplink::World, !network.internal),
                (Uplink::Loopback, !network.internal && network.allows_host_loopback()),
            ];
            for (uplink, _) in wanted.into_iter().filter(|(_, wanted)| *wanted) {
                if self.uplinks.contains_key(&uplink) {
                    continue;
                }
                self.uplinks.insert(uplink, Connection::Pending);
                self.outside
                    .send(&ToOutside::Start(uplink))
                    .step(|| "cannot start the uplink of the networks")?;
            }
        }
        Ok(())
    }

    fn plug(&mut self, id: SessionId) -> Result<()> {
        let (Some(session), Some(member)) = (self.sessions.get_mut(&id), self.registry.members.get(&id))
        else {
            return Err(Error::new("the container has joined no network"));
        };
        let Some(network) = &session.network else { return Ok(()) };
        session.plugging = true;
        // Those of a killed holder go with its namespace, in the kernel's own time.
        if member.joiner.wanted.iter().any(|wanted| !wanted.before.is_empty()) {
            for endpoint in &member.endpoints {
                links::take_away(network.as_fd(), &endpoint.interface)?;
            }
        }
        for (number, endpoint) in member.endpoints.iter().enumerate() {
            let Some(active) = self.registry.networks.get(&endpoint.network) else { continue };
            // First the list: changes reach the kernel in their order, if not together.
            if member.joiner.allowed.is_some() {
                let channel =
                    session.channel.try_clone().step(|| "cannot tell of the container's traffic")?;
                self.services.limit(member, &active.network, channel)?;
            }
            self.services.plug(network.as_fd(), endpoint, &active.network, number)?;
        }
        self.services.know(member);
        Ok(())
    }

    fn rename(&mut self, id: SessionId, name: String) {
        if let Some(member) = self.registry.members.get_mut(&id) {
            member.joiner.name = name;
            self.services.know(member);
        }
    }

    fn connect(&mut self, id: SessionId, wanted: &Wanted) -> Result<Endpoint> {
        let network = self.sessions.get(&id).and_then(|session| session.network.as_ref());
        let there = network.map_or_else(|| Ok(Vec::new()), |network| links::interfaces(network.as_fd()))?;
        let endpoint = self.registry.connect(id, wanted, &there)?;
        let made = self.open(std::slice::from_ref(&wanted.network)).and_then(|()| {
            let (Some(session), Some(member)) = (self.sessions.get_mut(&id), self.registry.members.get(&id))
            else {
                return Ok(());
            };
            if let Some(network) = &session.network {
                let number = member.next - 1;
                self.services.plug(network.as_fd(), &endpoint, &wanted.network, number)?;
            }
            self.services.know(member);
            self.services.publish(member, &mut session.ports)?;
            self.services.commit()
        });
        if let Err(error) = made {
            self.disconnect(id, &wanted.network.id);
            return Err(error);
        }
        Ok(endpoint)
    }

    fn disconnect(&mut self, id: SessionId, network: &str) {
        let Some(endpoint) = self.registry.disconnect(id, network) else { return };
        // Whoever asked for it finds it done.
        if let Err(error) = self.services.unplug_now(&endpoint) {
            log::debug!("{error}");
        }
        if let (Some(session), Some(member)) = (self.sessions.get_mut(&id), self.registry.members.get(&id)) {
            self.services.know(member);
            if let Err(error) = self.services.publish(member, &mut session.ports) {
                log::debug!("{error}");
            }
        }
        self.retire();
    }

    fn reload(&mut self, id: SessionId) -> Result<()> {
        let (Some(session), Some(member)) = (self.sessions.get_mut(&id), self.registry.members.get_mut(&id))
        else {
            return Ok(());
        };
        member.next = member.endpoints.len();
        for (number, endpoint) in member.endpoints.iter().enumerate() {
            let Some(active) = self.registry.networks.get(&endpoint.network) else { continue };
            self.services.open(&active.network)?;
            if let Some(network) = &session.network {
                self.services.unplug_now(endpoint)?;
                self.services.plug(network.as_fd(), endpoint, &active.network, number)?;
            }
        }
        self.services.know(member);
        self.services.publish(member, &mut session.ports)?;
        self.services.commit()
    }

    /// The monitor is gone, or its container has no network any more.
    fn leave(&mut self, id: SessionId) {
        self.depart(id);
        self.sessions.remove(&id);
    }

    fn depart(&mut self, id: SessionId) {
        let Some(member) = self.registry.leave(id) else { return };
        for endpoint in &member.endpoints {
            self.services.unplug(endpoint);
        }
        self.services.forget(&member);
        self.retire();
    }

    fn retire(&mut self) {
        for network in self.registry.retire() {
            self.services.close(&network);
        }
    }

    /// One transaction for all that has been plugged in, and the answers that waited for it.
    fn settle(&mut self) {
        let committed = self.services.commit();
        let waiting: Vec<SessionId> =
            self.sessions.iter().filter(|(_, session)| session.plugging).map(|(id, _)| *id).collect();
        for id in waiting {
            let Some(there) = self.uplinks_of(id) else { continue };
            let plugged = committed.clone().and(there).and_then(|()| self.open_ports(id));
            self.answer(id, &plugged.map_or_else(FromHolder::Failed, |()| FromHolder::Done));
        }
    }

    fn open_ports(&mut self, id: SessionId) -> Result<()> {
        let (Some(session), Some(member)) = (self.sessions.get_mut(&id), self.registry.members.get(&id))
        else {
            return Ok(());
        };
        session.plugging = false;
        self.services.publish(member, &mut session.ports)
    }

    /// None: one of them is not there yet.
    fn uplinks_of(&self, id: SessionId) -> Option<Result<()>> {
        let member = self.registry.members.get(&id)?;
        let networks: HashSet<&str> =
            member.endpoints.iter().map(|endpoint| endpoint.network.as_str()).collect();
        for network in networks {
            let Some(active) = self.registry.networks.get(network) else { continue };
            if active.network.internal {
                continue;
            }
            let mut needed = vec![Uplink::World];
            if active.network.allows_host_loopback() {
                needed.push(Uplink::Loopback);
            }
            for uplink in needed {
                match self.uplinks.get(&uplink) {
                    Some(Connection::There) => {}
                    Some(Connection::Failed(error)) => return Some(Err(error.clone())),
                    Some(Connection::Pending) | None => return None,
                }
            }
        }
        Some(Ok(()))
    }
}
