//! `run`: create, start, wait and delete in one command.

use std::os::fd::AsFd;

use crate::error::{Error, Result};
use crate::oci::create::{self, Made, Request};
use crate::oci::state::Root;
use crate::oci::{attend, config, delete, signal, start};

/// How `run` ends.
#[derive(Debug, Clone, Copy, Default)]
pub struct Choice {
    pub detach: bool,
    /// What is left of the container stays.
    pub keep: bool,
}

/// Runs a container and gives its exit code; zero where it goes on in the background.
///
/// # Errors
/// As [`create::make`]; the command cannot be executed.
pub fn run(root: &Root, described: config::Described, request: &Request, choice: Choice) -> Result<u8> {
    let terminal = described.spec.process.terminal;
    if terminal && choice.detach && request.console_socket.is_none() {
        return Err(create::nobody_has_the_terminal());
    }
    let signals = if choice.detach { None } else { Some(attend::catch_signals()?) };
    let Made { container, spec, mut sandbox, lock } = create::make(root, described, request)?;
    let started = match start::has_hooks(&spec) {
        true => start::open_gate(&container).and_then(|_gate| {
            let started = sandbox.go();
            start::take_gate_away(&container);
            started
        }),
        false => sandbox.go(),
    };
    drop(lock);
    if let Err(error) = started.and_then(|()| start::after_start(&spec, sandbox.pid)) {
        sandbox.end();
        // Whoever deleted it meanwhile has left nothing.
        let Ok(_lock) = container.lock() else { return Err(error) };
        delete::finish(&container, &spec);
        return Err(error);
    }
    let Some(signals) = signals else { return Ok(0) };
    let outcome = attend::wait(sandbox.pid, sandbox.pidfd.as_fd(), sandbox.terminal.take(), &signals);
    if outcome.is_err() {
        sandbox.end();
    }
    if choice.keep {
        return outcome;
    }
    // Whoever deleted it meanwhile has left nothing.
    if let Ok(_lock) = container.lock() {
        if container.control_group().is_some() {
            let _ = signal::to_all(&container, libc::SIGKILL);
        }
        delete::finish(&container, &spec);
    }
    outcome.map_err(|error: Error| error.while_doing("cannot attend to the container"))
}
