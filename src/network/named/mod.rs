//! Networks with names, as `sbx network create` makes them: `<store>/networks/s.NAME` is one, and who is in it stands in
//! the specs of the containers.
//!
//! There is no bridge below them yet: each member has a private network of its own, so that members reach each other
//! by published ports of the host alone. Whoever makes or joins one is told.

mod name;
mod option;
mod removal;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::container::name::random_id;
use crate::container::store::{Store, no_room, short};
use crate::error::{Error, Result, Step};
use crate::records::Records;
use crate::sys::time::Utc;

pub use super::bridge::Membership;
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

    /// Makes a network. None: there is one of that name.
    ///
    /// # Errors
    /// The name can be no network's, or the store takes no more.
    pub fn create(&self, name: &str, labels: BTreeMap<String, String>) -> Result<Option<NamedNetwork>> {
        let failed = || format!("cannot make the network `{}`", name.escape_debug());
        check_name(name).map_err(|error| error.while_doing(failed()))?;
        let driver = DRIVER.to_owned();
        let network = NamedNetwork {
            id: random_id()?,
            name: name.to_owned(),
            created: Utc::now(),
            driver,
            labels,
            subnets: Vec::new(),
            internal: false,
            dns: true,
            dns_servers: Vec::new(),
            options: BTreeMap::new(),
            interface: String::new(),
        };
        let text = serde_json::to_vec(&network).step(failed)?;
        match self.records.write(name, &text, false) {
            Ok(()) => Ok(Some(network)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(no_room(error, failed())),
        }
    }

    /// The one of that name.
    ///
    /// # Errors
    /// Its record cannot be read, or is damaged.
    pub fn named(&self, name: &str) -> Result<Option<NamedNetwork>> {
        if check_name(name).is_err() {
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

    /// The one that a name, an ID or the beginning of an ID means.
    ///
    /// # Errors
    /// Several IDs begin so, or its record is damaged.
    pub fn find(&self, word: &str) -> Result<Option<NamedNetwork>> {
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
        let failed = |cause: String| {
            Err(Error::new(format!("cannot use the address {address} in the network `{}`", self.name))
                .because(cause))
        };
        let Some(of) = self.subnets.iter().find(|of| of.subnet.contains(&address)) else {
            let subnets: Vec<String> = self.subnets.iter().map(|of| of.subnet.to_string()).collect();
            return failed(format!("it is not in its subnet: {}", subnets.join(", ")));
        };
        match address {
            _ if address == of.gateway => failed("it is the gateway's".to_owned()),
            _ if address == of.subnet.network() => {
                failed("it is the address of the network itself".to_owned())
            }
            IpAddr::V4(_) if address == of.subnet.broadcast() => {
                failed("it is the broadcast address".to_owned())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_found_by_its_name_and_the_beginning_of_its_id() {
        let folder = tempfile::tempdir().unwrap();
        let networks = NamedNetworks::new(folder.path());
        assert!(networks.list().unwrap().is_empty() && networks.find("shop").unwrap().is_none());
        let made = networks.create("shop", BTreeMap::new()).unwrap().unwrap();
        for word in ["shop", &made.id, &made.id[..6]] {
            assert_eq!(networks.find(word).unwrap().unwrap(), made, "{word}");
        }
        assert!(networks.create("shop", BTreeMap::new()).unwrap().is_none());
        assert!(networks.find("").unwrap().is_none() && networks.find("../x").unwrap().is_none());
        let lock = networks.lock(true).unwrap();
        assert_eq!(networks.list().unwrap(), [made], "the lock is no network");
        drop(lock);
    }

    #[test]
    fn a_damaged_record_is_left_out_of_the_list_and_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let networks = NamedNetworks::new(folder.path());
        networks.create("good", BTreeMap::new()).unwrap().unwrap();
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
        let made = networks.create("shop", BTreeMap::new()).unwrap().unwrap();
        let membership = networks.join(&asked).unwrap();
        assert_eq!((membership.id, membership.aliases), (made.id, asked.aliases));
    }
}
