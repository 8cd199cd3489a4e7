//! `sbx stats`

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::Global;
use crate::cli::container::Place;
use crate::cli::container::selection::Named;
use crate::cli::dialect::{self, Dialect};
use crate::cli::ps::CLEAR;
use crate::container::consumption::{Memory, Sample, Traffic};
use crate::container::list::{self, Listed, Status};
use crate::container::size::{binary, decimal};
use crate::container::store::short;
use crate::error::Result;
use crate::output::print::{self, Reader};
use crate::output::table::Table;
use crate::output::template::{Format, Titles};

const TITLES: Titles<'_> = &[
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemUsageBytes", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET IO"),
    ("BlockIO", "BLOCK IO"),
    ("UpTime", "CPU TIME"),
    ("AvgCPU", "AVG CPU %"),
    ("CPUPressure", "CPU PRESSURE"),
    ("MemPressure", "MEM PRESSURE"),
    ("IOPressure", "IO PRESSURE"),
];
/// What is not counted.
const UNKNOWN: &str = "--";

/// Show what containers take of the machine
///
/// Of those that run, again every few seconds. It takes a control group of the container's own, which it has where it was
/// started in one that is delegated to you; `--` is what the kernel does not count there, such as memory without that
/// controller. Fields for templates: ID, Container, Name, CPUPerc, AvgCPU, UpTime, MemUsage, MemUsageBytes, MemPerc, NetIO,
/// BlockIO, PIDS, PIDs, and, as percent of the last ten seconds in which something of the container had to wait,
/// CPUPressure, MemPressure and IOPressure.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx stats
  sbx stats --no-stream web
  sbx stats --no-stream --format 'table {{.Name}}\\t{{.CPUPerc}}\\t{{.MemUsage}}'")]
pub struct StatsArgs {
    /// Those that are down, too
    #[arg(short, long, conflicts_with_all = ["containers", "latest"])]
    all: bool,
    /// Print with a Go template, `table` and a template, or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Seconds between two looks
    #[arg(short, long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    interval: u32,
    /// The container that was made last
    #[arg(short, long, conflicts_with = "containers")]
    latest: bool,
    /// Leave on the screen what was shown before
    #[arg(long)]
    no_reset: bool,
    /// Show it once
    #[arg(long)]
    no_stream: bool,
    /// Print whole IDs
    #[arg(long, visible_alias = "notrunc")]
    no_trunc: bool,
    /// Names, IDs or the beginnings of IDs
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub fn execute(args: &StatsArgs, global: &Global) -> Result<u8> {
    let place = Place::of(global)?;
    let format = args.format.as_deref().filter(|text| !text.is_empty()).map(Format::parse).transpose()?;
    let named = match args.latest || !args.containers.is_empty() {
        true => {
            let (latest, containers) = (args.latest, args.containers.clone());
            let chosen = Named { latest, cidfile: Vec::new(), containers }.resolve(&place)?;
            Some(chosen.iter().map(|one| one.id(&place)).collect::<Result<Vec<_>>>()?)
        }
        false => None,
    };
    let mut stats = Stats { args, format, place, named, before: HashMap::new() };
    let mut text = stats.look()?;
    let clear = std::io::stdout().is_terminal() && !args.no_reset && stats.format.is_none();
    loop {
        let clear = if clear && !args.no_stream { CLEAR } else { "" };
        if print::text(&format!("{clear}{text}"))? != Reader::Listening || args.no_stream {
            return Ok(0);
        }
        std::thread::sleep(Duration::from_secs(args.interval.into()));
        text = match stats.look() {
            Ok(text) => text,
            // Those that were named have ended.
            Err(_) if stats.named.is_some() => return Ok(0),
            Err(error) => return Err(error),
        };
    }
}

struct Stats<'a> {
    args: &'a StatsArgs,
    format: Option<Format>,
    place: Place,
    /// None: all.
    named: Option<Vec<String>>,
    /// The sample before of each, by ID.
    before: HashMap<String, Sample>,
}

impl Stats<'_> {
    fn look(&mut self) -> Result<String> {
        let mut rows = Vec::new();
        let mut before = HashMap::new();
        let mut missing = None;
        let mut counted = false;
        for found in self.containers() {
            let down = !matches!(found.status, Status::Running { .. } | Status::Paused { .. });
            let sample = match Sample::take(&self.place.store, &found) {
                Ok(sample) => Some(sample),
                Err(_) if down && self.named.is_none() => None,
                Err(error) => {
                    missing = Some(error);
                    None
                }
            };
            counted |= sample.is_some();
            // One that was named and has ended meanwhile is no reason to leave the others.
            if let (None, Some(_), Some(error)) = (&sample, &self.named, &missing) {
                if self.before.is_empty() {
                    return Err(error.clone());
                }
                continue;
            }
            rows.push(Row::new(&found, sample.as_ref(), self.before.get(&found.id), self.args.no_trunc));
            if let Some(sample) = sample {
                before.insert(found.id, sample);
            }
        }
        if let (false, Some(error)) = (counted, missing) {
            return Err(error);
        }
        self.before = before;
        self.text(&rows)
    }

    fn containers(&self) -> Vec<Listed> {
        let store = &self.place.store;
        match &self.named {
            Some(ids) => ids.iter().filter_map(|id| list::one(store, id)).collect(),
            None => {
                let mut all = list::all(store);
                let runs = |status| matches!(status, Status::Running { .. } | Status::Paused { .. });
                all.retain(|found| self.args.all || runs(found.status));
                all
            }
        }
    }

    fn text(&self, rows: &[Row]) -> Result<String> {
        let docker = dialect::current() == Dialect::Docker;
        let Some(format) = &self.format else { return Ok(table(rows, docker)) };
        if docker && (format.is_json() || format.is_whole_json()) {
            return Ok(rows.iter().map(|row| format!("{}\n", row.docker_json())).collect());
        }
        let values = rows.iter().map(if format.is_json() { Row::json } else { Row::view });
        format.list(&values.collect::<Vec<_>>(), TITLES)
    }
}

