//! What the monitor, the container's first process and the launcher between them say to each other.

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::emulation::Credentials;

/// From the container's process to the monitor.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromChild {
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
