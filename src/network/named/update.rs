//! Changing a network.

use std::net::IpAddr;

use super::{BUILT_IN, NamedNetwork, NamedNetworks, members};
use crate::container::list;
use crate::container::store::{Store, no_room};
use crate::error::{Error, Result, Step};

/// Adds and drops servers that are asked for the names that the network does not know.
///
/// # Errors
/// Nobody answers there, a server is not one of the network's, or a container runs in it: the responder has the list
/// from the container that came first.
pub fn update_servers(store: &Store, network: &NamedNetwork, add: &[IpAddr], drop: &[IpAddr]) -> Result<()> {
    let networks = NamedNetworks::new(store.root());
    let failed = || format!("cannot change the network `{}`", network.name);
    let refused = |cause: &str| Err(Error::new(failed()).because(cause));
    if network.name == BUILT_IN || !network.dns {
        return refused("its containers have no names, and ask the host's servers");
    }
    if network.internal && !add.is_empty() {
        return refused("it is internal: no server outside is reached");
    }
    let _lock = networks.lock(true).step(failed)?;
    let Some(mut found) = networks.named(&network.name)?.filter(|found| found.id == network.id) else {
        return refused("it was removed meanwhile");
    };
    let up = |id: &str| list::one(store, id).is_some_and(|one| one.status.is_up());
    let running: Vec<String> =
        members(store, network)?.into_iter().filter(|spec| up(&spec.id)).map(|spec| spec.name).collect();
    if !running.is_empty() {
        return Err(Error::new(failed())
            .because(format!("containers run in it: {}", running.join(", ")))
            .hint("stop them first, and start them again"));
    }
    for server in drop {
        let Some(at) = found.dns_servers.iter().position(|known| known == server) else {
            return refused(&format!("{server} is not one of its servers"));
        };
        found.dns_servers.remove(at);
    }
    for server in add {
        if !found.dns_servers.contains(server) {
            found.dns_servers.push(*server);
        }
    }
    let text = serde_json::to_vec(&found).step(failed)?;
    networks.records.write(&found.name, &text, true).map_err(|error| no_room(error, failed()))
}
