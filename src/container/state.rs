//! What became of a container. That it runs is never written down: the kernel knows.

use serde::{Deserialize, Serialize};

/// `state.json`, written once the container has ended.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct State {
    /// Seconds since the epoch; none: never started.
    pub started_at: Option<u64>,
    pub finished_at: Option<u64>,
    pub exit_code: i32,
    /// Why it never started, or how it was lost.
    pub error: Option<String>,
}
