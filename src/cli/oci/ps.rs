//! `sbx oci ps`

use std::process::Command;

use crate::error::{Error, Result, Step};
use crate::oci::signal;
use crate::oci::state::Root;
use crate::output::print;

/// List the processes of a container, by the host's process IDs
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx oci ps web
  sbx oci ps --format json web
  sbx oci ps web -o pid,args")]
pub struct PsArgs {
    /// table, as ps(1) of the host prints it, or json, the process IDs alone
    #[arg(short, long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    format: String,
    /// The container's ID
    #[arg(value_name = "ID")]
    id: String,
    /// Options of ps(1); default: -ef
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
    options: Vec<String>,
}

pub fn execute(args: &PsArgs, root: &Root) -> Result<u8> {
    let container = root.find(&args.id)?;
    let pids: Vec<i32> = signal::processes(&container)?.iter().map(|process| process.pid).collect();
    if args.format == "json" {
        print::line(&serde_json::to_string(&pids).step(|| "cannot write JSON")?)?;
        return Ok(0);
    }
    let failed = || "cannot run ps";
    let mut command = Command::new("ps");
    if args.options.is_empty() {
        command.arg("-ef");
    } else {
        command.args(&args.options);
    }
    let output = command.output().map_err(|error| {
        Error::new(failed()).because(error).hint("install the package procps, or ask for `--format json`")
    })?;
    if !output.status.success() {
        return Err(Error::new(failed()).because(String::from_utf8_lossy(&output.stderr).trim()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let column = head.split_ascii_whitespace().position(|word| word == "PID").ok_or_else(|| {
        Error::new(failed()).because("there is no column PID").hint("ask for it, such as `-o pid,args`")
    })?;
    let of_container = |line: &&str| {
        let pid = line.split_ascii_whitespace().nth(column).and_then(|word| word.parse().ok());
        pid.is_some_and(|pid: i32| pids.contains(&pid))
    };
    for line in std::iter::once(head).chain(lines.filter(of_container)) {
        print::line(line)?;
    }
    Ok(0)
}
