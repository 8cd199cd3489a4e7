//! Making networks: checked, and with addresses of their own, while nobody else makes one.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;

use ipnet::IpNet;

use super::driver_option::SMALLEST_MTU_V6;
use super::subnets::{self, Occupied, check_host};
use super::{BUILT_IN, DRIVER, DriverOptions, NamedNetwork, NamedNetworks, Subnet, check_name, put};
use crate::container::name::random_id;
use crate::container::store::no_room;
use crate::error::{Error, Result, Step};
use crate::image::digest::Digest;
use crate::sys::time::Utc;

/// Names of interfaces beside the bridges.
const OTHERS: [&str; 3] = ["lo", "tap0", "tap1"];

/// What is asked of a new network.
#[derive(Debug)]
pub struct Request {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub subnets: Vec<IpNet>,
    pub gateways: Vec<IpAddr>,
    /// First and last address.
    pub ranges: Vec<(IpAddr, IpAddr)>,
    /// Addresses that no container gets, by the names that they were given.
    pub reserved: BTreeMap<String, IpAddr>,
    pub ipv6: bool,
    pub internal: bool,
    pub dns: bool,
    pub dns_servers: Vec<IpAddr>,
    pub options: DriverOptions,
    /// The name of the bridge.
    pub interface: Option<String>,
}

/// A network that was made, and what the user should know of it.
#[derive(Debug)]
pub struct Made {
    pub network: NamedNetwork,
    pub warnings: Vec<String>,
}

impl Request {
    /// A network with nothing special.
    pub fn plain(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            labels: BTreeMap::new(),
            subnets: Vec::new(),
            gateways: Vec::new(),
            ranges: Vec::new(),
            reserved: BTreeMap::new(),
            ipv6: false,
            internal: false,
            dns: true,
            dns_servers: Vec::new(),
            options: DriverOptions::default(),
            interface: None,
        }
    }

    /// The ranges that were asked for, and those that are missing, each with its gateway.
    fn subnets(&self, occupied: &Occupied, warnings: &mut Vec<String>) -> Result<Vec<Subnet>> {
        let mut ranges = self.subnets.clone();
        for (at, range) in ranges.iter().enumerate() {
            if ranges[..at].iter().any(|other| other.addr().is_ipv4() == range.addr().is_ipv4()) {
                return Err(Error::new(format!("cannot use the subnet {range}"))
                    .because("a network has one subnet of IPv4 and one of IPv6"));
            }
            warnings.extend(occupied.check(*range)?);
        }
        let orphan = |address: &IpAddr| !ranges.iter().any(|range| range.contains(address));
        if let Some(gateway) = self.gateways.iter().find(|gateway| orphan(gateway)) {
            return Err(without_subnet(&format!("gateway {gateway}"), &ranges));
        }
        if let Some((first, last)) = self.ranges.iter().find(|(first, _)| orphan(first)) {
            return Err(without_subnet(&format!("range {first}-{last}"), &ranges));
        }
        if let Some(address) = self.reserved.values().find(|address| orphan(address)) {
            return Err(without_subnet(&format!("reserved address {address}"), &ranges));
        }
        let has = |ranges: &[IpNet], v4: bool| ranges.iter().any(|range| range.addr().is_ipv4() == v4);
        if ranges.is_empty() || (self.ipv6 && !has(&ranges, true)) {
            ranges.insert(0, occupied.choose_v4()?);
        }
        if self.ipv6 && !has(&ranges, false) {
            ranges.push(occupied.choose_v6()?);
        }
        ranges.into_iter().map(|range| self.subnet(range)).collect()
    }

    fn subnet(&self, of: IpNet) -> Result<Subnet> {
        let (mut gateway, mut range) = (None, None);
        for asked in self.gateways.iter().filter(|asked| of.contains(*asked)) {
            put(&mut gateway, "--gateway", *asked)?;
        }
        for asked in self.ranges.iter().filter(|(first, _)| of.contains(first)) {
            put(&mut range, "--ip-range", *asked)?;
        }
        let subnet = subnets::subnet(of, gateway, range)?;
        for address in self.reserved.values().filter(|address| of.contains(*address)) {
            let host = check_host(of, *address).and_then(|()| match *address == subnet.gateway {
                true => Err("it is the gateway's".to_owned()),
                false => Ok(()),
            });
            host.map_err(|cause| Error::new(format!("cannot reserve the address {address}")).because(cause))?;
        }
        Ok(subnet)
    }

    fn check_together(&self) -> Result<()> {
        let conflict = |what: &str, cause: &str| Err(Error::new(what).because(cause));
        if !self.dns && !self.dns_servers.is_empty() {
            return conflict(
                "cannot use `--dns` with `--disable-dns`",
                "nobody is there to ask those servers",
            );
        }
        if self.internal && !self.dns_servers.is_empty() {
            return conflict("cannot use `--dns` with `--internal`", "no server outside is reached");
        }
        let option = |name: &str| self.options.recorded.get(name).is_some_and(|value| value == "true");
        if self.internal && option("allow_host_loopback") {
            return conflict(
                "cannot use `--opt allow_host_loopback=true` with `--internal`",
                "nothing outside is reached, and the host is outside",
            );
        }
        Ok(())
    }
}

