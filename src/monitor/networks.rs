//! The bridge networks of a container: joined before each of its lives, kept while it runs.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::container::claim::Running;
use crate::container::store::Store;
use crate::error::{Error, Result};
use crate::events::{Action, Event, Kind};
use crate::monitor::files;
use crate::monitor::life::Life;
use crate::monitor::message::ToClient;
use crate::monitor::run::Monitor;
use crate::network::bridge::protocol::{Allowed, Joiner, Wanted};
use crate::network::bridge::publish::Published;
use crate::network::bridge::{Endpoint, Former, Membership, Place, Said, Session};
use crate::network::named::{self, NamedNetwork, NamedNetworks};
use crate::network::{Mode, Network};
use crate::sandbox::namespaces;
use crate::sys::process::parent_namespace;

/// A holder that cannot be started again is tried so much later.
const AGAIN: Duration = Duration::from_secs(2);

impl Monitor<'_> {
    /// Joins the networks that the container is to be in now; none: it is in no bridge network.
    ///
    /// # Errors
    /// One is gone, has no address left, or a host port is taken.
    pub(super) fn join_networks(&mut self) -> Result<Option<Session>> {
        if self.spec.network.mode != Mode::Bridge {
            return Ok(None);
        }
        if self.published.is_none() && !self.spec.network.ports.is_empty() {
            // They stay bound from one life to the next.
            self.published = Some(Published::bind(&self.spec.network.ports)?);
        }
        let former = || {
            let (namespace, addresses) = (namespace_of_others(self.store)?, addresses_of_others(self.store));
            Some(Former { namespace, addresses })
        };
        self.join_with(&former).map(Some)
    }

    fn join_with(&self, former: &dyn Fn() -> Option<Former>) -> Result<Session> {
        let place = Place::new(self.store.root(), self.runtime)?;
        let settings = self.store.settings(&self.spec.id);
        let mut network = self.spec.network.clone();
        if let Some(memberships) = settings.networks {
            network.memberships = memberships;
        }
        let allowed = match &network.allowed {
            Some(list) => Some(Allowed {
                list: list.clone(),
                occupied: NamedNetworks::new(self.store.root()).occupied()?,
                before: self.record.endpoints.iter().flat_map(|one| one.addresses.clone()).collect(),
                mac_address: network.mac_address.as_deref().map(str::parse).transpose()?,
            }),
            None => None,
        };
        let joiner = Joiner {
            id: self.spec.id.clone(),
            name: settings.name.unwrap_or_else(|| self.spec.name.clone()),
            hostname: self.spec.hostname.clone().unwrap_or_default(),
            wanted: match allowed {
                None => wanted(self.store, &network, &self.record.endpoints)?,
                Some(_) => Vec::new(),
            },
            allowed,
            dns: self.spec.network.dns.clone(),
        };
        let session = Session::join(&place, &self.spec.identity, former, &joiner)?;
        for (mapping, socket) in self.published.iter().flat_map(Published::iter) {
            session.publish(mapping, socket)?;
        }
        Ok(session)
    }

    /// The holder has said something, or is gone.
    pub(super) fn serve_networks(&mut self) {
        let Some(session) = self.life.as_mut().and_then(|life| life.bridges.as_mut()) else { return };
        for said in session.said() {
            match said {
                Said::Traffic(line) => {
                    if let Some(life) = &mut self.life {
                        life.note_traffic(&line);
                    }
                }
                Said::Gone => self.rejoin(),
            }
        }
    }

    /// For what is due now.
    pub(super) fn keep_networks(&mut self) {
        let due = self.life.as_ref().and_then(|life| life.rejoin_at).is_some_and(|at| at <= Instant::now());
        if due {
            self.rejoin();
        }
    }

    /// The holder was killed: another one gives the container its interfaces again, with the addresses that it had.
    fn rejoin(&mut self) {
        let Some(life) = &mut self.life else { return };
        (life.bridges, life.rejoin_at) = (None, None);
        let above = life.sandbox.userns.try_clone();
        let store = self.store;
        let former = || {
            let namespace = above.as_ref().ok()?.try_clone().ok()?.into();
            Some(Former { namespace, addresses: addresses_of_others(store) })
        };
        let joined = self.join_with(&former).and_then(|mut session| {
            let network = self.life.as_ref().and_then(|life| life.sandbox.namespaces.as_ref()?.network());
            session.plug(network.ok_or_else(|| Error::new("the container has no network namespace"))?)?;
            session.wait()?;
            Ok(session)
        });
        match joined {
            Ok(session) => self.have(session),
            Err(error) => {
                ::log::debug!("{error}");
                let notice = format!("the container's networks are gone: {error}");
                self.sessions.notify(&ToClient::Notice(notice));
                if let Some(life) = &mut self.life {
                    life.rejoin_at = Some(Instant::now() + AGAIN);
                }
            }
        }
    }

    fn have(&mut self, session: Session) {
        self.record.endpoints.clone_from(&session.endpoints);
        if let Some(life) = &mut self.life {
            life.bridges = Some(session);
        }
        self.show_endpoints();
    }

    /// Where commands and the container itself look.
    fn show_endpoints(&self) {
        let shown = self.claim.record(&self.record).and_then(|()| {
            files::generate(self.store, self.spec, self.directory, self.runtime, &self.record.endpoints)
        });
        if let Err(error) = shown {
            ::log::debug!("{error}");
        }
    }

    pub(super) fn network_connect(&mut self, id: u64, wanted: &Wanted) {
        let answer = self.with_networks(|session| session.connect(wanted));
        self.answer_networks(id, answer, Action::Connect, &wanted.network.id, &wanted.network.name);
    }

    pub(super) fn network_disconnect(&mut self, id: u64, network: &str) {
        let name = self.record.endpoints.iter().find(|endpoint| endpoint.network == network);
        let name = name.map_or_else(String::new, |endpoint| endpoint.network_name.clone());
        let answer = self.with_networks(|session| session.disconnect(network));
        self.answer_networks(id, answer, Action::Disconnect, network, &name);
    }

    pub(super) fn network_reload(&mut self, id: u64) {
        let answer = match self.with_networks(Session::reload) {
            Ok(()) => ToClient::Done,
            Err(error) => ToClient::Failed(error),
        };
        self.sessions.dismiss(id, &answer);
    }

    pub(super) fn network_rename(&mut self, id: u64) {
        let name = self.store.settings(&self.spec.id).name.unwrap_or_else(|| self.spec.name.clone());
        let answer = match self.with_networks(|session| session.rename(&name)) {
            Ok(()) => ToClient::Done,
            Err(error) => ToClient::Failed(error),
        };
        self.sessions.dismiss(id, &answer);
    }

    fn with_networks(&mut self, work: impl FnOnce(&mut Session) -> Result<()>) -> Result<()> {
        let down = self.down_now("cannot change the networks of");
        let Some(Life { bridges, .. }) = &mut self.life else { return Err(down) };
        let Some(session) = bridges else {
            return Err(Error::new(format!("cannot change the networks of container {}", self.spec.name))
                .because("it has none that can be changed while it runs")
                .hint("it is connected when it starts the next time: `sbx restart`"));
        };
        work(session)?;
        self.record.endpoints.clone_from(&session.endpoints);
        self.show_endpoints();
        Ok(())
    }

    fn answer_networks(&mut self, id: u64, answer: Result<()>, action: Action, network: &str, name: &str) {
        let answer = match answer {
            Ok(()) => {
                let event = Event::new(Kind::Network, action, network, name);
                self.tell(event.with("container", &self.spec.id));
                ToClient::Done
            }
            Err(error) => ToClient::Failed(error),
        };
        self.sessions.dismiss(id, &answer);
    }
}

