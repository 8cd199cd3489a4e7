//! `NetworkSettings`, and the ports of a container.

use serde_json::{Map, Value, json};

use crate::container::spec::Spec;
use crate::network::PortMapping;

/// Addresses stay empty: those inside the network namespaces of slirp4netns and pasta lead nowhere from outside.
pub(super) fn settings(spec: &Spec) -> Value {
    let named = spec.network.memberships.first();
    let aliases = named.map(|named| named.aliases.as_slice()).filter(|aliases| !aliases.is_empty());
    let endpoint = json!({
        "Aliases": aliases,
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
        "NetworkID": named.map_or_else(|| spec.network.shown(), |named| named.id.clone()),
    });
    let networks: Map<String, Value> = [(spec.network.shown(), endpoint)].into_iter().collect();
    json!({
        "Bridge": "",
        "EndpointID": "",
        "Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "HairpinMode": false,
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "MacAddress": spec.network.mac_address.as_deref().unwrap_or_default(),
        "Networks": networks,
        "Ports": all_ports(spec),
        "SandboxID": "",
        "SandboxKey": "",
    })
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

pub(super) fn extra_hosts(spec: &Spec) -> Vec<String> {
    spec.network.hosts.iter().map(|(name, ip)| format!("{name}:{ip}")).collect()
}

fn inside(mapping: &PortMapping) -> String {
    format!("{}/{}", mapping.container_port, mapping.protocol)
}
