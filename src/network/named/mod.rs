//! Networks with names, as `sbx network create` makes them: `<store>/networks/s.NAME` is one, and who is in it stands in
//! the specs of the containers. A bridge is there while a container runs that is in one.

mod creation;
mod driver_option;
mod name;
mod option;
mod removal;
mod routes;
mod subnets;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::cli::dialect::{self, Dialect};
use crate::container::store::{Store, short};
use crate::error::{Error, Result, Step};
use crate::records::Records;
use crate::sys::time::Utc;

pub use super::bridge::Membership;
pub use creation::{Made, Request, built_in_id};
pub use driver_option::DriverOptions;
pub use name::check as check_name;
pub use option::{Asked, check_interface, put};
pub use removal::{IN_USE, members, remove};

/// The one that is always there, made at its first use.
pub const BUILT_IN: &str = "bridge";
/// The driver that all of them have.
pub const DRIVER: &str = "bridge";

/// One network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedNetwork {
    /// 64 lower-case hexadecimal digits.
    pub id: String,
    pub name: String,
    pub created: Utc,
    pub driver: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// At most one of each family.
    #[serde(default)]
    pub subnets: Vec<Subnet>,
    /// Nothing outside is reached.
    #[serde(default)]
    pub internal: bool,
    /// Containers have names in it.
    #[serde(default)]
    pub dns: bool,
    /// Who is asked for names that the network does not know; empty: the host's servers.
    #[serde(default)]
    pub dns_servers: Vec<IpAddr>,
    /// `--opt`, checked.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// The name of its bridge.
    #[serde(default)]
    pub interface: String,
    /// Addresses that no container gets, by the names that they were given.
    #[serde(default)]
    pub reserved: BTreeMap<String, IpAddr>,
}

/// A range of addresses of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    pub subnet: IpNet,
    /// The bridge's address.
    pub gateway: IpAddr,
    /// Containers that ask for no address get one of these, both ends included; none: of the whole subnet.
    #[serde(default)]
    pub range: Option<(IpAddr, IpAddr)>,
}

/// The networks of a store.
pub struct NamedNetworks {
    records: Records,
    lock: PathBuf,
}

/// While this lives nobody removes a network.
#[must_use]
pub struct Hold {
    _lock: Option<File>,
}

impl NamedNetworks {
    /// Those of the store below `store`; nothing is made before something is written.
    pub fn new(store: &Path) -> Self {
        let directory = store.join("networks");
        Self { lock: directory.join("lock"), records: Records::in_directory(directory) }
    }

    /// The one of that name.
    ///
    /// # Errors
    /// Its record cannot be read, or is damaged.
    pub fn named(&self, name: &str) -> Result<Option<NamedNetwork>> {
        if check_name(name).is_err() && name != BUILT_IN {
            return Ok(None);
        }
        let failed = || format!("cannot read the network `{name}`");
        let Some(text) = self.records.read(name).step(failed)? else { return Ok(None) };
        let network: NamedNetwork = serde_json::from_slice(&text).step(failed)?;
        match network.name == name {
            true => Ok(Some(network)),
            false => Err(Error::new(failed()).because("it is another's")),
        }
    }

    /// Every network, by name. One whose record is damaged is told and left out.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&self) -> Result<Vec<NamedNetwork>> {
        let read = |name: String| match self.named(&name) {
            Ok(found) => found,
            Err(error) => {
                log::warn!("{error}");
                None
            }
        };
        Ok(self.records.names()?.into_iter().filter_map(read).collect())
    }

    /// The one that a name, an ID or the beginning of an ID means; the built-in one is made where it is not there yet.
    ///
    /// # Errors
    /// Several IDs begin so, or its record is damaged.
    pub fn find(&self, word: &str) -> Result<Option<NamedNetwork>> {
        let podmans = || word == "podman" && dialect::current() == Dialect::Podman;
        if word == BUILT_IN || word == built_in_id() || podmans() {
            return self.built_in().map(Some);
        }
        if let Some(network) = self.named(word)? {
            return Ok(Some(network));
        }
        let mut found = self.list()?.into_iter().filter(|one| !word.is_empty() && one.id.starts_with(word));
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(Error::new(format!("the ID prefix `{word}` is ambiguous"))),
            (found, None) => Ok(found),
        }
    }

    /// What a container becomes that is to be in a network.
    ///
    /// # Errors
    /// There is no such network.
    pub fn join(&self, asked: &Asked) -> Result<Membership> {
        match self.find(&asked.name)? {
            Some(network) => network.membership(asked),
            None => Err(missing(&asked.name).hint(format!(
                "`sbx network create {}` makes it; or use none, host, private, slirp4netns, pasta, ns:PATH or \
                 container:NAME",
                asked.name
            ))),
        }
    }

    fn lock(&self, exclusive: bool) -> io::Result<File> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&self.lock)?;
        match exclusive {
            true => file.lock()?,
            false => file.lock_shared()?,
        }
        Ok(file)
    }
}

/// Keeps the network of a container that is being made until its spec says that it is in it.
///
/// # Errors
/// It was removed meanwhile.
pub fn hold(store: &Store, network: &super::Network) -> Result<Hold> {
    if network.memberships.is_empty() {
        return Ok(Hold { _lock: None });
    }
    let networks = NamedNetworks::new(store.root());
    let failed = || format!("cannot connect the container to `{}`", network.names().join("`, `"));
    let lock = networks.lock(false).step(failed)?;
    still_there(store, network).map_err(|error| error.while_doing(failed()))?;
    Ok(Hold { _lock: Some(lock) })
}

