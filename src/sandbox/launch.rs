//! Outside: the monitor makes the container's process, has its maps written, starts what serves it, and
//! lets it go.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::sched::CloneFlags;
use rustix::process::DumpableBehavior;

use crate::container::control_group::ControlGroup;
use crate::container::directory::ContainerDirectory;
use crate::container::process::ProcessRef;
use crate::container::spec::{Namespace, Root, Spec};
use crate::emulation::{self, Emulation, Emulator, Places};
use crate::error::{EXIT_SBX, Error, Result, Step};
use crate::identity;
use crate::layers::{Upper, fuse_overlayfs};
use crate::network::bridge::Session;
use crate::network::{self, Helper, Target};
use crate::sandbox::child::{Inside, Stdio};
use crate::sandbox::message::{FromChild, FromLauncher, ToChild, ToLauncher};
use crate::sandbox::namespaces::{self, Held, Join, to_join, to_make};
use crate::sandbox::userns::become_root;
use crate::seccomp;
use crate::secret::copies::Values;
use crate::sys::channel::Channel;
use crate::sys::process::{Clone, Fork, clone3, clone3_into, exit_now, fork, send_signal, wait_for};
use crate::volume::attach::attach;

const HELPER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the server of a root may take to write back what is dirty.
const SERVER_PATIENCE: Duration = Duration::from_secs(10);

/// A container's process and what serves it, up to the point where it waits for [`Sandbox::go`].
pub struct Sandbox {
    pub pid: i32,
    pub pidfd: OwnedFd,
    /// The canonical user namespace: the one whose IDs the files of the upper carry.
    pub userns: File,
    /// The master side of the container's terminal.
    pub terminal: Option<OwnedFd>,
    /// The server of the root.
    pub root_server: Option<i32>,
    pub network: Option<Helper>,
    /// Answers for emulated root.
    pub emulator: Option<Emulator>,
    /// For processes that are brought in while the container runs.
    pub namespaces: Option<Held>,
    /// What its processes, and no others, are in.
    pub cgroup: Option<ControlGroup>,
    /// What the caller should know.
    pub notices: Vec<String>,
    channel: Channel,
}

/// What [`prepare`] needs.
pub struct Request<'a> {
    pub spec: &'a Spec,
    pub directory: &'a ContainerDirectory,
    /// The user's runtime directory, in which the container has one of its own.
    pub runtime: &'a Path,
    pub stdio: Stdio,
    /// Where the owners of emulated root are recorded.
    pub owners: Places,
    /// For the container's processes; it is done without where they cannot be brought in.
    pub cgroup: Option<ControlGroup>,
    /// The bridge networks that it is in.
    pub bridges: Option<&'a mut Session>,
    /// The first process of a running container, for namespaces of others.
    pub init_of: &'a dyn Fn(&str) -> Result<i32>,
    /// What the monitor does besides.
    pub meanwhile: Meanwhile<'a>,
}

/// The monitor's own work, at the moments when it would wait.
pub struct Meanwhile<'a> {
    /// In the common case while the helpers write the maps; the child looks at the result afterwards.
    pub mapping: &'a dyn Fn() -> Result<()>,
    /// While the child mounts.
    pub mounting: &'a mut dyn FnMut(&Born<'_>) -> Result<()>,
}

/// The container's first process, as soon as there is one.
pub struct Born<'a> {
    pub pid: i32,
    pub pidfd: BorrowedFd<'a>,
}

