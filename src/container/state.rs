//! What became of a container. That it runs is never written down: the kernel knows.

use serde::{Deserialize, Serialize};

use crate::sys::time::Utc;

/// The exit code of a container that was lost: killed.
pub const LOST: i32 = 128 + libc::SIGKILL;

/// `state.json`. The monitor writes it when the container starts, as if it were lost, and again when it has
/// ended; so that it tells the truth when the monitor cannot write any more.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Of the last time; none: never started.
    pub started_at: Option<Utc>,
    pub finished_at: Option<Utc>,
    pub exit_code: i32,
    /// Why it never started, or how it was lost.
    pub error: Option<String>,
    /// How often the restart policy started it again since a command did.
    pub restarts: u32,
    /// The kernel has killed something of it for want of memory.
    pub oom_killed: bool,
    /// A command asked it to end: `--restart unless-stopped` leaves it so.
    pub stopped_by_user: bool,
}

impl State {
    /// Of a container whose monitor was killed.
    pub fn lost(started_at: Option<Utc>, restarts: u32) -> Self {
        let error = Some("the monitor of the container was killed".to_owned());
        Self { started_at, exit_code: LOST, error, restarts, ..Self::default() }
    }
}
