//! Who is in a network, and removing those that nobody is in.

use super::{NamedNetwork, NamedNetworks};
use crate::container::spec::Spec;
use crate::container::store::{Store, no_room, short};
use crate::error::{Error, Result, Step};
use crate::volume::usage::has_no_spec;

/// The exit code of podman-network-rm(1) where a container is in the network.
pub const IN_USE: u8 = 2;

/// The containers of a network, whether they run or not.
///
/// # Errors
/// The spec of a container cannot be read: it may name any network.
pub fn members(store: &Store, network: &NamedNetwork) -> Result<Vec<Spec>> {
    let mut members = Vec::new();
    for id in store.all_ids()? {
        match store.read_spec(&id) {
            Ok(spec) if spec.network.memberships.iter().any(|of| of.id == network.id) => {
                members.push(spec);
            }
            Ok(_) => {}
            // It is being removed: who makes one holds its network until the spec is there.
            Err(_) if has_no_spec(store, &id) => {}
            Err(error) => {
                return Err(
                    error.while_doing(format!("cannot tell which network container {} is in", short(&id)))
                );
            }
        }
    }
    Ok(members)
}

/// Removes a network that no container is in. False: somebody else has.
///
/// # Errors
/// A container is in it (with the exit code [`IN_USE`]), or its record cannot be removed.
pub fn remove(store: &Store, network: &NamedNetwork) -> Result<bool> {
    let networks = NamedNetworks::new(store.root());
    let failed = || format!("cannot remove the network `{}`", network.name);
    let _lock = networks.lock(true).step(failed)?;
    // Under the lock: whoever makes a container in it now waits, or has its spec on disk.
    if networks.named(&network.name)?.is_none_or(|found| found.id != network.id) {
        return Ok(false);
    }
    let members = members(store, network).map_err(|error| error.while_doing(failed()))?;
    if !members.is_empty() {
        let names: Vec<&str> = members.iter().map(|spec| spec.name.as_str()).collect();
        return Err(Error::new(failed())
            .because(format!("containers are in it: {}", names.join(", ")))
            .hint(format!("`sbx network rm -f {}` removes them, too", network.name))
            .exit_code(IN_USE));
    }
    networks.records.remove(&network.name).map_err(|error| no_room(error, failed()))?;
    Ok(true)
}
