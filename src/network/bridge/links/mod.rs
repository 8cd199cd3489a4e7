//! Interfaces, addresses and routes of the shared network namespace and of the containers' (rtnetlink(7)).
//!
//! What has to be quick, plugging a container in, is a few exchanges with the kernel, none of which waits for RCU.

mod failure;
mod message;
mod read;
mod routes;
mod sysctl;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;

pub use self::routes::routes;
use crate::error::{Result, Step};
use crate::network::mac::MacAddress;
use crate::sys;
use crate::sys::netlink::{Refusal, Socket};

/// How long workers of the kernel may take to make something ready, before it is believed to be so.
const PATIENCE: Duration = Duration::from_millis(200);
const MOMENT: Duration = Duration::from_micros(50);

/// The network configuration of the namespace in which it was opened.
#[derive(Debug)]
pub struct Links {
    socket: Socket,
}

/// A bridge, and what the namespace itself has on it.
#[derive(Debug, Clone, Copy)]
pub struct Bridge<'a> {
    pub name: &'a str,
    /// In bytes.
    pub mtu: u32,
    /// The gateways' addresses, with the length of the network's prefix.
    pub addresses: &'a [IpNet],
}

/// A veth pair: one end in a bridge, the other in a container.
#[derive(Debug, Clone, Copy)]
pub struct Plug<'a> {
    /// The name of the end in the bridge, which no other interface has.
    pub host_interface: &'a str,
    pub bridge: &'a str,
    /// The name inside.
    pub interface: &'a str,
    /// Of the end inside.
    pub mac: MacAddress,
    /// In bytes.
    pub mtu: u32,
    /// What packets to the other containers have at most, where that is less than `mtu`; in bytes.
    pub neighbours_mtu: Option<u32>,
    /// With the length of the network's prefix.
    pub addresses: &'a [IpNet],
    /// One for each family at most.
    pub gateways: &'a [IpAddr],
    /// Of the default routes; the least one counts. The others take over when its interface is gone, so each network
    /// of a container gives its own (0: the kernel's choice, which is not the least for IPv6).
    pub metric: u32,
}

impl Links {
    /// For the calling thread's network namespace.
    ///
    /// # Errors
    /// Netlink is not to be had.
    pub fn open() -> Result<Self> {
        let socket = Socket::open().step(|| "cannot open a netlink socket")?;
        Ok(Self { socket })
    }

