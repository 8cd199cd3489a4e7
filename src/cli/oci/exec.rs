//! `sbx oci exec`

use std::path::PathBuf;

use super::{absolute, check_descriptors};
use crate::container::spec::Spec;
use crate::error::{Error, Result};
use crate::oci::config::process::{self, Described};
use crate::oci::exec;
use crate::oci::state::Root;

/// Run another process in a container that runs
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx oci exec web ps
  sbx oci exec --tty --user 1000:1000 --env A=b web sh
  sbx oci exec --process process.json --detach --pid-file ps.pid web")]
pub struct ExecArgs {
    /// The file that describes it, as `process` in config.json does
    #[arg(short, long, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// The socket that takes its terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Its working directory
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Set a variable
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Whose IDs it has
    #[arg(short, long, value_name = "UID[:GID]")]
    user: Option<String>,
    /// An additional group
    #[arg(short = 'g', long, value_name = "GID")]
    additional_gids: Vec<u32>,
    /// Add a capability
    #[arg(short, long, value_name = "NAME")]
    cap: Vec<String>,
    /// Forbid it to gain privileges
    #[arg(long)]
    no_new_privs: bool,
    /// In a paused container it is stopped at once, and goes on with the others
    #[arg(long)]
    ignore_paused: bool,
    /// The control group that it is in, below the container's
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// Leave it running in the background
    #[arg(short, long)]
    detach: bool,
    /// Write its process ID into this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Hand on so many descriptors after the standard streams
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
    preserve_fds: u32,
    /// The container's ID
    #[arg(value_name = "ID")]
    id: String,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub fn execute(args: &ExecArgs, root: &Root) -> Result<u8> {
    check_descriptors(args.preserve_fds)?;
    let container = root.find(&args.id)?;
    let mut described = match &args.process {
        // As other runtimes do, which ignore a command beside it.
        Some(path) => process::from_file(path)?,
        None => of_words(args, container.spec()?)?,
    };
    if let Some(exact) = &mut described.process.exact {
        exact.descriptors = args.preserve_fds;
    }
    let path = |path: &Option<PathBuf>| path.as_deref().map(absolute).transpose();
    let request = exec::Request {
        detach: args.detach,
        console_socket: path(&args.console_socket)?,
        pid_file: path(&args.pid_file)?,
        ignore_paused: args.ignore_paused,
        cgroup: args.cgroup.clone(),
    };
    exec::exec(&container, described, &request)
}

/// The container's own process with another command.
fn of_words(args: &ExecArgs, spec: Spec) -> Result<Described> {
    if args.command.is_empty() {
        return Err(
            Error::new("cannot run a process without a command").hint("`--process FILE` describes one")
        );
    }
    let mut process = spec.process;
    process.args.clone_from(&args.command);
    process.terminal = args.tty;
    if let Some(cwd) = &args.cwd {
        if !cwd.is_absolute() {
            return Err(
                Error::new(format!("cannot use `--cwd {}`", cwd.display())).because("it is not absolute")
            );
        }
        process.cwd.clone_from(cwd);
    }
    for entry in &args.env {
        let name = entry.split('=').next().unwrap_or_default();
        process.env.retain(|old| old.split('=').next() != Some(name));
        process.env.push(entry.clone());
    }
    process.env = process::environment(process.env)?;
    let mut exact = process.exact.take().unwrap_or_default();
    // What the container's own has for itself alone.
    (exact.io_priority, exact.scheduler, exact.console) = (None, None, None);
    if let Some(user) = &args.user {
        let wrong =
            || Error::new(format!("cannot use `--user {user}`")).hint("write `--user UID[:GID]`, in numbers");
        let (uid, gid) = user.split_once(':').map_or((user.as_str(), None), |(uid, gid)| (uid, Some(gid)));
        exact.uid = uid.parse().map_err(|_| wrong())?;
        if let Some(gid) = gid {
            exact.gid = gid.parse().map_err(|_| wrong())?;
        }
        // Another user's home is another one.
        if !args.env.iter().any(|entry| entry.starts_with("HOME=")) {
            process.env.retain(|entry| !entry.starts_with("HOME="));
        }
    }
    exact.groups.extend(&args.additional_gids);
    process::add_capabilities(&mut exact, &args.cap)?;
    process.exact = Some(exact);
    Ok(Described {
        process,
        rlimits: spec.rlimits,
        no_new_privileges: spec.security.no_new_privileges || args.no_new_privs,
        oom_score_adj: spec.oom_score_adj,
    })
}
