//! Which namespaces are made, which are joined.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use rustix::fs::{Mode, OFlags};

use crate::container::spec::{Namespace, Spec};
use crate::error::{Error, Result, Step};
use crate::sandbox::listed;
use crate::sandbox::privileges::learn_of_setgroups;
use crate::sandbox::userns::become_root;
use crate::sys::ids;

/// The file system of namespace files (statfs(2)).
const NSFS_MAGIC: rustix::fs::FsWord = 0x6e73_6673;

/// CLONE_NEWTIME, which the flags of nix lack.
pub(super) const NEW_TIME: i32 = 0x80;

/// What clone3(2) has to make; the user namespace is left to the caller.
pub fn to_make(spec: &Spec) -> i32 {
    let namespaces = &spec.namespaces;
    [
        (&namespaces.pid, libc::CLONE_NEWPID),
        (&namespaces.ipc, libc::CLONE_NEWIPC),
        (&namespaces.uts, libc::CLONE_NEWUTS),
        (&namespaces.net, libc::CLONE_NEWNET),
        (&namespaces.cgroup, libc::CLONE_NEWCGROUP),
        (&namespaces.time, NEW_TIME),
    ]
    .iter()
    .filter(|(namespace, _)| **namespace == Namespace::Private)
    .filter(|(_, flag)| *flag != NEW_TIME || !listed::delays_time(spec))
    .fold(libc::CLONE_NEWNS, |flags, (_, flag)| flags | flag)
}

/// A namespace to join, opened by the monitor.
pub struct Join {
    file: File,
    kind: CloneFlags,
    name: &'static str,
    origin: String,
}

/// Opens every namespace that is somebody else's, the user namespace first: it decides what may be joined.
///
/// `init_of` gives the PID of a running container's first process.
pub fn to_join(spec: &Spec, init_of: &dyn Fn(&str) -> Result<i32>) -> Result<Vec<Join>> {
    let namespaces = &spec.namespaces;
    let host = Namespace::Host;
    let candidates = [
        (spec.identity.join.as_ref().unwrap_or(&host), CloneFlags::CLONE_NEWUSER, "user"),
        (&namespaces.ipc, CloneFlags::CLONE_NEWIPC, "ipc"),
        (&namespaces.uts, CloneFlags::CLONE_NEWUTS, "uts"),
        (&namespaces.net, CloneFlags::CLONE_NEWNET, "net"),
        (&namespaces.cgroup, CloneFlags::CLONE_NEWCGROUP, "cgroup"),
        (&namespaces.time, CloneFlags::from_bits_retain(NEW_TIME), "time"),
        (&namespaces.pid, CloneFlags::CLONE_NEWPID, "pid"),
    ];
    let mut joins = Vec::new();
    for (namespace, kind, name) in candidates {
        let (path, origin) = match namespace {
            Namespace::Private | Namespace::Host => continue,
            Namespace::Path(path) => (path.clone(), format!("`{}`", path.display())),
            Namespace::Container(id) => {
                let path = format!("/proc/{}/ns/{name}", init_of(id)?);
                (PathBuf::from(path), format!("container {}", short(id)))
            }
        };
        joins.push(Join::open(&path, (kind, name), origin)?);
    }
    Ok(joins)
}

/// The mount namespace of somebody else that a bundle names. The child alone joins it, at its end.
///
/// # Errors
/// It is none, or the caller's own.
pub fn mounts_to_join(spec: &Spec) -> Result<Option<Join>> {
    let Some(path) = spec.listed.as_ref().and_then(|listed| listed.joined_mounts.as_ref()) else {
        return Ok(None);
    };
    let origin = format!("`{}`", path.display());
    let join = Join::open(path, (CloneFlags::CLONE_NEWNS, "mnt"), origin)?;
    if is_own(&join.file, join.name) {
        return Err(Error::new(format!("cannot join the mount namespace of {}", join.origin))
            .because("it is the caller's own, and the container's mounts would be the caller's")
            .hint("leave out its path"));
    }
    Ok(Some(join))
}

