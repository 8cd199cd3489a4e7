//! What containers keep on the disk.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::container::spec::Spec;
use crate::container::store::Store;
use crate::identity::Identity;

/// Bytes of what the container has written: its upper layer, where it has one.
pub fn written(store: &Store, spec: &Spec) -> u64 {
    let upper = store.directory_of(spec).upper();
    below(&upper, || Some(spec.identity.clone()))
}

/// Bytes of what is in a directory; of one that the caller may not read as root of the canonical namespace of
/// `identity`.
pub fn below(directory: &Path, identity: impl FnOnce() -> Option<Identity>) -> u64 {
    bytes_below(directory).unwrap_or_else(|_| {
        identity().and_then(|identity| within_namespace(directory, &identity)).unwrap_or(0)
    })
}

/// Bytes of the regular files, each with several names once for each of them.
///
/// # Errors
/// A directory that the caller may not read.
fn bytes_below(directory: &Path) -> io::Result<u64> {
    let mut sum = 0_u64;
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let metadata = match entry.metadata() {
            // The container goes on meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            metadata => metadata?,
        };
        if metadata.is_dir() {
            sum += bytes_below(&entry.path())?;
        } else if metadata.is_file() {
            sum += metadata.size();
        }
    }
    Ok(sum)
}

/// The same as root of the container's canonical namespace, to whom directories of all its users are open.
fn within_namespace(directory: &Path, identity: &Identity) -> Option<u64> {
    let (mut read, mut write) = io::pipe().ok()?;
    let counted = crate::sandbox::userns::run_in(identity, || {
        let sum = bytes_below(directory).unwrap_or(0);
        i32::from(write.write_all(&sum.to_ne_bytes()).is_err())
    });
    drop(write);
    let mut sum = [0; 8];
    (counted.ok()? == 0).then(|| read.read_exact(&mut sum).ok())??;
    Some(u64::from_ne_bytes(sum))
}
