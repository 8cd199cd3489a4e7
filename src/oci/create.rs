//! From a bundle to a process that waits to execute its command.

use std::cell::RefCell;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::container::listed::Attached;
use crate::container::name::random_id;
use crate::container::process::ProcessRef;
use crate::container::spec::Spec;
use crate::emulation::Places;
use crate::error::{Error, Result, Step};
use crate::oci::config::Described;
use crate::oci::console;
use crate::oci::delete;
use crate::oci::group::{Asked, Groups};
use crate::oci::start;
use crate::oci::state::{Container, Root};
use crate::sandbox::child::Stdio;
use crate::sandbox::launch::{self, Born, Meanwhile, Sandbox};
use crate::sandbox::listed::hooks;

/// What a command line says of a container's start besides its bundle.
#[derive(Debug, Default)]
pub struct Request {
    /// The socket that takes the container's terminal.
    pub console_socket: Option<PathBuf>,
    /// Where the process ID is written.
    pub pid_file: Option<PathBuf>,
    /// Nobody stays: the process waits at a FIFO.
    pub gate: bool,
    pub groups: Groups,
}

/// A container up to the point where its command would run.
pub struct Made {
    pub container: Container,
    pub spec: Spec,
    pub sandbox: Sandbox,
    /// Its record is ours alone as long as this is open.
    pub lock: File,
}

/// Makes the container. What fails leaves nothing of it.
///
/// # Errors
/// The ID is taken, the host refuses something, or a hook fails.
pub fn make(root: &Root, described: Described, request: &Request) -> Result<Made> {
    let Described { spec, control_group } = described;
    let asked = Asked::new(control_group, request.groups)?;
    let terminal = spec.process.terminal;
    if let Some(socket) = &request.console_socket {
        if !terminal {
            return Err(Error::new(format!("cannot use the console socket `{}`", socket.display()))
                .because("the process has no terminal")
                .hint("set `process.terminal` to true, or leave out `--console-socket`"));
        }
    } else if terminal && request.gate {
        return Err(nobody_has_the_terminal());
    }
    let (container, lock) = root.begin(&spec)?;
    let mut making = Making { container, spec, asked, lock: Some(lock), done: false };
    let sandbox = making.prepare(root, request)?;
    making.done = true;
    let (container, spec) = making.parts();
    let lock = making.lock.take().ok_or_else(|| Error::new("the container is not locked"))?;
    Ok(Made { container, spec, sandbox, lock })
}

/// Of a terminal whose other end would be nobody's.
pub fn nobody_has_the_terminal() -> Error {
    Error::new("cannot give the process a terminal")
        .because("nobody is left who would have it")
        .hint("name a socket that takes it with `--console-socket`, or set `process.terminal` to false")
}

/// A container that is undone unless it is complete.
struct Making {
    container: Container,
    spec: Spec,
    asked: Asked,
    lock: Option<File>,
    done: bool,
}

impl Drop for Making {
    fn drop(&mut self) {
        if !self.done {
            delete::finish(&self.container, &self.spec);
        }
    }
}

impl Making {
    fn parts(&mut self) -> (Container, Spec) {
        (self.container.clone(), self.spec.clone())
    }

