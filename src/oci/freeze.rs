//! `pause` and `resume`: the container's control group is frozen, or goes on.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use crate::container::control_group;
use crate::error::{Error, Result, Step};
use crate::oci::state::{Container, Status};

/// How long processes may take that the kernel is busy with.
const PATIENCE: Duration = Duration::from_secs(10);

/// The container's control group.
///
/// # Errors
/// It has none, and why.
pub fn group(container: &Container) -> Result<PathBuf> {
    container.control_group().ok_or_else(|| control_group::none_error(&container.state.id))
}

/// # Errors
/// The container does not run, or has no control group.
pub fn pause(container: &Container) -> Result<()> {
    let id = &container.state.id;
    let failed = || format!("cannot pause the container `{id}`");
    let _lock = container.lock()?;
    match container.status() {
        Status::Running | Status::Created => {}
        status => {
            return Err(
                Error::new(failed()).because(format!("container not running: it is {}", status.name()))
            );
        }
    }
    let group = group(container)?;
    let events = File::open(group.join("cgroup.events")).step(failed)?;
    fs::write(group.join("cgroup.freeze"), "1").step(failed)?;
    match control_group::wait_until_frozen(events.as_fd(), PATIENCE) {
        Ok(true) => Ok(()),
        outcome => {
            let _ = fs::write(group.join("cgroup.freeze"), "0");
            outcome?;
            Err(Error::new(failed()).because("the kernel is busy with one of its processes"))
        }
    }
}

/// # Errors
/// The container is not paused.
pub fn resume(container: &Container) -> Result<()> {
    let id = &container.state.id;
    let failed = || format!("cannot resume the container `{id}`");
    let _lock = container.lock()?;
    match container.status() {
        Status::Paused => {}
        status => {
            return Err(
                Error::new(failed()).because(format!("container not paused: it is {}", status.name()))
            );
        }
    }
    fs::write(group(container)?.join("cgroup.freeze"), "0").step(failed)
}
