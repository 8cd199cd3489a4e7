//! Which namespaces are made, which are joined.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use nix::sched::CloneFlags;

use crate::container::spec::{Namespace, Spec};
use crate::error::{Error, Result, Step};
use crate::sandbox::userns::become_root;

/// The file system of namespace files (statfs(2)).
const NSFS_MAGIC: rustix::fs::FsWord = 0x6e73_6673;

/// CLONE_NEWTIME, which the flags of nix lack.
const NEW_TIME: i32 = 0x80;

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
        (&namespaces.pid, CloneFlags::CLONE_NEWPID, "pid"),
    ];
    let mut joins = Vec::new();
    for (namespace, kind, name) in candidates {
        let (path, origin) = match namespace {
            Namespace::Private | Namespace::Host => continue,
            Namespace::Path(path) => (path.clone(), format!("`{}`", path.display())),
            Namespace::Container(id) => {
                (format!("/proc/{}/ns/{name}", init_of(id)?).into(), format!("container {}", short(id)))
            }
        };
        let failed = |cause: &dyn std::fmt::Display| {
            Error::new(format!("cannot open the {name} namespace of {origin}")).because(cause).hint(format!(
                "it must be a namespace file such as /proc/PID/ns/{name} of a process of yours that runs"
            ))
        };
        // Without O_NONBLOCK a FIFO would be waited for.
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path)
            .map_err(|error| failed(&error))?;
        if rustix::fs::fstatfs(&file).is_ok_and(|seen| seen.f_type != NSFS_MAGIC) {
            return Err(failed(&"the file is not a namespace"));
        }
        joins.push(Join { file, kind, name, origin });
    }
    Ok(joins)
}

impl Join {
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
                nix::Error::EINVAL => failed.hint("the file is a namespace of another kind"),
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
            if kind.foreign && is_own(&file, kind.name) {
                continue;
            }
            let origin = "the container".to_owned();
            joins.push((Join { file, kind: kind.flag, name: kind.name, origin }, kind.foreign));
        }
        Ok(Self { joins, user_first: spec.identity.join.is_some() })
    }

    /// The network namespace.
    pub fn network(&self) -> Option<BorrowedFd<'_>> {
        let join = self.joins.iter().find(|(join, _)| join.kind == CloneFlags::CLONE_NEWNET);
        join.map(|(join, _)| join.file.as_fd())
    }

    /// Their numbers, for a process that closes all other descriptors.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> + '_ {
        self.joins.iter().map(|(join, _)| join.file.as_raw_fd())
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
            join.enter()?;
            if join.kind == CloneFlags::CLONE_NEWUSER {
                become_root()?;
            }
        }
        Ok(())
    }
}

fn is_own(namespace: &File, name: &str) -> bool {
    let number = |file: &File| file.metadata().map(|metadata| (metadata.dev(), metadata.ino())).ok();
    open("self", name).is_ok_and(|own| number(&own) == number(namespace))
}

/// The first twelve digits of an ID.
pub fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
