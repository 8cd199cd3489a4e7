//! Outside: the monitor makes the container's process, has its maps written, starts what serves it, and
//! lets it go.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use crate::container::control_group::ControlGroup;
use crate::container::directory::ContainerDirectory;
use crate::container::listed::Attached;
use crate::container::process::ProcessRef;
use crate::container::spec::{Namespace, Spec};
use crate::emulation::{self, Emulation, Emulator, Places};
use crate::error::{EXIT_SBX, Error, Result, Step};
use crate::identity;
use crate::layers::{Upper, fuse_overlayfs};
use crate::network::bridge::Session;
use crate::network::{self, Helper, Target};
use crate::sandbox::child::{Inside, Stdio};
use crate::sandbox::launcher::{Launcher, through_launcher};
use crate::sandbox::listed::{self, Gate};
use crate::sandbox::message::{FromChild, ToChild, ToLauncher};
use crate::sandbox::namespaces::{self, Held, to_join, to_make};
use crate::seccomp;
use crate::secret::copies::Values;
use crate::sys::channel::Channel;
use crate::sys::net::loopback_up_by;
use crate::sys::process::{Clone, clone3, clone3_into, send_signal, wait_for};
use crate::sys::scheduling::Apart;
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
    /// Of a bundle whose maker does not stay.
    pub gate: Option<Gate>,
    /// What locks the record of a bundle's container: it goes with the maker, not with what is made.
    pub lock: Option<BorrowedFd<'a>>,
    /// What the monitor does besides.
    pub meanwhile: Meanwhile<'a>,
}

/// The monitor's own work, at the moments when it would wait.
pub struct Meanwhile<'a> {
    /// In the common case while the helpers write the maps, or after that, beside the child's first mounts; the child
    /// looks at the result when it is told.
    pub furnishing: &'a dyn Fn() -> Result<()>,
    /// While the child mounts.
    pub mounting: &'a mut dyn FnMut(&Born<'_>) -> Result<()>,
    /// Of a bundle: when everything is mounted, before the root of the host is let go of.
    pub mounted: &'a mut dyn FnMut(&Born<'_>) -> Result<()>,
    /// Of a bundle: records what it mounts in somebody else's mount namespace.
    pub attaching: &'a mut dyn FnMut(Attached) -> Result<()>,
    /// Of a bundle: takes the listener of its filter.
    pub calls: &'a mut dyn FnMut(&Born<'_>, OwnedFd) -> Result<()>,
}

impl Meanwhile<'_> {
    /// For what only bundles ask of it.
    pub fn nothing(_: &Born<'_>) -> Result<()> {
        Ok(())
    }

    /// The same of mounts with others, which nobody has asked for.
    pub fn no_mounts(_: Attached) -> Result<()> {
        Err(Error::new("the container's process said something unexpected"))
    }

    /// The same of a listener.
    pub fn no_calls(_: &Born<'_>, _: OwnedFd) -> Result<()> {
        Err(Error::new("the container's process said something unexpected"))
    }
}

/// The container's first process, as soon as there is one.
pub struct Born<'a> {
    pub pid: i32,
    pub pidfd: BorrowedFd<'a>,
}

/// Makes the sandbox. On an error everything that was started is ended before it is returned.
pub fn prepare(request: Request<'_>) -> Result<Sandbox> {
    let Request {
        spec,
        directory,
        runtime,
        stdio,
        owners,
        cgroup,
        bridges,
        init_of,
        gate,
        lock,
        mut meanwhile,
    } = request;
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
        gate,
        mapped: listed::mapping::binds(spec)?,
        mounts: namespaces::mounts_to_join(spec)?,
        lock,
    };

    let below = bridges.as_ref().map(|bridges| bridges.namespace());
    let mut furnished = false;
    let (mut sandbox, launcher) = if joins.is_empty() && spec.identity.nested.is_none() && below.is_none() {
        let mut furnish = || {
            furnished = true;
            (meanwhile.furnishing)()
        };
        (directly(inside, ours, cgroup, &mut furnish)?, None)
    } else {
        // What a child reaches as the caller it opens before anything else.
        (meanwhile.furnishing)()?;
        furnished = true;
        let group = cgroup.as_ref().map(ControlGroup::descriptor);
        let (mut sandbox, launcher, grouped) = through_launcher(inside, ours, (&joins, below, group))?;
        match cgroup
            .map(|group| if grouped { Ok(Some(group)) } else { adopt(group, sandbox.pid) })
            .transpose()
        {
            Ok(group) => sandbox.cgroup = group.flatten(),
            Err(error) => {
                sandbox.end();
                return Err(error);
            }
        }
        (sandbox, Some(launcher))
    };
    let places = (spec, directory, runtime);
    let ready = tell_mapped(&sandbox, spec, || if furnished { Ok(()) } else { (meanwhile.furnishing)() })
        .and_then(|()| serve_until_ready(&mut sandbox, places, owners, launcher, bridges, &mut meanwhile));
    match ready.and_then(|()| volumes.keep()) {
        Ok(()) => Ok(sandbox),
        Err(error) => {
            let starved = sandbox.cgroup.as_ref().is_some_and(|group| group.oom_kills() > 0);
            sandbox.end();
            Err(if starved {
                error
                    .because("its memory limit does not do for starting it")
                    .hint("allow it more with `--memory`")
            } else {
                error
            })
        }
    }
}

