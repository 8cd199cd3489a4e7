//! `sbx generate systemd`

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::Global;
use crate::cli::container::Place;
use crate::cli::container::stop::seconds;
use crate::container::restart::Restart;
use crate::container::spec::Spec;
use crate::container::store::no_room;
use crate::error::{Error, Result, Step};
use crate::host::paths;
use crate::output::print;
use crate::units::{Unit, creation, quoted};

/// systemd gets this much longer than the container, in seconds.
const PATIENCE: u64 = 60;
/// The unit of `--all`.
const ALL: &str = "sbx-restart";
const POLICIES: [&str; 7] =
    ["no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always"];

/// Write a systemd unit that starts a container
///
/// The unit is for the user's own service manager (`systemctl --user`). It starts a container that is there, or with
/// `--new` makes it anew each time, of the command line that made this one. With `--all` it is one unit that starts, when
/// the machine boots, every container with `--restart always`, and those with `--restart unless-stopped` that no command
/// has stopped.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx generate systemd --name web
  cd ~/.config/systemd/user && sbx generate systemd --all --files
  systemctl --user enable --now sbx-restart
  sbx generate systemd --new --name --files --restart-policy always web")]
pub struct SystemdArgs {
    /// One unit for all containers with a restart policy
    #[arg(short, long, conflicts_with_all = ["new", "name", "container"])]
    all: bool,
    /// Make the container when the unit starts, and remove it when it ends
    #[arg(long)]
    new: bool,
    /// Call container and unit by name, not by ID
    #[arg(short, long)]
    name: bool,
    /// Write a file into the working directory, and print its path
    #[arg(short, long)]
    files: bool,
    /// Print `json`: the text by the name of the unit
    #[arg(long, value_name = "FORMAT", value_parser = ["json"], hide_possible_values = true, conflicts_with = "files")]
    format: Option<String>,
    /// Leave out the comment with the version
    #[arg(long)]
    no_header: bool,
    /// When systemd starts the container again: no, on-success, on-failure, on-abnormal, on-watchdog, on-abort, always
    #[arg(long, value_name = "POLICY", default_value = "on-failure", value_parser = POLICIES, hide_possible_values = true)]
    restart_policy: String,
    /// Seconds before that
    #[arg(long, value_name = "SECONDS")]
    restart_sec: Option<u64>,
    /// Seconds between the stop signal and SIGKILL; default: as the container was made
    #[arg(
        short = 't',
        long = "stop-timeout",
        visible_alias = "time",
        value_name = "SECONDS",
        allow_hyphen_values = true
    )]
    stop_timeout: Option<String>,
    /// Seconds until a start has failed
    #[arg(long, value_name = "SECONDS")]
    start_timeout: Option<u64>,
    /// Start after this unit
    #[arg(long, value_name = "UNIT", value_delimiter = ',')]
    after: Vec<String>,
    /// Start this unit, too
    #[arg(long, value_name = "UNIT", value_delimiter = ',')]
    wants: Vec<String>,
    /// Start only with this unit
    #[arg(long, value_name = "UNIT", value_delimiter = ',')]
    requires: Vec<String>,
    /// Set a variable of the unit
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Begin the unit's name with this
    #[arg(long, value_name = "TEXT", default_value = "container")]
    container_prefix: String,
    /// Between that and the container's name or ID
    #[arg(long, value_name = "TEXT", default_value = "-")]
    separator: String,
    /// Name, ID or the beginning of an ID
    #[arg(value_name = "CONTAINER", required_unless_present = "all")]
    container: Option<String>,
}

pub fn execute(args: &SystemdArgs, global: &Global) -> Result<u8> {
    let place = Place::of(global)?;
    check_units(args)?;
    let sbx = program(&place, global)?;
    let (name, unit) = match &args.container {
        None => (ALL.to_owned(), of_all(args, &place, &sbx)),
        Some(word) => of_one(args, &place, &sbx, word)?,
    };
    let name = format!("{name}.service");
    let text = unit.text(&header(args, &name));
    if args.format.is_some() {
        let shown: Value = [(name, json!(text))].into_iter().collect::<serde_json::Map<_, _>>().into();
        let shown = serde_json::to_string_pretty(&shown).step(|| "cannot print JSON")?;
        print::line(&shown)?;
    } else if args.files {
        let path = std::env::current_dir().step(|| "cannot find the working directory")?.join(&name);
        std::fs::write(&path, text)
            .map_err(|error| no_room(error, format!("cannot write `{}`", path.display())))?;
        print::line(&path.display().to_string())?;
    } else {
        print::text(&text)?;
    }
    Ok(0)
}

