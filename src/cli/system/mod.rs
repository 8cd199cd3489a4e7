//! `sbx system`

pub mod df;
pub mod prune;

use clap::Subcommand;

use crate::cli::Global;
use crate::error::Result;

/// Look at what the store takes, and give it back
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  sbx system df -v
  sbx system prune -a"
)]
pub struct SystemArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Df(df::DfArgs),
    Events(crate::cli::events::EventsArgs),
    Info(crate::cli::info::InfoArgs),
    Prune(prune::PruneArgs),
}

pub fn execute(args: SystemArgs, global: &Global) -> Result<u8> {
    match args.verb {
        Verb::Df(args) => df::execute(args, global),
        Verb::Events(args) => crate::cli::events::execute(&args, global),
        Verb::Info(args) => crate::cli::info::execute(args, global),
        Verb::Prune(args) => prune::execute(&args, global),
    }
}
