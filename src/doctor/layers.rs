//! The drivers that stack layers: the kernel's overlay, and fuse-overlayfs with /dev/fuse.

use std::io;
use std::path::{Path, PathBuf};

use super::{Check, Situation};
use crate::host::{fuse, overlay, paths};

/// Which drivers there are, with the reasons against those that there aren't.
#[derive(Debug)]
pub struct Drivers {
    pub overlay: Result<(), String>,
    pub fuse_device: io::Result<()>,
    pub fuse_overlayfs: Option<PathBuf>,
}

impl Drivers {
    /// Tries where the store lies or will lie; nothing is left there.
    pub fn read(store: &Path) -> Self {
        Self {
            overlay: overlay::try_in(paths::nearest_existing(store)),
            fuse_device: fuse::device(),
            fuse_overlayfs: fuse::fuse_overlayfs(),
        }
    }

    pub fn has_fuse(&self) -> bool {
        self.fuse_device.is_ok() && self.fuse_overlayfs.is_some()
    }

    /// What `auto` takes for images and root directories, and why.
    pub fn chosen(&self) -> (&'static str, String) {
        match &self.overlay {
            Ok(()) => ("overlay", "the kernel mounts an overlay in a user namespace on the store".to_owned()),
            Err(reason) if self.has_fuse() => ("fuse-overlayfs", reason.clone()),
            Err(reason) => ("none", format!("{reason}; fuse-overlayfs is not usable either")),
        }
    }
}

pub(super) fn checks(situation: &Situation, blocker: Option<&str>) -> Vec<Check> {
    let Ok(store) = paths::store(situation.root.as_deref(), &situation.surroundings) else {
        return Vec::new();
    };
    judge(&Drivers::read(&store), situation, blocker)
}

fn judge(drivers: &Drivers, situation: &Situation, blocker: Option<&str>) -> Vec<Check> {
    vec![kernel_overlay(drivers, blocker), fuse_overlayfs(drivers, situation), fuse_device(drivers)]
}

/// What is lost with fuse-overlayfs, which depends on whether the kernel's overlay is there.
fn lost(drivers: &Drivers) -> &'static str {
    if drivers.overlay.is_ok() {
        "changes to files in the image `host`, which is mounted read-only; images use the kernel's overlay"
    } else {
        "writable root file systems: there is no other driver; the image `host` is mounted read-only"
    }
}

fn kernel_overlay(drivers: &Drivers, blocker: Option<&str>) -> Check {
    let check = |found: &str| Check::ok("overlay", "kernel overlay", found);
    match &drivers.overlay {
        Ok(()) => check("mounts in a user namespace on the store's file system"),
        Err(reason) => check(reason).warn(
            "speed: layers are stacked by fuse-overlayfs, which is slower",
            blocker.map_or_else(
                || "keep the store on a local ext4, xfs or btrfs (`--root DIR` or SBX_ROOT), with Linux 5.11 or later".to_owned(),
                super::mend_first,
            ),
        ),
    }
}

fn fuse_overlayfs(drivers: &Drivers, situation: &Situation) -> Check {
    let check = |found: String| Check::ok("fuse-overlayfs", "fuse-overlayfs", found);
    match &drivers.fuse_overlayfs {
        Some(path) => check(path.display().to_string()),
        None => {
            check("not found".to_owned()).warn(lost(drivers), situation.packages.install("fuse-overlayfs"))
        }
    }
}

fn fuse_device(drivers: &Drivers) -> Check {
    let check = |found: String| Check::ok("dev-fuse", fuse::DEVICE, found);
    let Err(error) = &drivers.fuse_device else { return check("can be opened".to_owned()) };
    check(super::network::refused(error)).warn(lost(drivers), device_mend(error, fuse::DEVICE, "fuse"))
}

/// How to mend a device node that can't be opened.
pub(super) fn device_mend(error: &io::Error, device: &str, module: &str) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!("sudo chmod 0666 {device}"),
        _ => format!("sudo modprobe {module}; in a container, start the outer one with `--device {device}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::packages::PackageManager;
    use super::super::{Status, exit_code};
    use super::*;

    fn situation() -> Situation {
        Situation {
            surroundings: paths::Surroundings::current(),
            root: None,
            privileged: false,
            packages: PackageManager::Apt,
        }
    }

    fn drivers(overlay: bool, device: Option<i32>, program: bool) -> Drivers {
        Drivers {
            overlay: if overlay { Ok(()) } else { Err("refused".to_owned()) },
            fuse_device: device.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno))),
            fuse_overlayfs: program.then(|| PathBuf::from("/usr/bin/fuse-overlayfs")),
        }
    }

    #[test]
    fn auto_steps_down_one_at_a_time() {
        assert_eq!(drivers(true, None, true).chosen().0, "overlay");
        assert_eq!(drivers(true, None, false).chosen().0, "overlay");
        assert_eq!(drivers(false, None, true).chosen(), ("fuse-overlayfs", "refused".to_owned()));
        assert_eq!(drivers(false, None, false).chosen().0, "none");
        assert_eq!(drivers(false, Some(libc::ENOENT), true).chosen().0, "none");
    }

    #[test]
    fn without_fuse_the_package_or_the_device_is_the_mend() {
        let checks = judge(&drivers(true, Some(libc::EACCES), false), &situation(), None);
        assert_eq!(exit_code(&checks), 0);
        assert_eq!(checks[1].mend.as_deref(), Some("sudo apt-get install fuse-overlayfs"));
        assert_eq!(checks[2].mend.as_deref(), Some("sudo chmod 0666 /dev/fuse"));
        let checks = judge(&drivers(true, Some(libc::ENOENT), true), &situation(), None);
        assert_eq!((checks[1].status, checks[2].status), (Status::Ok, Status::Warning));
        assert!(checks[2].mend.as_deref().unwrap().contains("modprobe fuse"));
    }

    #[test]
    fn what_keeps_the_trial_from_being_made_is_mended_first() {
        let mend =
            |blocker| judge(&drivers(false, None, true), &situation(), blocker)[0].mend.clone().unwrap();
        assert!(mend(None).contains("SBX_ROOT"));
        assert_eq!(mend(Some("store")), "mend the check `store` first");
    }

    #[test]
    fn what_stops_working_depends_on_the_other_driver() {
        let stops = |overlay| {
            judge(&drivers(overlay, None, false), &situation(), None)[1].stops_working.clone().unwrap()
        };
        assert!(stops(true).contains("images use the kernel's overlay"));
        assert!(stops(false).contains("no other driver"));
    }
}
