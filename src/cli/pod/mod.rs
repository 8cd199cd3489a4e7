//! `sbx pod`

pub mod create;
pub mod exists;
pub mod inspect;
pub mod life;
pub mod list;
pub mod remove;

use clap::Subcommand;

use crate::cli::Global;
use crate::cli::container::Place;
use crate::error::Result;
use crate::events::{self, Action, Event, Kind};
use crate::pod::{Pod, PodStore};

/// Group containers under a name
///
/// The containers of a pod share no namespaces: each has a network of its own. A pod is what `compose` programs keep
/// their containers together with, and starts, stops and removes them at once.
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  sbx pod create --infra=false --share= site
  sbx run -d --pod site --name web nginx
  sbx pod rm -f site"
)]
pub struct PodArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Create(create::CreateArgs),
    Exists(exists::ExistsArgs),
    Inspect(inspect::InspectArgs),
    Kill(life::KillArgs),
    #[command(name = "ps", visible_aliases = ["ls", "list"])]
    List(list::ListArgs),
    Prune(remove::PruneArgs),
    Restart(life::RestartArgs),
    #[command(name = "rm", visible_alias = "remove")]
    Remove(remove::RemoveArgs),
    Start(life::StartArgs),
    Stop(life::StopArgs),
}

pub fn execute(args: PodArgs, global: &Global) -> Result<u8> {
    match args.verb {
        Verb::Create(args) => create::execute(&args, global),
        Verb::Exists(args) => exists::execute(&args, global),
        Verb::Inspect(args) => inspect::execute(&args, global),
        Verb::Kill(args) => life::kill(&args, global),
        Verb::List(args) => list::execute(&args, global),
        Verb::Prune(args) => remove::prune(&args, global),
        Verb::Restart(args) => life::restart(&args, global),
        Verb::Remove(args) => remove::execute(&args, global),
        Verb::Start(args) => life::start(&args, global),
        Verb::Stop(args) => life::stop(&args, global),
    }
}

/// The names of all pods.
///
/// # Errors
/// They cannot be read.
pub(super) fn names(place: &Place) -> Result<Vec<String>> {
    Ok(pods(place).list()?.into_iter().map(|pod| pod.name).collect())
}

fn pods(place: &Place) -> PodStore {
    PodStore::new(place.store.root())
}

fn record(place: &Place, action: Action, pod: &Pod) {
    let event = Event::new(Kind::Pod, action, &pod.id, &pod.name).with_labels(&pod.labels);
    events::record(place.store.root(), &place.runtime, event);
}
