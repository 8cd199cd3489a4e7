//! What the monitor, the container's first process and the launcher between them say to each other.

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::container::listed::Attached;
use crate::emulation::Credentials;

/// From the container's process to the monitor.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromChild {
    /// Carries a socket of the network namespace: the loopback interface is to be brought up by it, which takes the
    /// kernel as long as a good part of the mounts that the child makes meanwhile.
    Loopback,
    /// The network namespace is ready for the interface of a helper.
    NetworkOpen,
    /// What the caller should know.
    Notice(String),
    /// Carries one of its namespaces, by its name in /proc/PID/ns: nobody else can open it.
    Namespace { name: String },
    /// Of a process that is brought into a running container: it exists, in all namespaces, and waits for
    /// [`ToChild::Go`]. Carries its pidfd.
    Entered { pid: i32 },
    /// Carries the FUSE descriptor of the mounted root: something has to serve it.
    ServeRoot,
    /// Of a bundle: everything is mounted, and the root of the host is still there. Waits for [`ToChild::HooksDone`].
    Mounted,
    /// Of a bundle: what is about to appear in a mount namespace that is somebody else's. Waits for
    /// [`ToChild::Recorded`].
    Attaching(Attached),
    /// Of a bundle: carries the listener on which calls arrive that its filter hands to somebody else.
    Calls,
    /// Carries the master side of the container's terminal.
    Terminal,
    /// Everything but the last steps is done: the next message that is waited for is [`ToChild::Go`].
    Ready,
    /// The host is out of reach. Carries the directory that has become the root.
    Root,
    /// Carries the listener on which the calls of emulated root arrive.
    Listener {
        /// Whom the process believes to be, if not root.
        user: Option<Credentials>,
    },
    /// The last message: why the command was not executed.
    Failed(Error),
}

/// From the monitor to the container's process.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToChild {
    /// The ID maps are written.
    Mapped,
    /// What the monitor makes for the container is there: the files of its /etc, and the layers over its volumes.
    Furnished,
    /// The hooks outside have run.
    HooksDone,
    /// What the container leaves with others is on record.
    Recorded,
    /// Execute the command.
    Go,
}

/// From the launcher to the monitor.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromLauncher {
    /// The canonical user namespace exists and wants its maps.
    Unmapped,
    /// The container's process exists; carries its pidfd.
    Launched {
        pid: i32,
        /// It was born in the container's cgroup.
        grouped: bool,
    },
    Failed(Error),
}

/// From the monitor to the launcher.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToLauncher {
    /// The canonical maps are written.
    Mapped,
    /// Carries the FUSE descriptor: become the server of the root.
    ServeRoot,
    /// Nothing more to do.
    Done,
}