    /// Makes a router of the calling thread's new network namespace, in which this was opened: loopback interface,
    /// forwarding, and what transparent sockets need: packets with the mark 1 belong to this namespace, whatever
    /// their address. Says the same again without harm.
    ///
    /// New interfaces take what routers announce, as the uplink needs it; bridges made here do not.
    ///
    /// # Errors
    /// The kernel lets it not be done, or lacks what it takes.
    pub fn prepare(&mut self) -> Result<()> {
        sys::net::loopback_up().step(|| "cannot bring the loopback interface of the bridge networks up")?;
        sysctl::make_router()?;
        let mut requests = message::transparent(false);
        if sysctl::has_ipv6() {
            requests.extend(message::transparent(true));
        }
        let what = || "cannot route packets to transparent sockets".to_owned();
        for answer in self.socket.exchange(&requests).step(what)? {
            match answer {
                Err(refusal) if refusal.errno != libc::EEXIST => {
                    return Err(failure::meaning(what(), &refusal));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes a bridge, or changes the one with that name to be so; it loses no port. Its MAC address comes from the
    /// first address, so that a bridge made again does not confuse its stations.
    ///
    /// # Errors
    /// The kernel has no bridges, or takes the name, the MTU or an address not.
    pub fn make_bridge(&mut self, bridge: &Bridge<'_>) -> Result<()> {
        let what = || format!("cannot make the bridge `{}`", bridge.name);
        let create = [(message::bridge(bridge), NLM_F_CREATE)];
        self.all(&create).map_err(|refusal| failure::meaning(what(), &refusal))?;
        let index = self.index(bridge.name).map_err(|refusal| failure::meaning(what(), &refusal))?;
        // A container must not become the router of all.
        sysctl::ignore_announcements(bridge.name)?;
        let mut requests: Vec<_> = bridge
            .addresses
            .iter()
            .map(|net| (message::address(index, net), NLM_F_CREATE | NLM_F_REPLACE))
            .collect();
        requests.push((message::up(index), 0));
        let answers = self.socket.exchange(&requests).step(what)?;
        for (number, answer) in answers.into_iter().enumerate() {
            if let Err(refusal) = answer {
                let step = bridge.addresses.get(number).map_or_else(what, |net| {
                    format!("cannot give the bridge `{}` the address {net}", bridge.name)
                });
                return Err(failure::meaning(step, &refusal));
            }
        }
        wait_for_addresses(&mut self.socket, bridge.addresses);
        Ok(())
    }

    /// Removes a bridge, its ports become single interfaces. One that is not there is none to remove.
    ///
    /// # Errors
    /// The kernel does not let it go.
    pub fn remove_bridge(&mut self, name: &str) -> Result<()> {
        self.remove(name)
            .map_err(|refusal| failure::meaning(format!("cannot remove the bridge `{name}`"), &refusal))
    }

    /// Gives an interface that somebody else has made an address, and brings it up.
    ///
    /// # Errors
    /// It is gone, or the kernel takes the MTU or the address not.
    pub fn bring_up(&mut self, name: &str, mtu: u32, address: &IpNet) -> Result<()> {
        let failed = |refusal: Refusal| failure::meaning(format!("cannot bring `{name}` up"), &refusal);
        let index = self.index(name).map_err(failed)?;
        let requests = [
            (message::mtu(index, mtu), 0),
            (message::address(index, address), NLM_F_CREATE | NLM_F_REPLACE),
            (message::up(index), 0),
        ];
        self.all(&requests).map_err(failed)
    }

    /// Connects a container, whose network namespace this is, to a bridge. The namespace's user namespace has to be
    /// below that of the calling process. When it returns, frames go through. After a failure nothing is left.
    ///
    /// Addresses of IPv6 are left out where the container has IPv6 switched off (`--sysctl net.ipv6.conf...`).
    ///
    /// # Errors
    /// A name is taken, the kernel has no such interfaces, or does not allow it.
    pub fn plug(&mut self, namespace: BorrowedFd<'_>, plug: &Plug<'_>) -> Result<()> {
        let what =
            || format!("cannot connect the container's interface `{}` to `{}`", plug.interface, plug.bridge);
        let failed = |refusal: Refusal| failure::meaning(what(), &refusal);
        let bridge = self.index(plug.bridge).map_err(failed)?;
        self.all(&[(message::veth(plug, namespace), NLM_F_CREATE | NLM_F_EXCL)])
            .map_err(|refusal| failure::making_pair(what(), plug, &refusal))?;
        let done = (|| {
            sysctl::switch_ipv6_off(plug.host_interface)?;
            let host = self.index(plug.host_interface).map_err(failed)?;
            self.all(&[(message::into_bridge(host, bridge), 0)]).map_err(failed)?;
            let (mut inside, index, ipv6) =
                configure(namespace, plug).map_err(|error| error.while_doing(what()))?;
            for index in [host, bridge] {
                wait_for_carrier(&mut self.socket, index);
            }
            wait_for_carrier(&mut inside, index);
            if ipv6 {
                wait_for_addresses(&mut inside, plug.addresses);
            }
            // The kernel announced the addresses when it brought the interface up, to nobody yet.
            inside.ask(message::announce(index, plug.mac), 0).map(drop).map_err(failed)
        })();
        if done.is_err() {
            let _ = self.remove(plug.host_interface);
        }
        done
    }

    /// Removes both ends of a pair. One that is gone, as it goes with the container's namespace, needs nothing.
    ///
    /// # Errors
    /// The kernel does not let it go.
    pub fn unplug(&mut self, host_interface: &str) -> Result<()> {
        self.remove(host_interface).map_err(|refusal| {
            failure::meaning(format!("cannot remove the container's interface `{host_interface}`"), &refusal)
        })
    }

    /// Whether an interface is there and up.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn is_up(&mut self, name: &str) -> Result<bool> {
        match self.socket.ask(message::get(name), 0) {
            Ok(answer) => Ok(answer.first().is_some_and(|body| read::is_up(body))),
            Err(refusal) if refusal.errno == libc::ENODEV => Ok(false),
            Err(refusal) => Err(failure::meaning(format!("cannot look at the interface `{name}`"), &refusal)),
        }
    }

    /// The kernel's first refusal, if there is one.
    fn all(&mut self, requests: &[message::Request]) -> Result<(), Refusal> {
        self.socket.exchange(requests)?.into_iter().try_for_each(|answer| answer.map(drop))
    }

    fn index(&mut self, name: &str) -> Result<u32, Refusal> {
        index(&mut self.socket, name)
    }

    fn remove(&mut self, name: &str) -> Result<(), Refusal> {
        match self.socket.ask(message::remove(name), 0) {
            Err(refusal) if refusal.errno != libc::ENODEV => Err(refusal),
            _ => Ok(()),
        }
    }
}

/// The names of the interfaces in a network namespace.
///
/// # Errors
/// The namespace can't be entered, or the kernel does not tell.
pub fn interfaces(namespace: BorrowedFd<'_>) -> Result<Vec<String>> {
    let what = || "cannot list the container's interfaces".to_owned();
    let mut socket = Socket::open_in(namespace).step(what)?;
    let answer =
        socket.ask(message::list(), NLM_F_DUMP).map_err(|refusal| failure::meaning(what(), &refusal))?;
    Ok(answer.iter().filter_map(|body| read::name(body)).collect())
}

/// Removes an interface in a network namespace, such as one that a holder left behind which was killed. One that is not
/// there is none.
///
/// # Errors
/// The namespace can't be entered, or the kernel does not let the interface go.
pub fn take_away(namespace: BorrowedFd<'_>, interface: &str) -> Result<()> {
    let what = || format!("cannot remove the interface `{interface}` of the container");
    let mut socket = Socket::open_in(namespace).step(what)?;
    match socket.ask(message::remove(interface), 0) {
        Err(refusal) if refusal.errno != libc::ENODEV => Err(failure::meaning(what(), &refusal)),
        _ => Ok(()),
    }
}

/// Sets up the container's end: a socket in its namespace, the interface's index there, and whether
/// it has IPv6.
fn configure(namespace: BorrowedFd<'_>, plug: &Plug<'_>) -> Result<(Socket, u32, bool)> {
    let (socket, ipv6) =
        sys::net::within(namespace, || (Socket::open(), sysctl::tune_container(plug.interface)))
            .step(|| "cannot enter the container's network namespace")?;
    let mut socket = socket.step(|| "cannot open a netlink socket in the container")?;
    let ipv6 = ipv6?;
    let name = || format!("cannot find the interface `{}` in the container", plug.interface);
    let index = index(&mut socket, plug.interface).map_err(|refusal| failure::meaning(name(), &refusal))?;
    let addresses: Vec<_> = plug.addresses.iter().filter(|net| ipv6 || net.addr().is_ipv4()).collect();
    let gateways: Vec<_> = plug.gateways.iter().filter(|ip| ipv6 || ip.is_ipv4()).collect();
    let mut requests: Vec<_> =
        addresses.iter().map(|net| (message::address(index, net), NLM_F_CREATE | NLM_F_EXCL)).collect();
    requests.push((message::up(index), 0));
    requests.extend(
        gateways
            .iter()
            .map(|ip| (message::default_route(index, **ip, plug.metric), NLM_F_CREATE | NLM_F_EXCL)),
    );
    if let Some(mtu) = plug.neighbours_mtu {
        let networks = addresses.iter().map(|net| message::network_route(index, net, mtu));
        let routers = gateways.iter().map(|ip| message::neighbour_route(index, **ip));
        requests.extend(networks.chain(routers).map(|route| (route, NLM_F_CREATE | NLM_F_REPLACE)));
    }
    let answers = socket.exchange(&requests).step(name)?;
    for (number, answer) in answers.into_iter().enumerate() {
        let Err(refusal) = answer else { continue };
        let step = match number.checked_sub(addresses.len()) {
            None => format!("cannot give it the address {}", addresses[number]),
            Some(0) => "cannot bring it up".to_owned(),
            Some(after) => match gateways.get(after - 1) {
                Some(gateway) => format!("cannot make {gateway} its gateway"),
                None => "cannot tell it how long packets are to be".to_owned(),
            },
        };
        return Err(failure::meaning(step, &refusal));
    }
    Ok((socket, index, ipv6))
}

fn index(socket: &mut Socket, name: &str) -> Result<u32, Refusal> {
    let answer = socket.ask(message::get(name), 0)?;
    answer.first().and_then(|body| read::index(body)).ok_or_else(|| Refusal::from_errno(libc::ENODEV))
}

/// An interface learns from a worker of the kernel that there is somebody at its other end, a bridge that it has a
/// port; it drops frames until then.
fn wait_for_carrier(socket: &mut Socket, index: u32) {
    wait(socket, &message::get_index(index), read::has_carrier);
}

/// A worker of the kernel makes addresses of IPv6 ones at which packets are taken, also such as are not to be checked.
fn wait_for_addresses<'a>(socket: &mut Socket, addresses: impl IntoIterator<Item = &'a IpNet>) {
    addresses
        .into_iter()
        .filter(|net| net.addr().is_ipv6())
        .for_each(|net| wait(socket, &message::route_to(net.addr()), read::is_local));
}

fn wait(socket: &mut Socket, request: &RouteNetlinkMessage, ready: fn(&[u8]) -> bool) {
    let start = Instant::now();
    loop {
        let answer = socket.ask(request.clone(), 0).unwrap_or_default();
        if answer.first().is_some_and(|body| ready(body)) || start.elapsed() > PATIENCE {
            return;
        }
        sleep(MOMENT);
    }
}
