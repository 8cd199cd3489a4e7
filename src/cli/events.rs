//! `sbx events`, `sbx system events`

use std::time::Duration;

use jiff::Timestamp;

use crate::cli::Global;
use crate::container::moment;
use crate::error::{Error, Result, Step};
use crate::events::filter::Filters;
use crate::events::watch::Watch;
use crate::events::{Event, Follower, document};
use crate::host::paths;
use crate::output::print;
use crate::output::template::Format;

/// Show what happens to containers, images, volumes, secrets and pods
///
/// New events as they come, until interrupted; with `--since` or `--until` also those of the past, with
/// `--stream=false` these alone. The last few thousand are kept, until the next boot. Fields for templates: ID, Name,
/// Image, Status, Type, Time, TimeNano, Attributes, ContainerExitCode, HealthStatus, PodID; Action, Actor, From.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Filters (`--filter KEY=VALUE`, again for more): container, event, image, label, network, pod,
type, volume.

Examples:
  sbx events
  sbx events --since 10m --stream=false
  sbx events --filter event=died --format '{{.Name}} {{.ContainerExitCode}}'
  sbx events --format json --filter label=com.example.app"
)]
pub struct EventsArgs {
    /// Show only events that fit
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print `json`, an object in a line each, or what a Go template makes of each event
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Whole IDs; `--no-trunc=false` shortens them
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, action = clap::ArgAction::Set)]
    no_trunc: bool,
    /// Begin with the events after this time: `10m`, `2024-05-06`, RFC 3339, seconds since the epoch
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Wait for new events
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, action = clap::ArgAction::Set)]
    stream: bool,
    /// End with the events before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

pub fn execute(args: &EventsArgs, global: &Global) -> Result<u8> {
    let shown = Shown::parse(args.format.as_deref(), !args.no_trunc)?;
    let filters = Filters::parse(&args.filter)?;
    let now = Timestamp::now();
    let time = |flag: &str, text: Option<&String>| {
        let parse = |text: &String| moment::parse(&format!("{flag} {text}"), text, now);
        text.map(parse).transpose()
    };
    let (since, until) = (time("--since", args.since.as_ref())?, time("--until", args.until.as_ref())?);
    let surroundings = paths::Surroundings::current();
    let store = paths::store(global.root.as_deref(), &surroundings)?;
    let runtime = paths::runtime(&surroundings)?;
    let mut follower = Follower::new(&store, &runtime.path).step(|| "cannot find the events")?;
    if since.is_none() && until.is_none() && args.stream {
        follower.skip_to_end();
    }
    let watch = Watch::new();
    loop {
        let armed = watch.arm(&runtime.path, follower.path());
        let over = until.is_some_and(|until| until <= Timestamp::now());
        let mut text = String::new();
        for event in
            follower.read_new().iter().filter(|event| fits(event, since, until) && filters.fit(event))
        {
            text.push_str(&shown.text(event)?);
        }
        if (!text.is_empty() && print::text(&text)? == print::Reader::Gone) || over || !args.stream {
            return Ok(0);
        }
        let left = until.map(|until| until.duration_since(Timestamp::now()));
        let left = left.map(|left| Duration::try_from(left).unwrap_or_default());
        if !watch.wait(armed, left) {
            return Ok(0);
        }
    }
}

fn fits(event: &Event, since: Option<Timestamp>, until: Option<Timestamp>) -> bool {
    let time = i128::from(event.time);
    since.is_none_or(|since| since.as_nanosecond() <= time)
        && until.is_none_or(|until| time <= until.as_nanosecond())
}

/// How each event is printed.
enum Shown {
    Line { truncate: bool },
    Json,
    Template(Box<Format>),
}

impl Shown {
    fn parse(format: Option<&str>, truncate: bool) -> Result<Self> {
        match format.map(str::trim).filter(|text| !text.is_empty()) {
            None => Ok(Self::Line { truncate }),
            Some("json") => Ok(Self::Json),
            Some(text) if text.split_whitespace().next() == Some("table") => {
                Err(Error::new(format!("cannot print with `--format {text}`"))
                    .because("events come one by one, and make no table")
                    .hint("write the template alone"))
            }
            Some(text) => Format::parse(text).map(|format| Self::Template(Box::new(format))),
        }
    }

    fn text(&self, event: &Event) -> Result<String> {
        match self {
            Self::Line { truncate } => Ok(document::line(event, *truncate) + "\n"),
            Self::Json => Ok(document::json(event).to_string() + "\n"),
            Self::Template(format) => format.object(&document::for_template(event)),
        }
    }
}
