//! `sbx ps`

mod namespaces;
mod ports;
mod row;
mod sort;

use std::io::IsTerminal;
use std::time::Duration;

use serde_json::Value;

use crate::cli::Global;
use crate::cli::dialect::{self, Dialect};
use crate::container::filter::Filters;
use crate::container::list;
use crate::container::store::Store;
use crate::error::Result;
use crate::host::paths;
use crate::image::store::ImageStore;
use crate::output::print::{self, Reader};
use crate::output::table::Table;
use crate::output::template::{Format, Titles};
use crate::sys::time::Utc;
use row::Rows;
use sort::Sort;

const TITLES: Titles<'_> = &[("ID", "CONTAINER ID"), ("Id", "CONTAINER ID"), ("RunningFor", "CREATED")];
/// Clears the screen and goes to its upper left corner (ECMA-48, CUP and ED).
pub(super) const CLEAR: &str = "\x1b[H\x1b[2J";

/// List containers
///
/// Those that run, or with `--all` those that ended, too; the newest first. Whether one runs is asked of the kernel.
/// Fields for templates: ID, Id, Image, ImageID, Command, CreatedAt, Created, RunningFor, Status, State, Health,
/// Ports, Names, Labels, `.Label "KEY"`, Mounts, LocalVolumes, Networks, Size, Pid, Pod, PodName, ExitCode, Exited,
/// ExitedAt, StartedAt, Restarts, AutoRemove, IsInfra. JSON has podman's fields; by the name `docker`, docker's.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Filters (`--filter KEY=VALUE`, again for more; the same key: one has to fit, of labels all):
id, name (a regular expression), label, label!, status, exited, ancestor, volume, network, pod, health,
restart-policy, before, since, until.

Examples:
  sbx ps
  sbx ps -a --no-trunc
  sbx ps -a --filter status=exited --filter label=team=a
  sbx ps -a --format '{{.Names}}\\t{{.Status}}'
  sbx rm $(sbx ps -aq)"
)]
pub struct PsArgs {
    /// List containers that do not run, too
    #[arg(short, long)]
    all: bool,
    /// List only containers that fit
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print `json`, or what a Go template makes of each container
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// List the N containers that were made last, running or not
    #[arg(short = 'n', long, value_name = "N", default_value_t = -1, allow_negative_numbers = true, hide_default_value = true)]
    last: i64,
    /// List the container that was made last, running or not
    #[arg(short, long, conflicts_with = "last")]
    latest: bool,
    /// Show the namespaces of each instead
    #[arg(long, visible_alias = "namespace", conflicts_with_all = ["size", "pod", "quiet"])]
    ns: bool,
    /// Leave out the heading
    #[arg(long, visible_alias = "no-heading")]
    noheading: bool,
    /// Print whole IDs and commands
    #[arg(long)]
    no_trunc: bool,
    /// Show the pod of each, too
    #[arg(short, long)]
    pod: bool,
    /// Print IDs alone
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
    /// Count what each container has written, and its image
    #[arg(short, long)]
    size: bool,
    /// What comes first, instead of the newest
    #[arg(long, value_name = "FIELD", value_enum)]
    sort: Option<Sort>,
    /// List again every so many seconds, until interrupted
    #[arg(short, long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "latest")]
    watch: Option<u32>,
}

pub fn execute(args: PsArgs, global: &Global) -> Result<u8> {
    let text = args.format.as_deref().filter(|text| !text.is_empty());
    let listing = Listing {
        format: text.map(Format::parse).transpose()?,
        filters: Filters::parse(&args.filter)?,
        sized: args.size || text.is_some_and(|text| text.contains(".Size")),
        store: Store::new(paths::store(global.root.as_deref(), &paths::Surroundings::current())?),
        args,
    };
    let Some(seconds) = listing.args.watch else {
        print::text(&listing.text()?)?;
        return Ok(0);
    };
    let clear = if std::io::stdout().is_terminal() { CLEAR } else { "" };
    while print::text(&format!("{clear}{}", listing.text()?))? == Reader::Listening {
        std::thread::sleep(Duration::from_secs(seconds.into()));
    }
    Ok(0)
}

/// What was asked for.
struct Listing {
    args: PsArgs,
    format: Option<Format>,
    filters: Filters,
    sized: bool,
    store: Store,
}

impl Listing {
    fn text(&self) -> Result<String> {
        let args = &self.args;
        let mut containers = list::all(&self.store);
        let last = if args.latest { Some(1) } else { usize::try_from(args.last).ok() };
        let all = args.all || last.is_some() || self.filters.name_states();
        containers.retain(|container| all || container.status.is_up());
        let mut containers = self.filters.apply(&self.store, containers)?;
        containers.truncate(last.unwrap_or(usize::MAX));
        let mut rows = Rows {
            store: &self.store,
            images: ImageStore::new(self.store.root()),
            now: Utc::now(),
            whole: args.no_trunc,
            sized: self.sized || matches!(args.sort, Some(Sort::Size)),
            dialect: dialect::current(),
        }
        .make(&containers);
        if let Some(sort) = args.sort {
            sort.apply(&mut rows);
        }
        if args.quiet {
            return Ok(rows.iter().map(|row| format!("{}\n", row.shown_id())).collect());
        }
        let Some(format) = &self.format else { return Ok(self.table(&rows)) };
        let json = || rows.iter().map(|row| row.json(args.ns)).collect::<Vec<Value>>();
        if dialect::current() == Dialect::Docker && (format.is_json() || format.is_whole_json()) {
            return Ok(json().iter().map(|row| format!("{row}\n")).collect());
        }
        if format.is_json() {
            return format.list(&json(), TITLES);
        }
        let views: Vec<Value> = rows.iter().map(row::Row::view).collect();
        if args.noheading { format.list_without_heading(&views) } else { format.list(&views, TITLES) }
    }

    fn table(&self, rows: &[row::Row<'_>]) -> String {
        if self.args.ns {
            let rows = rows.iter().map(|row| (row.shown_id(), row.name(), row.pid()));
            return namespaces::table(rows, !self.args.noheading);
        }
        let mut header = vec!["container id", "image", "command", "created", "status", "ports", "names"];
        if self.args.pod {
            header.extend(["pod id", "podname"]);
        }
        if self.args.size {
            header.push("size");
        }
        let mut table = if self.args.noheading { Table::without_header() } else { Table::new(header) };
        for row in rows {
            let mut cells = row.cells();
            if self.args.pod {
                cells.extend(row.pod_cells());
            }
            if self.args.size {
                cells.push(row.size());
            }
            table.push(cells);
        }
        table.render()
    }
}
