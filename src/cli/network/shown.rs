//! Networks as they are listed and inspected.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::networks;
use crate::cli::container::Place;
use crate::container::document::endpoint_id;
use crate::container::list::{self, Listed};
use crate::container::store::short;
use crate::error::Result;
use crate::network::named::{BUILT_IN, DRIVER, NamedNetwork, Subnet, built_in_id};
use crate::sys::time::Utc;

/// A network that was made, or one that is always there.
pub(super) struct Shown {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) driver: String,
    /// None: always there.
    pub(super) created: Option<Utc>,
    pub(super) labels: BTreeMap<String, String>,
    /// None: it has no bridge, or has not been used yet.
    record: Option<NamedNetwork>,
}

impl From<&NamedNetwork> for Shown {
    fn from(network: &NamedNetwork) -> Self {
        let NamedNetwork { id, name, created, driver, labels, .. } = network.clone();
        Self { id, name, driver, created: Some(created), labels, record: Some(network.clone()) }
    }
}

impl Shown {
    /// What is always there. Modes have their names for IDs, as docker's have.
    pub(super) fn always_there() -> [Self; 4] {
        let modes = [("bridge", DRIVER), ("host", "host"), ("none", "null"), ("private", "private")];
        modes.map(|(name, driver)| Self {
            id: if name == BUILT_IN { built_in_id() } else { name.to_owned() },
            name: name.to_owned(),
            driver: driver.to_owned(),
            created: None,
            labels: BTreeMap::new(),
            record: None,
        })
    }

    pub(super) fn is_always_there(word: &str) -> bool {
        Self::always_there().iter().any(|one| one.name == word || one.id == word)
    }

    pub(super) fn find(place: &Place, word: &str) -> Result<Option<Self>> {
        let there = Self::always_there().into_iter().find(|network| network.name == word);
        match there.filter(|network| network.name != BUILT_IN) {
            Some(network) => Ok(Some(network)),
            None => Ok(networks(place).find(word)?.as_ref().map(Self::from)),
        }
    }

    /// By name.
    pub(super) fn all(place: &Place) -> Result<Vec<Self>> {
        let mut all: Vec<Self> = networks(place).list()?.iter().map(Self::from).collect();
        let missing =
            Self::always_there().into_iter().filter(|one| all.iter().all(|other| other.id != one.id));
        all.extend(missing.collect::<Vec<_>>());
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(all)
    }

    pub(super) fn short_id(&self) -> &str {
        if self.driver == DRIVER { short(&self.id) } else { &self.id }
    }

    /// The containers in it that are up, by ID.
    pub(super) fn containers(&self, place: &Place) -> Map<String, Value> {
        let up = list::all(&place.store).into_iter().filter(|found| found.status.is_up());
        up.filter_map(|found| self.member(&found)).collect()
    }

    fn member(&self, found: &Listed) -> Option<(String, Value)> {
        let spec = found.spec.as_ref()?;
        let of = spec.network.memberships.iter().find(|of| of.id == self.id)?;
        let live = found.endpoints.iter().find(|one| one.network == self.id);
        let address = |v4: bool| {
            let found = live.and_then(|live| live.addresses.iter().find(|one| one.addr().is_ipv4() == v4));
            found.map(IpNet::to_string).unwrap_or_default()
        };
        let mut interfaces = Map::new();
        if let Some(live) = live {
            let gateway =
                |of: &IpNet| live.gateways.iter().find(|one| of.contains(*one)).map(IpAddr::to_string);
            let subnets: Vec<Value> = live
                .addresses
                .iter()
                .map(|one| json!({ "ipnet": one.to_string(), "gateway": gateway(one).unwrap_or_default() }))
                .collect();
            interfaces.insert(
                live.interface.clone(),
                json!({ "subnets": subnets, "mac_address": live.mac_address.to_string() }),
            );
        }
        let mac = live.map(|live| live.mac_address).or(of.mac_address);
        let endpoint = json!({
            "Name": spec.name,
            "name": spec.name,
            "EndpointID": live.map(|live| endpoint_id(live, &spec.id)).unwrap_or_default(),
            "MacAddress": mac.map(|mac| mac.to_string()).unwrap_or_default(),
            "IPv4Address": address(true),
            "IPv6Address": address(false),
            "interfaces": interfaces,
            "aliases": of.aliases,
        });
        Some((spec.id.clone(), endpoint))
    }

