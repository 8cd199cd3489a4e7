//! Capabilities (capabilities(7)) as a set, their names, and `--cap-add`, `--cap-drop`.

use serde::{Deserialize, Serialize};

/// A set of capabilities, one bit each, numbered as in linux/capability.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CapSet(pub u64);
