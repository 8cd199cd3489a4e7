//! An archive becomes a directory that this process reads: a context. Neither owners nor what only root could read count
//! there.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::build::fetch::archive;
use crate::error::{Error, Result, Step};
use crate::layers::unpack::limits::{HARMLESS, MOST_INFLATED};
use crate::layers::unpack::{Limits, unpack_for_reading};
use crate::sys::process::{Fork, die_with_parent, exit_now, fork, wait_for};

/// Unpacks an archive, packed or not, into an empty directory.
///
/// # Errors
/// It is malformed, holds what no directory can hold or more than any sound one, or there is no room.
pub fn unpack(packed: impl Read + Send, directory: &Path) -> Result<()> {
    // Unpacking takes threads, and this process forks.
    in_child(|| {
        let failed = || "cannot unpack the archive";
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(directory, flags, Mode::empty()).step(failed)?;
        let mut plain = archive::open(packed).step(failed)?;
        let (size, length) = unpack_for_reading(root, &mut plain, &Limits::default())
            .map_err(|error| error.while_doing(failed()))?;
        let most = length.saturating_mul(MOST_INFLATED).max(HARMLESS);
        match size > most {
            true => Err(Error::new(failed()).because(format!(
                "its files have {size} bytes, far more than an archive of {length} bytes holds without tricks"
            ))),
            false => Ok(()),
        }
    })
}

/// Does `work` in a process of its own, and gives what came of it.
fn in_child<T: Serialize + DeserializeOwned>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let failed = || "cannot start a process";
    let outcome = rustix::fs::memfd_create(c"sbx-context", rustix::fs::MemfdFlags::CLOEXEC).step(failed)?;
    let mut outcome = File::from(outcome);
    let parent = std::process::id();
    let pid = match fork().step(failed)? {
        Fork::Parent(pid) => pid,
        Fork::Child => {
            let _ = die_with_parent(parent);
            let done = work();
            let written = serde_json::to_vec(&done).ok().and_then(|text| outcome.write_all(&text).ok());
            exit_now(i32::from(written.is_none()))
        }
    };
    wait_for(pid).step(failed)?;
    let mut text = Vec::new();
    outcome.rewind().and_then(|()| outcome.read_to_end(&mut text)).step(failed)?;
    if text.is_empty() {
        return Err(Error::new("cannot unpack the archive").because("the process that does it was killed"));
    }
    serde_json::from_slice::<Result<T>>(&text).step(failed)?
}