/// Makes the sandbox. On an error everything that was started is ended before it is returned.
pub fn prepare(request: Request<'_>) -> Result<Sandbox> {
    let Request { spec, directory, runtime, stdio, owners, cgroup, bridges, init_of, meanwhile } = request;
    let volumes = attach(spec)?;
    let spec = volumes.spec(spec);
    let spec = spec.as_ref();
    let joins = to_join(spec, init_of)?;
    let seccomp =
        seccomp::program(&spec.security.seccomp, spec.security.capabilities, seccomp::running_kernel())?;
    let (ours, theirs) = Channel::pair().step(|| "cannot make a socket pair")?;
    let emulation = match spec.emulation {
        Emulation::Off => None,
        Emulation::IfPossible | Emulation::Required => Some(emulation::program()?),
    };
    let inside = Inside {
        spec,
        directory,
        channel: theirs,
        stdio,
        seccomp,
        emulation,
        secrets: Values::new(),
        makes_network: false,
        makes_cgroup: false,
    };

    let below = bridges.as_ref().map(|bridges| bridges.namespace());
    let (mut sandbox, launcher) = if joins.is_empty() && spec.identity.nested.is_none() && below.is_none() {
        (directly(inside, ours, cgroup, meanwhile.mapping)?, None)
    } else {
        (meanwhile.mapping)()?;
        let (mut sandbox, launcher) = through_launcher(inside, ours, &joins, below)?;
        sandbox.cgroup = cgroup.filter(|group| adopted(group, sandbox.pid));
        (sandbox, Some(launcher))
    };
    let places = (spec, directory, runtime);
    let ready = serve_until_ready(&mut sandbox, places, owners, launcher, bridges, meanwhile.mounting);
    match ready.and_then(|()| volumes.keep()) {
        Ok(()) => Ok(sandbox),
        Err(error) => {
            sandbox.end();
            Err(error)
        }
    }
}

impl Sandbox {
    /// A process that nothing serves yet.
    fn new(pid: i32, pidfd: OwnedFd, userns: File, channel: Channel) -> Self {
        Self {
            pid,
            pidfd,
            userns,
            terminal: None,
            root_server: None,
            network: None,
            emulator: None,
            namespaces: None,
            cgroup: None,
            notices: Vec::new(),
            channel,
        }
    }

    /// The root of a process that will not be told to go, with nothing of the host above it. As long as it is open, its
    /// server does not end.
    ///
    /// # Errors
    /// The last steps of the set-up failed.
    pub fn root(&self) -> Result<OwnedFd> {
        loop {
            match self.channel.receive().step(|| "cannot talk to the container's process")? {
                Some((FromChild::Root, Some(root))) => return Ok(root),
                Some((FromChild::Notice(_), _)) => {}
                Some((FromChild::Failed(error), _)) => return Err(error),
                _ => return Err(ended_early(self.pid)),
            }
        }
    }

    /// Lets the process execute the command, and returns when it has: its end of the channel is
    /// close-on-exec.
    pub fn go(&mut self) -> Result<()> {
        // One that failed meanwhile has said why, and does not read any more.
        let _ = self.channel.send(&ToChild::Go);
        let mut listened = false;
        loop {
            match self.channel.receive().step(|| "cannot talk to the container's process")? {
                None => break,
                Some((FromChild::Listener { user }, Some(listener))) => {
                    if let Some(emulator) = &self.emulator {
                        emulator.serve(listener.as_fd(), user)?;
                        listened = true;
                    }
                }
                Some((FromChild::Root, _)) => {}
                Some((FromChild::Notice(notice), _)) => self.notices.push(notice),
                Some((FromChild::Failed(error), _)) => return Err(error),
                Some(_) => return Err(Error::new("the container's process said something unexpected")),
            }
        }
        if !listened && let Some(emulator) = self.emulator.take() {
            emulator.end();
        }
        Ok(())
    }

    /// To be told of every other child that was reaped, since its process ID may be another's from now on. Says
    /// what the container has lost with it.
    pub fn reaped(&mut self, pid: i32) -> Option<String> {
        if self.root_server == Some(pid) {
            // It goes with the mount, mostly a moment before the container's first process is reaped.
            self.root_server = None;
        }
        self.network.as_mut()?.reaped(pid)
    }

    /// Ends everything that was started and waits for it.
    pub fn end(&mut self) {
        let _ = send_signal(self.pid, libc::SIGKILL);
        let _ = wait_for(self.pid);
        self.end_servers();
    }