    /// The fields of docker, and podman's, which are small.
    pub(super) fn document(&self, containers: &Map<String, Value>) -> Value {
        let created = self.created.map(|time| json!(time)).unwrap_or_default();
        let record = self.record.as_ref();
        let subnets = record.map(|record| record.subnets.as_slice()).unwrap_or_default();
        let internal = record.is_some_and(|record| record.internal) || self.name == "none";
        let v6 = subnets.iter().any(|one| one.gateway.is_ipv6());
        let options = record.map(|record| &record.options);
        let reserved: BTreeMap<String, IpAddr> =
            record.map(|record| record.reserved.clone()).unwrap_or_default();
        json!({
            "Name": self.name,
            "Id": self.id,
            "ID": self.id,
            "Created": created,
            "Driver": self.driver,
            "Scope": "local",
            "EnableIPv4": subnets.iter().any(|one| one.gateway.is_ipv4()),
            "EnableIPv6": v6,
            "IPAM": {
                "Driver": "default",
                "Options": {},
                "Config": subnets.iter().map(|one| docker_subnet(one, &reserved)).collect::<Vec<_>>(),
            },
            "Internal": internal,
            "Attachable": false,
            "Ingress": false,
            "Containers": containers,
            "Options": options.cloned().unwrap_or_default(),
            "Labels": self.labels,
            // `.Label "KEY"` asks here.
            "Label": self.labels,
            "name": self.name,
            "id": self.id,
            "driver": self.driver,
            "network_interface": record.map(|record| record.interface.as_str()).unwrap_or_default(),
            "created": created,
            "subnets": subnets.iter().map(podman_subnet).collect::<Vec<_>>(),
            "ipv6_enabled": v6,
            "internal": internal,
            "dns_enabled": record.is_some_and(|record| record.dns),
            "network_dns_servers": record.map(|record| record.dns_servers.clone()).unwrap_or_default(),
            "labels": self.labels,
            "options": options.cloned().unwrap_or_default(),
            "ipam_options": { "driver": if subnets.is_empty() { "none" } else { "host-local" } },
            "containers": containers,
        })
    }
}

fn docker_subnet(of: &Subnet, reserved: &BTreeMap<String, IpAddr>) -> Value {
    let mut config = json!({ "Subnet": of.subnet.to_string(), "Gateway": of.gateway.to_string() });
    if let Some((first, last)) = of.range {
        config["IPRange"] = json!(range(first, last));
    }
    let here: BTreeMap<&String, &IpAddr> =
        reserved.iter().filter(|(_, ip)| of.subnet.contains(*ip)).collect();
    if !here.is_empty() {
        config["AuxiliaryAddresses"] = json!(here);
    }
    config
}

fn podman_subnet(of: &Subnet) -> Value {
    let mut subnet = json!({ "subnet": of.subnet.to_string(), "gateway": of.gateway.to_string() });
    if let Some((first, last)) = of.range {
        subnet["lease_range"] = json!({ "start_ip": first.to_string(), "end_ip": last.to_string() });
    }
    subnet
}

/// As a CIDR where it is one.
fn range(first: IpAddr, last: IpAddr) -> String {
    let longest = if first.is_ipv4() { 32 } else { 128 };
    let whole = (0..=longest).filter_map(|length| IpNet::new(first, length).ok());
    let ends = |net: &IpNet| (net.network(), net.broadcast()) == (first, last);
    whole.into_iter().find(ends).map_or_else(|| format!("{first}-{last}"), |net| net.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_shown_as_it_was_asked_for() {
        let shown = |first: &str, last: &str| range(first.parse().unwrap(), last.parse().unwrap());
        assert_eq!(shown("10.91.0.128", "10.91.0.255"), "10.91.0.128/25");
        assert_eq!(shown("10.91.0.1", "10.91.0.255"), "10.91.0.1-10.91.0.255");
        assert_eq!(shown("fd00::", "fd00::ffff:ffff:ffff:ffff"), "fd00::/64");
    }
}