    fn prepare(&mut self, root: &Root, request: &Request) -> Result<Sandbox> {
        let spec = &self.spec;
        let exact = spec.process.exact.as_deref();
        let stdio = match spec.process.terminal {
            true => Stdio::Terminal { size: exact.and_then(|exact| exact.console) },
            false => Stdio::Inherited,
        };
        // Where there are hooks between the word to start and the command, others see by the gate that it does not run yet.
        let has_gate = request.gate || start::has_hooks(spec);
        let gate = has_gate.then(|| self.container.make_gate()).transpose()?;
        let state = &mut self.container.state;
        let group = self.asked.make(&state.group, spec)?.map(|made| {
            (state.cgroup, state.chose_cgroup) = (Some(made.path), made.is_chosen);
            made.group
        });
        let directory = super::config::directory(self.container.path());
        let container = RefCell::new(&mut self.container);
        let mut mounting = |born: &Born<'_>| {
            let mut container = container.borrow_mut();
            container.state.init = ProcessRef::of(born.pid);
            container.record()
        };
        let mut attaching = |attached: Attached| {
            let mut container = container.borrow_mut();
            container.state.attached = Some(attached);
            container.record()
        };
        let mut mounted = |born: &Born<'_>| {
            let Some(listed) = &spec.listed else { return Ok(()) };
            let state = || hooks::document(spec, "creating", born.pid);
            // Whoever kills the process does not wait for hooks of what will not be.
            let place = hooks::Place { for_the_sake_of: Some(born.pidfd), ..hooks::Place::of_bundle(spec) };
            hooks::run("prestart", &listed.hooks.prestart, place, state)?;
            hooks::run("createRuntime", &listed.hooks.create_runtime, place, state)
        };
        let mut calls = |born: &Born<'_>, listener: OwnedFd| {
            hand_over_calls(spec, ("creating", born.pid, born.pid), &listener)
        };
        let prepared = launch::prepare(launch::Request {
            spec,
            directory: &directory,
            runtime: root.path(),
            stdio,
            owners: Places::default(),
            cgroup: group,
            bridges: None,
            init_of: &|_| Err(Error::new("a bundle names no containers")),
            gate,
            lock: self.lock.as_ref().map(AsFd::as_fd),
            meanwhile: Meanwhile {
                furnishing: &|| Ok(()),
                mounting: &mut mounting,
                mounted: &mut mounted,
                attaching: &mut attaching,
                calls: &mut calls,
            },
        })?;
        let mut sandbox = prepared;
        // It goes with the container, not with this process.
        if let Some(group) = sandbox.cgroup.take() {
            group.leave();
        } else {
            self.container.state.cgroup = None;
        }
        let completed = self.complete(request, &mut sandbox);
        if completed.is_err() {
            sandbox.end();
        }
        completed.map(|()| sandbox)
    }

    fn complete(&mut self, request: &Request, sandbox: &mut Sandbox) -> Result<()> {
        if let Some(socket) = &request.console_socket {
            let master =
                sandbox.terminal.take().ok_or_else(|| Error::new("there is no terminal to hand over"))?;
            console::send(socket, master.as_fd())?;
        }
        if let Some(path) = &request.pid_file {
            write_pid(path, sandbox.pid)?;
        }
        self.container.state.creator = None;
        self.container.record()
    }
}

/// Writes a process ID as engines read it: whole, and without a line end.
///
/// # Errors
/// Those of the file system.
pub fn write_pid(path: &Path, pid: i32) -> Result<()> {
    let failed = || format!("cannot write the process ID into `{}`", path.display());
    let name = path.file_name().ok_or_else(|| Error::new(failed()).because("it has no name"))?;
    // In a directory of everybody's, others must not know where it is written before.
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", &random_id()?[..16]));
    let new = path.with_file_name(hidden);
    let mut file = File::create_new(&new).step(failed)?;
    let written = file.write_all(pid.to_string().as_bytes()).and_then(|()| std::fs::rename(&new, path));
    written
        .inspect_err(|_| {
            let _ = std::fs::remove_file(&new);
        })
        .step(failed)
}

/// Gives the listener of a process's filter to whom the bundle names (config-linux.md, The Container Process State): the
/// container's status, the process, and the first one.
///
/// # Errors
/// Nobody listens there.
pub fn hand_over_calls(spec: &Spec, (status, pid, init): (&str, i32, i32), listener: &OwnedFd) -> Result<()> {
    let Some(listed) = &spec.listed else { return Ok(()) };
    let Some(socket) = &listed.filter.listener else { return Ok(()) };
    let mut state = serde_json::json!({
        "ociVersion": super::config::VERSION,
        "fds": ["seccompFd"],
        "pid": pid,
        "state": hooks::document(spec, status, init),
    });
    if !listed.filter.metadata.is_empty() {
        state["metadata"] = serde_json::json!(listed.filter.metadata);
    }
    console::send_with(socket, state.to_string().as_bytes(), listener.as_fd())
        .map_err(|error| error.while_doing("cannot hand over the calls that the seccomp filter notifies of"))
}
