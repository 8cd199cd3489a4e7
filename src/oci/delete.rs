//! The end of a container: its processes, its control group, its state, and the last hooks.

use std::time::Duration;

use crate::container::control_group;
use crate::container::process::boot_id;
use crate::container::spec::Spec;
use crate::error::{Error, Result};
use crate::oci::signal;
use crate::oci::state::{Container, Root, Status};
use crate::sandbox::listed::{hooks, joined};

/// How long processes may take to end once they are killed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries to be the one who changes a container.
const PAUSE: Duration = Duration::from_millis(5);

/// Deletes a container.
///
/// # Errors
/// It runs, and that was not asked for with `force`.
pub fn delete(root: &Root, id: &str, force: bool) -> Result<()> {
    let lock = loop {
        let container = match root.find(id) {
            Ok(container) => container,
            Err(_) if force && !root.has(id)? => return Ok(()),
            // What a killed command has left of a record that was not written yet.
            Err(_) if force => return root.remove_damaged(id),
            Err(error) => return Err(error),
        };
        if !force {
            check_stopped(&container)?;
            break container.lock()?;
        }
        match container.try_lock() {
            Ok(Some(lock)) => break lock,
            // Whoever is busy with it, running a hook perhaps, goes on when its process has ended.
            Ok(None) => {
                end_processes(&container);
                std::thread::sleep(PAUSE);
            }
            Err(_) if !root.has(id)? => return Ok(()),
            Err(error) => return Err(error),
        }
    };
    // It may have changed until the lock was had.
    let container = match root.find(id) {
        Ok(container) => container,
        Err(_) if force => return Ok(()),
        Err(error) => return Err(error),
    };
    if !force {
        check_stopped(&container)?;
    }
    end_processes(&container);
    if let Some(init) = container.init() {
        return Err(Error::new(format!("cannot delete the container `{id}`"))
            .because(format!("its process {} was killed and has not ended", init.pid)));
    }
    match container.spec() {
        Ok(spec) => finish(&container, &spec),
        Err(_) => container.remove()?,
    }
    drop(lock);
    Ok(())
}

fn check_stopped(container: &Container) -> Result<()> {
    match container.status() {
        Status::Stopped | Status::Created => Ok(()),
        status => Err(Error::new(format!(
            "cannot delete container {} that is not stopped: {}",
            container.state.id,
            status.name()
        ))
        .hint("`--force` kills it first")),
    }
}

fn end_processes(container: &Container) {
    let init = container.state.init;
    if init.is_some() && container.init().is_none() && container.control_group().is_none() {
        return;
    }
    let _ = signal::to_all(container, libc::SIGKILL);
    if let Some(init) = container.init() {
        init.kill(PATIENCE);
    }
}

/// Takes the rest of a container away that has no process any more. What cannot be removed is told of.
pub fn finish(container: &Container, spec: &Spec) {
    match (container.control_group(), &container.state.cgroup) {
        (Some(found), _) if container.state.chose_cgroup => control_group::remove_found(&found),
        (Some(_), Some(path)) => control_group::remove(&container.state.group, path),
        _ => {}
    }
    take_mounts_away(container, spec);
    if let Err(error) = container.remove() {
        ::log::warn!("{error}");
    }
    let Some(listed) = &spec.listed else { return };
    // The specification has the others run and the container be gone.
    let state = || hooks::document(spec, "stopped", 0);
    for error in hooks::run_all("poststop", &listed.hooks.poststop, hooks::Place::of_bundle(spec), state) {
        ::log::warn!("{error}");
    }
}

/// Of a mount namespace that was joined: what others have there stays, what was made for the container goes (runtime.md,
/// Delete).
fn take_mounts_away(container: &Container, spec: &Spec) {
    let namespace = spec.listed.as_ref().and_then(|listed| listed.joined_mounts.as_ref());
    let of_this_boot = container.state.boot_id == boot_id();
    if let (Some(namespace), Some(attached), true) = (namespace, &container.state.attached, of_this_boot)
        && let Err(error) = joined::take_away(namespace, &container.state.rootfs, attached)
    {
        ::log::warn!("{error}");
    }
}
