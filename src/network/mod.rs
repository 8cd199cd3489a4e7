//! How the container's network namespace reaches the world.
//!
//! [`plan`] makes a decided [`Network`] of the words of the command line; [`resolv`] and [`hosts`] make its files;
//! [`start`] starts the helper from outside, beside the rest of the set-up; [`inside`] is the child's own part.

pub mod bridge;
pub mod exposed;
mod files;
mod free_ports;
mod helper;
mod host_socket;
pub mod hosts;
pub mod inside;
pub mod mac;
pub mod mode;
pub mod named;
mod own_addresses;
pub mod pasta;
mod plan;
pub mod ports;
pub mod programs;
mod relay;
pub mod resolv;
pub mod slirp4netns;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use bridge::Membership;
pub use files::{Bridges, Files, HOST_LOOPBACK, files};
pub use helper::{Helper, Target, start};
pub(crate) use plan::memberships::without_names;
pub use plan::{Plan, Request, gateway, own_addresses, plan, uplink};
pub use ports::Reserved;
pub use slirp4netns::API_SOCKET;

/// The network of one container, decided and checked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Network {
    pub mode: Mode,
    pub ports: Vec<PortMapping>,
    pub dns: Vec<IpAddr>,
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
    /// `--add-host NAME:IP`, `host-gateway` already replaced.
    pub hosts: Vec<(String, IpAddr)>,
    pub mac_address: Option<String>,
    pub no_hosts: bool,
    /// With [`Mode::Bridge`]: the networks that the container is in, none of them twice.
    #[serde(default)]
    pub memberships: Vec<Membership>,
    /// `--link`
    #[serde(default)]
    pub links: Vec<Link>,
    /// `--net-allow`, checked, with [`Mode::Bridge`]: all that the container may reach, from a network of its own.
    #[serde(default)]
    pub allowed: Option<Vec<String>>,
}

/// Another container, which has a name for this one alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its ID.
    pub container: String,
    pub alias: String,
}

impl Network {
    /// As it comes, with nothing asked for besides.
    pub fn of(mode: Mode) -> Self {
        Self {
            mode,
            ports: Vec::new(),
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            hosts: Vec::new(),
            mac_address: None,
            no_hosts: false,
            memberships: Vec::new(),
            links: Vec::new(),
            allowed: None,
        }
    }

    /// The name under which it is shown: that of the first network.
    pub fn shown(&self) -> String {
        self.names().swap_remove(0)
    }

    /// The names of all networks.
    pub fn names(&self) -> Vec<String> {
        match self.memberships.as_slice() {
            [] if self.allowed.is_some() => vec![bridge::allow::hidden::NAME.to_owned()],
            [] => vec![self.mode.to_string()],
            memberships => memberships.iter().map(|one| one.name.clone()).collect(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    None,
    Host,
    Slirp4netns(Vec<String>),
    Pasta(Vec<String>),
    Path(PathBuf),
    Container(String),
    /// The networks of [`Network::memberships`]; where that is empty, nothing but loopback.
    Bridge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
}

/// One published port, ranges already expanded and random ports already chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// None: every address, IPv4 and IPv6.
    pub host_ip: Option<IpAddr>,
    pub host_port: u16,
    pub container_port: u16,
    pub protocol: Protocol,
}

/// The file that keeps what the helpers of this host can do.
pub fn cache(runtime: &std::path::Path) -> PathBuf {
    runtime.join("helpers.json")
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with = |name: &str, options: &[String]| match options {
            [] => name.to_owned(),
            options => format!("{name}:{}", options.join(",")),
        };
        f.write_str(&match self {
            Self::None => "none".to_owned(),
            Self::Host => "host".to_owned(),
            Self::Slirp4netns(options) => with("slirp4netns", options),
            Self::Pasta(options) => with("pasta", options),
            Self::Path(path) => format!("ns:{}", path.display()),
            Self::Container(id) => format!("container:{id}"),
            Self::Bridge => "bridge".to_owned(),
        })
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

#[cfg(test)]
impl Network {
    /// A network for tests: slirp4netns as it comes.
    pub fn private_slirp4netns() -> Self {
        Self::of(Mode::Slirp4netns(Vec::new()))
    }
}
