//! Signals to a container's processes.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::container::process::{self, ProcessRef};
use crate::error::{Error, Result, Step};
use crate::oci::state::{Container, Status};

/// Sends a signal to the first process, or to all.
///
/// # Errors
/// The container does not run.
pub fn send(container: &Container, signal: i32, all: bool) -> Result<()> {
    let id = &container.state.id;
    let failed = || format!("cannot signal the container `{id}`");
    if all {
        return to_all(container, signal);
    }
    let init = match container.status() {
        Status::Created | Status::Running | Status::Paused => container.init(),
        Status::Creating | Status::Stopped => None,
    };
    let init = init.ok_or_else(|| Error::new(failed()).because("container not running"))?;
    init.signal(signal).step(failed)
}

/// Sends a signal to every process that belongs to the container.
///
/// # Errors
/// There is no way to find them.
pub fn to_all(container: &Container, signal: i32) -> Result<()> {
    for process in processes(container)? {
        // One that ended meanwhile needs none.
        let _ = process.signal(signal);
    }
    Ok(())
}

/// The processes of the container: those of its control group, else those in its PID namespace, else those in its user
/// namespace.
///
/// # Errors
/// It shares all of these with its caller.
pub fn processes(container: &Container) -> Result<Vec<ProcessRef>> {
    if let Some(path) = container.control_group() {
        return Ok(of_group(&path));
    }
    let Some(init) = container.init() else { return Ok(Vec::new()) };
    for name in ["pid", "user"] {
        let number = |pid: &str| fs::metadata(format!("/proc/{pid}/ns/{name}")).map(|found| found.ino()).ok();
        let (Some(own), Some(theirs)) = (number("self"), number(&init.pid.to_string())) else { continue };
        if own != theirs {
            return Ok(process::all()
                .filter(|pid| number(&pid.to_string()) == Some(theirs))
                .filter_map(ProcessRef::of)
                .collect());
        }
    }
    if container.waits() || fs::metadata(format!("/proc/{}/ns/pid", init.pid)).is_err() {
        return Ok(vec![init]);
    }
    Err(Error::new(format!("cannot find all processes of the container `{}`", container.state.id))
        .because("it has no control group and no PID namespace of its own"))
}

fn of_group(path: &std::path::Path) -> Vec<ProcessRef> {
    let text = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let own = text.lines().filter_map(|line| line.parse().ok()).filter_map(ProcessRef::of);
    let below = fs::read_dir(path).into_iter().flatten().flatten();
    let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    own.chain(below.flat_map(|entry| of_group(&entry.path()))).collect()
}
