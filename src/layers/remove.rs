//! Removing trees whose files belong to subordinate IDs: only possible inside the user namespace.

use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sched::CloneFlags;

use crate::error::{Error, Result};
use crate::identity::Identity;
use crate::sys::process::{Fork, exit_now, fork, wait_for};

/// Removes `tree` and everything below, never following a symlink. Joins `userns` (a descriptor of the
/// canonical namespace) where the caller's own permissions do not suffice, or makes such a namespace anew.
///
/// # Errors
/// What could not be removed; what was removed before stays removed, and the same call again goes on.
pub fn tree(tree: &Path, identity: &Identity, userns: Option<&File>) -> Result<()> {
    if plainly(tree).is_ok() {
        return Ok(());
    }
    let within = || match std::fs::remove_dir_all(tree) {
        Ok(()) => 0,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => error.raw_os_error().unwrap_or(libc::EIO).clamp(1, 124),
    };
    let code = match userns {
        Some(userns) => joined(userns, within)?,
        None => crate::sandbox::userns::run_in(identity, within)?,
    };
    if code == 0 {
        return Ok(());
    }
    Err(Error::new(format!("cannot remove `{}`", tree.display()))
        .because(io::Error::from_raw_os_error(code))
        .hint(format!("look at what is left with `sbx unshare ls -la {}`", tree.display())))
}

/// What an overlay makes in its work directory, `incompat/volatile` where it is mounted so.
const LEFT_BY_OVERLAY: [&str; 4] = ["index", "work", "work/incompat", "work/incompat/volatile"];

/// The common case: a few files of the caller's own. An overlay leaves directories of mode 000 in its work
/// directory, which their owner opens first.
fn plainly(tree: &Path) -> io::Result<()> {
    for left in LEFT_BY_OVERLAY.map(|name| tree.join(name)) {
        if left.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            let _ = std::fs::set_permissions(left, std::fs::Permissions::from_mode(0o700));
        }
    }
    match std::fs::remove_dir_all(tree) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
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
