//! `sbx logs`

mod traffic;

use jiff::Timestamp;

use crate::cli::Global;
use crate::cli::dialect::{self, Dialect};
use crate::container::list;
use crate::container::store::{Store, short};
use crate::error::{Error, Result};
use crate::host::paths;
use crate::logs::Reader;
use crate::logs::follow::{self, Shown, Writer};
use crate::logs::show::{Lines, Show};
use crate::logs::when::{self, Bound, Span};

/// Red to cyan (ECMA-48, SGR).
const COLORS: std::ops::Range<u8> = 31..37;

/// Show what containers have written
///
/// What went to standard output goes to standard output, what went to standard error to standard error; with a terminal
/// all is standard output. Containers that have ended are shown as well. Of several each line begins with the ID.
///
/// A time is written as `2026-01-02T15:04:05`, with a zone or on this machine's clock, or a part of that, as seconds
/// since 1970, or as a span such as `10m`: so long ago, and for `--until` with `--follow` so long from now.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx logs web
  sbx logs -f --tail 10 web
  sbx logs -t --since 10m web db
  sbx logs --network agent
  sbx logs --latest 2>/dev/null | grep -c GET")]
pub struct LogsArgs {
    /// Go on with what is written, until the container is down
    #[arg(short, long)]
    follow: bool,
    /// Begin each line with the time when it was written
    #[arg(short, long)]
    timestamps: bool,
    /// Show this many lines of the end, or `all`
    #[arg(long, value_name = "LINES", value_parser = tail)]
    tail: Option<Tail>,
    /// The same with a number or `all` after it; `--names` without
    #[arg(short = 'n', value_name = "LINES", num_args = 0..=1)]
    n: Option<Option<String>>,
    /// Show lines that were written at this time or later
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Show lines that were written at this time or earlier
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Begin each line with the tag, labels and variables that `--log-opt` named
    #[arg(long)]
    details: bool,
    /// The container that was made last
    #[arg(short, long)]
    latest: bool,
    /// Begin each line with the container's name
    #[arg(long)]
    names: bool,
    /// Give each container a colour
    #[arg(long)]
    color: bool,
    /// Show what containers with `--net-allow` have tried to reach instead
    #[arg(long, conflicts_with_all = ["follow", "timestamps", "tail", "n", "details", "names", "color"])]
    network: bool,
    /// With `--network`: `json` for a JSON object on each line
    #[arg(long, value_name = "FORMAT", requires = "network", value_parser = ["json"])]
    format: Option<String>,
    /// Names or IDs
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    All,
    Lines(u64),
}

fn tail(text: &str) -> Result<Tail> {
    match text {
        "all" => Ok(Tail::All),
        // docker's and podman's number for all.
        _ if text.parse::<i64>().is_ok_and(|number| number < 0) => Ok(Tail::All),
        _ => text.parse().map(Tail::Lines).map_err(|_| {
            Error::new(format!("cannot use `--tail {text}`")).hint("write a number of lines, or `all`")
        }),
    }
}

pub fn execute(args: LogsArgs, global: &Global) -> Result<u8> {
    let (args, tail) = settle_n(args)?;
    let store = Store::new(paths::store(global.root.as_deref(), &paths::Surroundings::current())?);
    let now = Timestamp::now();
    let ahead = if args.follow { Span::FromNow } else { Span::Ago };
    // A script's empty variable means no bound, as with docker.
    let (since, until) = (given(args.since.as_deref()), given(args.until.as_deref()));
    let since = since.map(|text| when::bound("--since", text, now, Span::Ago)).transpose()?;
    let until = until.map(|text| when::bound("--until", text, now, ahead)).transpose()?;
    let chosen = chosen(&store, &args)?;
    if args.network {
        return traffic::show(&store, &chosen, &(since, until), args.format.is_some());
    }
    let mut logs = Vec::new();
    for (number, (word, id)) in chosen.iter().enumerate() {
        let prefix = match (chosen.len(), args.names) {
            (_, true) => Prefix::Name,
            (1, false) => Prefix::None,
            _ => Prefix::Id,
        };
        logs.push(
            open(&store, id, &args, tail, (since.clone(), until.clone()), (number, prefix))
                .map_err(|error| error.while_doing(failed(word)))?,
        );
    }
    let end = until.filter(|_| args.follow).map(|until| until.time());
    follow::show(logs, end)?;
    Ok(0)
}

fn given(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

#[derive(Debug, Clone, Copy)]
enum Prefix {
    None,
    Name,
    Id,
}

fn open(
    store: &Store,
    id: &str,
    args: &LogsArgs,
    tail: Tail,
    (since, until): (Option<Bound>, Option<Bound>),
    (number, prefix): (usize, Prefix),
) -> Result<Shown> {
    let spec = store.read_spec(id)?;
    let mut reader = Reader::open(&spec, &store.directory_of(&spec))?;
    // Before the first look: what is written until the container ends is seen then.
    let writer = if args.follow { Writer::of(store, id) } else { None };
    let skip = match tail {
        Tail::All => [0; 2],
        Tail::Lines(lines) => reader.seek_tail(lines)?,
    };
    let prefix = match prefix {
        Prefix::None => String::new(),
        Prefix::Name => format!("{} ", spec.name),
        Prefix::Id => format!("{} ", short(id)),
    };
    let attributes = spec.log_options.attributes.iter().map(|(name, value)| format!("{name}={value}"));
    let attributes = attributes.collect::<Vec<_>>().join(",");
    let details = if args.details && !attributes.is_empty() { attributes + " " } else { String::new() };
    let color = args.color.then(|| COLORS.clone().cycle().nth(number)).flatten();
    let show = Show { timestamps: args.timestamps, since, until, prefix, details, color };
    Ok(Shown { name: spec.name, reader, lines: Lines::new(show, skip), writer })
}

/// `-n` is docker's `--tail` and podman's `--names`: the dialect tells, or a number.
fn settle_n(mut args: LogsArgs) -> Result<(LogsArgs, Tail)> {
    let mut number = None;
    let is_tail = |word: &str| match dialect::current() {
        Dialect::Docker => true,
        Dialect::Podman => false,
        Dialect::Sbx | Dialect::Runtime => tail(word).is_ok() && (args.latest || !args.containers.is_empty()),
    };
    match args.n.take() {
        Some(Some(word)) if is_tail(&word) => number = Some(tail(&word)?),
        Some(Some(word)) => {
            args.names = true;
            args.containers.insert(0, word);
        }
        Some(None) => args.names = true,
        None => {}
    }
    let chosen = number.or(args.tail).unwrap_or(Tail::All);
    Ok((args, chosen))
}

fn failed(word: &str) -> String {
    format!("cannot show the log of the container `{word}`")
}

/// The containers as they were named, with their IDs.
fn chosen(store: &Store, args: &LogsArgs) -> Result<Vec<(String, String)>> {
    match (args.latest, args.containers.as_slice()) {
        (true, []) => {
            let newest = list::all(store).into_iter().next();
            newest.map(|newest| vec![(short(&newest.id).to_owned(), newest.id)]).ok_or_else(|| {
                Error::new("cannot show the log of the latest container").because("there is no container")
            })
        }
        (true, _) => Err(Error::new("cannot show the log of the latest container and others")
            .hint("leave out `--latest`, or the names")),
        (false, []) => Err(Error::new("`sbx logs` needs CONTAINER").hint("`sbx logs --help` has examples")),
        (false, words) => words
            .iter()
            .map(|word| {
                let id = store.find(word).map_err(|error| error.while_doing(failed(word)))?;
                Ok((word.clone(), id))
            })
            .collect(),
    }
}