    /// Ends what serves a container whose first process is gone already.
    pub fn end_servers(&mut self) {
        // The root is served for as long as anybody holds it.
        self.namespaces = None;
        if let Some(network) = self.network.take() {
            network.stop();
        }
        if let Some(emulator) = self.emulator.take() {
            // It holds files of the root, and writes down where they are.
            emulator.end();
        }
        if let Some(server) = self.root_server.take() {
            // The mount went with the container's namespaces and took the server with it, unless the
            // container never got so far.
            let _ = send_signal(-server, libc::SIGTERM);
            let _ = send_signal(server, libc::SIGTERM);
            // A stopped one would neither write back nor end.
            let _ = send_signal(server, libc::SIGCONT);
            if let Some(process) = ProcessRef::of(server)
                && !process.ends_within(SERVER_PATIENCE)
            {
                process.kill(SERVER_PATIENCE);
            }
            let _ = wait_for(server);
        }
    }
}

fn adopted(group: &ControlGroup, pid: i32) -> bool {
    let moved = group.adopt(pid);
    if let Err(error) = &moved {
        ::log::debug!("cannot move the container's process into its cgroup: {error}");
    }
    moved.is_ok()
}

/// The common case: the canonical maps, nothing joined.
fn directly(
    inside: Inside<'_>,
    channel: Channel,
    mut cgroup: Option<ControlGroup>,
    mapping: &dyn Fn() -> Result<()>,
) -> Result<Sandbox> {
    let identity = &inside.spec.identity;
    let flags = libc::CLONE_NEWUSER | to_make(inside.spec);
    // A network namespace takes the kernel longer than all others: the child makes it beside the ID maps.
    let makes_network = flags & libc::CLONE_NEWNET != 0;
    let flags = flags & !libc::CLONE_NEWNET;
    let makes_cgroup = flags & libc::CLONE_NEWCGROUP != 0;
    let cloned = match &cgroup {
        None => clone3(flags),
        Some(group) => clone3_into(flags & !libc::CLONE_NEWCGROUP, Some(group.descriptor())),
    };
    let cloned = match cloned {
        // The group is a convenience; why nothing can be cloned shows without it, too.
        Err(error) if cgroup.is_some() => {
            ::log::debug!("cannot start the container in its cgroup: {error}");
            cgroup = None;
            clone3(flags)
        }
        cloned => cloned,
    };
    match cloned.map_err(|error| clone_failed(&error))? {
        Clone::Child => {
            drop(channel);
            Inside { makes_network, makes_cgroup: makes_cgroup && cgroup.is_some(), ..inside }.run()
        }
        Clone::Parent { pid, pidfd } => {
            let prepared = (|| {
                let writing = identity::start_write(identity, pid)?;
                let userns = open_userns(pid)?;
                mapping()?;
                writing.wait()?;
                Ok(userns)
            })();
            match prepared {
                Ok(userns) => Ok(Sandbox { cgroup, ..Sandbox::new(pid, pidfd, userns, channel) }),
                Err(error) => {
                    let _ = send_signal(pid, libc::SIGKILL);
                    let _ = wait_for(pid);
                    Err(error)
                }
            }
        }
    }
}

/// A process between: it enters or makes the canonical namespace and what else is joined, makes the
/// container's process there as a child of the monitor, and stays, if need be, as the server of its root.
struct Launcher {
    pid: i32,
    channel: Channel,
}

