//! Words become requests: one verb, one file, one function. No logic but parsing, calling and printing.

mod boolean;
pub mod build;
pub mod builder;
pub mod bundle;
mod changes;
pub mod completion;
mod confirm;
pub mod container;
pub mod container_options;
pub mod cp;
mod creation;
pub(crate) mod dialect;
pub mod doctor;
pub mod events;
mod failures;
pub mod generate;
pub mod health_options;
pub mod image;
pub mod info;
pub mod inspect;
pub mod limit_options;
pub mod logs;
pub mod man;
pub mod network;
pub mod oci;
pub mod pod;
pub mod ps;
pub mod registry;
mod report;
pub mod rm;
pub mod run;
pub mod secret;
pub mod system;
pub mod transfer;
pub mod unshare;
mod unsupported;
mod usage;
pub mod version;
pub mod volume;

use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::error::{Error, Result};
use crate::output::harmless;

/// Containers for people without root: a command in a world of its own, with one binary and no daemon.
#[derive(Debug, Parser)]
#[command(
    name = "sbx",
    bin_name = "sbx",
    version,
    disable_version_flag = true,
    propagate_version = false,
    arg_required_else_help = true,
    after_help = "Examples:\n  \
        sbx run --rm host sh -c 'id; hostname; ps ax'\n  \
        sbx run --rm -v .:/src -w /src host make test\n  \
        sbx run --rm -it --rootfs ./debian bash\n  \
        sbx doctor\n\n\
        `sbx COMMAND --help` shows the options and examples of a command. Commands and options are those of podman \
        and docker: called by one of these names, sbx speaks as that program does."
)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    /// Print the version.
    #[arg(short = 'v', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
    #[command(subcommand)]
    verb: Verb,
}

/// Options of every command.
#[derive(Debug, Clone, clap::Args)]
pub struct Global {
    /// Keep containers in this directory instead of `$XDG_DATA_HOME/sbx` (environment: SBX_ROOT), and those of `sbx oci`
    /// instead of `$XDG_RUNTIME_DIR/sbx/oci`.
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub root: Option<PathBuf>,
    /// What is told on standard error: error, warn, info, debug or trace.
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        default_value = "warn",
        value_parser = log_level,
        help_heading = "Global options"
    )]
    pub log_level: log::LevelFilter,
}

// Only the options of the verb that is typed are made: those of all take a fifth of a millisecond.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Verb {
    Run(Box<run::RunArgs>),
    Create(Box<container::create::CreateArgs>),
    Start(container::start::StartArgs),
    Attach(container::attach::AttachArgs),
    Stop(container::stop::StopArgs),
    Restart(container::restart::RestartArgs),
    Kill(container::kill::KillArgs),
    Pause(container::pause::PauseArgs),
    Unpause(container::pause::UnpauseArgs),
    Exec(container::exec::ExecArgs),
    Stats(container::stats::StatsArgs),
    Top(container::top::TopArgs),
    Healthcheck(container::healthcheck::HealthcheckArgs),
    Wait(container::wait::WaitArgs),
    Logs(logs::LogsArgs),
    Ps(ps::PsArgs),
    Rm(rm::RmArgs),
    Commit(container::commit::CommitArgs),
    Cp(cp::CpArgs),
    Diff(container::diff::DiffArgs),
    Rename(container::rename::RenameArgs),
    Update(container::update::UpdateArgs),
    Container(container::ContainerArgs),
    Build(Box<build::BuildArgs>),
    Bundle(bundle::BundleArgs),
    #[command(visible_alias = "buildx")]
    Builder(builder::BuilderArgs),
    Images(image::list::ListArgs),
    Rmi(image::remove::RemoveArgs),
    Tag(image::tag::TagArgs),
    Untag(image::untag::UntagArgs),
    History(image::history::HistoryArgs),
    Inspect(inspect::InspectArgs),
    Image(image::ImageArgs),
    System(system::SystemArgs),
    Volume(volume::VolumeArgs),
    Pull(transfer::pull::PullArgs),
    Push(transfer::push::PushArgs),
    Save(transfer::save::SaveArgs),
    Load(transfer::load::LoadArgs),
    Import(transfer::import::ImportArgs),
    Export(transfer::export::ExportArgs),
    Login(registry::login::LoginArgs),
    Logout(registry::logout::LogoutArgs),
    Search(registry::search::SearchArgs),
    Events(events::EventsArgs),
    Generate(generate::GenerateArgs),
    Network(network::NetworkArgs),
    Oci(Box<oci::OciArgs>),
    Pod(pod::PodArgs),
    Port(container::port::PortArgs),
    Secret(secret::SecretArgs),
    Unshare(unshare::UnshareArgs),
    Doctor(doctor::DoctorArgs),
    Info(info::InfoArgs),
    Version(version::VersionArgs),
    Completion(completion::CompletionArgs),
    Man(man::ManArgs),
}