fn without_subnet(what: &str, ranges: &[IpNet]) -> Error {
    let error = Error::new(format!("cannot use the {what}"));
    match ranges {
        [] => error.because("it needs the subnet that it is of").hint("add `--subnet`"),
        _ => {
            let ranges: Vec<String> = ranges.iter().map(IpNet::to_string).collect();
            error.because(format!("it is not inside of the subnet {}", ranges.join(", ")))
        }
    }
}

impl NamedNetworks {
    /// Makes a network. None: there is one of that name.
    ///
    /// # Errors
    /// What is asked for cannot be had, or the store takes no more.
    pub fn create(&self, request: &Request) -> Result<Option<Made>> {
        let failed = || format!("cannot make the network `{}`", request.name.escape_debug());
        check_name(&request.name)
            .and_then(|()| request.check_together())
            .map_err(|error| error.while_doing(failed()))?;
        let _lock = self.lock_to_make(failed)?;
        if self.named(&request.name)?.is_some() {
            return Ok(None);
        }
        let others = self.list()?;
        let made = self.made(request, &others).map_err(|error| error.while_doing(failed()))?;
        self.write(&made.network, failed)?;
        Ok(Some(made))
    }

    /// The network that is always there, made at its first use.
    ///
    /// # Errors
    /// There are no addresses for it, or the store takes no more.
    pub fn built_in(&self) -> Result<NamedNetwork> {
        let failed = || format!("cannot make the network `{BUILT_IN}`");
        if let Some(network) = self.named(BUILT_IN)? {
            return Ok(network);
        }
        let _lock = self.lock_to_make(failed)?;
        if let Some(network) = self.named(BUILT_IN)? {
            return Ok(network);
        }
        let others = self.list()?;
        let range = Occupied::now(&others).choose_built_in().map_err(|error| error.while_doing(failed()))?;
        let request = Request { dns: false, ..Request::plain(BUILT_IN) };
        let network = NamedNetwork {
            id: built_in_id(),
            name: BUILT_IN.to_owned(),
            created: Utc::now(),
            driver: DRIVER.to_owned(),
            labels: BTreeMap::new(),
            subnets: vec![request.subnet(range)?],
            internal: false,
            // As docker's: who wants names makes a network.
            dns: false,
            dns_servers: Vec::new(),
            options: BTreeMap::new(),
            interface: interface(None, &others)?,
            reserved: BTreeMap::new(),
        };
        self.write(&network, failed)?;
        Ok(network)
    }

