//! Another process in a container that runs.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::client::terminal::caller_size;
use crate::container::control_group;
use crate::container::listed::Affinity;
use crate::container::process::ProcessRef;
use crate::container::spec::Spec;
use crate::delegation;
use crate::error::{Error, Result, Step};
use crate::oci::config::process::Described;
use crate::oci::state::{Container, Status};
use crate::oci::{attend, console, create};
use crate::sandbox::child::Stdio;
use crate::sandbox::enter::{self, Entering, Entry, Progress, Source};
use crate::sandbox::listed::{self, CLOSE};

/// How long a process that waits for the start may take to heed a word.
const PATIENCE: Duration = Duration::from_secs(10);

/// How the process is attended to.
#[derive(Debug, Default)]
pub struct Request {
    pub detach: bool,
    pub console_socket: Option<PathBuf>,
    pub pid_file: Option<PathBuf>,
    /// Whether a container that is paused is entered, too.
    pub ignore_paused: bool,
    /// Below the container's control group.
    pub cgroup: Option<PathBuf>,
}

/// Runs a process in the container, and gives its exit code; zero where it goes on in the background.
///
/// # Errors
/// The container does not run, or the command cannot be executed.
pub fn exec(container: &Container, described: Described, request: &Request) -> Result<u8> {
    let failed = || format!("cannot run a process in the container `{}`", container.state.id);
    let mut status = container.status();
    let mut lock = None;
    if status == Status::Created {
        // Nobody starts it meanwhile.
        lock = Some(container.lock()?);
        status = container.status();
    }
    let init = match status {
        Status::Running => container.init(),
        Status::Paused if container.waits() => {
            return Err(Error::new(failed())
                .because("it is paused, and has not been started")
                .hint("`resume` it: until the start its process has to close itself to others first"));
        }
        Status::Paused if request.ignore_paused => container.init(),
        Status::Paused => {
            return Err(Error::new(failed()).because("cannot exec in a paused container"));
        }
        Status::Created => container.init(),
        Status::Creating | Status::Stopped => None,
    };
    let init = init.ok_or_else(|| Error::new(failed()).because("cannot exec in a stopped container"))?;
    let spec = of_the_container(container.spec()?, &described);
    let terminal = spec.process.terminal;
    match &request.console_socket {
        Some(socket) if !terminal => {
            return Err(Error::new(format!("cannot use the console socket `{}`", socket.display()))
                .because("the process has no terminal")
                .hint("ask for one with `--tty`, or leave out `--console-socket`"));
        }
        None if terminal && request.detach => return Err(create::nobody_has_the_terminal()),
        _ => {}
    }
    let group = group(container, request)?;
    let held = listed::held(init.pid, &spec);
    let held = match status {
        Status::Created => {
            let held = held.map_err(|error| {
                error.hint("the container has not been started, and is closed to others until then")
            })?;
            close_to_others(container, init)?;
            held
        }
        _ => held?,
    };
    drop(lock);
    // The number was still that process's.
    if !init.is_alive() {
        return Err(Error::new(failed()).because("the container has ended"));
    }
    let asked = described.process.exact.as_ref().and_then(|exact| exact.console);
    let stdio = match terminal {
        true => Stdio::Terminal { size: asked.or_else(caller_size) },
        false => Stdio::Inherited,
    };
    let affinity =
        described.process.exact.as_ref().and_then(|exact| exact.affinity.clone()).unwrap_or_default();
    run_on(None, &affinity.initial)?;
    let signals = if request.detach { None } else { Some(attend::catch_signals()?) };
    let entry = Entry { process: described.process, privileged: false };
    let mut entering = enter::start(&spec, &held, &stdio, Source::Value(Box::new(entry)))?;
    let entered = bring_in(&mut entering, container, &spec, request, &affinity, group.as_deref());
    let (pid, pidfd, master) = entered.inspect_err(|_| entering.end())?;
    drop(held);
    match signals {
        None => Ok(0),
        Some(signals) => attend::wait(pid, std::os::fd::AsFd::as_fd(&pidfd), master, &signals),
    }
}