impl Sandbox {
    /// A process that nothing serves yet.
    pub(super) fn new(pid: i32, pidfd: OwnedFd, userns: File, channel: Channel) -> Self {
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
        self.namespaces = None;
        self.end_servers();
    }

    /// Ends what serves a container whose first process is gone already. Its namespaces are left, where nothing waits
    /// for their end: the kernel takes a quarter of a millisecond for the mounts.
    pub fn end_servers(&mut self) {
        if self.root_server.is_some() {
            // The root is served for as long as anybody holds it.
            self.namespaces = None;
        }
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

/// Moves the container's process into its cgroup; none: it is done without.
fn adopt(group: ControlGroup, pid: i32) -> Result<Option<ControlGroup>> {
    let failed = "cannot move the container's process into its control group";
    match group.adopt(pid) {
        Ok(()) => Ok(Some(group)),
        Err(error) if group.needed => Err(Error::new(failed).because(error)),
        Err(error) => {
            ::log::debug!("{failed}: {error}");
            Ok(None)
        }
    }
}

/// The common case: the canonical maps, nothing joined.
fn directly(
    inside: Inside<'_>,
    channel: Channel,
    cgroup: Option<ControlGroup>,
    furnish: &mut dyn FnMut() -> Result<()>,
) -> Result<Sandbox> {
    let mut grouped = cgroup.is_some();
    let identity = &inside.spec.identity;
    let own_users = identity.join != Some(Namespace::Host);
    let flags = to_make(inside.spec) | if own_users { libc::CLONE_NEWUSER } else { 0 };
    // A network namespace takes the kernel longer than all others: the child makes it beside the ID maps.
    let makes_network = flags & libc::CLONE_NEWNET != 0;
    let flags = flags & !libc::CLONE_NEWNET;
    let makes_cgroup = flags & libc::CLONE_NEWCGROUP != 0;
    let cloned = match &cgroup {
        None => clone3(flags),
        Some(group) => clone3_into(flags & !libc::CLONE_NEWCGROUP, Some(group.descriptor())),
    };
    let cloned = match cloned {
        // Before Linux 5.7; why nothing can be cloned at all shows without it, too.
        Err(error) if cgroup.is_some() => {
            ::log::debug!("cannot start the container in its cgroup: {error}");
            grouped = false;
            clone3(flags)
        }
        cloned => cloned,
    };
    match cloned.map_err(|error| clone_failed(&error))? {
        Clone::Child => {
            drop(channel);
            Inside { makes_network, makes_cgroup: makes_cgroup && grouped, ..inside }.run()
        }
        Clone::Parent { pid, pidfd } => {
            // Or the end of the child would not be the end of what it says.
            drop(inside.channel);
            let prepared = (|| {
                let _apart = Apart::of(pid);
                let mut writing = own_users.then(|| identity::start_write(identity, pid)).transpose()?;
                let userns = open_userns(pid)?;
                // The child needs the maps before anything else.
                if writing.as_mut().is_some_and(|writing| !writing.is_done()) {
                    furnish()?;
                }
                writing.map_or(Ok(()), identity::PendingWrite::wait)?;
                let cgroup = match cgroup {
                    Some(group) if !grouped => adopt(group, pid)?,
                    cgroup => cgroup,
                };
                Ok((userns, cgroup))
            })();
            match prepared {
                Ok((userns, cgroup)) => Ok(Sandbox { cgroup, ..Sandbox::new(pid, pidfd, userns, channel) }),
                Err(error) => {
                    let _ = send_signal(pid, libc::SIGKILL);
                    let _ = wait_for(pid);
                    // Nobody can write the maps of a child that has failed meanwhile.
                    Err(last_words(&channel).unwrap_or(error))
                }
            }
        }
    }
}

/// Why a child that has ended did not come further.
fn last_words(channel: &Channel) -> Option<Error> {
    while let Ok(Some((message, _))) = channel.receive::<FromChild>() {
        if let FromChild::Failed(why) = message {
            return Some(why);
        }
    }
    None
}

/// Lets the child go on, which mounts while `furnish` does its work.
fn tell_mapped(sandbox: &Sandbox, spec: &Spec, furnish: impl FnOnce() -> Result<()>) -> Result<()> {
    // A child that failed already has said why, and does not read any more.
    let _ = sandbox.channel.send(&ToChild::Mapped);
    furnish()?;
    if spec.listed.is_none() {
        let _ = sandbox.channel.send(&ToChild::Furnished);
    }
    Ok(())
}

/// Starts the servers beside the child's own work, and answers it until it is ready.
fn serve_until_ready(
    sandbox: &mut Sandbox,
    (spec, directory, runtime): (&Spec, &ContainerDirectory, &Path),
    owners: Places,
    mut launcher: Option<Launcher>,
    mut bridges: Option<&mut Session>,
    meanwhile: &mut Meanwhile<'_>,
) -> Result<()> {
    let lost = || "cannot talk to the container's process";
    let mut held = None;
    let born = Born { pid: sandbox.pid, pidfd: sandbox.pidfd.as_fd() };
    // Of one whose process IDs are shared, namespaces are opened, which it shows once it has its IDs.
    let early = launcher.is_none() && spec.namespaces.pid == Namespace::Private;
    if early {
        (meanwhile.mounting)(&born)?;
    }
    if spec.namespaces.net == Namespace::Private && spec.listed.is_none() {
        loop {
            match sandbox.channel.receive().step(lost)? {
                Some((FromChild::NetworkOpen, _)) => break,
                Some((FromChild::Loopback, Some(socket))) => {
                    loopback_up_by(socket.as_fd()).step(|| "cannot bring the loopback interface up")?;
                }
                Some((FromChild::Notice(notice), _)) => sandbox.notices.push(notice),
                Some((FromChild::Failed(error), _)) => return Err(error),
                _ => return Err(ended_early(sandbox.pid)),
            }
        }
        if launcher.is_none() {
            // By now it is in all of them, and open to the caller. Where it has ended, that shows below.
            held = Held::of(sandbox.pid, spec, Vec::new()).ok();
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
    if !early {
        (meanwhile.mounting)(&Born { pid: sandbox.pid, pidfd: sandbox.pidfd.as_fd() })?;
    }
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
            Some((FromChild::Mounted, _)) => {
                (meanwhile.mounted)(&Born { pid: sandbox.pid, pidfd: sandbox.pidfd.as_fd() })?;
                let _ = sandbox.channel.send(&ToChild::HooksDone);
            }
            Some((FromChild::Attaching(attached), _)) => {
                (meanwhile.attaching)(attached)?;
                let _ = sandbox.channel.send(&ToChild::Recorded);
            }
            Some((FromChild::Calls, Some(listener))) => {
                (meanwhile.calls)(&Born { pid: sandbox.pid, pidfd: sandbox.pidfd.as_fd() }, listener)?;
            }
            Some((FromChild::Ready, _)) => break,
            Some((FromChild::Failed(error), _)) => return Err(with_server_log(error, directory)),
            None | Some(_) => return Err(with_server_log(ended_early(sandbox.pid), directory)),
        }
    }
    if spec.listed.is_some() {
        // Who comes in later finds them at the process, which nobody here outlives.
        if let Some(launcher) = launcher {
            launcher.channel.send(&ToLauncher::Done).step(lost)?;
            let _ = wait_for(launcher.pid);
        }
        return Ok(());
    }
    sandbox.namespaces = match held.map_or_else(|| Held::of(sandbox.pid, spec, shown), Ok) {
        Ok(held) => Some(held),
        // It ended after it had said that it is ready, and why.
        Err(error) => loop {
            match sandbox.channel.receive() {
                Ok(Some((FromChild::Failed(why), _))) => return Err(why),
                Ok(Some((FromChild::Root | FromChild::Notice(_), _))) => {}
                _ => return Err(error),
            }
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
        upper: &Upper::of(spec, directory),
        stage: &directory.stage(),
        log: &directory.root_server_log(),
    }
    .start()
}

pub(super) fn open_userns(pid: i32) -> Result<File> {
    File::open(format!("/proc/{pid}/ns/user")).step(|| "cannot open the container's user namespace")
}

pub(super) fn clone_failed(error: &std::io::Error) -> Error {
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
