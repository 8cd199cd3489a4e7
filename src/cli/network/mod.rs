//! `sbx network`

pub mod create;
pub mod exists;
mod filter;
pub mod inspect;
pub mod list;
pub mod remove;

use std::collections::BTreeMap;

use clap::Subcommand;
use serde_json::{Map, Value, json};

use crate::cli::Global;
use crate::cli::container::Place;
use crate::container::list as containers;
use crate::container::store::short;
use crate::error::{Error, Result};
use crate::events::{self, Action, Event, Kind};
use crate::network::BRIDGES;
use crate::network::named::{self, NamedNetwork, NamedNetworks};
use crate::sys::time::Utc;

/// Work with networks
///
/// Always there are `private`, the usual one, through slirp4netns or pasta; `host`, that of the host; and `none`, with
/// loopback alone. A network that is made with a name keeps containers together as `compose` programs want it: each
/// has a private network of its own, and is reached by its published ports. Between them there is no bridge yet, so
/// that they do not reach each other by name.
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  sbx network create shop
  sbx run -d --network shop -p 127.0.0.1:8080:80 nginx
  sbx network ls
  sbx network rm shop"
)]
pub struct NetworkArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    #[command(hide = true)]
    Connect(RefusedArgs),
    Create(Box<create::CreateArgs>),
    #[command(hide = true)]
    Disconnect(RefusedArgs),
    Exists(exists::ExistsArgs),
    Inspect(inspect::InspectArgs),
    #[command(name = "ls", visible_alias = "list")]
    List(list::ListArgs),
    Prune(remove::PruneArgs),
    #[command(hide = true)]
    Reload(RefusedArgs),
    #[command(name = "rm", visible_alias = "remove")]
    Remove(remove::RemoveArgs),
    #[command(hide = true)]
    Update(RefusedArgs),
}

/// Bridge networks are not there yet
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct RefusedArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _words: Vec<String>,
}

pub fn execute(args: &NetworkArgs, global: &Global) -> Result<u8> {
    match &args.verb {
        Verb::Connect(_) => Err(refused("connect a container to a network")),
        Verb::Create(args) => create::execute(args, global),
        Verb::Disconnect(_) => Err(refused("disconnect a container from a network")),
        Verb::Exists(args) => exists::execute(args, global),
        Verb::Inspect(args) => inspect::execute(args, global),
        Verb::List(args) => list::execute(args, global),
        Verb::Prune(args) => remove::prune(args, global),
        Verb::Reload(_) => Err(refused("set up the network of a container again")),
        Verb::Remove(args) => remove::execute(args, global),
        Verb::Update(_) => Err(refused("change a network")),
    }
}

fn refused(what: &str) -> Error {
    Error::new(format!("cannot {what}"))
        .because(BRIDGES)
        .hint("`--network private` gives each container a network of its own, with `-p` for its ports")
}

fn networks(place: &Place) -> NamedNetworks {
    NamedNetworks::new(place.store.root())
}

fn missing(word: &str) -> Error {
    named::missing(word).hint("`sbx network ls` lists them")
}

fn record(place: &Place, action: Action, network: &NamedNetwork) {
    let event = Event::new(Kind::Network, action, &network.id, &network.name).with_labels(&network.labels);
    events::record(place.store.root(), &place.runtime, event);
}

/// A network as it is listed: one that was made, or one that is always there.
struct Shown {
    id: String,
    name: String,
    driver: String,
    /// None: always there.
    created: Option<Utc>,
    labels: BTreeMap<String, String>,
}

impl From<&NamedNetwork> for Shown {
    fn from(network: &NamedNetwork) -> Self {
        let NamedNetwork { id, name, created, driver, labels, .. } = network.clone();
        Self { id, name, driver, created: Some(created), labels }
    }
}

impl Shown {
    /// What is always there has its name for an ID, as docker's modes have.
    fn always_there() -> [Self; 3] {
        [("host", "host"), ("none", "null"), ("private", "private")].map(|(name, driver)| Self {
            id: name.to_owned(),
            name: name.to_owned(),
            driver: driver.to_owned(),
            created: None,
            labels: BTreeMap::new(),
        })
    }

    fn find(place: &Place, word: &str) -> Result<Option<Self>> {
        if let Some(network) = Self::always_there().into_iter().find(|network| network.name == word) {
            return Ok(Some(network));
        }
        Ok(networks(place).find(word)?.as_ref().map(Self::from))
    }

    /// By name.
    fn all(place: &Place) -> Result<Vec<Self>> {
        let mut all: Vec<Self> = networks(place).list()?.iter().map(Self::from).collect();
        all.extend(Self::always_there());
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(all)
    }

    fn short_id(&self) -> &str {
        match self.created {
            Some(_) => short(&self.id),
            None => &self.id,
        }
    }

    /// The containers in it that are up, by ID. Their addresses lead nowhere from outside.
    fn containers(&self, place: &Place) -> Map<String, Value> {
        let each = containers::all(&place.store).into_iter().filter(|found| found.status.is_up());
        each.filter_map(|found| {
            let spec = found.spec?;
            let of = spec.network.memberships.iter().find(|of| of.id == self.id)?;
            let endpoint = json!({
                "Name": spec.name,
                "name": spec.name,
                "EndpointID": "",
                "MacAddress": spec.network.mac_address.as_deref().unwrap_or_default(),
                "IPv4Address": "",
                "IPv6Address": "",
                "aliases": of.aliases,
            });
            Some((spec.id, endpoint))
        })
        .collect()
    }

    /// The fields of docker, and podman's, which are small.
    fn document(&self, containers: &Map<String, Value>) -> Value {
        let created = self.created.map(|time| json!(time)).unwrap_or_default();
        json!({
            "Name": self.name,
            "Id": self.id,
            "ID": self.id,
            "Created": created,
            "Driver": self.driver,
            "Scope": "local",
            "EnableIPv6": false,
            "IPAM": { "Driver": "default", "Options": {}, "Config": [] },
            "Internal": self.name == "none" && self.created.is_none(),
            "Attachable": false,
            "Ingress": false,
            "Containers": containers,
            "Options": {},
            "Labels": self.labels,
            // `.Label "KEY"` asks here.
            "Label": self.labels,
            "name": self.name,
            "id": self.id,
            "driver": self.driver,
            "created": created,
            "subnets": [],
            "ipv6_enabled": false,
            "internal": self.name == "none" && self.created.is_none(),
            "dns_enabled": false,
            "labels": self.labels,
            "containers": containers,
        })
    }
}