fn table(rows: &[Row], docker: bool) -> String {
    if docker {
        let titles =
            ["container id", "name", "cpu %", "mem usage / limit", "mem %", "net i/o", "block i/o", "pids"];
        let mut table = Table::new(titles);
        for row in rows {
            let cells = [
                &row.id,
                &row.name,
                &row.cpu,
                &row.memory,
                &row.memory_percent,
                &row.network,
                &row.devices,
                &row.tasks,
            ];
            table.push(cells);
        }
        return table.render();
    }
    let mut table = Table::new([
        "id",
        "name",
        "cpu %",
        "mem usage / limit",
        "mem %",
        "net io",
        "block io",
        "pids",
        "cpu time",
        "avg cpu %",
    ]);
    for row in rows {
        table.push([
            &row.id,
            &row.name,
            &row.cpu,
            &row.memory,
            &row.memory_percent,
            &row.network,
            &row.devices,
            &row.tasks,
            &row.cpu_time,
            &row.average,
        ]);
    }
    table.render()
}

struct Row {
    id: String,
    name: String,
    cpu: String,
    average: String,
    cpu_time: String,
    memory: String,
    memory_bytes: String,
    memory_percent: String,
    network: String,
    devices: String,
    tasks: String,
    cpu_pressure: String,
    memory_pressure: String,
    io_pressure: String,
}

impl Row {
    fn new(found: &Listed, sample: Option<&Sample>, before: Option<&Sample>, whole: bool) -> Self {
        let memory = sample.and_then(|sample| sample.memory);
        let percent = |value: f64| format!("{value:.2}%");
        let unknown = || UNKNOWN.to_owned();
        let told = |tell: &dyn Fn(&Sample) -> String| sample.map_or_else(unknown, tell);
        Self {
            id: if whole { found.id.clone() } else { short(&found.id).to_owned() },
            name: found.spec.as_ref().map(|spec| spec.name.clone()).unwrap_or_default(),
            cpu: told(&|sample| percent(sample.cpu_percent(before))),
            average: told(&|sample| percent(sample.cpu_percent(None))),
            cpu_time: told(&|sample| format!("{:.6}s", sample.cpu.as_secs_f64())),
            memory: usage(memory, binary),
            memory_bytes: usage(memory, |bytes| bytes.to_string()),
            memory_percent: memory.map_or_else(unknown, |memory| percent(memory.percent())),
            network: traffic(sample.and_then(|sample| sample.network)),
            devices: traffic(sample.and_then(|sample| sample.devices)),
            tasks: told(&|sample| sample.tasks.to_string()),
            cpu_pressure: told(&|sample| sample.pressure.cpu.map_or_else(unknown, percent)),
            memory_pressure: told(&|sample| sample.pressure.memory.map_or_else(unknown, percent)),
            io_pressure: told(&|sample| sample.pressure.io.map_or_else(unknown, percent)),
        }
    }

    /// podman's and docker's fields together.
    fn view(&self) -> Value {
        json!({
            "ID": self.id,
            "Container": self.id,
            "Name": self.name,
            "CPUPerc": self.cpu,
            "AvgCPU": self.average,
            "UpTime": self.cpu_time,
            "MemUsage": self.memory,
            "MemUsageBytes": self.memory_bytes,
            "MemPerc": self.memory_percent,
            "NetIO": self.network,
            "BlockIO": self.devices,
            "PIDS": self.tasks,
            "PIDs": self.tasks,
            "CPUPressure": self.cpu_pressure,
            "MemPressure": self.memory_pressure,
            "IOPressure": self.io_pressure,
        })
    }

    /// podman's.
    fn json(&self) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "cpu_time": self.cpu_time,
            "cpu_percent": self.cpu,
            "avg_cpu": self.average,
            "mem_usage": self.memory,
            "mem_percent": self.memory_percent,
            "net_io": self.network,
            "block_io": self.devices,
            "pids": self.tasks,
            "cpu_pressure": self.cpu_pressure,
            "mem_pressure": self.memory_pressure,
            "io_pressure": self.io_pressure,
        })
    }

    fn docker_json(&self) -> Value {
        json!({
            "BlockIO": self.devices,
            "CPUPerc": self.cpu,
            "Container": self.id,
            "ID": self.id,
            "MemPerc": self.memory_percent,
            "MemUsage": self.memory,
            "Name": self.name,
            "NetIO": self.network,
            "PIDs": self.tasks,
        })
    }
}

fn usage(memory: Option<Memory>, show: impl Fn(u64) -> String) -> String {
    match memory {
        Some(Memory { used, limit }) => format!("{} / {}", show(used), show(limit)),
        None => format!("{UNKNOWN} / {UNKNOWN}"),
    }
}

fn traffic(traffic: Option<Traffic>) -> String {
    match traffic {
        Some(Traffic { incoming, outgoing }) => format!("{} / {}", decimal(incoming), decimal(outgoing)),
        None => format!("{UNKNOWN} / {UNKNOWN}"),
    }
}
