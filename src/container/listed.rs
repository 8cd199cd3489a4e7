//! What only a bundle's `config.json` says (OCI runtime specification 1.2): everything listed by its author, in the
//! author's order, and nothing added.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::container::capabilities::CapSet;
use crate::identity::IdMap;

/// The part of a spec that takes the place of sbx's own /proc, /sys, /dev and files of /etc.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Listed {
    /// Absolute.
    pub bundle: PathBuf,
    pub mounts: Vec<ListedMount>,
    pub devices: Vec<Node>,
    /// Somebody else's mount namespace, in which the root is to be found; none: a new one.
    #[serde(default)]
    pub joined_mounts: Option<PathBuf>,
    /// MS_SHARED and its like, for the root of the mount namespace.
    pub root_propagation: Option<u64>,
    /// personality(2)
    pub personality: Option<u32>,
    /// Lines of /proc/PID/timens_offsets.
    pub time_offsets: Vec<String>,
    /// MS_MOVE and chroot(2) instead of pivot_root(2), which a root on an initramfs refuses.
    pub no_pivot: bool,
    pub filter: FilterOptions,
    pub hooks: Hooks,
}

/// What a container has mounted in a mount namespace that is somebody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Device and inode of the namespace's file.
    pub namespace: (u64, u64),
    /// The numbers of the mounts one over the other at the place of the root, the upper one first (statx(2), stx_mnt_id).
    pub mounts: [u64; 2],
}

/// A process of it, as its author describes it: in numbers, with every set of capabilities.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exact {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub capabilities: CapabilitySets,
    /// Of a process that is executed later.
    #[serde(default)]
    pub affinity: Option<Affinity>,
    /// The argument of ioprio_set(2).
    pub io_priority: Option<i32>,
    pub scheduler: Option<Scheduler>,
    /// It stays in the caller's session keyring.
    pub keeps_keyring: bool,
    /// How many descriptors after the standard streams it inherits.
    pub descriptors: u32,
    /// Rows and columns.
    pub console: Option<(u16, u16)>,
}

/// The numbers of processors (sched_setaffinity(2)); none: those that it has anyway.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Affinity {
    /// Until it is in the container's control group.
    pub initial: Vec<u16>,
    pub last: Vec<u16>,
}

/// capabilities(7)
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilitySets {
    pub bounding: CapSet,
    pub effective: CapSet,
    pub permitted: CapSet,
    pub inheritable: CapSet,
    pub ambient: CapSet,
}

/// sched_setattr(2)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduler {
    /// SCHED_OTHER and its like.
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    /// Nanoseconds.
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// One of `mounts`, its options read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedMount {
    /// Inside the container, absolute; symlinks are resolved inside the root.
    pub destination: PathBuf,
    pub kind: ListedKind,
    /// MOUNT_ATTR_* (mount_setattr(2)).
    pub set: u64,
    pub clear: u64,
    /// The same with all mounts below.
    pub set_below: u64,
    pub clear_below: u64,
    /// MS_PRIVATE and its like, and whether the mounts below get it, too; one after the other.
    pub propagation: Vec<(u64, bool)>,
    /// What the root has at the destination is copied into it.
    pub copy_up: bool,
    pub map: Option<MountMap>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListedKind {
    Bind {
        /// Absolute on the host.
        source: PathBuf,
        recursive: bool,
        /// Its last component may be a symlink, which is bound itself.
        no_follow: bool,
    },
    /// The control groups, as far as the host has them to show.
    Cgroup,
    /// Those of version 2, wherever the host has them.
    Cgroup2,
    /// What is mounted there already gets other attributes.
    Existing,
    FileSystem {
        kind: String,
        source: String,
        /// Options of the file system; those without a value are flags.
        options: Vec<(String, Option<String>)>,
    },
}

/// How the owners of a mount's files are shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountMap {
    /// None: as in the container's user namespace.
    pub maps: Option<(IdMap, IdMap)>,
    pub recursive: bool,
}

/// One of `linux.devices`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub path: PathBuf,
    pub kind: NodeKind,
    pub major: u32,
    pub minor: u32,
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeKind {
    Character,
    Block,
    Fifo,
}

/// What of `linux.seccomp` is not the filter itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterOptions {
    /// SECCOMP_FILTER_FLAG_*
    pub flags: u64,
    /// Who takes the listener, a socket of the host's, and what it is told besides.
    pub listener: Option<PathBuf>,
    pub metadata: String,
}

/// By the moments of the container's life at which they run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    pub prestart: Vec<Hook>,
    pub create_runtime: Vec<Hook>,
    pub create_container: Vec<Hook>,
    pub start_container: Vec<Hook>,
    pub poststart: Vec<Hook>,
    pub poststop: Vec<Hook>,
}

/// A program of the host that is run at a moment of the container's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Absolute.
    pub path: PathBuf,
    /// With the name it is called by; empty: its path.
    pub args: Vec<String>,
    /// None: that of whoever runs it, or of the container's process.
    pub env: Option<Vec<String>>,
    /// Seconds.
    pub timeout: Option<u64>,
}
