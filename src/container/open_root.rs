//! The root of a container, opened for work in its files, whether the container runs or not.
//!
//! Nothing enters the container's mount namespace: its root is an open directory, from which every path is resolved
//! with RESOLVE_IN_ROOT, through what is mounted in it. The work is done by a process in the container's user
//! namespace, whose IDs the files have and which the server of a FUSE root answers. That process stays in the host's
//! other namespaces and is undumpable, so that nothing of the container sees or traces it.
//!
//! A container that does not run is made ready as for a start and never told to go; its lock is held meanwhile.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sched::CloneFlags;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::DumpableBehavior;

use crate::container::process::{ProcessRef, boot_id};
use crate::container::spec::{MountKind, Namespace, Seccomp, Spec};
use crate::container::store::{Claim, Running, Store};
use crate::container::sweep;
use crate::emulation::{Emulation, Places};
use crate::error::{EXIT_SBX, Error, Result, Step};
use crate::monitor::files;
use crate::network::Mode as NetworkMode;
use crate::sandbox::child::Stdio;
use crate::sandbox::inroot::InRoot;
use crate::sandbox::launch::{self, Born, Meanwhile, Sandbox};
use crate::sandbox::userns::become_root;
use crate::sys::process::{Fork, close_all_but, die_with_parent, exit_now, fork, has_ended};

/// How long a container may be on its way between running and stopped, or in the hands of another such command.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long the last steps of a start may take.
const SETTING_UP: Duration = Duration::from_secs(5);

/// A container's root, and the user namespace of its files.
pub struct OpenRoot {
    spec: Spec,
    root: OwnedFd,
    userns: File,
    /// Keeps one that does not run; dropped last, when nothing of the root is open any more.
    _held: Option<Held>,
}

struct Held {
    sandbox: Sandbox,
    /// Let go of last.
    _visit: Visit,
    runtime: PathBuf,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.sandbox.end();
        sweep::remove_runtime(&self.runtime);
    }
}

/// Keeps others from starting or removing a stopped container. A killed holder leaves nothing behind but a file that
/// the next command removes.
pub struct Visit {
    claim: Claim,
    record: Running,
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.claim.release();
    }
}

/// A container that stays as it is.
pub enum Kept {
    /// By its first process.
    Running(ProcessRef),
    Stopped(Box<Visit>),
}

