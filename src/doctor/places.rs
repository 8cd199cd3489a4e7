//! Where the store and the runtime directory lie, and what their file systems can do.

use std::io;
use std::path::Path;

use super::ids::Ids;
use super::{Check, Situation};
use crate::container::scratch::{self, Uppers};
use crate::error::Result;
use crate::host::filesystem::{self, FileSystem};
use crate::host::paths::{self, Runtime};

/// Less room than this for layers and changes is worth a word: 1 GiB.
const LITTLE_ROOM: u64 = 1 << 30;

pub(super) fn checks(situation: &Situation) -> Vec<Check> {
    let mut checks = vec![runtime_directory(paths::runtime(&situation.surroundings), situation)];
    match paths::store(situation.root.as_deref(), &situation.surroundings) {
        Err(error) => checks.push(
            Check::ok("store", "store", error.to_string())
                .missing("every container", error.hints().join("; ")),
        ),
        Ok(store) => {
            let directory = paths::nearest_existing(&store);
            checks.push(store_directory(&store, directory, writable(directory)));
            let xattrs = filesystem::user_xattrs(directory).ok();
            if let Ok(file_system) = filesystem::of(directory) {
                checks.push(store_file_system(&file_system, xattrs));
            }
            if let Ok(identity) = Ids::read().and_then(|ids| ids.identity) {
                checks.extend(changed_layers(scratch::foresee(&store, &identity).1));
            }
        }
    }
    checks
}

fn runtime_directory(runtime: Result<Runtime>, situation: &Situation) -> Check {
    let check = |found: String| Check::ok("runtime-dir", "runtime directory", found);
    match runtime {
        Err(error) => check(error.to_string()).missing("every container", error.hints().join("; ")),
        Ok(Runtime { path, note: None }) => check(path.display().to_string()),
        Ok(Runtime { note: Some(note), .. }) => {
            let mend = if situation.privileged {
                "export XDG_RUNTIME_DIR=/run".to_owned()
            } else {
                let uid = situation.surroundings.uid;
                format!(
                    "export XDG_RUNTIME_DIR=/run/user/{uid} (made by `sudo loginctl enable-linger {uid}`; `su` and \
                     cron don't set it)"
                )
            };
            check(note).warn("nothing, but /tmp may be cleaned while containers run", mend)
        }
    }
}

fn writable(directory: &Path) -> io::Result<()> {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    Ok(accessat(CWD, directory, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)?)
}

fn store_directory(store: &Path, directory: &Path, writable: io::Result<()>) -> Check {
    let check = |found: String| Check::ok("store", "store", found);
    let state = if store == directory { "" } else { ", not made yet" };
    match writable {
        Ok(()) => check(format!("{}{state}", store.display())),
        Err(error) => {
            check(format!("{}: {} can't be written: {}", store.display(), directory.display(), error.kind()))
                .missing(
                    "every container: nothing can be kept",
                    "name a directory of your own: `sbx --root DIR …`, or `export SBX_ROOT=DIR`",
                )
        }
    }
}

fn store_file_system(file_system: &FileSystem, xattrs: Option<bool>) -> Check {
    let flags = [
        (file_system.read_only, "read-only"),
        (file_system.nosuid, "nosuid"),
        (file_system.nodev, "nodev"),
        (file_system.noexec, "noexec"),
    ];
    let mut found = file_system.name.clone();
    for (_, name) in flags.iter().filter(|(set, _)| *set) {
        found = format!("{found}, {name}");
    }
    found = format!("{found}, {:.1} GiB free", file_system.available as f64 / f64::from(1 << 30));
    let check = Check::ok("store-file-system", "file system of the store", found);
    let elsewhere = "keep the store on a local file system: `export SBX_ROOT=/var/tmp/$USER-sbx`";
    if file_system.read_only {
        return check.missing("every container: nothing can be kept", elsewhere);
    }
    if file_system.noexec {
        return check.warn("running programs from layers", elsewhere);
    }
    if file_system.is_network() {
        return check.warn(
            "files of other owners in layers (network file systems refuse or squash them), and speed",
            elsewhere,
        );
    }
    if file_system.nosuid {
        return check.warn("setuid programs inside containers (sudo, su, ping)", elsewhere);
    }
    if xattrs == Some(false) {
        return check
            .warn("the kernel's overlay, and the owners of files where only one ID is mapped", elsewhere);
    }
    if file_system.available < LITTLE_ROOM {
        return check.warn(
            "large layers: less than 1 GiB is free",
            "free some space, or move the store: SBX_ROOT=DIR",
        );
    }
    check
}

