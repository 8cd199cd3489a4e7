//! What a container's monitor and the holder of the shared network namespace say to each other, over one connection
//! for each life of the container. The container leaves its networks when the connection ends, however it ends.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Endpoint, Membership};
use crate::Error;
use crate::network::PortMapping;
use crate::network::mac::MacAddress;
use crate::network::named::NamedNetwork;

/// A network to be in: the membership, and the network's record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Wanted {
    pub membership: Membership,
    pub network: NamedNetwork,
    /// The addresses that the container had here before: it gets them again where they are free.
    pub before: Vec<IpAddr>,
}

/// A container that is alone in a network of its own, and reaches what is listed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Allowed {
    pub list: Vec<String>,
    /// Ranges that its network must not have: those of the store's networks and of the host's routes.
    pub occupied: Vec<IpNet>,
    /// The addresses that the container had before, with the length of the prefix.
    pub before: Vec<IpNet>,
    pub mac_address: Option<MacAddress>,
}

/// Who joins.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Joiner {
    /// The container's ID.
    pub id: String,
    pub name: String,
    pub hostname: String,
    pub wanted: Vec<Wanted>,
    /// What `--net-allow` lists; none: everything may be reached. With it `wanted` is empty.
    pub allowed: Option<Allowed>,
    /// The name servers that unknown names are asked of (`--dns`); empty: those of the network, or else the host's.
    pub dns: Vec<IpAddr>,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum ToHolder {
    /// The first message. Answered by [`FromHolder::Joined`].
    Join(Box<Joiner>),
    /// Carries a socket that is bound to a host port (TCP: it listens, too), to be served once the container is
    /// plugged in.
    Publish(PortMapping),
    /// Carries the container's network namespace: all its interfaces are made there. Answered by
    /// [`FromHolder::Done`].
    Plug,
    /// Another network for the running container. Answered by [`FromHolder::Connected`].
    Connect(Box<Wanted>),
    /// Out of the network with this ID. Answered by [`FromHolder::Done`].
    Disconnect { network: String },
    /// The container has this name now. Answered by [`FromHolder::Done`].
    Rename { name: String },
    /// Out of all networks. Answered by [`FromHolder::Done`], after the last lines for the network log.
    Leave,
    /// Set up all of the container's interfaces, names and ports again. Answered by [`FromHolder::Done`].
    Reload,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum FromHolder {
    /// Carries the user namespace below which the container's has to be.
    Joined(Vec<Endpoint>),
    Connected(Box<Endpoint>),
    Done,
    Failed(Error),
    /// A line for the container's network log: JSON, without the line feed.
    Traffic(String),
}