/// The container's spec, and what it is doing; one that does not run is kept from being started or removed.
///
/// # Errors
/// There is no such container, or it is neither running nor stopped for long.
pub fn look(store: &Store, runtime: &Path, id: &str) -> Result<(Spec, Kept)> {
    let until = Instant::now() + PATIENCE;
    loop {
        let spec = store.read_spec(id)?;
        let record = store.record_of(id).filter(|record| record.boot_id == boot_id());
        if let Some(init) = record.and_then(|record| record.started_at.and(record.init))
            && init.is_alive()
        {
            return Ok((spec, Kept::Running(init)));
        }
        sweep::put_in_order_if_abandoned(store, id, runtime);
        let claim = store.claim_stopped(id)?;
        let Some(claim) = claim.filter(|claim| claim.recorded().boot_id.is_empty()) else {
            if Instant::now() > until {
                return Err(Error::new(format!("cannot work with the container `{}`", spec.name))
                    .because("it is neither running nor stopped, or another command works in it"));
            }
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        let record = Running {
            boot_id: boot_id(),
            monitor: ProcessRef::of(std::process::id().cast_signed()),
            runtime: Some(runtime.join(id)),
            visit: true,
            ..Running::default()
        };
        let visit = Visit { claim, record };
        visit.claim.record(&visit.record)?;
        // It may have been removed before the lock was had.
        return Ok((store.read_spec(id)?, Kept::Stopped(Box::new(visit))));
    }
}

impl OpenRoot {
    /// Opens the root of the container. The caller has one thread.
    ///
    /// # Errors
    /// The container cannot be made ready, or is neither running nor stopped for long.
    pub fn open(store: &Store, runtime: &Path, id: &str) -> Result<Self> {
        loop {
            let (spec, found) = look(store, runtime, id)?;
            let name = spec.name.clone();
            let failed = |error: Error| {
                error
                    .while_doing(format!("cannot open the root of the container `{name}`"))
                    .exit_code(EXIT_SBX)
            };
            match found {
                Kept::Stopped(visit) => return stopped(store, runtime, spec, *visit).map_err(failed),
                Kept::Running(init) => match running(init) {
                    Ok((root, userns)) => return Ok(Self { spec, root, userns, _held: None }),
                    Err(error) if init.is_alive() => return Err(failed(error)),
                    Err(_) => {}
                },
            }
        }
    }

    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Starts a process that does `work` as root of the container's user namespace, with the paths of the container,
    /// and ends with it; its PID. It dies with the caller, which has one thread. `work` is also told that the
    /// namespace could not be entered. Of what is open it has the standard streams and `kept`: a pipe that is held
    /// open at both ends never ends.
    ///
    /// # Errors
    /// There is no process to be had.
    pub fn start(&self, kept: &[RawFd], work: impl FnOnce(Result<InRoot>)) -> Result<i32> {
        let parent = std::process::id();
        match fork().step(|| "cannot start a process")? {
            Fork::Parent(pid) => Ok(pid),
            Fork::Child => {
                let own = [0, 1, 2, self.root.as_raw_fd(), self.userns.as_raw_fd()];
                close_all_but(&mut [&own, kept].concat());
                work(self.enter(parent));
                exit_now(0)
            }
        }
    }

    fn enter(&self, parent: u32) -> Result<InRoot> {
        let failed = || "cannot enter the container's user namespace";
        let _ = rustix::thread::set_name(c"sbx-files");
        // Before anything of the container has power over it.
        let closed = || rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).step(failed);
        closed()?;
        nix::sched::setns(&self.userns, CloneFlags::CLONE_NEWUSER).step(failed)?;
        become_root()?;
        closed()?;
        // The caller's groups may give what the container's root has not.
        let _ = rustix::thread::set_thread_groups(&[]);
        die_with_parent(parent).step(failed)?;
        rustix::process::umask(Mode::empty());
        let root = self.root.try_clone().step(failed)?;
        let until = Instant::now() + SETTING_UP;
        while !is_on_top(&root).step(|| "cannot look at the container's root")? {
            if Instant::now() > until {
                return Err(Error::new("something is mounted over the container's root"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(InRoot::of(root))
    }
}

/// The root and the user namespace of a running container.
fn running(init: ProcessRef) -> Result<(OwnedFd, File)> {
    let failed = || "cannot look into the container";
    let pidfd = init.open().ok_or_else(|| Error::new(failed()).because("it ended"))?;
    let until = Instant::now() + SETTING_UP;
    // Until the command is executed the process is closed to everybody; and while it ends it shows nothing, but has not
    // ended.
    let passes = |error: &std::io::Error| {
        matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound) && Instant::now() < until
    };
    let opened = loop {
        match shown_by(init.pid) {
            Err(error) if passes(&error) => {
                std::thread::sleep(Duration::from_millis(1));
            }
            opened => break opened.step(failed)?,
        }
        if has_ended(&pidfd) {
            return Err(Error::new(failed()).because("it ended"));
        }
    };
    // The number was still that process's.
    if has_ended(&pidfd) {
        return Err(Error::new(failed()).because("it ended"));
    }
    Ok(opened)
}

/// Whether nothing is mounted over the root itself. That would be where `..` leads; and while a container is being set
/// up it is the root of the host, which lies on the new one until it is let go of.
fn is_on_top(root: &OwnedFd) -> rustix::io::Result<bool> {
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let above = match rustix::fs::openat2(root, "..", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), within) {
        // A mount or rename anywhere ran beside it.
        Err(Errno::AGAIN) => return Ok(false),
        above => above?,
    };
    let (root, above) = (rustix::fs::fstat(root)?, rustix::fs::fstat(above)?);
    Ok((root.st_dev, root.st_ino) == (above.st_dev, above.st_ino))
}

/// What /proc shows of a process. The init of `--init` shows nothing, but its child, the command, does.
fn shown_by(pid: i32) -> std::io::Result<(OwnedFd, File)> {
    let of = |pid: i32| -> std::io::Result<(OwnedFd, File)> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty())?;
        Ok((root, File::open(format!("/proc/{pid}/ns/user"))?))
    };
    of(pid).or_else(|error| {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let mut children = children.split_ascii_whitespace().filter_map(|child| child.parse().ok());
        children.find_map(|child| of(child).ok()).ok_or(error)
    })
}