/// The memberships with the networks' records, and the addresses of the last life.
fn wanted(store: &Store, network: &Network, before: &[Endpoint]) -> Result<Vec<Wanted>> {
    let records = named::still_there(store, network)?;
    let with = |(membership, network): (&Membership, NamedNetwork)| {
        let before = before
            .iter()
            .filter(|endpoint| endpoint.network == membership.id)
            .flat_map(|endpoint| endpoint.addresses.iter().map(ipnet::IpNet::addr))
            .collect();
        Wanted { membership: membership.clone(), network, before }
    };
    Ok(network.memberships.iter().zip(records).map(with).collect())
}

/// The user namespace of a holder that was killed: the one above those of its containers.
fn namespace_of_others(store: &Store) -> Option<OwnedFd> {
    let of = |record: Running| {
        let init = record.init.filter(|init| !record.endpoints.is_empty() && init.is_alive())?;
        let own = namespaces::open(&init.pid.to_string(), "user").ok()?;
        parent_namespace(own.as_fd()).ok()
    };
    store.running_ids().iter().filter_map(|id| store.record_of(id)).find_map(of)
}

/// The addresses of all containers that are in networks, by their IDs.
fn addresses_of_others(store: &Store) -> HashMap<String, Vec<IpAddr>> {
    let of = |id: String| {
        let record = store.record_of(&id)?;
        let alive = record.init.is_some_and(|init| init.is_alive());
        let all = record.endpoints.iter().flat_map(|one| &one.addresses).map(ipnet::IpNet::addr).collect();
        alive.then_some((id, all))
    };
    store.running_ids().into_iter().filter_map(of).collect()
}
