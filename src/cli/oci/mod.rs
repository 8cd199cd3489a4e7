//! `sbx oci`: the command line of runc and crun.

mod create;
mod delete;
pub(crate) mod engine;
mod events;
mod exec;
mod features;
mod freeze;
mod kill;
mod list;
mod log;
mod ps;
mod run;
mod spec;
mod start;
mod state;
mod update;

use std::path::{Path, PathBuf};

use clap::Subcommand;

use crate::cli::Global;
use crate::error::{EXIT_NOT_FOUND, Error, Result, Step};
use crate::oci::config::{self, Choice, Described};
use crate::oci::group::{Groups, Manager};
use crate::oci::state::Root;

/// An OCI runtime: containers of bundles, for engines such as podman and Slurm
///
/// The commands, options and exit codes are those of runc and crun. Called by one of these names, or by an engine that
/// was told to use sbx as its runtime (`podman --runtime /usr/bin/sbx`), sbx takes them without the word `oci`.
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    subcommand_required = true,
    version,
    disable_version_flag = true,
    after_help = "Examples:
  sbx oci spec --rootless
  sbx oci run --bundle ./bundle web
  sbx oci create --bundle ./bundle --pid-file web.pid web
  sbx oci start web
  sbx oci delete --force web"
)]
pub struct OciArgs {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    verb: Verb,
}

/// Those of every command.
#[derive(Debug, clap::Args)]
struct Options {
    /// Print the version, and that of the specification
    #[arg(short, long, action = clap::ArgAction::Version)]
    version: Option<bool>,
    /// Append messages to this file, too
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// The form of messages in that file
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    log_format: String,
    /// Tell of everything, as `--log-level debug` does
    #[arg(long)]
    debug: bool,
    /// Have systemd make the control group, a scope: `cgroupsPath` is `SLICE:PREFIX:NAME` then
    #[arg(long)]
    systemd_cgroup: bool,
    /// Who makes the control group: cgroupfs, sbx in what the caller may write; systemd, a scope; disabled, nobody
    #[arg(long, value_name = "MANAGER", value_parser = ["cgroupfs", "systemd", "disabled"])]
    cgroup_manager: Option<String>,
    /// Whether a container without a control group is none (`false`)
    #[arg(long, value_name = "WORD", default_value = "auto", value_parser = ["true", "false", "auto"])]
    rootless: String,
}

