//! How the container's network namespace reaches the world.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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