impl Join {
    fn open(path: &Path, (kind, name): (CloneFlags, &'static str), origin: String) -> Result<Self> {
        let failed = |cause: &dyn std::fmt::Display| {
            Error::new(format!("cannot open the {name} namespace of {origin}")).because(cause).hint(format!(
                "it must be a namespace file such as /proc/PID/ns/{name} of a process of yours that runs"
            ))
        };
        // Without O_NONBLOCK a FIFO would be waited for.
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(|error| failed(&error))?;
        if rustix::fs::fstatfs(&file).is_ok_and(|seen| seen.f_type != NSFS_MAGIC) {
            return Err(failed(&"the file is not a namespace"));
        }
        match ids::namespace_type(&file).ok().map(CloneFlags::from_bits_retain) {
            Some(found) if found != kind => {
                let found = type_name(found);
                Err(Error::new(format!("cannot join the {name} namespace of {origin}"))
                    .because(format!("the file is a namespace of another kind: {found}")))
            }
            _ => Ok(Self { file, kind, name, origin }),
        }
    }

    /// Device and inode of its file.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn number(&self) -> Result<(u64, u64)> {
        number(&self.file).step(|| "cannot look at a namespace")
    }

    /// Where it was found, to be read by people.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// setns(2).
    ///
    /// # Errors
    /// EPERM for a namespace that belongs to a user namespace which the caller has no power over.
    pub fn enter(&self) -> Result<()> {
        nix::sched::setns(&self.file, self.kind).map_err(|errno| {
            let failed = Error::new(format!("cannot join the {} namespace of {}", self.name, self.origin))
                .because(errno);
            match errno {
                nix::Error::EPERM => failed.hint(
                    "without root only namespaces below your own user namespace can be joined: join its user \
                     namespace, too (`--userns container:ID` or `--userns ns:PATH`)",
                ),
                nix::Error::EINVAL if self.kind == CloneFlags::CLONE_NEWUSER => {
                    failed.hint("it is the caller's own: leave it out")
                }
                _ => failed,
            }
        })
    }
}

/// A namespace that the processes of a container are in and the host's are not.
pub struct Kind {
    /// Its name in /proc/PID/ns.
    pub name: &'static str,
    flag: CloneFlags,
    /// It was somebody else's before, and may belong to another user namespace than the container's own.
    foreign: bool,
}

/// The namespaces of a container that are not the host's, in the order in which they can be joined. The mount
/// namespace comes last: what is done meanwhile is done with the host's /proc.
pub fn of_container(spec: &Spec) -> impl Iterator<Item = Kind> + '_ {
    let namespaces = &spec.namespaces;
    let private = &Namespace::Private;
    [
        (private, CloneFlags::CLONE_NEWUSER, "user"),
        (&namespaces.cgroup, CloneFlags::CLONE_NEWCGROUP, "cgroup"),
        (&namespaces.ipc, CloneFlags::CLONE_NEWIPC, "ipc"),
        (&namespaces.uts, CloneFlags::CLONE_NEWUTS, "uts"),
        (&namespaces.net, CloneFlags::CLONE_NEWNET, "net"),
        (&namespaces.pid, CloneFlags::CLONE_NEWPID, "pid"),
        (&namespaces.time, CloneFlags::from_bits_retain(NEW_TIME), "time"),
        (private, CloneFlags::CLONE_NEWNS, "mnt"),
    ]
    .into_iter()
    .filter(|(namespace, ..)| **namespace != Namespace::Host)
    .map(|(namespace, flag, name)| Kind { name, flag, foreign: *namespace != Namespace::Private })
}

/// Opens `/proc/PROCESS/ns/NAME`.
///
/// # Errors
/// The process is gone, or closed to the caller (ptrace(2), PTRACE_MODE_READ).
pub fn open(process: &str, name: &str) -> Result<File> {
    let path = format!("/proc/{process}/ns/{name}");
    File::open(&path).step(|| format!("cannot open `{path}`"))
}

/// The namespaces of a running container, held open: its processes may close themselves to others. Whoever holds
/// them keeps its mounts, too.
pub struct Held {
    joins: Vec<(Join, bool)>,
    /// The user namespace was somebody else's, and decides over all others.
    user_first: bool,
    /// The container's root, where the mount namespace has another one.
    root: Option<OwnedFd>,
}

