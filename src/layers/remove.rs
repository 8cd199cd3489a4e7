//! Removing trees that containers, layers or repositories have filled. Files of subordinate IDs can be removed only inside
//! the user namespace.

mod deep;
#[cfg(test)]
pub(crate) mod tests;

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sched::CloneFlags;

use crate::error::{Error, Result};
use crate::identity::Identity;
use crate::sys::process::{Fork, exit_now, fork, wait_for};

/// Removes `tree` and everything below it as [`own`] does. Joins `userns` (a descriptor of the canonical namespace) where
/// the caller's own permissions do not suffice, or makes such a namespace anew.
///
/// # Errors
/// What could not be removed; what was removed before stays removed, and the same call again goes on.
pub fn tree(tree: &Path, identity: &Identity, userns: Option<&File>) -> Result<()> {
    let error = match own(tree) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let within = || own(tree).map_or_else(|error| code_of(&error), |()| 0);
            let code = match userns {
                Some(userns) => joined(userns, within)?,
                None => crate::sandbox::userns::run_in(identity, within)?,
            };
            match code {
                0 => return Ok(()),
                code => io::Error::from_raw_os_error(code),
            }
        }
        Err(error) => error,
    };
    Err(failed(tree, &error)
        .hint(format!("look at what is left with `sbx unshare ls -la {}`", tree.display())))
}

/// Removes all of them as [`tree`] does: one that stays is no reason to keep the others.
///
/// # Errors
/// As [`tree`], the last one; the others are told.
pub fn trees<P: AsRef<Path>>(
    all: impl IntoIterator<Item = P>,
    identity: &Identity,
    userns: Option<&File>,
) -> Result<()> {
    let mut last = None;
    for one in all {
        if let Err(error) = tree(one.as_ref(), identity, userns)
            && let Some(error) = last.replace(error)
        {
            log::error!("{error}");
        }
    }
    last.map_or(Ok(()), Err)
}

/// The error for what could not be removed.
pub fn failed(path: &Path, error: &io::Error) -> Error {
    let failed = Error::new(format!("cannot remove `{}`", path.display())).because(error);
    match error.kind() {
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::ResourceBusy => failed,
        _ => failed.lasting(),
    }
}

/// Removes what is at `path`, if anything is, with everything below it: a tree of any depth, whoever may be changing it.
/// No symlink below the parent of `path` is followed, and nothing is entered that is mounted. Directories of the caller's
/// that nobody may enter are opened for that.
///
/// # Errors
/// What could not be removed; what was removed before stays removed, and the same call again goes on.
pub fn own(path: &Path) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    match deep::open_parent(parent) {
        Ok(parent) => below(std::os::fd::AsFd::as_fd(&parent), name),
        Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

pub use deep::remove as entry;

/// The same for a name in a directory that is open.
///
/// # Errors
/// As [`own`].
pub fn below(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    Ok(deep::remove(directory, &CString::new(name.as_bytes())?)?)
}

/// As the exit code of a process.
fn code_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO).clamp(1, 124)
}

fn joined(userns: &File, work: impl FnOnce() -> i32) -> Result<i32> {
    let failed =
        |error: io::Error| Error::new("cannot enter the user namespace to remove files").because(error);
    match fork().map_err(failed)? {
        Fork::Parent(pid) => wait_for(pid).map_err(failed),
        Fork::Child => {
            if let Err(error) = nix::sched::setns(userns, CloneFlags::CLONE_NEWUSER) {
                exit_now(error as i32);
            }
            exit_now(work())
        }
    }
}
