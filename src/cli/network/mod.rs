//! `sbx network`: the networks that are there without being made.

pub mod exists;
pub mod inspect;
pub mod list;
pub mod remove;

use clap::Subcommand;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::network::BRIDGES;

/// Look at networks
///
/// There are those that every container can have: `private`, the usual one, through slirp4netns or pasta; `host`, that
/// of the host; and `none`, with loopback alone.
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  sbx network ls
  sbx network exists host"
)]
pub struct NetworkArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    #[command(hide = true)]
    Connect(RefusedArgs),
    #[command(hide = true)]
    Create(RefusedArgs),
    #[command(hide = true)]
    Disconnect(RefusedArgs),
    Exists(exists::ExistsArgs),
    Inspect(inspect::InspectArgs),
    #[command(name = "ls", visible_alias = "list")]
    List(list::ListArgs),
    #[command(name = "rm", visible_alias = "remove")]
    Remove(remove::RemoveArgs),
}

/// Bridge networks are not there yet
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct RefusedArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

pub fn execute(args: &NetworkArgs) -> Result<u8> {
    match &args.verb {
        Verb::Connect(_) => Err(refused("connect a container to a network")),
        Verb::Create(args) => Err(refused(&match args.words.last() {
            Some(name) => format!("make the network `{name}`"),
            None => "make a network".to_owned(),
        })),
        Verb::Disconnect(_) => Err(refused("disconnect a container from a network")),
        Verb::Exists(args) => exists::execute(args),
        Verb::Inspect(args) => inspect::execute(args),
        Verb::List(args) => list::execute(args),
        Verb::Remove(args) => remove::execute(args),
    }
}

fn refused(what: &str) -> Error {
    Error::new(format!("cannot {what}"))
        .because(BRIDGES)
        .hint("`--network private` gives each container a network of its own, with `-p` for its ports")
}

/// A network that is always there.
struct Network {
    name: &'static str,
    driver: &'static str,
}

const NETWORKS: [Network; 3] = [
    Network { name: "host", driver: "host" },
    Network { name: "none", driver: "null" },
    Network { name: "private", driver: "private" },
];

impl Network {
    fn find(word: &str) -> Option<&'static Self> {
        NETWORKS.iter().find(|network| network.name == word)
    }

    /// The fields of docker and podman. What is always there has its name for an ID, as docker's modes have.
    fn document(&self) -> Value {
        json!({
            "Name": self.name,
            "Id": self.name,
            "ID": self.name,
            "Driver": self.driver,
            "Scope": "local",
            "EnableIPv6": false,
            "IPAM": { "Driver": "default", "Options": {}, "Config": [] },
            "Internal": self.name == "none",
            "Attachable": false,
            "Ingress": false,
            "Containers": {},
            "Options": {},
            "Labels": {},
            // `.Label "KEY"` asks here.
            "Label": {},
        })
    }
}

fn missing(word: &str) -> Error {
    Error::new(format!("no such network: \"{}\"", word.escape_debug())).hint("`sbx network ls` lists them")
}
