//! A volume as `inspect` and templates show it: docker's fields, and podman's where docker has none.

use serde_json::{Value, json};

use super::record::DRIVER;
use super::{Record, VolumeStore};

/// docker's word for what is of this machine alone.
pub const SCOPE: &str = "local";

/// The whole document. `users` is the number of its containers.
pub fn of(volumes: &VolumeStore, record: &Record, users: usize) -> Value {
    let directory = volumes.directory(&record.name);
    let driver = if record.driver.is_empty() { DRIVER } else { &record.driver };
    json!({
        "Name": record.name,
        "Driver": driver,
        "Mountpoint": directory.data().display().to_string(),
        "CreatedAt": record.created,
        "Labels": record.labels,
        "Scope": SCOPE,
        "Options": record.options,
        "Anonymous": record.anonymous,
        "MountCount": users,
        "NeedsCopyUp": directory.is_fresh(),
    })
}
