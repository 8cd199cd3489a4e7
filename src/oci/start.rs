//! The word to a container that waits: execute the command.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use rustix::event::{PollFd, PollFlags, poll};

use crate::container::spec::Spec;
use crate::error::{Error, Result, Step};
use crate::oci::state::{Container, Status};
use crate::sandbox::listed::{self, START, hooks};

/// Starts a container that was created.
///
/// # Errors
/// It is in another state, its command cannot be executed, or a hook fails.
pub fn start(container: &Container) -> Result<()> {
    let lock = container.lock()?;
    let id = &container.state.id;
    let failed = || format!("cannot start the container `{id}`");
    match container.status() {
        Status::Created => {}
        Status::Stopped => {
            return Err(Error::new(failed()).because("cannot start a container that has stopped"));
        }
        status => {
            return Err(
                Error::new(failed()).because(format!("cannot start an already {} container", status.name()))
            );
        }
    }
    let spec = container.spec()?;
    let mut complaint = File::open(container.complaint()).step(failed)?;
    let gate = open_gate(container)?;
    // The process has the other end until it executes the command, or ends: so long it counts as created.
    let mut polled = [PollFd::new(&gate, PollFlags::empty())];
    while poll(&mut polled, None) == Err(rustix::io::Errno::INTR) {}
    take_gate_away(container);
    // Others may do with it what they like while its hooks run.
    drop(lock);
    if let Some(error) = listed::complaint(&mut complaint) {
        return Err(error.while_doing(failed()));
    }
    let pid = container.state.init.map_or(0, |init| init.pid);
    after_start(&spec, pid).inspect_err(|_| {
        if let Some(init) = container.init() {
            let _ = init.signal(libc::SIGKILL);
        }
    })
}

/// Says the word to the process that waits. Gives what it was said through.
///
/// # Errors
/// Nobody waits.
pub fn open_gate(container: &Container) -> Result<File> {
    let failed = || format!("cannot start the container `{}`", container.state.id);
    let mut gate = File::options()
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(container.fifo())
        .map_err(|error| Error::new(failed()).because(error).because("it does not wait any more"))?;
    gate.write_all(&[START]).step(failed)?;
    Ok(gate)
}

/// Takes away what only one has that waits.
pub fn take_gate_away(container: &Container) {
    for path in [container.fifo(), container.complaint()] {
        // Without somebody at its other end it means nothing.
        let _ = std::fs::remove_file(path);
    }
}

/// Whether there are hooks between the word and the command.
pub fn has_hooks(spec: &Spec) -> bool {
    spec.listed.as_ref().is_some_and(|listed| !listed.hooks.start_container.is_empty())
}

/// The hooks that run when the command does.
///
/// # Errors
/// One fails: the container is to be stopped then.
pub fn after_start(spec: &Spec, pid: i32) -> Result<()> {
    let Some(listed) = &spec.listed else { return Ok(()) };
    let place = hooks::Place::of_bundle(spec);
    hooks::run("poststart", &listed.hooks.poststart, place, || hooks::document(spec, "running", pid))
}