    fn made(&self, request: &Request, others: &[NamedNetwork]) -> Result<Made> {
        let mut warnings = Vec::new();
        let subnets = request.subnets(&Occupied::now(others), &mut warnings)?;
        let has_v6 = subnets.iter().any(|one| one.gateway.is_ipv6());
        if let Some(mtu) = request.options.mtu().filter(|mtu| has_v6 && *mtu < SMALLEST_MTU_V6) {
            return Err(Error::new(format!("cannot use `--opt mtu={mtu}`"))
                .because(format!("IPv6 needs packets of {SMALLEST_MTU_V6} bytes")));
        }
        let mut asked = request.interface.clone();
        if let Some(name) = &request.options.interface {
            put(&mut asked, "the name of the bridge", name.clone())?;
        }
        let network = NamedNetwork {
            id: random_id()?,
            name: request.name.clone(),
            created: Utc::now(),
            driver: DRIVER.to_owned(),
            labels: request.labels.clone(),
            subnets,
            internal: request.internal,
            dns: request.dns,
            dns_servers: request.dns_servers.clone(),
            options: request.options.recorded.clone(),
            interface: interface(asked, others)?,
            reserved: request.reserved.clone(),
        };
        Ok(Made { network, warnings })
    }

    fn lock_to_make(&self, failed: impl Fn() -> String) -> Result<std::fs::File> {
        let directory = self.lock.parent().unwrap_or(&self.lock);
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(directory).map_err(|error| no_room(error, failed()))?;
        self.lock(true).step(failed)
    }

    fn write(&self, network: &NamedNetwork, failed: impl Fn() -> String) -> Result<()> {
        let text = serde_json::to_vec(network).step(&failed)?;
        match self.records.write(&network.name, &text, false) {
            // Its record is damaged, or it would have been found.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::new(failed()).because("there is a record of that name that is none"))
            }
            written => written.map_err(|error| no_room(error, failed())),
        }
    }
}

/// The same before the network is made, and in every store.
pub fn built_in_id() -> String {
    Digest::of(BUILT_IN.as_bytes()).hex().to_owned()
}