fn stopped(store: &Store, runtime: &Path, spec: Spec, visit: Visit) -> Result<OpenRoot> {
    let directory = store.directory_of(&spec);
    let prepared = (|| {
        let files_only = for_files(&spec)?;
        let located = files_only.located(store.root(), &directory)?;
        let null = || {
            let flags = OFlags::RDWR | OFlags::CLOEXEC;
            rustix::fs::open("/dev/null", flags, Mode::empty()).step(|| "cannot open /dev/null")
        };
        let init_of = |id: &str| {
            let record = store.running_record(id)?;
            record.init.map(|init| init.pid).ok_or_else(|| Error::new("the container has no process"))
        };
        let furnishing = || files::overlay_volumes(&located, &directory);
        let mut mounting = |born: &Born<'_>| {
            let record = Running { init: ProcessRef::of(born.pid), ..visit.record.clone() };
            visit.claim.record(&record)
        };
        launch::prepare(launch::Request {
            bridges: None,
            spec: &located,
            directory: &directory,
            runtime,
            stdio: Stdio::Pipes { stdin: null()?, stdout: null()?, stderr: null()? },
            owners: Places::default(),
            cgroup: None,
            init_of: &init_of,
            gate: None,
            lock: None,
            meanwhile: Meanwhile {
                furnishing: &furnishing,
                mounting: &mut mounting,
                mounted: &mut Meanwhile::nothing,
                attaching: &mut Meanwhile::no_mounts,
                calls: &mut Meanwhile::no_calls,
            },
        })
    })();
    let held = Held { sandbox: prepared?, _visit: visit, runtime: runtime.join(&spec.id) };
    let root = held.sandbox.root()?;
    let userns = match &spec.identity.nested {
        None => held.sandbox.userns.try_clone(),
        Some(_) => File::open(format!("/proc/{}/ns/user", held.sandbox.pid)),
    };
    let userns = userns.step(|| "cannot open the container's user namespace")?;
    Ok(OpenRoot { spec, root, userns, _held: Some(held) })
}

/// The container as far as its files are concerned: no network, no command, no devices, nothing that is empty at each
/// start and gone at each end.
fn for_files(spec: &Spec) -> Result<Spec> {
    let mut spec = spec.clone();
    let own = |namespace: &mut Namespace| {
        if !matches!(namespace, Namespace::Private | Namespace::Host) {
            *namespace = Namespace::Private;
        }
    };
    let namespaces = &mut spec.namespaces;
    [&mut namespaces.pid, &mut namespaces.ipc, &mut namespaces.uts].into_iter().for_each(own);
    (namespaces.net, namespaces.cgroup) = (Namespace::Private, Namespace::Host);
    namespaces.time = Namespace::Host;
    spec.network.mode = NetworkMode::None;
    spec.network.memberships.clear();
    spec.network.links.clear();
    spec.network.ports.clear();
    spec.mounts.retain(|mount| keeps_files(&mount.kind));
    spec.devices.clear();
    spec.sysctls.clear();
    spec.rlimits.clear();
    spec.security.seccomp = Seccomp::Unconfined;
    spec.emulation = Emulation::Off;
    (spec.oom_score_adj, spec.init, spec.read_only) = (None, false, false);
    // An overlay that is not written through cannot be mounted again.
    spec.remove_on_exit = false;
    let root = spec.identity.lowest().filter(|_| spec.identity.join.is_none()).unwrap_or((0, 0));
    let process = &mut spec.process;
    process.user = Some(format!("{}:{}", root.0, root.1));
    (process.account, process.keep_groups, process.terminal) = (None, false, false);
    process.groups.clear();
    process.cwd = PathBuf::from("/");
    Ok(spec)
}

fn keeps_files(kind: &MountKind) -> bool {
    match kind {
        MountKind::Bind(_) | MountKind::Volume(_) => true,
        MountKind::Tmpfs { .. }
        | MountKind::Devpts
        | MountKind::Mqueue
        | MountKind::Proc
        | MountKind::Sysfs
        | MountKind::Cgroup
        | MountKind::Secrets(_) => false,
    }
}