/// Words of a unit file are not quoted.
fn check_units(args: &SystemdArgs) -> Result<()> {
    let odd = |text: &&String| {
        text.is_empty() || !text.chars().all(|c| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c))
    };
    let names = args.after.iter().chain(&args.wants).chain(&args.requires);
    if let Some(bad) = names.clone().find(odd) {
        return Err(Error::new(format!("cannot use `{}` as the name of a unit", bad.escape_debug()))
            .hint("write one such as `web.service`"));
    }
    let part = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || ":-_.@".contains(c));
    match [&args.container_prefix, &args.separator].into_iter().find(|text| !part(text)) {
        Some(bad) => Err(Error::new(format!("cannot use `{}` in the name of a unit", bad.escape_debug()))),
        None => Ok(()),
    }
}

/// The first words of every command: this program, and the store where it is not the one that it finds by itself.
fn program(place: &Place, global: &Global) -> Result<Vec<String>> {
    let own = std::env::current_exe().step(|| "cannot find the path of sbx")?;
    let mut words = vec![text(&own)?];
    let surroundings =
        paths::Surroundings { sbx_root: None, xdg_data_home: None, ..paths::Surroundings::current() };
    let usual = paths::store(None, &surroundings).ok();
    if usual.as_deref() != Some(place.store.root()) || global.root.is_some() {
        words.extend(["--root".to_owned(), text(place.store.root())?]);
    }
    Ok(words)
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Error::new(format!("cannot write `{}` into a unit", path.display())).because("it is not UTF-8")
    })
}

fn header(args: &SystemdArgs, name: &str) -> String {
    let made = match args.no_header {
        true => name.to_owned(),
        false => format!("{name}\nMade by sbx {}", env!("CARGO_PKG_VERSION")),
    };
    format!(
        "{made}\n\nIn ~/.config/systemd/user/ it is enabled with\n    systemctl --user daemon-reload && systemctl --user \
         enable --now {name}\nServices of a user end with the last session, and start at boot only, once and for all, \
         after\n    loginctl enable-linger"
    )
}

/// What every unit has.
fn begin(args: &SystemdArgs, place: &Place, description: &str) -> Unit {
    let store = place.store.root().to_string_lossy();
    let unit = Unit::new(description, &[&store])
        .after(&args.after)
        .wants(&args.wants)
        .requires(&args.requires)
        .line("Environment", "SBX_SYSTEMD_UNIT=%n");
    args.env.iter().fold(unit, |unit, variable| unit.line("Environment", quoted(variable).replace("$$", "$")))
}

fn of_all(args: &SystemdArgs, place: &Place, sbx: &[String]) -> Unit {
    let with = |words: &[&str]| -> Vec<String> {
        let filters = [Restart::Always, Restart::UnlessStopped]
            .map(|policy| format!("--filter=restart-policy={}", policy.name()));
        let words = words.iter().map(|&word| word.to_owned());
        sbx.iter().cloned().chain(words).chain(filters).collect()
    };
    begin(args, place, "containers of sbx with a restart policy")
        .line("Type", "oneshot")
        .line("RemainAfterExit", "true")
        .line("TimeoutStopSec", "infinity")
        .command("ExecStart", "-", &with(&["start", "--all"]))
        .command("ExecStop", "-", &with(&["stop", "--all", "--shutdown"]))
}

