//! Bridge networks: one network namespace for each user and store, with a Linux bridge for each network in use.
//!
//! The namespace belongs to a user namespace with the canonical map, and those of its containers are children of that:
//! only so may an interface be moved into theirs. [`protocol`] is what a monitor and the namespace's holder say to
//! each other.

mod addresses;
pub mod allow;
pub mod forward;
mod holder;
pub mod links;
pub mod names;
mod place;
pub mod protocol;
pub mod publish;
pub mod rules;
mod session;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::mac::MacAddress;

pub use place::Place;
pub use session::{Former, Said, Session};

/// A network that a container is to be in, as its spec or settings have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The network's ID.
    pub id: String,
    pub name: String,
    /// Further names of the container in this network.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Asked for; none: the holder chooses.
    #[serde(default)]
    pub ip: Option<Ipv4Addr>,
    #[serde(default)]
    pub ip6: Option<Ipv6Addr>,
    #[serde(default)]
    pub mac_address: Option<MacAddress>,
    /// The interface's name inside; none: the first free `ethN`.
    #[serde(default)]
    pub interface: Option<String>,
}

/// A membership of a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The network's ID.
    pub network: String,
    pub network_name: String,
    pub aliases: Vec<String>,
    /// The interface's name inside.
    pub interface: String,
    /// The name of the other end, in the holder's namespace.
    pub host_interface: String,
    pub mac_address: MacAddress,
    /// With the length of the network's prefix.
    pub addresses: Vec<IpNet>,
    /// One for each family at most; none where the network is internal.
    pub gateways: Vec<IpAddr>,
    /// Where the network's names are answered; empty where they are not.
    pub name_servers: Vec<IpAddr>,
}