fn through_launcher(
    inside: Inside<'_>,
    channel: Channel,
    joins: &[Join],
    below: Option<BorrowedFd<'_>>,
) -> Result<(Sandbox, Launcher)> {
    let identity = &inside.spec.identity;
    let (ours, theirs) = Channel::pair().step(|| "cannot make a socket pair")?;
    let monitor = std::process::id();
    let launcher = match fork().step(|| "cannot start a process")? {
        Fork::Child => {
            drop(ours);
            launch(inside, channel, theirs, (joins, below), monitor)
        }
        Fork::Parent(pid) => Launcher { pid, channel: ours },
    };
    drop(theirs);
    drop(inside.channel);
    let lost = || "cannot talk to the launcher";
    let mut userns = None;
    let launched = loop {
        match launcher.channel.receive().step(lost)? {
            Some((FromLauncher::Unmapped, _)) => {
                let mapped =
                    identity::start_write(identity, launcher.pid).and_then(identity::PendingWrite::wait);
                if let Err(error) = mapped {
                    break Err(error);
                }
                userns = Some(open_userns(launcher.pid)?);
                launcher.channel.send(&ToLauncher::Mapped).step(lost)?;
            }
            Some((FromLauncher::Launched { pid }, Some(pidfd))) => break Ok((pid, pidfd)),
            Some((FromLauncher::Failed(error), _)) => break Err(error),
            _ => break Err(Error::new(lost())),
        }
    };
    match launched {
        Ok((pid, pidfd)) => {
            let userns = match (userns, below) {
                (Some(userns), _) => userns,
                (None, Some(canonical)) => {
                    File::from(canonical.try_clone_to_owned().step(|| "cannot copy a descriptor")?)
                }
                // The launcher is in the namespace that was joined, and not as closed as the other.
                (None, None) if identity.join.is_some() => open_userns(launcher.pid)?,
                (None, None) => open_userns(pid)?,
            };
            Ok((Sandbox::new(pid, pidfd, userns, channel), launcher))
        }
        Err(error) => {
            let _ = send_signal(launcher.pid, libc::SIGKILL);
            let _ = wait_for(launcher.pid);
            Err(error)
        }
    }
}

