//! `sbx container`, and the verbs that act on containers that have been made.

pub mod attach;
pub mod cleanup;
pub mod commit;
pub mod create;
pub mod diff;
pub mod exec;
pub mod exists;
pub mod healthcheck;
pub mod kill;
pub mod pause;
pub mod port;
pub mod prune;
pub mod rename;
pub mod restart;
pub mod selection;
pub mod start;
pub mod stats;
pub mod stop;
pub mod top;
pub mod update;
pub mod wait;

use std::path::PathBuf;

use clap::Subcommand;

use crate::cli::{Global, cp, inspect, logs, ps, rm, run, transfer};
use crate::container::store::Store;
use crate::error::Result;
use crate::host::paths;

/// Manage containers
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx container ls -a
  sbx container exists web && sbx container stop web
  sbx container prune --filter until=24h

Each is also a command of its own: `sbx container stop web` is `sbx stop web`.")]
pub struct ContainerArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Verb {
    Attach(attach::AttachArgs),
    Cleanup(cleanup::CleanupArgs),
    Commit(commit::CommitArgs),
    Cp(cp::CpArgs),
    Create(Box<create::CreateArgs>),
    Diff(diff::DiffArgs),
    Exec(exec::ExecArgs),
    Exists(exists::ExistsArgs),
    Export(transfer::export::ExportArgs),
    Inspect(inspect::InspectArgs),
    Kill(kill::KillArgs),
    Logs(logs::LogsArgs),
    #[command(visible_aliases = ["list", "ps"])]
    Ls(ps::PsArgs),
    Pause(pause::PauseArgs),
    Port(port::PortArgs),
    Prune(prune::PruneArgs),
    Rename(rename::RenameArgs),
    Restart(restart::RestartArgs),
    #[command(visible_alias = "remove")]
    Rm(rm::RmArgs),
    Run(Box<run::RunArgs>),
    Start(start::StartArgs),
    Stats(stats::StatsArgs),
    Stop(stop::StopArgs),
    Top(top::TopArgs),
    Unpause(pause::UnpauseArgs),
    Update(Box<update::UpdateArgs>),
    Wait(wait::WaitArgs),
}

pub fn execute(args: ContainerArgs, global: &Global) -> Result<u8> {
    match args.verb {
        Verb::Attach(args) => attach::execute(&args, global),
        Verb::Cleanup(args) => cleanup::execute(&args, global),
        Verb::Commit(args) => commit::execute(args, global),
        Verb::Cp(args) => cp::execute(&args, global),
        Verb::Create(args) => create::execute(*args, global),
        Verb::Diff(args) => diff::execute(&args, global),
        Verb::Exec(args) => exec::execute(args, global),
        Verb::Exists(args) => exists::execute(&args, global),
        Verb::Export(args) => transfer::export::execute(&args, global),
        Verb::Inspect(args) => inspect::execute(&args, global),
        Verb::Kill(args) => kill::execute(&args, global),
        Verb::Logs(args) => logs::execute(args, global),
        Verb::Ls(args) => ps::execute(args, global),
        Verb::Pause(args) => pause::pause(&args, global),
        Verb::Port(args) => port::execute(&args, global),
        Verb::Prune(args) => prune::execute(&args, global),
        Verb::Rename(args) => rename::execute(&args, global),
        Verb::Restart(args) => restart::execute(&args, global),
        Verb::Rm(args) => rm::execute(args, global),
        Verb::Run(args) => run::execute(*args, global),
        Verb::Start(args) => start::execute(&args, global),
        Verb::Stats(args) => stats::execute(&args, global),
        Verb::Stop(args) => stop::execute(&args, global),
        Verb::Top(args) => top::execute(args, global),
        Verb::Unpause(args) => pause::unpause(&args, global),
        Verb::Update(args) => update::execute(&args, global),
        Verb::Wait(args) => wait::execute(&args, global),
    }
}

/// Where containers are, and where their monitors listen.
pub struct Place {
    pub store: Store,
    pub runtime: PathBuf,
}

impl Place {
    /// # Errors
    /// There is no home, or the directories are in the hands of others.
    pub fn of(global: &Global) -> Result<Self> {
        let surroundings = paths::Surroundings::current();
        let store = Store::new(paths::store(global.root.as_deref(), &surroundings)?);
        Ok(Self { store, runtime: paths::runtime(&surroundings)?.path })
    }
}
