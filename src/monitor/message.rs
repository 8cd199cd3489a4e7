//! What a client and the monitor say to each other.

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::monitor::exec;
use crate::network::bridge::protocol::Wanted;

/// What a connection to the control socket is for: its first message.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Send the stop signal, then SIGKILL after `timeout` seconds (none: as the container was made), and do not start
    /// it again. Answered by [`ToClient::Exited`] when the container is down.
    Stop { timeout: Option<u64>, signal: Option<i32> },
    /// Send a signal to the first process. Answered by [`ToClient::Done`].
    Kill { signal: i32 },
    /// End as with [`Self::Stop`], and start again. Answered by [`ToClient::Started`] or [`ToClient::Failed`].
    Restart { timeout: Option<u64> },
    /// Answered by [`ToClient::Exited`] when the life of the container ends that goes on now.
    Wait,
    /// Connect to the streams: answered as the start of a container in the foreground is.
    Attach { stdin: bool, stdout: bool, stderr: bool },
    /// Freeze all processes. Answered by [`ToClient::Done`] with the file that says when they are, for
    /// [`crate::container::control_group::wait_until_frozen`], or by [`ToClient::Failed`].
    Pause,
    /// Let them go on. Answered by [`ToClient::Done`] or [`ToClient::Failed`].
    Unpause,
    /// Make a health check now. Answered by [`ToClient::Exited`]: 0 where it is well, 1 where not.
    Health,
    /// Start a process in the container. Answered by [`ToClient::Stream`]s, [`ToClient::Terminal`],
    /// [`ToClient::Started`] and, when the process has ended, [`ToClient::Exited`]; or by [`ToClient::Failed`].
    Exec(Box<exec::Request>),
    /// Put the running container into another bridge network. Answered by [`ToClient::Done`] or
    /// [`ToClient::Failed`].
    NetworkConnect(Box<Wanted>),
    /// Take it out of the one with this ID. Answered as [`Self::NetworkConnect`].
    NetworkDisconnect { network: String },
    /// Set up all of its interfaces, names and ports again. Answered as [`Self::NetworkConnect`].
    NetworkReload,
    /// Answer to its new name in its networks, which is in its settings. Answered as [`Self::NetworkConnect`].
    NetworkRename,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum ToClient {
    /// What was asked for has happened; to a client with streams: its output goes nowhere any more, and the container
    /// goes on.
    Done,
    /// The command is being executed.
    Started { pid: i32 },
    /// Carries the master side of the container's terminal: keys and window sizes go there.
    Terminal,
    /// Carries the client's end of one of the container's streams.
    Stream(Standard),
    /// The command has ended; signals have nobody to go to any more, while the output is still delivered.
    Ended,
    /// What the caller should know about the running container.
    Notice(String),
    /// The last message: the container never started, and is put in order; or what was asked for is not to be had.
    Failed(Error),
    /// The last message: the container ended, all its output is written, and it is put in order. Of one that was
    /// to be removed, an empty directory may be left that only the monitor still knows of.
    Exited { code: i32, error: Option<String> },
}

/// A standard stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standard {
    Input,
    Output,
    Error,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum ToMonitor {
    /// Send this signal to the container's first process.
    Signal(i32),
    /// The client goes, and the container goes on.
    Detach,
    /// Nobody takes what a process of [`Request::Exec`] writes there: it may be told so.
    Deaf(Standard),
}