/// The launcher's life.
fn launch(
    inside: Inside<'_>,
    channel: Channel,
    monitor_channel: Channel,
    existing: (&[Join], Option<BorrowedFd<'_>>),
    monitor: u32,
) -> ! {
    let (spec, directory) = (inside.spec, inside.directory);
    let _ = rustix::thread::set_name(c"sbx-launcher");
    let _ = crate::sys::process::die_with_parent(monitor);
    // The child lets go of its copy, or the monitor would not see that the launcher was killed.
    let mut to_monitor = Some(monitor_channel);
    let launched = launch_child(inside, channel, &mut to_monitor, existing);
    let Some(monitor_channel) = to_monitor else { exit_now(125) };
    match launched {
        Ok((pid, pidfd)) => {
            if monitor_channel.send_with(&FromLauncher::Launched { pid }, pidfd.as_fd()).is_err() {
                exit_now(125);
            }
        }
        Err(error) => {
            let _ = monitor_channel.send(&FromLauncher::Failed(error));
            exit_now(125);
        }
    }
    match monitor_channel.receive() {
        Ok(Some((ToLauncher::ServeRoot, Some(device)))) => {
            let Ok(program) = fuse_overlayfs::available() else { exit_now(125) };
            fuse_overlayfs::Server {
                program: &program,
                device,
                userns: None,
                root: &spec.root,
                owner: spec.sole_owner(),
                upper: &upper(spec, directory),
                stage: &directory.stage(),
                log: &directory.root_server_log(),
            }
            .become_server(monitor)
        }
        _ => exit_now(0),
    }
}

fn launch_child(
    inside: Inside<'_>,
    channel: Channel,
    to_monitor: &mut Option<Channel>,
    (joins, below): (&[Join], Option<BorrowedFd<'_>>),
) -> Result<(i32, OwnedFd)> {
    let identity = &inside.spec.identity;
    let monitor_channel = to_monitor.as_ref().ok_or_else(|| Error::new("cannot talk to the monitor"))?;
    let mut flags = libc::CLONE_PARENT | to_make(inside.spec);
    if identity.join.is_some() {
        // The user namespace comes first in the list.
        joins.iter().try_for_each(Join::enter)?;
        // What is there already may trace what comes in, and that stands in the host's root for a while: it
        // is closed from its first moment on. A network helper finds the new namespace at this process, which
        // is in nobody's sight.
        if flags & libc::CLONE_NEWNET != 0 {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| clone_failed(&errno.into()))?;
            flags &= !libc::CLONE_NEWNET;
        }
        crate::sandbox::command::set_oom_score(inside.spec)?;
        crate::sys::process::forget_arguments(c"sbx").step(|| "cannot hide the command line")?;
        set_dumpable(DumpableBehavior::NotDumpable)?;
    } else if let Some(canonical) = below {
        nix::sched::setns(canonical, CloneFlags::CLONE_NEWUSER)
            .step(|| "cannot join the user namespace of the networks")?;
        become_root()?;
        joins.iter().try_for_each(Join::enter)?;
        flags |= libc::CLONE_NEWUSER;
    } else if let Some(_nested) = &identity.nested {
        nix::sched::unshare(CloneFlags::CLONE_NEWUSER)
            .map_err(|errno| crate::host::userns::explain_clone_failure(&errno.into()))?;
        monitor_channel.send(&FromLauncher::Unmapped).step(|| "cannot talk to the monitor")?;
        monitor_channel.receive::<ToLauncher>().step(|| "cannot talk to the monitor")?;
        become_root()?;
        joins.iter().try_for_each(Join::enter)?;
        flags |= libc::CLONE_NEWUSER;
    } else {
        joins.iter().try_for_each(Join::enter)?;
        flags |= libc::CLONE_NEWUSER;
    }
    match clone3(flags).map_err(|error| clone_failed(&error))? {
        Clone::Child => {
            drop((channel, to_monitor.take()));
            inside.run()
        }
        Clone::Parent { pid, pidfd } => {
            set_dumpable(DumpableBehavior::Dumpable)?;
            if flags & libc::CLONE_NEWUSER != 0 {
                let written = if identity.nested.is_some() || below.is_some() {
                    identity::open_process(pid)
                        .and_then(|process| identity::write_nested(process, &identity.maps_below()))
                } else {
                    identity::start_write(identity, pid).and_then(identity::PendingWrite::wait)
                };
                if let Err(error) = written {
                    let _ = send_signal(pid, libc::SIGKILL);
                    return Err(error);
                }
            }
            Ok((pid, pidfd))
        }
    }
}

/// Starts the servers beside the child's own work, and answers it until it is ready.
fn serve_until_ready(
    sandbox: &mut Sandbox,
    (spec, directory, runtime): (&Spec, &ContainerDirectory, &Path),
    owners: Places,
    mut launcher: Option<Launcher>,
    mut bridges: Option<&mut Session>,
    mounting: &mut dyn FnMut(&Born<'_>) -> Result<()>,
) -> Result<()> {
    let lost = || "cannot talk to the container's process";
    // A child that failed already has said why, and does not read any more.
    let _ = sandbox.channel.send(&ToChild::Mapped);
    if spec.namespaces.net == Namespace::Private {
        loop {
            match sandbox.channel.receive().step(lost)? {
                Some((FromChild::NetworkOpen, _)) => break,
                Some((FromChild::Notice(notice), _)) => sandbox.notices.push(notice),
                Some((FromChild::Failed(error), _)) => return Err(error),
                _ => return Err(ended_early(sandbox.pid)),
            }
        }
        let cache = network::cache(runtime);
        let runtime_dir = runtime.join(&spec.id);
        let joined = launcher.as_ref().filter(|_| spec.identity.join.is_some());
        let pid = joined.map_or(sandbox.pid, |launcher| launcher.pid);
        let target = Target { pid, runtime_dir: &runtime_dir, cache: &cache };
        match &bridges {
            Some(bridges) => bridges.plug(namespaces::open(&pid.to_string(), "net")?.as_fd())?,
            None => sandbox.network = network::start(&spec.network, &target)?,
        }
    }
    mounting(&Born { pid: sandbox.pid, pidfd: sandbox.pidfd.as_fd() })?;
    if spec.emulation != Emulation::Off {
        sandbox.emulator = Some(Emulator::start(sandbox.pid, owners)?);
    }
    let mut shown = Vec::new();
    loop {
        match sandbox.channel.receive().step(lost)? {
            Some((FromChild::Namespace { name }, Some(namespace))) => shown.push((name, namespace)),
            Some((FromChild::ServeRoot, Some(device))) => {
                sandbox.root_server = Some(serve_root(sandbox, spec, directory, device, &mut launcher)?);
            }
            Some((FromChild::Notice(notice), _)) => sandbox.notices.push(notice),
            Some((FromChild::Terminal, Some(master))) => sandbox.terminal = Some(master),
            Some((FromChild::Ready, _)) => break,
            Some((FromChild::Failed(error), _)) => return Err(with_server_log(error, directory)),
            None | Some(_) => return Err(with_server_log(ended_early(sandbox.pid), directory)),
        }
    }
    sandbox.namespaces = match Held::of(sandbox.pid, spec, shown) {
        Ok(held) => Some(held),
        // It ended after it had said that it is ready, and why.
        Err(error) => match sandbox.channel.receive() {
            Ok(Some((FromChild::Failed(why), _))) => return Err(why),
            _ => return Err(error),
        },
    };
    let ready = match (&mut sandbox.network, &mut bridges) {
        (Some(helper), _) => helper.wait_ready(HELPER_TIMEOUT),
        (None, Some(bridges)) => bridges.wait(),
        (None, None) => Ok(()),
    };
    if let Some(launcher) = launcher {
        launcher.channel.send(&ToLauncher::Done).step(lost)?;
        let _ = wait_for(launcher.pid);
    }
    ready
}

fn serve_root(
    sandbox: &Sandbox,
    spec: &Spec,
    directory: &ContainerDirectory,
    device: OwnedFd,
    launcher: &mut Option<Launcher>,
) -> Result<i32> {
    if let Some(launcher) = launcher.take_if(|_| spec.identity.nested.is_some()) {
        launcher
            .channel
            .send_with(&ToLauncher::ServeRoot, device.as_fd())
            .step(|| "cannot talk to the launcher")?;
        return Ok(launcher.pid);
    }
    let program = fuse_overlayfs::available()?;
    fuse_overlayfs::Server {
        program: &program,
        device,
        userns: Some(&sandbox.userns),
        root: &spec.root,
        owner: spec.sole_owner(),
        upper: &upper(spec, directory),
        stage: &directory.stage(),
        log: &directory.root_server_log(),
    }
    .start()
}

fn upper(spec: &Spec, directory: &ContainerDirectory) -> Upper {
    let throw_away = spec.remove_on_exit || matches!(spec.root, Root::WritableDirectory { .. });
    Upper { upper: directory.upper(), work: directory.work(), throw_away }
}

fn open_userns(pid: i32) -> Result<File> {
    File::open(format!("/proc/{pid}/ns/user")).step(|| "cannot open the container's user namespace")
}

fn set_dumpable(behaviour: DumpableBehavior) -> Result<()> {
    rustix::process::set_dumpable_behavior(behaviour).step(|| "cannot close the process to others")
}

fn clone_failed(error: &std::io::Error) -> Error {
    crate::host::userns::explain_clone_failure(error)
}

fn ended_early(pid: i32) -> Error {
    let failed = Error::new("the container's process ended before it was set up").exit_code(EXIT_SBX);
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) if stat.contains(") Z ") => failed.because("it was killed"),
        _ => failed,
    }
}

/// An input or output error of the root is explained by what its server last said.
fn with_server_log(error: Error, directory: &ContainerDirectory) -> Error {
    let log = std::fs::read_to_string(directory.root_server_log()).unwrap_or_default();
    // Some versions warn of every option that they do not know.
    match log.lines().rev().find(|line| !line.contains("unknown argument ignored")) {
        Some(last) => error.because(format!("fuse-overlayfs said: {last}")),
        None => error,
    }
}
