//! What containers keep on the disk.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::container::spec::Spec;
use crate::container::store::Store;
use crate::identity::Identity;
use crate::layers::walk::walk;

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
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = match rustix::fs::open(directory, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(0),
        opened => opened?,
    };
    let mut sum = 0_u64;
    let walked = walk(top.as_fd(), |parent, name, kind| {
        if matches!(kind, FileType::RegularFile | FileType::Unknown) {
            match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                    sum = sum.saturating_add(stat.st_size.cast_unsigned());
                }
                // The container goes on meanwhile.
                Ok(_) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    });
    match walked {
        Ok(()) => Ok(sum),
        // It moves its directories about.
        Err(Errno::STALE) => Ok(sum),
        Err(error) => Err(error.into()),
    }
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
