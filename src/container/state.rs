//! What became of a container. That it runs is never written down: the kernel knows.

use serde::{Deserialize, Serialize};

/// The exit code of a container that was lost: killed.
pub const LOST: i32 = 128 + libc::SIGKILL;

/// `state.json`. The monitor writes it when the container starts, as if it were lost, and again when it has
/// ended; so that it tells the truth when the monitor cannot write any more.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct State {
    /// Seconds since the epoch; none: never started.
    pub started_at: Option<u64>,
    pub finished_at: Option<u64>,
    pub exit_code: i32,
    /// Why it never started, or how it was lost.
    pub error: Option<String>,
}

impl State {
    /// Of a container whose monitor was killed.
    pub fn lost(started_at: Option<u64>) -> Self {
        let error = Some("the monitor of the container was killed".to_owned());
        Self { started_at, finished_at: None, exit_code: LOST, error }
    }
}
