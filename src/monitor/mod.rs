//! One process per container, outside its namespaces and the parent of its first process: it copies the
//! container's output to the log and to its clients, serves what other commands ask for, waits for the end, records
//! it, starts the container again where its policy says so, and cleans up.
//!
//! A foreground `sbx run` is a client of the same monitor. Whatever the client shows or types goes through
//! the client's own process, so that the terminal's job control works as for any program; what the two
//! exchange besides are the [`message`]s.

pub mod control;
mod end;
pub mod exec;
pub(crate) mod files;
mod freezer;
pub mod guard;
mod health;
mod life;
mod limits;
pub mod message;
mod networks;
pub mod output;
mod requests;
mod run;
mod sessions;
mod wires;

use std::os::fd::OwnedFd;
use std::path::Path;

use crate::container::directory::ContainerDirectory;
use crate::container::links;
use crate::container::spec::Spec;
use crate::container::store::{Claim, Store};
use crate::emulation::Places;
use crate::error::{Result, Step};
use crate::sys::channel::Channel;
use crate::sys::process::{Fork, exit_now, fork};
use crate::sys::scheduling::on_this_processor;
use wires::Wires;

/// The client's side of a container.
pub struct Connection {
    /// The monitor, where it is a child of this process.
    pub monitor: Option<i32>,
    pub control: Channel,
    /// The container's standard input.
    pub stdin: Option<OwnedFd>,
    /// What the container writes; with a terminal all of it is in `stdout`.
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    /// The master side of the container's terminal, where it is known already.
    pub terminal: Option<OwnedFd>,
}

/// The directories that a container's monitor works in.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub store: &'a Store,
    /// The user's runtime directory.
    pub runtime: &'a Path,
}

/// What the caller of a container that starts is to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Its streams are the container's, which ends when the caller is killed.
    Owner,
    /// Its streams are the container's, which goes on without it.
    Guest { stdin: bool },
    /// It waits until the command runs, and goes.
    Starter,
}

/// The monitor's side.
struct Job<'a> {
    store: &'a Store,
    runtime: &'a Path,
    /// Its root can be mounted.
    spec: &'a Spec,
    /// Where owners are recorded that the files do not have.
    owners: Places,
    directory: &'a ContainerDirectory,
    claim: Claim,
    control: Channel,
    caller: Caller,
    wires: Wires,
}

/// Forks the monitor of a container whose lock is `claim`. The calling process has one thread and `size` (rows,
/// columns) of its terminal.
///
/// # Errors
/// Where no process or pipe is to be had, or it cannot be told where the layers of the root are.
pub fn start(
    place: Place<'_>,
    spec: &Spec,
    directory: &ContainerDirectory,
    claim: Claim,
    caller: Caller,
    size: Option<(u16, u16)>,
) -> Result<Connection> {
    let Place { store, runtime } = place;
    let owners = Places::of(spec, store.root(), directory);
    let mut located = spec.located(store.root(), directory)?;
    if !spec.network.links.is_empty() {
        let variables = links::environment(store, spec)?;
        located.to_mut().process.env.extend(variables);
    }
    let spec = located.as_ref();
    let (ours, theirs) = Channel::pair().step(|| "cannot make a socket pair")?;
    let (wires, client) = match caller {
        Caller::Starter => (Wires::lay(spec, size)?, wires::Client::default()),
        Caller::Owner => Wires::lay_to_caller(spec, size, true)?,
        Caller::Guest { stdin } => Wires::lay_to_caller(spec, size, stdin)?,
    };
    match on_this_processor(fork).step(|| "cannot start the monitor")? {
        Fork::Parent(monitor) => Ok(Connection {
            monitor: Some(monitor),
            control: ours,
            stdin: client.stdin,
            stdout: client.stdout,
            stderr: client.stderr,
            terminal: None,
        }),
        Fork::Child => {
            drop((ours, client));
            let _ = rustix::thread::set_name(c"sbx-monitor");
            run::run(Job { store, runtime, spec, owners, directory, claim, control: theirs, caller, wires });
            exit_now(0)
        }
    }
}
