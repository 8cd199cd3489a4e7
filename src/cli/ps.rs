//! `sbx ps`

use serde_json::{Value, json};

use crate::cli::Global;
use crate::container::duration::{ago, human};
use crate::container::list::{self, Listed, Status};
use crate::container::spec::Spec;
use crate::container::store::{Store, short};
use crate::error::Result;
use crate::host::paths;
use crate::network::PortMapping;
use crate::output::print;
use crate::output::table::Table;
use crate::output::template::{Format, Titles};
use crate::sys::time::Utc;

/// More of a command makes the table wide, not clear.
const LONGEST_COMMAND: usize = 20;

const TITLES: Titles<'_> = &[
    ("ID", "CONTAINER ID"),
    ("RunningFor", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("ExitCode", "EXIT CODE"),
];

/// List containers
///
/// Those that run, or with `--all` those that ended, too. Whether one runs is asked of the kernel. Fields for
/// templates: ID, Image, Command, CreatedAt, RunningFor, Status, State, ExitCode, Pid, Ports, Names, Labels.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx ps
  sbx ps -a --no-trunc
  sbx ps -a --format '{{.Names}}\\t{{.Status}}'
  sbx rm $(sbx ps -aq)")]
pub struct PsArgs {
    /// List containers that ended, too
    #[arg(short, long)]
    all: bool,
    /// Print IDs alone
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
    /// Print whole IDs and commands
    #[arg(long)]
    no_trunc: bool,
    /// Print `json`, or what a Go template makes of each container
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

pub fn execute(args: PsArgs, global: &Global) -> Result<u8> {
    let PsArgs { all, quiet, no_trunc, format } = args;
    let format = format.filter(|text| !text.is_empty()).map(|text| Format::parse(&text)).transpose()?;
    let store = Store::new(paths::store(global.root.as_deref(), &paths::Surroundings::current())?);
    let mut containers = list::all(&store);
    containers.retain(|container| all || container.status.is_up());
    let now = Utc::now().seconds();
    let rows: Vec<Value> = containers.iter().map(|container| row(container, now, no_trunc)).collect();
    print::text(&match format {
        Some(format) => format.list(&rows, TITLES)?,
        None if quiet => rows.iter().map(|row| cell(row, "ID") + "\n").collect(),
        None => table(&rows),
    })?;
    Ok(0)
}

fn table(rows: &[Value]) -> String {
    let columns = ["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"];
    let mut table = Table::new(["container id", "image", "command", "created", "status", "ports", "names"]);
    for row in rows {
        table.push(columns.map(|column| cell(row, column)));
    }
    table.render()
}

fn cell(row: &Value, field: &str) -> String {
    row[field].as_str().unwrap_or_default().to_owned()
}

fn row(container: &Listed, now: u64, no_trunc: bool) -> Value {
    let spec = container.spec.as_ref();
    let (state, status, pid, code) = describe(container.status, now);
    json!({
        "ID": if no_trunc { &container.id } else { short(&container.id) },
        "Image": spec.map(|spec| spec.image.as_str()).unwrap_or_default(),
        "Command": spec.map(|spec| command(spec, no_trunc)).unwrap_or_default(),
        "CreatedAt": spec.map(|spec| spec.created.to_string()).unwrap_or_default(),
        "RunningFor": spec.map(|spec| ago(spec.created.seconds(), now)).unwrap_or_default(),
        "Status": status,
        "State": state,
        "ExitCode": code,
        "Pid": pid,
        "Ports": spec.map(|spec| ports(&spec.network.ports, &spec.exposed_ports)).unwrap_or_default(),
        "Names": spec.map(|spec| spec.name.as_str()).unwrap_or_default(),
        "Labels": spec.map(|spec| spec.labels.clone()).unwrap_or_default(),
    })
}

/// State, status, PID and exit code.
fn describe(status: Status, now: u64) -> (&'static str, String, i32, i32) {
    let up = |since: Utc| human(std::time::Duration::from_secs(now.saturating_sub(since.seconds())));
    let (text, pid, code) = match status {
        Status::Created => ("Created".to_owned(), 0, 0),
        Status::Running { since, pid } => (format!("Up {}", up(since)), pid, 0),
        Status::Paused { since, pid } => (format!("Up {} (Paused)", up(since)), pid, 0),
        Status::Restarting { code, at } => {
            (format!("Restarting ({code}) {}", ago(at.seconds(), now)), 0, code)
        }
        Status::Exited { code, at: Some(at) } => {
            (format!("Exited ({code}) {}", ago(at.seconds(), now)), 0, code)
        }
        Status::Exited { code, at: None } => (format!("Exited ({code})"), 0, code),
        Status::Dead => ("Dead".to_owned(), 0, 0),
    };
    (status.name(), text, pid, code)
}

fn command(spec: &Spec, whole: bool) -> String {
    let text = spec.process.args.join(" ");
    if whole || text.chars().count() <= LONGEST_COMMAND {
        return text;
    }
    text.chars().take(LONGEST_COMMAND - 1).chain(['…']).collect()
}

/// As docker shows them: `0.0.0.0:8080->80/tcp`, and those that the image listens on and nobody published as
/// `80/tcp`.
fn ports(mappings: &[PortMapping], exposed: &[String]) -> String {
    let each = mappings.iter().map(|mapping| {
        let ip = match mapping.host_ip {
            Some(std::net::IpAddr::V6(ip)) => format!("[{ip}]"),
            Some(ip) => ip.to_string(),
            None => "0.0.0.0".to_owned(),
        };
        format!("{ip}:{}->{}/{}", mapping.host_port, mapping.container_port, mapping.protocol)
    });
    let published = |port: &&String| {
        let is = |mapping: &PortMapping| format!("{}/{}", mapping.container_port, mapping.protocol) == **port;
        mappings.iter().any(is)
    };
    let others = exposed.iter().filter(|port| !published(port)).cloned();
    each.chain(others).collect::<Vec<_>>().join(", ")
}