fn of_one(args: &SystemdArgs, place: &Place, sbx: &[String], word: &str) -> Result<(String, Unit)> {
    let id = place.store.find(word)?;
    let spec = place.store.read_spec(&id)?;
    let called = if args.name || args.new { &spec.name } else { &spec.id };
    let in_name = if args.name { &spec.name } else { &spec.id };
    if spec.restart != Restart::No && !args.new {
        log::warn!(
            "container `{}` has the restart policy `{}` of its own: sbx and systemd would both start it again; `sbx \
             update --restart no {}` leaves it to systemd",
            spec.name,
            spec.restart,
            spec.name
        );
    }
    let timeout = match &args.stop_timeout {
        Some(text) => seconds("--stop-timeout", text)?,
        None => spec.stop_timeout,
    };
    let time = if timeout == u64::MAX { "-1".to_owned() } else { timeout.to_string() };
    let words = |words: &[&str]| -> Vec<String> {
        sbx.iter().cloned().chain(words.iter().map(|&word| word.to_owned())).collect()
    };
    let mut unit = begin(args, place, &format!("container {} of sbx", spec.name))
        .line("Type", "exec")
        .line("Restart", &*args.restart_policy)
        .line(
            "TimeoutStopSec",
            timeout.checked_add(PATIENCE).map_or("infinity".to_owned(), |all| all.to_string()),
        );
    if let Some(seconds) = args.restart_sec {
        unit = unit.line("RestartSec", seconds.to_string());
    }
    if let Some(seconds) = args.start_timeout {
        unit = unit.line("TimeoutStartSec", seconds.to_string());
    }
    unit = match args.new {
        true => {
            let New { words: run, variables, directory } = anew(&spec)?;
            let unit = variables
                .iter()
                .fold(unit, |unit, variable| unit.line("Environment", quoted(variable).replace("$$", "$")));
            unit.line("WorkingDirectory", text(&directory)?.replace('%', "%%"))
                .command("ExecStartPre", "-", &words(&["rm", "--force", "--ignore", called]))
                .command("ExecStart", "", &[sbx.to_vec(), run].concat())
                .command("ExecStop", "-", &words(&["stop", "--ignore", "--time", &time, called]))
                .command("ExecStopPost", "-", &words(&["rm", "--force", "--ignore", called]))
        }
        false => unit.command("ExecStart", "", &words(&["start", "--attach", called])).command(
            "ExecStop",
            "-",
            &words(&["stop", "--time", &time, called]),
        ),
    };
    Ok((format!("{}{}{in_name}", args.container_prefix, args.separator), unit))
}

/// What makes a container like another one.
struct New {
    words: Vec<String>,
    /// Those of the caller that it was given by name.
    variables: Vec<String>,
    directory: PathBuf,
}

fn anew(spec: &Spec) -> Result<New> {
    let unknown = || {
        Error::new(format!("cannot make the container `{}` anew", spec.name))
            .because("it is not known how it was made")
            .hint("leave out `--new`: the unit then starts the container that is there")
    };
    let typed = spec.creation.words.iter().map(Into::into).collect();
    let (words, matches) = crate::cli::matches_of(typed).map_err(|_| unknown())?;
    let words: Vec<String> = words.into_iter().map(|word| word.into_string().unwrap_or_default()).collect();
    let mut verb = matches.subcommand().ok_or_else(unknown)?;
    let mut names = vec![verb.0];
    while let Some(deeper) = verb.1.subcommand() {
        names.push(deeper.0);
        verb = deeper;
    }
    let after = 1 + verb_at(&words, &names).ok_or_else(unknown)?;
    let tail = verb.1.get_many::<String>("words").map_or(0, Iterator::count);
    let head = words.get(after..words.len().saturating_sub(tail)).ok_or_else(unknown)?;
    let command = crate::cli::command();
    let run = command.find_subcommand("run").ok_or_else(unknown)?;
    let mut variables = Vec::new();
    let options = creation::options(head, run, |name| {
        let of = |variable: &&String| variable.split_once('=').is_some_and(|(known, _)| known == name);
        variables.extend(spec.process.env.iter().find(of).cloned());
    });
    let fixed = ["run", "--rm", "--name", &spec.name].map(str::to_owned);
    let command = &words[words.len() - tail..];
    Ok(New {
        words: [&fixed[..], &options, command].concat(),
        variables,
        directory: spec.creation.directory.clone(),
    })
}

/// Where the last of the verbs stands: global options and their values may be before it.
fn verb_at(words: &[String], names: &[&str]) -> Option<usize> {
    let mut at = 1;
    let mut wanted = names.iter().peekable();
    while let Some(word) = words.get(at) {
        if wanted.peek().is_some_and(|name| *name == word) {
            wanted.next();
            if wanted.peek().is_none() {
                return Some(at);
            }
        } else if matches!(word.as_str(), "--root" | "--log-level") {
            at += 1;
        }
        at += 1;
    }
    None
}