/// Silent where all is kept in the store.
fn changed_layers(uppers: Uppers) -> Option<Check> {
    let Uppers { scratch, reason, .. } = uppers;
    let reason = reason?;
    let check = |found: String| Check::ok("scratch", "scratch for what containers change", found);
    Some(match scratch {
        Some(scratch) => check(format!("{}: {reason}", scratch.display())),
        None => check(format!("none, though {reason}")).warn(
            "owners of files that containers make, and speed",
            "name a directory on a local disk: `export SBX_SCRATCH=DIR`",
        ),
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::Status;
    use super::super::packages::PackageManager;
    use super::*;
    use crate::error::Error;

    fn file_system(name: &str) -> FileSystem {
        FileSystem {
            name: name.to_owned(),
            read_only: false,
            nosuid: false,
            nodev: false,
            noexec: false,
            size: 1 << 40,
            free: 1 << 39,
            available: 1 << 39,
        }
    }

    #[test]
    fn file_systems_that_hurt_are_told_with_what_they_hurt() {
        let ext4 = store_file_system(&file_system("ext4"), Some(true));
        assert_eq!((ext4.status, ext4.found.as_str()), (Status::Ok, "ext4, 512.0 GiB free"));
        let nfs = store_file_system(&file_system("nfs"), None);
        assert!(nfs.stops_working.unwrap().contains("other owners"));
        let tmpfs = store_file_system(&file_system("tmpfs"), Some(false));
        assert!(tmpfs.stops_working.unwrap().contains("kernel's overlay"));
        let nosuid = store_file_system(&FileSystem { nosuid: true, ..file_system("ext4") }, Some(true));
        assert_eq!((nosuid.status, nosuid.found.as_str()), (Status::Warning, "ext4, nosuid, 512.0 GiB free"));
        let read_only = store_file_system(&FileSystem { read_only: true, ..file_system("ext4") }, None);
        assert_eq!(read_only.status, Status::Missing);
        let full = store_file_system(&FileSystem { available: 1 << 20, ..file_system("ext4") }, Some(true));
        assert!(full.stops_working.unwrap().contains("1 GiB"));
    }

    #[test]
    fn a_store_that_cannot_be_written_is_missing() {
        let store = Path::new("/srv/sbx");
        assert_eq!(store_directory(store, Path::new("/srv"), Ok(())).found, "/srv/sbx, not made yet");
        let denied = Err(io::Error::from_raw_os_error(libc::EACCES));
        let check = store_directory(store, Path::new("/srv"), denied);
        assert_eq!(check.status, Status::Missing);
        assert!(check.found.contains("/srv can't be written"), "{}", check.found);
    }

    #[test]
    fn stepping_down_to_tmp_is_a_warning_and_a_squatter_there_a_failure() {
        let surroundings = paths::Surroundings { uid: 7, ..paths::Surroundings::current() };
        let packages = PackageManager::Apt;
        let situation = Situation { surroundings, root: None, privileged: false, packages };
        let path = PathBuf::from("/tmp/sbx-7");
        let stepped = runtime_directory(Ok(Runtime { path, note: Some("unset".to_owned()) }), &situation);
        assert_eq!(stepped.status, Status::Warning);
        assert!(stepped.mend.unwrap().contains("/run/user/7"));
        let squatted = runtime_directory(Err(Error::new("refusing").hint("set it")), &situation);
        assert_eq!((squatted.status, squatted.mend.as_deref()), (Status::Missing, Some("set it")));
    }
}