impl Held {
    /// Those of the container's first process; `shown` are those that it handed over itself.
    ///
    /// # Errors
    /// The process has ended.
    pub fn of(pid: i32, spec: &Spec, mut shown: Vec<(String, OwnedFd)>) -> Result<Self> {
        let mut joins = Vec::new();
        for kind in of_container(spec) {
            let file = match shown.iter().position(|(name, _)| name == kind.name) {
                Some(at) => File::from(shown.swap_remove(at).1),
                None => open(&pid.to_string(), kind.name)?,
            };
            // `--net ns:/proc/self/ns/net` is the caller's own.
            // Without a user namespace of its own a container is in the caller's, which nobody can join again.
            let may_be_own = kind.foreign || kind.flag == CloneFlags::CLONE_NEWUSER;
            if may_be_own && is_own(&file, kind.name) {
                continue;
            }
            let origin = "the container".to_owned();
            joins.push((Join { file, kind: kind.flag, name: kind.name, origin }, kind.foreign));
        }
        let shares_mounts = spec.listed.as_ref().is_some_and(|listed| listed.joined_mounts.is_some());
        let root = if shares_mounts { Some(root_of(pid)?) } else { None };
        Ok(Self { joins, user_first: spec.identity.join.is_some(), root })
    }

    /// The network namespace.
    pub fn network(&self) -> Option<BorrowedFd<'_>> {
        let join = self.joins.iter().find(|(join, _)| join.kind == CloneFlags::CLONE_NEWNET);
        join.map(|(join, _)| join.file.as_fd())
    }

    /// Their numbers, for a process that closes all other descriptors.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> + '_ {
        self.joins
            .iter()
            .map(|(join, _)| join.file.as_raw_fd())
            .chain(self.root.iter().map(AsRawFd::as_raw_fd))
    }

    /// Joins them all, as root of the user namespace. The PID namespace is that of children alone (setns(2)).
    ///
    /// # Errors
    /// As [`Join::enter`].
    pub fn enter(&self) -> Result<()> {
        let mut joined = Vec::new();
        if !self.user_first {
            // Only who has power over both may join what belongs to neither the container nor the caller; with the
            // user namespace that is given up.
            for (at, (join, foreign)) in self.joins.iter().enumerate() {
                if *foreign && join.enter().is_ok() {
                    joined.push(at);
                }
            }
        }
        for (at, (join, _)) in self.joins.iter().enumerate() {
            if joined.contains(&at) {
                continue;
            }
            if join.kind == CloneFlags::CLONE_NEWNS && self.user_first {
                learn_of_setgroups();
            }
            join.enter()?;
            if join.kind == CloneFlags::CLONE_NEWUSER {
                become_root()?;
            }
        }
        match &self.root {
            Some(root) => chroot_into(root.as_fd()),
            None => Ok(()),
        }
    }
}

/// Makes an open directory of the mount namespace the root, and the working directory.
///
/// # Errors
/// Those of chroot(2).
pub(super) fn chroot_into(root: BorrowedFd<'_>) -> Result<()> {
    let failed = || "cannot enter the root file system";
    rustix::process::fchdir(root).step(failed)?;
    rustix::process::chroot(".").step(failed)?;
    rustix::process::chdir("/").step(failed)
}

fn root_of(pid: i32) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty())
        .step(|| "cannot open the container's root file system")
}

fn is_own(namespace: &File, name: &str) -> bool {
    open("self", name).is_ok_and(|own| number(&own).ok() == number(namespace).ok())
}

/// Device and inode.
pub(super) fn number(namespace: &File) -> std::io::Result<(u64, u64)> {
    namespace.metadata().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn type_name(kind: CloneFlags) -> &'static str {
    match kind {
        CloneFlags::CLONE_NEWUSER => "user",
        CloneFlags::CLONE_NEWIPC => "ipc",
        CloneFlags::CLONE_NEWUTS => "uts",
        CloneFlags::CLONE_NEWNET => "net",
        CloneFlags::CLONE_NEWCGROUP => "cgroup",
        CloneFlags::CLONE_NEWPID => "pid",
        CloneFlags::CLONE_NEWNS => "mnt",
        _ => "time",
    }
}

/// The first twelve digits of an ID.
pub fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
