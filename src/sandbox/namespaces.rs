//! Which namespaces are made, which are joined.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;

use nix::sched::CloneFlags;

use crate::container::spec::{Namespace, Spec};
use crate::error::{Error, Result};

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

/// The first twelve digits of an ID.
pub fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
