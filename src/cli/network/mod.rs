//! `sbx network`

pub mod connect;
pub mod create;
pub mod exists;
mod filter;
pub mod inspect;
pub mod list;
pub mod remove;
mod shown;
pub mod update;

use clap::Subcommand;

use crate::cli::Global;
use crate::cli::container::Place;
use crate::error::{Error, Result};
use crate::events::{self, Action, Event, Kind};
use crate::network::named::{self, NamedNetwork, NamedNetworks};
use shown::Shown;

/// Work with networks
///
/// A network has a bridge: containers in it have addresses of their own, reach each other by name, and reach the world.
/// Containers of two networks do not reach each other. Always there are `bridge`, whose containers have no names;
/// `private`, the usual one, through slirp4netns or pasta, with nobody else in it; `host`, that of the host; and `none`,
/// with loopback alone.
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  sbx network create shop
  sbx run -d --network shop --name db redis
  sbx run -d --network shop -p 127.0.0.1:8080:80 nginx
  sbx network connect shop web
  sbx network ls
  sbx network rm shop"
)]
pub struct NetworkArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Connect(connect::ConnectArgs),
    Create(Box<create::CreateArgs>),
    Disconnect(connect::DisconnectArgs),
    Exists(exists::ExistsArgs),
    Inspect(inspect::InspectArgs),
    #[command(name = "ls", visible_alias = "list")]
    List(list::ListArgs),
    Prune(remove::PruneArgs),
    Reload(connect::ReloadArgs),
    #[command(name = "rm", visible_alias = "remove")]
    Remove(remove::RemoveArgs),
    Update(update::UpdateArgs),
}

pub fn execute(args: &NetworkArgs, global: &Global) -> Result<u8> {
    match &args.verb {
        Verb::Connect(args) => connect::connect(args, global),
        Verb::Create(args) => create::execute(args, global),
        Verb::Disconnect(args) => connect::disconnect(args, global),
        Verb::Exists(args) => exists::execute(args, global),
        Verb::Inspect(args) => inspect::execute(args, global),
        Verb::List(args) => list::execute(args, global),
        Verb::Prune(args) => remove::prune(args, global),
        Verb::Reload(args) => connect::reload(args, global),
        Verb::Remove(args) => remove::execute(args, global),
        Verb::Update(args) => update::execute(args, global),
    }
}

/// The names of the networks that were made.
///
/// # Errors
/// They cannot be read.
pub(super) fn names(place: &Place) -> Result<Vec<String>> {
    Ok(networks(place).list()?.into_iter().map(|network| network.name).collect())
}

fn networks(place: &Place) -> NamedNetworks {
    NamedNetworks::new(place.store.root())
}

fn missing(word: &str) -> Error {
    named::missing(word).hint("`sbx network ls` lists them")
}

/// One that has a bridge.
fn made(word: &str, place: &Place) -> Result<NamedNetwork> {
    match networks(place).find(word)? {
        Some(network) => Ok(network),
        None if Shown::is_always_there(word) => {
            Err(Error::new(format!("the network `{word}` is a container's own, or the host's"))
                .hint("`sbx network create NAME` makes one that containers can be put into"))
        }
        None => Err(missing(word)),
    }
}

fn event(action: Action, network: &NamedNetwork) -> Event {
    Event::new(Kind::Network, action, &network.id, &network.name).with_labels(&network.labels)
}

fn record(place: &Place, action: Action, network: &NamedNetwork) {
    events::record(place.store.root(), &place.runtime, event(action, network));
}