/// A process that waits for the start is sbx: it closes itself before somebody else comes in. The word is said twice: when
/// the second is taken, the first has been heeded.
fn close_to_others(container: &Container, init: ProcessRef) -> Result<()> {
    let failed = || "cannot have the process that waits for the start close itself to others";
    let mut gate = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(container.fifo())
        .step(failed)?;
    gate.write_all(&[CLOSE, CLOSE]).step(failed)?;
    let until = Instant::now() + PATIENCE;
    while rustix::io::ioctl_fionread(&gate).step(failed)? > 0 {
        if !init.is_alive() {
            return Err(Error::new(failed()).because("it has ended"));
        }
        if container.is_frozen() || Instant::now() > until {
            return Err(Error::new(failed()).because("it does not go on: it is paused or stopped"));
        }
        std::thread::sleep(std::time::Duration::from_micros(100));
    }
    Ok(())
}

/// The control group that the process goes to.
fn group(container: &Container, request: &Request) -> Result<Option<PathBuf>> {
    let own = container.control_group();
    let Some(below) = &request.cgroup else { return Ok(own) };
    let failed = || Error::new(format!("cannot use `--cgroup {}`", below.display()));
    let own = own.ok_or_else(|| control_group::none_error(&container.state.id))?;
    if !below.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_))) {
        return Err(failed().because("it leads out of the container's control group"));
    }
    let group = own.join(below.strip_prefix("/").unwrap_or(below));
    match group.is_dir() {
        true => Ok(Some(group)),
        false => Err(failed().because("the container's control group has none of this name")),
    }
}

/// Binds a process to processors, if there are any; the caller itself, without one.
fn run_on(process: Option<Pid>, processors: &[u16]) -> Result<()> {
    if processors.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for processor in processors {
        set.set(usize::from(*processor));
    }
    sched_setaffinity(process, &set).map_err(|error| {
        Error::new("cannot bind the process to the processors of `execCPUAffinity`")
            .because(error)
            .hint("at least one of them has to be there, and in the cpuset of the control group")
    })
}

/// The container's spec with what the process has for itself.
fn of_the_container(mut spec: Spec, described: &Described) -> Spec {
    spec.process.terminal = described.process.terminal;
    spec.rlimits.clone_from(&described.rlimits);
    spec.oom_score_adj = described.oom_score_adj;
    spec.security.no_new_privileges = described.no_new_privileges;
    spec
}

fn bring_in(
    entering: &mut Entering,
    container: &Container,
    spec: &Spec,
    request: &Request,
    affinity: &Affinity,
    group: Option<&Path>,
) -> Result<(i32, OwnedFd, Option<OwnedFd>)> {
    let mut master = None;
    let mut process = None;
    loop {
        match entering.advance(None) {
            Progress::Goes => {}
            Progress::Entered => {
                let pid = entering.pid().unwrap_or_default();
                let pidfd = Pid::from_raw(pid).ok_or_else(|| Error::new("the process has no number"))?;
                let pidfd = pidfd_open(pidfd, PidfdFlags::empty()).step(|| "cannot open the process")?;
                process = Some((pid, pidfd));
                let process = Pid::from_raw(pid);
                if let Some(group) = group {
                    delegation::move_into(group, pid)
                        .step(|| "cannot bring the process into the container's control group")?;
                }
                match &container.state.init {
                    // It was only on its way there.
                    Some(init) if affinity.last.is_empty() && !affinity.initial.is_empty() => {
                        let own = sched_getaffinity(Pid::from_raw(init.pid));
                        own.and_then(|own| sched_setaffinity(process, &own))
                            .step(|| "cannot give the process the processors of the container")?;
                    }
                    _ => run_on(process, &affinity.last)?,
                }
                if let Some(path) = &request.pid_file {
                    create::write_pid(path, pid)?;
                }
                entering.go();
            }
            Progress::Notice(notice) => ::log::warn!("{notice}"),
            Progress::Terminal(terminal) => match &request.console_socket {
                Some(socket) => console::send(socket, std::os::fd::AsFd::as_fd(&terminal))?,
                None => master = Some(terminal),
            },
            Progress::Calls(listener) => {
                let pid = process.as_ref().map_or(0, |(pid, _)| *pid);
                create::hand_over_calls(
                    spec,
                    ("running", pid, container.init().map_or(0, |init| init.pid)),
                    &listener,
                )?;
            }
            Progress::Executed => {
                let (pid, pidfd) = process.ok_or_else(|| Error::new("the process has not entered"))?;
                return Ok((pid, pidfd, master));
            }
            Progress::Failed(error) => return Err(error),
        }
    }
}