impl Options {
    fn groups(&self) -> Groups {
        let manager = match self.cgroup_manager.as_deref() {
            Some("disabled") => Manager::None,
            Some("systemd") => Manager::Systemd,
            _ if self.systemd_cgroup => Manager::Systemd,
            Some(_) => Manager::Files,
            None => Manager::Any,
        };
        Groups { manager, required: self.rootless == "false" && manager != Manager::None }
    }
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Verb {
    Create(create::CreateArgs),
    Start(start::StartArgs),
    State(state::StateArgs),
    Kill(kill::KillArgs),
    Delete(delete::DeleteArgs),
    Run(run::RunArgs),
    Exec(Box<exec::ExecArgs>),
    List(list::ListArgs),
    Ps(ps::PsArgs),
    Pause(freeze::PauseArgs),
    Resume(freeze::ResumeArgs),
    Update(Box<update::UpdateArgs>),
    Events(events::EventsArgs),
    Spec(spec::SpecArgs),
    Features(features::FeaturesArgs),
}

pub fn execute(args: OciArgs, global: &Global) -> Result<u8> {
    if args.options.debug {
        ::log::set_max_level(::log::LevelFilter::Debug);
    }
    let log = log::Log::open(args.options.log.as_deref(), &args.options.log_format)?;
    // Exit codes of runc: those of a process that is brought in are its own.
    let code = if matches!(args.verb, Verb::Exec(_)) { 255 } else { 1 };
    dispatch(args.verb, args.options.groups(), global).map_err(|error| {
        let error = in_the_words_of_engines(error).exit_code(code);
        log.error(&error);
        error
    })
}

fn dispatch(verb: Verb, groups: Groups, global: &Global) -> Result<u8> {
    let root = Root::new(global.root.as_deref())?;
    match verb {
        Verb::Create(args) => create::execute(&args, groups, &root),
        Verb::Start(args) => start::execute(&args, &root),
        Verb::State(args) => state::execute(&args, &root),
        Verb::Kill(args) => kill::execute(&args, &root),
        Verb::Delete(args) => delete::execute(&args, &root),
        Verb::Run(args) => run::execute(&args, groups, &root),
        Verb::Exec(args) => exec::execute(&args, &root),
        Verb::List(args) => list::execute(&args, &root),
        Verb::Ps(args) => ps::execute(&args, &root),
        Verb::Pause(args) => freeze::pause(&args, &root),
        Verb::Resume(args) => freeze::resume(&args, &root),
        Verb::Update(args) => update::execute(&args, &root),
        Verb::Events(args) => events::execute(&args, &root),
        Verb::Spec(args) => spec::execute(&args),
        Verb::Features(args) => features::execute(&args),
    }
}

/// podman, docker and containerd tell a command that is missing from other failures by runc's words, and show the line
/// that has them.
fn in_the_words_of_engines(error: Error) -> Error {
    if error.code() != EXIT_NOT_FOUND {
        return error;
    }
    let told = Error::new(format!("{}: executable file not found in $PATH", error.message()));
    let told = error.causes().iter().fold(told, |told, cause| told.because(cause));
    error.hints().iter().fold(told, |told, hint| told.hint(hint))
}

/// Options with which a bundle becomes a container.
#[derive(Debug, clap::Args)]
struct BundleArgs {
    /// The directory with `config.json` and the root
    #[arg(short, long, value_name = "DIR", default_value = ".", hide_default_value = true)]
    bundle: PathBuf,
    /// Read this file instead of the bundle's `config.json`
    #[arg(short = 'f', long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The socket that takes the container's terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Write the process ID into this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Hand on so many descriptors after the standard streams
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
    preserve_fds: u32,
    /// Move the root instead of pivoting to it, for roots on a ramdisk
    #[arg(long)]
    no_pivot: bool,
    /// Adopt no process whose parent has ended, which sbx never does
    #[arg(long)]
    no_subreaper: bool,
    /// Stay in the caller's session keyring
    #[arg(long)]
    no_new_keyring: bool,
}

impl BundleArgs {
    fn described(&self, id: &str) -> Result<Described> {
        let sockets = activation_sockets();
        let descriptors = self.preserve_fds.saturating_add(sockets);
        check_descriptors(descriptors)?;
        let failed = || format!("cannot open the bundle `{}`", self.bundle.display());
        let bundle = std::fs::canonicalize(&self.bundle).step(failed)?;
        let choice =
            Choice { no_pivot: self.no_pivot, keeps_keyring: self.no_new_keyring, descriptors, sockets };
        config::read(id, &bundle, self.config.as_deref(), &choice)
    }

    fn request(&self, gate: bool, groups: Groups) -> Result<crate::oci::create::Request> {
        // The set-up changes the working directory.
        let absolute = |path: &Option<PathBuf>| path.as_deref().map(absolute).transpose();
        Ok(crate::oci::create::Request {
            console_socket: absolute(&self.console_socket)?,
            pid_file: absolute(&self.pid_file)?,
            gate,
            groups,
        })
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).step(|| format!("cannot use `{}`", path.display()))
}

/// Sockets of systemd's that the caller was started with, before all other descriptors (sd_listen_fds(3)): for this process
/// and no other, which hands them on.
fn activation_sockets() -> u32 {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    match number("LISTEN_PID") {
        Some(pid) if pid == std::process::id() => number("LISTEN_FDS").unwrap_or_default(),
        _ => 0,
    }
}

/// What is handed on has to be there, or descriptors of sbx would take the numbers.
fn check_descriptors(count: u32) -> Result<()> {
    for number in (3..).take(count as usize) {
        if !Path::new(&format!("/proc/self/fd/{number}")).exists() {
            return Err(Error::new(format!("cannot hand on {count} descriptors"))
                .because(format!("the descriptor {number} is not open")));
        }
    }
    Ok(())
}