/// The whole program: parse, run.
///
/// # Errors
/// What is shown on standard error, with the exit code that goes with it.
pub fn main() -> Result<u8> {
    if crate::host::own_binary::is_foreign() {
        return Err(Error::new("cannot run sbx of the host inside a container")
            .hint("install a sbx of the container's own")
            .exit_code(crate::error::EXIT_NOT_INVOKABLE));
    }
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => return usage::answer(&error),
    };
    start_log(cli.global.log_level);
    crate::sys::process::tame_signals();
    if !matches!(cli.verb, Verb::Unshare(_)) {
        // What is made belongs to the store, or has its mode said.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    }
    let runs_a_container = matches!(cli.verb, Verb::Run(_) | Verb::Create(_));
    dispatch(cli).map_err(|error| {
        let code = dialect::current().exit_code(error.code(), runs_a_container);
        error.exit_code(code)
    })
}

/// What is written to standard error of a failure.
pub fn report(error: &Error) -> String {
    dialect::current().report(&error.report())
}

fn dispatch(cli: Cli) -> Result<u8> {
    match cli.verb {
        Verb::Run(args) => run::execute(*args, &cli.global),
        Verb::Create(args) => container::create::execute(*args, &cli.global),
        Verb::Attach(args) => container::attach::execute(&args, &cli.global),
        Verb::Start(args) => container::start::execute(&args, &cli.global),
        Verb::Stop(args) => container::stop::execute(&args, &cli.global),
        Verb::Restart(args) => container::restart::execute(&args, &cli.global),
        Verb::Healthcheck(args) => container::healthcheck::execute(&args, &cli.global),
        Verb::Stats(args) => container::stats::execute(&args, &cli.global),
        Verb::Top(args) => container::top::execute(args, &cli.global),
        Verb::Pause(args) => container::pause::pause(&args, &cli.global),
        Verb::Unpause(args) => container::pause::unpause(&args, &cli.global),
        Verb::Exec(args) => container::exec::execute(args, &cli.global),
        Verb::Kill(args) => container::kill::execute(&args, &cli.global),
        Verb::Wait(args) => container::wait::execute(&args, &cli.global),
        Verb::Rename(args) => container::rename::execute(&args, &cli.global),
        Verb::Update(args) => container::update::execute(&args, &cli.global),
        Verb::Container(args) => container::execute(args, &cli.global),
        Verb::Logs(args) => logs::execute(args, &cli.global),
        Verb::Ps(args) => ps::execute(args, &cli.global),
        Verb::Rm(args) => rm::execute(args, &cli.global),
        Verb::Diff(args) => container::diff::execute(&args, &cli.global),
        Verb::Commit(args) => container::commit::execute(args, &cli.global),
        Verb::Cp(args) => cp::execute(&args, &cli.global),
        Verb::Build(args) => build::execute(&args, &cli.global),
        Verb::Bundle(args) => bundle::execute(&args, &cli.global),
        Verb::Builder(args) => builder::execute(&args, &cli.global),
        Verb::Images(args) => image::list::execute(&args, &cli.global),
        Verb::Rmi(args) => image::remove::execute(args, &cli.global),
        Verb::Tag(args) => image::tag::execute(&args, &cli.global),
        Verb::Untag(args) => image::untag::execute(&args, &cli.global),
        Verb::History(args) => image::history::execute(&args, &cli.global),
        Verb::Inspect(args) => inspect::execute(&args, &cli.global),
        Verb::Image(args) => image::execute(args, &cli.global),
        Verb::System(args) => system::execute(args, &cli.global),
        Verb::Volume(args) => volume::execute(args, &cli.global),
        Verb::Pull(args) => transfer::pull::execute(&args, &cli.global),
        Verb::Push(args) => transfer::push::execute(&args, &cli.global),
        Verb::Save(args) => transfer::save::execute(&args, &cli.global),
        Verb::Load(args) => transfer::load::execute(&args, &cli.global),
        Verb::Export(args) => transfer::export::execute(&args, &cli.global),
        Verb::Import(args) => transfer::import::execute(args, &cli.global),
        Verb::Login(args) => registry::login::execute(&args, &cli.global),
        Verb::Logout(args) => registry::logout::execute(args, &cli.global),
        Verb::Search(args) => registry::search::execute(&args, &cli.global),
        Verb::Events(args) => events::execute(&args, &cli.global),
        Verb::Generate(args) => generate::execute(args, &cli.global),
        Verb::Network(args) => network::execute(&args, &cli.global),
        Verb::Oci(args) => oci::execute(*args, &cli.global),
        Verb::Pod(args) => pod::execute(args, &cli.global),
        Verb::Port(args) => container::port::execute(&args, &cli.global),
        Verb::Secret(args) => secret::execute(args, &cli.global),
        Verb::Unshare(args) => unshare::execute(args, &cli.global),
        Verb::Doctor(args) => doctor::execute(args, &cli.global),
        Verb::Info(args) => info::execute(args, &cli.global),
        Verb::Version(args) => version::execute(args, &cli.global),
        Verb::Completion(args) => completion::execute(&args),
        Verb::Man(args) => man::execute(&args),
    }
}

