//! Being in a network: what is asked of it is checked, and it stays while somebody joins.

use std::net::IpAddr;

use super::{Asked, Hold, Membership, NamedNetwork, NamedNetworks, subnets};
use crate::container::store::{Store, short};
use crate::error::{Error, Result, Step};
use crate::network::Network;

/// Keeps the network of a container that is being made until its spec says that it is in it.
///
/// # Errors
/// It was removed meanwhile.
pub fn hold(store: &Store, network: &Network) -> Result<Hold> {
    if network.memberships.is_empty() {
        return Ok(Hold { _lock: None });
    }
    let networks = NamedNetworks::new(store.root());
    let failed = || format!("cannot connect the container to `{}`", network.names().join("`, `"));
    let hold = networks.keep().step(failed)?;
    still_there(store, network).map_err(|error| error.while_doing(failed()))?;
    Ok(hold)
}

/// The records of a container's networks, in the order of its memberships.
///
/// # Errors
/// One is gone. No command of sbx removes one that a container is in.
pub fn still_there(store: &Store, network: &Network) -> Result<Vec<NamedNetwork>> {
    let networks = NamedNetworks::new(store.root());
    let record = |membership: &Membership| match networks.named(&membership.name)? {
        Some(found) if found.id == membership.id => Ok(found),
        _ => Err(Error::new(format!("the network `{}` is gone", membership.name))
            .because(format!("there is no network with the ID {}", short(&membership.id)))
            .hint("make the network and the container anew")),
    };
    network.memberships.iter().map(record).collect()
}

impl NamedNetwork {
    /// Its containers do not reach those of other networks.
    pub fn is_isolated(&self) -> bool {
        self.options.get("isolate").is_none_or(|value| value != "false")
    }

    /// Its containers reach the host's own loopback interface.
    pub fn allows_host_loopback(&self) -> bool {
        self.options.get("allow_host_loopback").is_some_and(|value| value == "true")
    }

    /// What a container becomes that is to be in this network.
    ///
    /// # Errors
    /// An address is asked for that the network does not have.
    pub fn membership(&self, asked: &Asked) -> Result<Membership> {
        let addresses = asked.ip.map(IpAddr::from).into_iter().chain(asked.ip6.map(IpAddr::from));
        for address in addresses {
            self.check_address(address)?;
        }
        Ok(Membership {
            id: self.id.clone(),
            name: self.name.clone(),
            aliases: asked.aliases.clone(),
            ip: asked.ip,
            ip6: asked.ip6,
            mac_address: asked.mac_address,
            interface: asked.interface.clone(),
        })
    }

    fn check_address(&self, address: IpAddr) -> Result<()> {
        let failed =
            || Error::new(format!("cannot use the address {address} in the network `{}`", self.name));
        let of = self.subnets.iter().find(|of| of.subnet.addr().is_ipv4() == address.is_ipv4());
        let Some(of) = of else {
            let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
            return Err(failed().because(format!("the network has no {family} addresses")));
        };
        subnets::check_host(of.subnet, address).map_err(|cause| failed().because(cause))?;
        if address == of.gateway {
            return Err(failed().because("it is the gateway's"));
        }
        match self.reserved.iter().find(|(_, reserved)| **reserved == address) {
            Some((name, _)) => Err(failed().because(format!("it is reserved for `{name}`"))),
            None => Ok(()),
        }
    }
}
