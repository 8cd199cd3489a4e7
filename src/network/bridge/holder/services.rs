//! What the process inside does to the kernel and for the containers: bridges and interfaces, rules, names, ports.

use std::collections::HashSet;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::registry::Member;
use super::uplink::Uplink;
use crate::error::{Result, Step};
use crate::network::HOST_LOOPBACK;
use crate::network::PortMapping;
use crate::network::bridge::Endpoint;
use crate::network::bridge::forward::{Forwarder, Target};
use crate::network::bridge::links::{Bridge, Links, Plug};
use crate::network::bridge::names::{self, Responder, Unrestricted};
use crate::network::bridge::rules::{self, HostLoopback, Nft, Rules, Uplinks};
use crate::network::named::NamedNetwork;

/// The uplink's, so that nothing has to be cut up on its way out.
const MTU: u32 = 65520;

/// All of them.
pub struct Services {
    links: Links,
    rules: Rules,
    responder: Responder,
    forwarder: Forwarder,
    /// The networks in which names are answered.
    listening: HashSet<String>,
}

impl Services {
    /// In the calling process's network namespace, which is new.
    ///
    /// # Errors
    /// The kernel or the host lacks something.
    pub fn start() -> Result<Self> {
        let nft = Nft::find()?;
        let mut links = Links::open()?;
        links.prepare()?;
        let mut rules = Rules::new(nft, uplinks());
        rules.commit()?;
        let responder = Responder::start(Arc::new(Unrestricted), Vec::new())
            .step(|| "cannot start the name server of bridge networks")?;
        let forwarder = Forwarder::start()?;
        Ok(Self { links, rules, responder, forwarder, listening: HashSet::new() })
    }

    pub fn set_name_servers(&mut self, servers: &[IpAddr]) {
        self.responder.set_servers(servers.to_vec());
    }

    /// Makes the bridge of a network, where it is not there yet, with everything that it offers.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn open(&mut self, network: &NamedNetwork) -> Result<()> {
        let addresses: Vec<_> = network
            .subnets
            .iter()
            .map(|subnet| ipnet::IpNet::new_assert(subnet.gateway, subnet.subnet.prefix_len()))
            .collect();
        self.links.make_bridge(&Bridge {
            name: &network.interface,
            mtu: mtu(network),
            addresses: &addresses,
        })?;
        let gateways: Vec<IpAddr> = network.subnets.iter().map(|subnet| subnet.gateway).collect();
        self.rules.add_network(rules::Network {
            bridge: network.interface.clone(),
            gateways: gateways.clone(),
            internal: network.internal,
            isolated: network.is_isolated(),
            host_loopback: network.allows_host_loopback(),
        });
        self.responder.update(|table| table.set_network(names::Network::from(network)));
        if !self.listening.contains(&network.id) {
            self.responder
                .listen(&network.id, &gateways)
                .step(|| format!("cannot answer names in the network `{}`", network.name))?;
            self.listening.insert(network.id.clone());
        }
        Ok(())
    }

    /// A network that nobody is in.
    pub fn close(&mut self, network: &NamedNetwork) {
        self.responder.silence(&network.id);
        self.listening.remove(&network.id);
        self.responder.update(|table| table.remove_network(&network.id));
        self.rules.remove_network(&network.interface);
        if let Err(error) = self.links.remove_bridge(&network.interface) {
            log::debug!("{error}");
        }
    }

    /// Makes a container's interface; `number` counts those that it has. Nothing passes before [`Self::commit`].
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn plug(
        &mut self,
        namespace: BorrowedFd<'_>,
        endpoint: &Endpoint,
        network: &NamedNetwork,
        number: usize,
    ) -> Result<()> {
        self.links.plug(
            namespace,
            &Plug {
                host_interface: &endpoint.host_interface,
                bridge: &network.interface,
                interface: &endpoint.interface,
                mac: endpoint.mac_address,
                mtu: mtu(network),
                addresses: &endpoint.addresses,
                gateways: &endpoint.gateways,
                metric: 100 + u32::try_from(number).unwrap_or(u32::MAX / 2),
            },
        )?;
        self.rules.add_endpoint(rules::Endpoint {
            host_interface: endpoint.host_interface.clone(),
            mac_address: endpoint.mac_address,
            addresses: endpoint.addresses.iter().map(ipnet::IpNet::addr).collect(),
        });
        Ok(())
    }

    pub fn unplug(&mut self, endpoint: &Endpoint) {
        self.rules.remove_endpoint(&endpoint.host_interface);
        if let Err(error) = self.links.unplug(&endpoint.host_interface) {
            log::debug!("{error}");
        }
    }

    /// Answers to the container's names from now on, in all of its networks and no others.
    pub fn know(&mut self, member: &Member) {
        let id = &member.joiner.id;
        self.responder.update(|table| {
            table.forget(id);
            for endpoint in &member.endpoints {
                table.join(&endpoint.network, names::Member::new(&member.joiner, endpoint));
            }
        });
    }

    /// Leads its published ports to where the container is now.
    pub fn publish(&mut self, member: &Member, ports: &mut Vec<(PortMapping, OwnedFd)>) -> Result<()> {
        let id = member.joiner.id.as_str();
        let target = member.endpoints.first().map(Target::from).unwrap_or_default();
        for (mapping, socket) in ports.drain(..) {
            self.forwarder.publish(id, socket, mapping.protocol, mapping.container_port, target.clone())?;
        }
        self.forwarder.retarget(id, target)
    }

    /// Nothing of the container is left but interfaces, which [`Self::unplug`] removes.
    pub fn forget(&mut self, member: &Member) {
        let id = &member.joiner.id;
        self.responder.update(|table| table.forget(id));
        if let Err(error) = self.forwarder.withdraw(id) {
            log::debug!("{error}");
        }
    }

    /// Gives the kernel all changes of the rules.
    ///
    /// # Errors
    /// It refuses them.
    pub fn commit(&mut self) -> Result<()> {
        self.rules.commit()
    }
}

fn mtu(network: &NamedNetwork) -> u32 {
    network.options.get("mtu").and_then(|mtu| mtu.parse().ok()).unwrap_or(MTU)
}

fn uplinks() -> Uplinks {
    let ranges = |texts: &[&str]| texts.iter().filter_map(|text| text.parse().ok()).collect();
    let uplink = |uplink: Uplink, texts: &[&str]| rules::Uplink {
        interface: uplink.interface().to_owned(),
        ranges: ranges(texts),
    };
    let loopback = Uplink::Loopback.interface().to_owned();
    Uplinks {
        interfaces: vec![
            uplink(Uplink::World, &["10.0.2.0/24", "fd00::/64"]),
            uplink(Uplink::Loopback, &["10.0.3.0/24"]),
        ],
        host_loopback: Some(HostLoopback { interface: loopback, address: HOST_LOOPBACK }),
    }
}
