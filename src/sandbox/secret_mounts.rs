//! Secrets in the container: files on a tmpfs, which no layer and no image ever holds.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};

use crate::container::spec::SecretFile;
use crate::error::{Error, Result, Step};
use crate::sandbox::inroot::{InRoot, descriptor_path, is_directory};
use crate::sandbox::user_mounts::detached;
use crate::secret::copies::Values;

/// The name of a file that is mounted by itself, on the tmpfs that nobody sees.
const ALONE: &str = "secret";

/// Where a tmpfs with the files, or the one file, goes, and the mount itself.
pub(super) fn prepare(
    root: &InRoot,
    target: &Path,
    files: &[SecretFile],
    values: &Values,
) -> Result<(OwnedFd, OwnedFd)> {
    let failed = || "cannot mount a tmpfs for secrets";
    let tmpfs = detached("tmpfs", &[("mode", Some("0755")), ("size", Some("64m"))]).step(failed)?;
    match files {
        [file] if file.path.as_os_str().is_empty() => {
            let parent = root.ensure_directory(target.parent().unwrap_or(Path::new("/")))?;
            let place = root.ensure_file(target)?;
            if is_directory(&place) {
                return Err(Error::new(failed()).because("there is a directory"));
            }
            write(&tmpfs, Path::new(ALONE), file, values)?;
            // Of a mount that is nowhere no part can be taken: it is somewhere for a moment.
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
            move_mount(tmpfs.as_fd(), "", parent.as_fd(), "", flags).step(failed)?;
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let tree = open_tree(&tmpfs, ALONE, flags).step(failed);
            unmount(descriptor_path(&tmpfs), UnmountFlags::DETACH).step(failed)?;
            Ok((place, tree?))
        }
        _ => {
            for file in files {
                write(&tmpfs, &file.path, file, values)?;
            }
            Ok((root.ensure_directory(target)?, tmpfs))
        }
    }
}

fn write(tmpfs: &OwnedFd, path: &Path, file: &SecretFile, values: &Values) -> Result<()> {
    let failed = || format!("cannot hand over the secret `{}`", file.name);
    let data = values.get(&file.secret).ok_or_else(|| Error::new(failed()).because("its copy is gone"))?;
    let mut made = PathBuf::new();
    for part in path.parent().unwrap_or(Path::new("")) {
        made.push(part);
        match rustix::fs::mkdirat(tmpfs, &made, Mode::from_raw_mode(0o755)) {
            Err(error) if error != rustix::io::Errno::EXIST => return Err(error).step(failed),
            _ => {}
        }
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let opened = rustix::fs::openat(tmpfs, path, flags, Mode::from_raw_mode(0o600)).map_err(|error| {
        let failed = Error::new(failed()).because(error);
        match error {
            rustix::io::Errno::EXIST => failed.hint("two secrets have the same target"),
            _ => failed,
        }
    })?;
    if (file.uid, file.gid) != (0, 0) {
        rustix::fs::fchown(&opened, Some(Uid::from_raw(file.uid)), Some(Gid::from_raw(file.gid))).map_err(
            |error| {
                Error::new(failed())
                    .because(format!("its owner cannot be {}:{}: {error}", file.uid, file.gid))
                    .hint("the container has no such user or group ID mapped: leave out `uid=` and `gid=`")
            },
        )?;
    }
    rustix::fs::fchmod(&opened, Mode::from_raw_mode(file.mode)).step(failed)?;
    std::fs::File::from(opened).write_all(data).step(failed)
}