fn parse() -> Result<Cli, clap::Error> {
    let words = words();
    if let Some(cli) = run_alone(&words) {
        return Ok(cli);
    }
    Cli::try_parse_from(&words).or_else(|_| {
        let (_, matches) = matches_of(words)?;
        Cli::from_arg_matches(&matches)
    })
}

/// `sbx run` without the other verbs, which take a tenth of a millisecond even where none of their options is made; none
/// where it is something else, or wrong: then the whole says so.
fn run_alone(words: &[std::ffi::OsString]) -> Option<Cli> {
    let words = words.get(1..).filter(|words| words.first().is_some_and(|verb| verb == "run"))?;
    let mut command = run::RunArgs::augment_args(Global::augment_args(clap::Command::new("run")));
    let matches = command.try_get_matches_from_mut(words).ok();
    // To take it apart takes time; and who is forked would copy the pages in which the next values would find room.
    std::mem::forget(command);
    let matches = matches?;
    let args = run::RunArgs::from_arg_matches(&matches).ok()?;
    let global = Global::from_arg_matches(&matches).ok()?;
    Some(Cli { global, version: None, verb: Verb::Run(Box::new(args)) })
}

/// The command line. As `runc` or `crun` sbx has no other commands than those of `sbx oci`.
fn words() -> Vec<std::ffi::OsString> {
    let mut words: Vec<std::ffi::OsString> = std::env::args_os().collect();
    if dialect::current() == dialect::Dialect::Runtime {
        match oci::engine::asks_for_version(&words[1..]) {
            true => words.splice(1.., ["--version".into()]).for_each(drop),
            false => words.insert(1, "oci".into()),
        }
    }
    words
}

/// What a command line means, and its words with flags as they are read.
///
/// # Errors
/// It means nothing.
pub(crate) fn matches_of(
    mut words: Vec<std::ffi::OsString>,
) -> Result<(Vec<std::ffi::OsString>, clap::ArgMatches), clap::Error> {
    loop {
        // What help and errors say of other verbs takes their options, too.
        let error = match command().try_get_matches_from(&words) {
            Ok(matches) => return Ok((words, matches)),
            Err(error) => error,
        };
        let Some(rewritten) = boolean::rewritten(&error, words, &command()) else { return Err(error) };
        words = rewritten;
    }
}

/// The command line as a value with all that belongs to it, for help, completions and man pages.
pub(crate) fn command() -> clap::Command {
    let mut command = Cli::command();
    command.build();
    command
}

/// podman's words; those for what is worse than an error mean errors.
fn log_level(text: &str) -> Result<log::LevelFilter> {
    match text.to_ascii_lowercase().as_str() {
        "panic" | "fatal" | "error" => Ok(log::LevelFilter::Error),
        "warn" | "warning" => Ok(log::LevelFilter::Warn),
        "info" => Ok(log::LevelFilter::Info),
        "debug" => Ok(log::LevelFilter::Debug),
        "trace" => Ok(log::LevelFilter::Trace),
        _ => Err(Error::new(format!("cannot use `--log-level {text}`"))
            .hint("there are: error, warn, info, debug, trace")),
    }
}

fn start_log(level: log::LevelFilter) {
    use std::io::Write;
    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Off)
        .filter_module("sbx", level)
        .format(|line, record| {
            let word = match record.level() {
                log::Level::Error => "Error",
                log::Level::Warn => "Warning",
                log::Level::Info => "Info",
                log::Level::Debug => "Debug",
                log::Level::Trace => "Trace",
            };
            let text = harmless::lines(&record.args().to_string());
            let stop = if text.ends_with(['.', '!', '?', ':']) { "" } else { "." };
            writeln!(line, "{word}: {text}{stop}")
        })
        .init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_argument_is_explained() {
        fn silent(command: &clap::Command, path: &str) -> Vec<String> {
            let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
            let here = shown.filter(|argument| argument.get_help().is_none());
            let here = here.map(|argument| format!("{path} {}", argument.get_id()));
            let below = command.get_subcommands().filter(|command| !command.is_hide_set());
            let below = below.filter(|command| command.get_name() != "help");
            here.chain(below.flat_map(|command| silent(command, &format!("{path} {}", command.get_name()))))
                .collect()
        }
        assert_eq!(silent(&command(), ""), [] as [String; 0]);
    }
}
