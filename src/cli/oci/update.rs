//! `sbx oci update`

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::container::{control_group, size};
use crate::error::{Error, Result, Step};
use crate::oci::resources;
use crate::oci::state::{Root, Status};

/// Change the limits of a container that runs
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx oci update --memory 512m --pids-limit 100 web
  sbx oci update --resources limits.json web
  echo '{\"cpu\":{\"quota\":50000}}' | sbx oci update -r - web")]
pub struct UpdateArgs {
    /// A file of JSON, as `linux.resources` in config.json; `-`: standard input
    #[arg(short, long, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// Memory, in bytes or with a unit
    #[arg(long, value_name = "BYTES")]
    memory: Option<String>,
    /// What of it is kept from others
    #[arg(long, value_name = "BYTES")]
    memory_reservation: Option<String>,
    /// Memory and swap together; -1: without a limit
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// The share of processor time
    #[arg(long, value_name = "NUMBER")]
    cpu_share: Option<u64>,
    /// Microseconds of processor time in each period
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// Microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,
    /// Microseconds beyond the quota that may be saved up
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_burst: Option<u64>,
    /// Run where nobody else does (1)
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i64).range(0..=1))]
    cpu_idle: Option<i64>,
    /// Of version 1 alone: an error says so
    #[arg(long, hide = true, allow_hyphen_values = true)]
    cpu_rt_runtime: Option<i64>,
    #[arg(long, hide = true)]
    cpu_rt_period: Option<u64>,
    #[arg(long, hide = true)]
    kernel_memory: Option<String>,
    #[arg(long, hide = true)]
    kernel_memory_tcp: Option<String>,
    /// The processors
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// The memory nodes
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// The weight of its reading and writing of block devices, from 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
    /// Processes and threads
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// The container's ID
    #[arg(value_name = "ID")]
    id: String,
}

pub fn execute(args: &UpdateArgs, root: &Root) -> Result<u8> {
    let wanted = match &args.resources {
        Some(path) => read(path)?,
        None => of_options(args)?,
    };
    let settings = resources::settings(&wanted)?;
    let container = root.find(&args.id)?;
    let failed = || format!("cannot update the container `{}`", args.id);
    if container.status() == Status::Stopped {
        return Err(Error::new(failed()).because("container not running"));
    }
    if settings.is_empty() {
        return Ok(0);
    }
    let group = crate::oci::freeze::group(&container)?;
    if let Some(most) = resources::most_before_update(&wanted) {
        check_memory(&group, most).map_err(|error| error.while_doing(failed()))?;
    }
    control_group::limit(&group, &settings).map_err(|error| error.while_doing(failed()))?;
    Ok(0)
}

fn check_memory(group: &Path, most: u64) -> Result<()> {
    let text = std::fs::read_to_string(group.join("memory.current")).step(|| "cannot read its memory")?;
    match text.trim().parse::<u64>() {
        Ok(current) if current > most => Err(Error::new(format!("it has {current} bytes of memory"))
            .because(format!("`checkBeforeUpdate` forbids to limit that to {most}"))),
        _ => Ok(()),
    }
}

fn read(path: &Path) -> Result<Value> {
    let failed = || format!("cannot read the resources of `{}`", path.display());
    let text = match path.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(path),
    };
    serde_json::from_str(&text.step(failed)?).step(failed)
}

fn of_options(args: &UpdateArgs) -> Result<Value> {
    let bytes = |flag: &str, text: &Option<String>| -> Result<Option<Value>> {
        match text.as_deref() {
            None => Ok(None),
            Some("-1") => Ok(Some(json!(-1))),
            Some(text) => Ok(Some(json!(size::parse(flag, text)?))),
        }
    };
    let object = |pairs: Vec<(&str, Option<Value>)>| {
        let set = pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Value::Object(set.collect::<Map<_, _>>())
    };
    Ok(json!({
        "memory": object(vec![
            ("limit", bytes("--memory", &args.memory)?),
            ("reservation", bytes("--memory-reservation", &args.memory_reservation)?),
            ("swap", bytes("--memory-swap", &args.memory_swap)?),
            ("kernel", bytes("--kernel-memory", &args.kernel_memory)?),
            ("kernelTCP", bytes("--kernel-memory-tcp", &args.kernel_memory_tcp)?),
        ]),
        "cpu": object(vec![
            ("shares", args.cpu_share.map(Value::from)),
            ("quota", args.cpu_quota.map(Value::from)),
            ("period", args.cpu_period.map(Value::from)),
            ("burst", args.cpu_burst.map(Value::from)),
            ("idle", args.cpu_idle.map(Value::from)),
            ("realtimeRuntime", args.cpu_rt_runtime.map(Value::from)),
            ("realtimePeriod", args.cpu_rt_period.map(Value::from)),
            ("cpus", args.cpuset_cpus.clone().map(Value::from)),
            ("mems", args.cpuset_mems.clone().map(Value::from)),
        ]),
        "blockIO": object(vec![("weight", args.blkio_weight.map(Value::from))]),
        "pids": object(vec![("limit", args.pids_limit.map(Value::from))]),
    }))
}