/// The bridge's name: the one that is asked for, or the first free of sbx0, sbx1 and so on.
fn interface(asked: Option<String>, others: &[NamedNetwork]) -> Result<String> {
    let user = |name: &str| others.iter().find(|other| other.interface == name);
    if let Some(name) = asked {
        let failed = format!("cannot name the bridge `{name}`");
        return match user(&name) {
            Some(other) => Err(Error::new(failed).because(format!("the network `{}` has it", other.name))),
            None if OTHERS.contains(&name.as_str()) => {
                Err(Error::new(failed).because("another interface beside it has that name"))
            }
            None => Ok(name),
        };
    }
    // There are fewer networks than numbers, so that one is free.
    let free = (0..=others.len()).map(|number| format!("sbx{number}")).find(|name| user(name).is_none());
    Ok(free.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a network")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn with_subnet(name: &str, subnet: &str) -> Request {
        Request { subnets: vec![net(subnet)], ..Request::plain(name) }
    }

    #[test]
    fn each_network_has_its_own_range_and_bridge() {
        let folder = tempfile::tempdir().unwrap();
        let networks = NamedNetworks::new(folder.path());
        let make = |name: &str| networks.create(&Request::plain(name)).unwrap().unwrap().network;
        let built_in = networks.built_in().unwrap();
        assert_eq!(networks.built_in().unwrap(), built_in);
        assert_eq!((built_in.id.as_str(), built_in.dns), (built_in_id().as_str(), false));
        let (one, other) = (make("one"), make("other"));
        assert!(one.dns && !subnets::overlap(one.subnets[0].subnet, other.subnets[0].subnet));
        assert_eq!(
            [&built_in, &one, &other].map(|network| network.interface.as_str()),
            ["sbx0", "sbx1", "sbx2"]
        );
        networks.records.remove("one").unwrap();
        assert_eq!(make("third").interface, "sbx1");
        assert!(networks.create(&Request::plain("other")).unwrap().is_none());
        let named = Request { interface: Some("sbx1".to_owned()), ..Request::plain("fourth") };
        assert!(networks.create(&named).unwrap_err().report().contains("`third` has it"));
        let taken = with_subnet("fourth", "10.88.0.0/24");
        assert_eq!(
            built_in.subnets[0].subnet,
            net("10.88.0.0/16"),
            "the host of this test has a route there"
        );
        assert!(networks.create(&taken).unwrap_err().report().contains("Pool overlaps"));
    }

    #[test]
    fn networks_that_are_made_at_once_do_not_overlap() {
        let folder = tempfile::tempdir().unwrap();
        let networks = NamedNetworks::new(folder.path());
        std::thread::scope(|scope| {
            for number in 0..8 {
                let networks = &networks;
                scope.spawn(move || networks.create(&Request::plain(&format!("n{number}"))).unwrap());
                scope.spawn(move || networks.built_in().unwrap());
            }
        });
        let all = networks.list().unwrap();
        assert_eq!(all.len(), 9);
        for (at, one) in all.iter().enumerate() {
            for other in &all[..at] {
                assert!(
                    !subnets::overlap(one.subnets[0].subnet, other.subnets[0].subnet),
                    "{one:?} {other:?}"
                );
                assert_ne!(one.interface, other.interface);
            }
        }
    }

    #[test]
    fn both_families_are_had() {
        let folder = tempfile::tempdir().unwrap();
        let networks = NamedNetworks::new(folder.path());
        let families = |request: &Request| -> Vec<bool> {
            let made = networks.create(request).unwrap().unwrap().network;
            made.subnets.iter().map(|one| one.subnet.addr().is_ipv4()).collect()
        };
        assert_eq!(families(&Request { ipv6: true, ..Request::plain("a") }), [true, false]);
        assert_eq!(families(&Request { ipv6: true, ..with_subnet("b", "fd12::/64") }), [true, false]);
        assert_eq!(families(&with_subnet("c", "fd13::/64")), [false]);
        assert_eq!(families(&Request { ipv6: true, ..with_subnet("d", "10.210.0.0/24") }), [true, false]);
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let networks = NamedNetworks::new(folder.path());
        let option = |text: &str| DriverOptions::parse(&[text.to_owned()]).unwrap();
        let good = || with_subnet("a", "10.210.0.0/24");
        for (request, cause) in [
            (Request { gateways: vec![ip("10.210.0.1")], ..Request::plain("a") }, "add `--subnet`"),
            (
                Request { ranges: vec![(ip("10.210.0.1"), ip("10.210.0.2"))], ..Request::plain("a") },
                "--subnet",
            ),
            (
                Request { gateways: vec![ip("10.211.0.1")], ..good() },
                "not inside of the subnet 10.210.0.0/24",
            ),
            (Request { gateways: vec![ip("10.210.0.1"), ip("10.210.0.2")], ..good() }, "twice"),
            (Request { reserved: [("r".to_owned(), ip("10.210.0.1"))].into(), ..good() }, "gateway's"),
            (Request { subnets: vec![net("10.210.0.0/24"), net("10.211.0.0/24")], ..good() }, "one subnet"),
            (Request { dns: false, dns_servers: vec![ip("192.0.2.1")], ..good() }, "--disable-dns"),
            (Request { internal: true, dns_servers: vec![ip("192.0.2.1")], ..good() }, "--internal"),
            (Request { internal: true, options: option("allow_host_loopback=true"), ..good() }, "outside"),
            (Request { ipv6: true, options: option("mtu=1000"), ..good() }, "1280"),
            (Request { interface: Some("tap0".to_owned()), ..good() }, "another interface"),
        ] {
            let report = networks.create(&request).expect_err(cause).report();
            assert!(report.contains(cause), "{cause}: {report}");
        }
        assert!(networks.list().unwrap().is_empty());
    }
}
