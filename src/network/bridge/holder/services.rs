//! What the process inside does to the kernel and for the containers: bridges and interfaces, rules, names, ports.

use std::collections::HashSet;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::registry::Member;
use super::uplink::Uplink;
use crate::error::{Result, Step};
use crate::network::HOST_LOOPBACK;
use crate::network::PortMapping;
use crate::network::bridge::Endpoint;
use crate::network::bridge::allow::{self, Allowances, List};
use crate::network::bridge::forward::{Forwarder, Target};
use crate::network::bridge::links::{Bridge, Links, Plug};
use crate::network::bridge::names::{self, Responder};
use crate::network::bridge::protocol::FromHolder;
use crate::network::bridge::rules::{self, HostLoopback, Nft, Rules, Uplinks};
use crate::network::named::NamedNetwork;
use crate::sys::channel::Channel;

/// The uplink's, so that nothing has to be cut up on its way out.
const MTU: u32 = 65520;
/// Ethernet's. Between two containers nothing is paid for each packet, since the kernel hands on what it has not cut up
/// yet; what it keeps of long packets on their way is less at home in the processor's cache.
const NEIGHBOURS_MTU: u32 = 1500;

/// All of them.
pub struct Services {
    links: Links,
    unplugger: Unplugger,
    rules: Arc<Mutex<Rules>>,
    allowances: Arc<Allowances>,
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
        let rules = Arc::new(Mutex::new(rules));
        let allowances = Arc::new(Allowances::new(rules.clone()));
        let responder = Responder::start(allowances.clone(), Vec::new())
            .step(|| "cannot start the name server of bridge networks")?;
        let forwarder = Forwarder::start()?;
        Ok(Self {
            links,
            unplugger: Unplugger::start()?,
            rules,
            allowances,
            responder,
            forwarder,
            listening: HashSet::new(),
        })
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_name_servers(&mut self, servers: &[IpAddr]) {
        self.responder.set_servers(servers.to_vec());
    }

    /// Gives the way to the host's loopback interface the address that its helper answers to.
    ///
    /// # Errors
    /// The interface is gone.
    pub fn address_loopback_uplink(&mut self) -> Result<()> {
        let [a, b, c, _] = HOST_LOOPBACK.octets();
        let own = ipnet::Ipv4Net::new_assert([a, b, c, 100].into(), 24);
        self.links.bring_up(Uplink::Loopback.interface(), MTU, &own.into())
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
        self.rules().add_network(rules::Network {
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
        self.rules().remove_network(&network.interface);
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
                neighbours_mtu: (!network.options.contains_key("mtu")).then_some(NEIGHBOURS_MTU),
                addresses: &endpoint.addresses,
                gateways: &endpoint.gateways,
                metric: 100 + u32::try_from(number).unwrap_or(u32::MAX / 2),
            },
        )?;
        self.rules().add_endpoint(rules::Endpoint {
            host_interface: endpoint.host_interface.clone(),
            mac_address: endpoint.mac_address,
            addresses: endpoint.addresses.iter().map(ipnet::IpNet::addr).collect(),
        });
        Ok(())
    }

    pub fn unplug(&mut self, endpoint: &Endpoint) {
        self.rules().remove_endpoint(&endpoint.host_interface);
        self.unplugger.unplug(&endpoint.host_interface);
    }

    /// The same, where the interface is made again.
    ///
    /// # Errors
    /// The kernel does not let it go.
    pub fn unplug_now(&mut self, endpoint: &Endpoint) -> Result<()> {
        self.rules().remove_endpoint(&endpoint.host_interface);
        self.links.unplug(&endpoint.host_interface)
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
        self.allowances.remove(id);
        if let Err(error) = self.forwarder.withdraw(id) {
            log::debug!("{error}");
        }
    }

    /// Enforces a container's list from now on, before anything comes from it. What it tries goes to `channel`.
    ///
    /// # Errors
    /// The list is wrong, or the kernel cannot enforce it.
    pub fn limit(&self, member: &Member, network: &NamedNetwork, channel: Channel) -> Result<()> {
        let Some(allowed) = &member.joiner.allowed else { return Ok(()) };
        let each = member.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
        self.allowances.add(allow::Member {
            container: member.joiner.id.clone(),
            bridge: network.interface.clone(),
            addresses: each.map(ipnet::IpNet::addr).collect(),
            gateways: network.subnets.iter().map(|subnet| subnet.gateway).collect(),
            list: List::parse(&allowed.list)?,
            report: Box::new(move |line| {
                // A monitor that is too busy to read it misses the line, and one that is gone needs none.
                if let Err(error) = channel.send(&FromHolder::Traffic(line)) {
                    log::debug!("cannot tell a monitor of its container's traffic: {error}");
                }
            }),
        })
    }

    /// Gives the kernel all changes of the rules.
    ///
    /// # Errors
    /// It refuses them.
    pub fn commit(&mut self) -> Result<()> {
        self.rules().commit()
    }
}

/// A thread that removes interfaces: the kernel takes 15 to 20 ms for one, and others can be plugged in meanwhile.
struct Unplugger(Sender<String>);

impl Unplugger {
    fn start() -> Result<Self> {
        let mut links = Links::open()?;
        let (sender, receiver) = channel::<String>();
        let work = move || {
            for interface in receiver {
                if let Err(error) = links.unplug(&interface) {
                    log::debug!("{error}");
                }
            }
        };
        let thread = std::thread::Builder::new().name("sbx-unplug".to_owned()).stack_size(64 << 10);
        thread.spawn(work).step(|| "cannot start a thread")?;
        Ok(Self(sender))
    }

    fn unplug(&self, interface: &str) {
        let _ = self.0.send(interface.to_owned());
    }
}

fn mtu(network: &NamedNetwork) -> u32 {
    network.options.get("mtu").and_then(|mtu| mtu.parse().ok()).unwrap_or(MTU)
}

fn uplinks() -> Uplinks {
    let ranges = ["10.0.2.0/24", "fd00::/64"].iter().filter_map(|text| text.parse().ok()).collect();
    Uplinks {
        interfaces: vec![rules::Uplink { interface: Uplink::World.interface().to_owned(), ranges }],
        host_loopback: Some(HostLoopback {
            interface: Uplink::Loopback.interface().to_owned(),
            address: HOST_LOOPBACK,
        }),
    }
}