/// The records of a container's networks, in the order of its memberships.
///
/// # Errors
/// One is gone. No command of sbx removes one that a container is in.
pub fn still_there(store: &Store, network: &super::Network) -> Result<Vec<NamedNetwork>> {
    let networks = NamedNetworks::new(store.root());
    let record = |membership: &Membership| match networks.named(&membership.name)? {
        Some(found) if found.id == membership.id => Ok(found),
        _ => Err(Error::new(format!("the network `{}` is gone", membership.name))
            .because(format!("there is no network with the ID {}", short(&membership.id)))
            .hint("make the network and the container anew")),
    };
    network.memberships.iter().map(record).collect()
}

/// There is none of that name.
pub fn missing(word: &str) -> Error {
    Error::new(format!("no such network: \"{}\"", word.escape_debug()))
}

impl NamedNetwork {
    /// Its containers do not reach those of other networks.
    pub fn is_isolated(&self) -> bool {
        self.options.get("isolate").is_none_or(|value| value != "false")
    }

    /// Its containers reach the host's own loopback interface.
    pub fn allows_host_loopback(&self) -> bool {
        self.options.get("allow_host_loopback").is_some_and(|value| value == "true")
    }

    /// What a container becomes that is to be in this network.
    ///
    /// # Errors
    /// An address is asked for that the network does not have.
    fn membership(&self, asked: &Asked) -> Result<Membership> {
        let addresses = asked.ip.map(IpAddr::from).into_iter().chain(asked.ip6.map(IpAddr::from));
        for address in addresses {
            self.check_address(address)?;
        }
        Ok(Membership {
            id: self.id.clone(),
            name: self.name.clone(),
            aliases: asked.aliases.clone(),
            ip: asked.ip,
            ip6: asked.ip6,
            mac_address: asked.mac_address,
            interface: asked.interface.clone(),
        })
    }

    fn check_address(&self, address: IpAddr) -> Result<()> {
        let failed =
            || Error::new(format!("cannot use the address {address} in the network `{}`", self.name));
        let of = self.subnets.iter().find(|of| of.subnet.addr().is_ipv4() == address.is_ipv4());
        let Some(of) = of else {
            let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
            return Err(failed().because(format!("the network has no {family} addresses")));
        };
        subnets::check_host(of.subnet, address).map_err(|cause| failed().because(cause))?;
        if address == of.gateway {
            return Err(failed().because("it is the gateway's"));
        }
        match self.reserved.iter().find(|(_, reserved)| **reserved == address) {
            Some((name, _)) => Err(failed().because(format!("it is reserved for `{name}`"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(networks: &NamedNetworks, name: &str) -> NamedNetwork {
        networks.create(&Request::plain(name)).unwrap().unwrap().network
    }

    #[test]
    fn a_network_is_found_by_its_name_and_the_beginning_of_its_id() {
        let folder = tempfile::tempdir().unwrap();
        let networks = NamedNetworks::new(folder.path());
        assert!(networks.list().unwrap().is_empty() && networks.find("shop").unwrap().is_none());
        let made = make(&networks, "shop");
        for word in ["shop", &made.id, &made.id[..6]] {
            assert_eq!(networks.find(word).unwrap().unwrap(), made, "{word}");
        }
        assert!(networks.create(&Request::plain("shop")).unwrap().is_none());
        assert!(networks.find("").unwrap().is_none() && networks.find("../x").unwrap().is_none());
        let lock = networks.lock(true).unwrap();
        assert_eq!(networks.list().unwrap(), [made], "the lock is no network");
        drop(lock);
    }

    #[test]
    fn a_damaged_record_is_left_out_of_the_list_and_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let networks = NamedNetworks::new(folder.path());
        make(&networks, "good");
        networks.records.write("bad", b"{", false).unwrap();
        assert_eq!(networks.list().unwrap().len(), 1);
        assert!(networks.find("bad").is_err());
    }

    #[test]
    fn a_container_joins_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let networks = NamedNetworks::new(folder.path());
        let asked = Asked { aliases: vec!["web".to_owned()], ..Asked::named("shop") };
        assert!(networks.join(&asked).unwrap_err().report().contains("sbx network create shop"));
        let made = make(&networks, "shop");
        let membership = networks.join(&asked).unwrap();
        assert_eq!((membership.id, membership.aliases), (made.id, asked.aliases));
        assert_eq!(networks.join(&Asked::named(BUILT_IN)).unwrap().id, built_in_id());
    }

    #[test]
    fn an_address_is_one_of_the_network() {
        let folder = tempfile::tempdir().unwrap();
        let networks = NamedNetworks::new(folder.path());
        let request = Request {
            subnets: vec!["10.210.0.0/24".parse().unwrap()],
            reserved: [("printer".to_owned(), "10.210.0.9".parse().unwrap())].into(),
            ..Request::plain("shop")
        };
        networks.create(&request).unwrap().unwrap();
        let asked = |ip: &str| networks.join(&Asked { ip: ip.parse().ok(), ..Asked::named("shop") });
        assert_eq!(asked("10.210.0.7").unwrap().ip, "10.210.0.7".parse().ok());
        for (ip, cause) in [
            ("10.210.1.7", "not in the subnet 10.210.0.0/24"),
            ("10.210.0.0", "of the network"),
            ("10.210.0.255", "broadcast"),
            ("10.210.0.1", "gateway's"),
            ("10.210.0.9", "`printer`"),
        ] {
            let report = asked(ip).expect_err(ip).report();
            assert!(report.contains(cause), "{ip}: {report}");
        }
        let ip6 = networks.join(&Asked { ip6: "fd00::7".parse().ok(), ..Asked::named("shop") });
        assert!(ip6.unwrap_err().report().contains("no IPv6 addresses"));
    }
}
