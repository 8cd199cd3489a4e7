//! Networks with names, as `sbx network create` makes them: `<store>/networks/s.NAME` is one, and who is in it stands in
//! the specs of the containers. A bridge is there while a container runs that is in one.

mod creation;
mod driver_option;
mod joining;
mod name;
mod option;
mod removal;
mod subnets;
mod update;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::cli::dialect::{self, Dialect};
use crate::error::{Error, Result};
use crate::records::Records;
use crate::sys::time::Utc;

pub use super::bridge::Membership;
pub use creation::{Made, Request, built_in_id};
pub use driver_option::DriverOptions;
pub use joining::{hold, still_there};
pub use name::check as check_name;
pub use option::{Asked, check_interface, put};
pub use removal::{IN_USE, members, remove};
pub use update::update_servers;

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
        self.records.value("the network", name, |network: &NamedNetwork| network.name == name)
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

    /// The same, which has to be there.
    ///
    /// # Errors
    /// There is none.
    pub fn to_join(&self, word: &str) -> Result<NamedNetwork> {
        self.find(word)?.ok_or_else(|| {
            missing(word).hint(format!(
                "`sbx network create {word}` makes it; or use none, host, private, slirp4netns, pasta, ns:PATH or \
                 container:NAME",
            ))
        })
    }

    /// Keeps all networks from being removed. The directory has to be there.
    ///
    /// # Errors
    /// Those of open(2) and flock(2).
    pub fn keep(&self) -> io::Result<Hold> {
        Ok(Hold { _lock: Some(self.lock(false)?) })
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

/// There is none of that name.
pub fn missing(word: &str) -> Error {
    Error::new(format!("no such network: \"{}\"", word.escape_debug()))
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
        assert!(networks.to_join("shop").unwrap_err().report().contains("sbx network create shop"));
        let made = make(&networks, "shop");
        let membership = networks.to_join("shop").unwrap().membership(&asked).unwrap();
        assert_eq!((membership.id, membership.aliases), (made.id, asked.aliases));
        assert_eq!(networks.to_join(BUILT_IN).unwrap().id, built_in_id());
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
        let shop = networks.to_join("shop").unwrap();
        let asked = |ip: &str| shop.membership(&Asked { ip: ip.parse().ok(), ..Asked::named("shop") });
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
        let ip6 = shop.membership(&Asked { ip6: "fd00::7".parse().ok(), ..Asked::named("shop") });
        assert!(ip6.unwrap_err().report().contains("no IPv6 addresses"));
    }
}
