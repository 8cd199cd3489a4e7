//! `NetworkSettings`, and the ports of a container.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::container::list::{Listed, Status};
use crate::container::spec::Spec;
use crate::container::store::{Store, short};
use crate::image::digest::Digest;
use crate::network::bridge::allow::hidden;
use crate::network::bridge::{Endpoint, Membership};
use crate::network::named::BUILT_IN;
use crate::network::{Mode, PortMapping};

/// Addresses are those of bridge networks, while the container runs: those inside the network namespaces of slirp4netns
/// and pasta lead nowhere from outside.
pub(super) fn settings(listed: &Listed, spec: &Spec) -> Value {
    let mut networks = Map::new();
    for membership in &spec.network.memberships {
        let live = listed.endpoints.iter().find(|one| one.network == membership.id);
        networks.insert(membership.name.clone(), member(spec, membership, live));
    }
    if spec.network.allowed.is_some() {
        let live = listed.endpoints.first();
        networks.insert(hidden::NAME.to_owned(), member(spec, &hidden::membership(&spec.id), live));
    }
    if networks.is_empty() && spec.network.mode != Mode::Bridge {
        networks.insert(spec.network.shown(), unnamed(spec));
    }
    let mut settings = json!({
        "Bridge": "",
        "HairpinMode": false,
        "Networks": networks,
        "Ports": all_ports(spec),
        "SandboxID": "",
        "SandboxKey": match listed.status {
            Status::Running { pid, .. } | Status::Paused { pid, .. } => format!("/proc/{pid}/ns/net"),
            _ => String::new(),
        },
    });
    if let Some(allowed) = &spec.network.allowed {
        // What `--net-allow` lists; neither docker nor podman has a field for it.
        settings["Allowed"] = json!(allowed);
    }
    // As docker's, which says there what it says of the network that is always there.
    let top = match &settings["Networks"][BUILT_IN] {
        Value::Null => unnamed(spec),
        built_in => built_in.clone(),
    };
    for field in [
        "EndpointID",
        "Gateway",
        "GlobalIPv6Address",
        "GlobalIPv6PrefixLen",
        "IPAddress",
        "IPPrefixLen",
        "IPv6Gateway",
        "MacAddress",
    ] {
        settings[field] = top[field].clone();
    }
    settings
}

/// A network without a name: that of a helper, or another's.
fn unnamed(spec: &Spec) -> Value {
    json!({
        "Aliases": null,
        "DNSNames": null,
        "DriverOpts": null,
        "EndpointID": "",
        "Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAMConfig": null,
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "Links": null,
        "MacAddress": spec.network.mac_address.as_deref().unwrap_or_default(),
        "NetworkID": spec.network.shown(),
    })
}

/// `live`: none while the container is down.
fn member(spec: &Spec, membership: &Membership, live: Option<&Endpoint>) -> Value {
    let mut document = unnamed(spec);
    let some = |names: &[String]| if names.is_empty() { Value::Null } else { json!(names) };
    document["NetworkID"] = json!(membership.id);
    document["Aliases"] = some(&membership.aliases);
    document["MacAddress"] =
        json!(membership.mac_address.map(|address| address.to_string()).unwrap_or_default());
    let mut asked = Map::new();
    if let Some(ip) = membership.ip {
        asked.insert("IPv4Address".to_owned(), json!(ip.to_string()));
    }
    if let Some(ip6) = membership.ip6 {
        asked.insert("IPv6Address".to_owned(), json!(ip6.to_string()));
    }
    if !asked.is_empty() {
        document["IPAMConfig"] = Value::Object(asked);
    }
    let Some(live) = live else { return document };
    document["EndpointID"] = json!(endpoint_id(live, &spec.id));
    document["MacAddress"] = json!(live.mac_address.to_string());
    if !live.name_servers.is_empty() {
        document["DNSNames"] = json!(names(spec, membership));
    }
    for address in &live.addresses {
        let (ip, length) = match address.addr() {
            IpAddr::V4(_) => ("IPAddress", "IPPrefixLen"),
            IpAddr::V6(_) => ("GlobalIPv6Address", "GlobalIPv6PrefixLen"),
        };
        document[ip] = json!(address.addr().to_string());
        document[length] = json!(address.prefix_len());
    }
    for gateway in &live.gateways {
        let field = if gateway.is_ipv4() { "Gateway" } else { "IPv6Gateway" };
        document[field] = json!(gateway.to_string());
    }
    document
}

/// The names that the network answers to, each once.
fn names(spec: &Spec, membership: &Membership) -> Vec<String> {
    let mut names = vec![spec.name.clone()];
    names.extend(membership.aliases.iter().cloned());
    names.push(short(&spec.id).to_owned());
    names.extend(spec.hostname.clone());
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// 64 hexadecimal digits, for as long as the container is in the network.
pub fn endpoint_id(endpoint: &Endpoint, container: &str) -> String {
    Digest::of(format!("{} {container}", endpoint.network).as_bytes()).hex().to_owned()
}

/// docker's map of `80/tcp` to where it is on the host.
pub(super) fn ports(spec: &Spec) -> Map<String, Value> {
    let mut ports = Map::new();
    for mapping in &spec.network.ports {
        let host = json!({
            "HostIp": mapping.host_ip.map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string()),
            "HostPort": mapping.host_port.to_string(),
        });
        if let Value::Array(hosts) = ports.entry(inside(mapping)).or_insert_with(|| json!([])) {
            hosts.push(host);
        }
    }
    ports
}

/// The same with those that nobody published.
fn all_ports(spec: &Spec) -> Map<String, Value> {
    let mut ports: Map<String, Value> =
        spec.exposed_ports.iter().map(|port| (port.clone(), Value::Null)).collect();
    ports.extend(self::ports(spec));
    ports
}

/// docker's set of `80/tcp`: what the image says, and what was published.
pub(super) fn exposed(spec: &Spec) -> Map<String, Value> {
    let published = spec.network.ports.iter().map(inside);
    spec.exposed_ports.iter().cloned().chain(published).map(|port| (port, json!({}))).collect()
}

/// docker's `/db:/web/alias`; null where there are none.
pub(super) fn links(store: &Store, spec: &Spec) -> Value {
    let each = spec.network.links.iter().map(|link| {
        let other =
            store.read_spec(&link.container).map_or_else(|_| link.container.clone(), |other| other.name);
        format!("/{other}:/{}/{}", spec.name, link.alias)
    });
    if spec.network.links.is_empty() { Value::Null } else { json!(each.collect::<Vec<_>>()) }
}

pub(super) fn extra_hosts(spec: &Spec) -> Vec<String> {
    spec.network.hosts.iter().map(|(name, ip)| format!("{name}:{ip}")).collect()
}

fn inside(mapping: &PortMapping) -> String {
    format!("{}/{}", mapping.container_port, mapping.protocol)
}
