//! What a client and the monitor say to each other.

use serde::{Deserialize, Serialize};

use crate::Error;

#[derive(Debug, Serialize, Deserialize)]
pub enum ToClient {
    /// The command is being executed.
    Started { pid: i32 },
    /// Carries the master side of the container's terminal: keys and window sizes go there.
    Terminal,
    /// The command has ended; signals have nobody to go to any more, while the output is still delivered.
    Ended,
    /// What the caller should know about the running container.
    Notice(String),
    /// The last message: the container never started, and is put in order.
    Failed(Error),
    /// The last message: the container ended, all its output is written, and it is put in order. Of one that was
    /// to be removed, an empty directory may be left that only the monitor still knows of.
    Exited { code: i32, error: Option<String> },
}

#[derive(Debug, Serialize, Deserialize)]
pub enum ToMonitor {
    /// Send this signal to the container's first process.
    Signal(i32),
}
