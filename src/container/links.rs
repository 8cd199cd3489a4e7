//! `--link CONTAINER[:ALIAS]`, docker's older way to find a neighbour: its names in /etc/hosts and, in the network
//! `bridge`, variables that say where it is (docker daemon/links/links.go).
//!
//! Its address is looked up whenever the container starts, so that it has to run by then.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::container::list;
use crate::container::name;
use crate::container::spec::Spec;
use crate::container::store::{Store, short};
use crate::error::{Error, Result};
use crate::network::named::BUILT_IN;
use crate::network::{Link, Network};

/// Variables of the other container that say nothing of it.
const NOT_ITS_OWN: [&str; 2] = ["HOME", "PATH"];

/// Reads `--link`s of a container that is to be in the networks of `network`.
///
/// # Errors
/// There is no such container, or it is in none of the networks.
pub fn parse_all(texts: &[String], network: &Network, store: &Store) -> Result<Vec<Link>> {
    texts
        .iter()
        .map(|text| {
            parse(text, network, store)
                .map_err(|error| error.while_doing(format!("cannot use `--link {}`", text.escape_debug())))
        })
        .collect()
}

fn parse(text: &str, network: &Network, store: &Store) -> Result<Link> {
    let (word, alias) = text.split_once(':').unwrap_or((text, text));
    // docker shows names with a slash before them.
    let (word, alias) = (word.trim_start_matches('/'), alias.trim_start_matches('/'));
    name::check(alias)?;
    let container = store.find(word)?;
    let other = store.read_spec(&container)?;
    if shared(network, &other.network).is_none() {
        return Err(Error::new(format!("container {} is in none of the same networks", other.name))
            .because(format!("it is in: {}", other.network.names().join(", ")))
            .hint(format!("make both with `--network {BUILT_IN}`, or in one of `sbx network create`")));
    }
    Ok(Link { container, alias: alias.to_owned() })
}

/// The ID of the first network that both are in.
fn shared<'n>(one: &'n Network, other: &Network) -> Option<&'n str> {
    let is_there = |id: &str| other.memberships.iter().any(|of| of.id == id);
    one.memberships.iter().map(|of| of.id.as_str()).find(|id| is_there(id))
}

/// Another container, as it is now.
struct Linked {
    alias: String,
    spec: Spec,
    addresses: Vec<IpAddr>,
    /// They meet in the network `bridge`, which has no names.
    built_in: bool,
}

fn look_up(store: &Store, spec: &Spec) -> Result<Vec<Linked>> {
    spec.network.links.iter().map(|link| find(store, spec, link)).collect()
}

fn find(store: &Store, spec: &Spec, link: &Link) -> Result<Linked> {
    let failed = || {
        Error::new(format!("cannot find the linked container {} as `{}`", short(&link.container), link.alias))
    };
    let found = list::one(store, &link.container).ok_or_else(|| failed().because("it has been removed"))?;
    let Some(other) = found.spec else { return Err(failed().because("its record is damaged")) };
    let ids = spec.network.memberships.iter().map(|of| &of.id);
    let shared = ids.filter_map(|id| found.endpoints.iter().find(|one| one.network == *id)).next();
    match shared {
        Some(endpoint) => Ok(Linked {
            alias: link.alias.clone(),
            addresses: endpoint.addresses.iter().map(|one| one.addr()).collect(),
            built_in: endpoint.network_name == BUILT_IN,
            spec: other,
        }),
        None if found.status.is_up() => {
            Err(failed().because(format!("{} is in none of the same networks", other.name)))
        }
        None => Err(failed()
            .because(format!("{} is not running", other.name))
            .hint(format!("start it first: `sbx start {}`", other.name))),
    }
}

/// Lines for /etc/hosts.
///
/// # Errors
/// A linked container does not run.
pub fn hosts(store: &Store, spec: &Spec) -> Result<Vec<(String, IpAddr)>> {
    let mut lines = Vec::new();
    for linked in look_up(store, spec)? {
        let mut names = vec![linked.alias.clone()];
        if linked.built_in {
            names.extend([linked.spec.name.clone(), short(&linked.spec.id).to_owned()]);
        }
        names.dedup();
        for address in &linked.addresses {
            lines.extend(names.iter().map(|name| (name.clone(), *address)));
        }
    }
    Ok(lines)
}

/// The variables that docker sets, less those that the container has itself.
///
/// # Errors
/// As [`hosts`].
pub fn environment(store: &Store, spec: &Spec) -> Result<Vec<String>> {
    let mut variables = BTreeMap::new();
    for linked in look_up(store, spec)?.iter().filter(|linked| linked.built_in) {
        variables.extend(of_one(linked, &spec.name));
    }
    let own = |name: &str| spec.process.env.iter().any(|one| one.split('=').next() == Some(name));
    variables.retain(|name, _| !own(name));
    Ok(variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

fn of_one(linked: &Linked, own_name: &str) -> BTreeMap<String, String> {
    let prefix = linked.alias.to_ascii_uppercase().replace('-', "_");
    let mut variables = BTreeMap::new();
    variables.insert(format!("{prefix}_NAME"), format!("/{own_name}/{}", linked.alias));
    let address = linked.addresses.iter().find(|one| one.is_ipv4()).or(linked.addresses.first());
    if let Some(address) = address {
        for (at, (port, protocol)) in ports(&linked.spec).iter().enumerate() {
            let url = format!("{protocol}://{address}:{port}");
            let this = format!("{prefix}_PORT_{port}_{}", protocol.to_ascii_uppercase());
            variables.insert(format!("{this}_ADDR"), address.to_string());
            variables.insert(format!("{this}_PORT"), port.to_string());
            variables.insert(format!("{this}_PROTO"), protocol.clone());
            variables.insert(this, url.clone());
            if at == 0 {
                variables.insert(format!("{prefix}_PORT"), url);
            }
        }
    }
    for variable in &linked.spec.process.env {
        if let Some((name, value)) = variable.split_once('=').filter(|(name, _)| !NOT_ITS_OWN.contains(name))
        {
            variables.insert(format!("{prefix}_ENV_{name}"), value.to_owned());
        }
    }
    variables
}

/// Those that it exposes or publishes, each once.
fn ports(spec: &Spec) -> Vec<(u16, String)> {
    let exposed = spec.exposed_ports.iter().filter_map(|text| {
        let (port, protocol) = text.split_once('/')?;
        Some((port.parse().ok()?, protocol.to_owned()))
    });
    let published = spec.network.ports.iter().map(|one| (one.container_port, one.protocol.to_string()));
    let mut all: Vec<(u16, String)> = exposed.chain(published).collect();
    all.sort();
    all.dedup();
    all
}
