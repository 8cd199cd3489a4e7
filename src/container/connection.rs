//! `network connect`, `disconnect` and `reload` for one container: its settings keep the networks that it is in, and its
//! monitor changes what there is of them while it runs.

use std::path::Path;

use crate::container::life;
use crate::container::list::{self, Status};
use crate::container::settings::Settings;
use crate::container::spec::Spec;
use crate::container::store::{Store, short};
use crate::error::{Error, Result, Step};
use crate::monitor::message::{Request, ToClient};
use crate::network::bridge::protocol::Wanted;
use crate::network::named::{Asked, BUILT_IN, NamedNetwork, NamedNetworks};
use crate::network::{Membership, Mode};

/// When a change of a container's networks takes place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    Now,
    /// It is down.
    NextStart,
    /// It runs, and was started where no bridge reaches it.
    NextStartThoughItRuns,
}

/// Puts a container into a network, also while it runs.
///
/// # Errors
/// It is in the network already, its network is of a kind that goes with no other, or what is asked is not to be had.
pub fn connect(
    store: &Store,
    runtime: &Path,
    id: &str,
    network: &NamedNetwork,
    asked: &Asked,
) -> Result<When> {
    let networks = NamedNetworks::new(store.root());
    let membership = network.membership(asked)?;
    // Before the lock is taken, for which whoever makes a network waits.
    let before = memberships(&store.read_spec(id)?, &networks)?;
    let _hold = networks.keep().step(|| "cannot keep the network from being removed")?;
    check_there(&networks, network)?;
    let mut when = When::NextStart;
    store.change_settings(id, |settings| {
        let spec = store.read_spec(id)?;
        let mut memberships = match spec.network.mode {
            Mode::Bridge => spec.network.memberships.clone(),
            _ => before,
        };
        if memberships.iter().any(|other| other.id == network.id) {
            return Err(Error::new(format!(
                "container {} is already connected to network \"{}\"",
                spec.name, network.name
            )));
        }
        memberships.push(membership.clone());
        when = when_changed(store, id);
        if when == When::Now {
            let wanted =
                Wanted { membership: membership.clone(), network: network.clone(), before: Vec::new() };
            tell(store, runtime, id, &Request::NetworkConnect(Box::new(wanted)))?;
        }
        Ok(Settings { networks: Some(memberships), ..settings })
    })?;
    Ok(when)
}

/// Takes a container out of a network, also while it runs. `id_or_name` of the network, which may be gone.
///
/// # Errors
/// It is not in the network.
pub fn disconnect(
    store: &Store,
    runtime: &Path,
    id: &str,
    network: &str,
    force: bool,
) -> Result<(Membership, When)> {
    let mut left = None;
    let mut when = When::NextStart;
    store.change_settings(id, |settings| {
        let spec = store.read_spec(id)?;
        let mut memberships = spec.network.memberships.clone();
        let found = memberships.iter().position(|one| one.name == network || one.id == network);
        let Some(at) = found else {
            return Err(Error::new(format!(
                "container {} is not connected to network \"{}\"",
                spec.name,
                network.escape_debug()
            )));
        };
        let membership = memberships.remove(at);
        when = when_changed(store, id);
        if when == When::Now {
            let request = Request::NetworkDisconnect { network: membership.id.clone() };
            match tell(store, runtime, id, &request) {
                Err(error) if force => log::warn!("{error}"),
                told => told?,
            }
        }
        left = Some(membership);
        Ok(Settings { networks: Some(memberships), ..settings })
    })?;
    let left = left.ok_or_else(|| Error::new(format!("container {} has gone", short(id))))?;
    Ok((left, when))
}

/// Sets up what there is of the networks of a container that runs.
///
/// # Errors
/// It does not run, or is in no bridge network.
pub fn reload(store: &Store, runtime: &Path, id: &str) -> Result<()> {
    match (list::one(store, id).map(|found| found.status), when_changed(store, id)) {
        (_, When::Now) => tell(store, runtime, id, &Request::NetworkReload),
        (Some(status), _) if status.is_up() => Err(Error::new("its network cannot be set up again")
            .because("it is in none that `sbx network create` made, and not in `bridge`")),
        _ => Err(life::not_running(id)),
    }
}

/// Lets the networks of a container answer to the name that it has been given.
///
/// # Errors
/// They cannot be told.
pub fn renamed(store: &Store, runtime: &Path, id: &str) -> Result<()> {
    match when_changed(store, id) {
        When::Now => tell(store, runtime, id, &Request::NetworkRename),
        When::NextStart | When::NextStartThoughItRuns => Ok(()),
    }
}

/// Where the container is now, and can be with others.
fn memberships(spec: &Spec, networks: &NamedNetworks) -> Result<Vec<Membership>> {
    let failed = || {
        Error::new(format!("container {} cannot be connected to another network", spec.name))
            .because(format!("\"{}\" is not supported: invalid network mode", spec.network.mode))
    };
    match &spec.network.mode {
        Mode::Bridge if spec.network.allowed.is_some() => {
            Err(Error::new(format!("container {} cannot be connected to another network", spec.name))
                .because("it has `--net-allow`, and another network would lead past the list"))
        }
        Mode::Bridge => Ok(spec.network.memberships.clone()),
        // What docker connects a container to that names no network.
        Mode::Slirp4netns(options) | Mode::Pasta(options) if options.is_empty() => {
            Ok(vec![networks.built_in()?.membership(&Asked::named(BUILT_IN))?])
        }
        Mode::Slirp4netns(_) | Mode::Pasta(_) => {
            Err(failed().hint(format!("make it anew with `--network {BUILT_IN}`")))
        }
        Mode::None | Mode::Host | Mode::Path(_) | Mode::Container(_) => {
            Err(failed().hint("make it anew with `--network NAME`"))
        }
    }
}

/// Whether the container runs, and what it is connected by can be had by a new monitor alone.
pub fn waits_for_a_bridge(store: &Store, id: &str) -> bool {
    let planned = store.read_spec(id).is_ok_and(|spec| {
        spec.network.mode == Mode::Bridge && spec.network.allowed.is_none() && !spec.remove_on_exit
    });
    planned && when_changed(store, id) == When::NextStartThoughItRuns
}

fn check_there(networks: &NamedNetworks, network: &NamedNetwork) -> Result<()> {
    match networks.named(&network.name)? {
        Some(found) if found.id == network.id => Ok(()),
        _ => Err(crate::network::named::missing(&network.name)),
    }
}

fn when_changed(store: &Store, id: &str) -> When {
    let up = list::one(store, id)
        .is_some_and(|found| matches!(found.status, Status::Running { .. } | Status::Paused { .. }));
    match store.record_of(id) {
        Some(record) if up && record.bridged => When::Now,
        _ if up => When::NextStartThoughItRuns,
        _ => When::NextStart,
    }
}

fn tell(store: &Store, runtime: &Path, id: &str, request: &Request) -> Result<()> {
    let channel = life::ask(store, runtime, id, request)?.ok_or_else(|| life::not_running(id))?;
    match channel.receive::<ToClient>().ok().flatten() {
        Some((ToClient::Done, _)) => Ok(()),
        Some((ToClient::Failed(error), _)) => Err(error),
        _ => Err(life::not_running(id)),
    }
}
