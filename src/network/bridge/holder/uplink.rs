//! What connects the shared namespace to the world: one helper for all networks, as a container on its own has one.

use std::net::IpAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::network::helper::{self, Helper, Target};
use crate::network::mode::Requested;
use crate::network::resolv;
use crate::network::{Mode, Network, cache, slirp4netns};

/// Which connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Uplink {
    /// To everywhere but the host's loopback interface.
    World,
    /// To the host's loopback interface, at [`crate::network::HOST_LOOPBACK`].
    Loopback,
}

impl Uplink {
    pub fn interface(self) -> &'static str {
        match self {
            Self::World => "tap0",
            Self::Loopback => "tap1",
        }
    }
}

/// What the process inside has to know of an uplink that is there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Connected {
    /// Who answers for names.
    pub name_servers: Vec<IpAddr>,
}

/// Starts the helper of an uplink; it is waited for by [`Helper::wait_ready`].
///
/// # Errors
/// There is no helper, or it cannot be started.
pub fn start(uplink: Uplink, pid: i32, runtime: &Path) -> Result<(Helper, Connected)> {
    let cache = cache(runtime);
    let target = Target { pid, runtime_dir: runtime, cache: &cache };
    let mode = match uplink {
        Uplink::World => Requested::Private.decide()?,
        Uplink::Loopback => Requested::Decided(Mode::Slirp4netns(vec![
            "allow_host_loopback=true".to_owned(),
            "cidr=10.0.3.0/24".to_owned(),
            "enable_ipv6=false".to_owned(),
        ]))
        .decide()?,
    };
    let name_servers = resolv::forwarders(&mode, &cache)?;
    let helper = match mode {
        Mode::Slirp4netns(words) => {
            let options = slirp4netns::Options {
                interface: uplink.interface(),
                // Nothing but the host's loopback interface is behind the other: it is nobody's default route.
                configure: uplink == Uplink::World,
                ..slirp4netns::Options::parse(&words)?
            };
            helper::start_slirp4netns(&Network::of(Mode::Slirp4netns(words)), &options, &target)?
        }
        mode => {
            // Addresses as slirp4netns has them: with the host's own, which pasta would take, nobody would reach the host.
            let words = [
                "--ns-ifname",
                uplink.interface(),
                "--address",
                "10.0.2.100",
                "--netmask",
                "24",
                "--gateway",
                "10.0.2.2",
            ];
            let named = Mode::Pasta(words.map(str::to_owned).into());
            helper::start(&Network::of(named), &target)?
                .ok_or_else(|| Error::new(format!("`--network {mode}` needs no helper")))?
        }
    };
    Ok((helper, Connected { name_servers }))
}
