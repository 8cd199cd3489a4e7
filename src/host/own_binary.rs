//! Where the running program's own file is.

use std::fs;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{AtFlags, CWD, StatxFlags};

const OWN: &str = "/proc/self/exe";

/// Whether this program's file lies outside the mount namespace that it runs in: somebody in a container has
/// executed the sbx that made the container, through a link of /proc, to get hold of its file (CVE-2019-5736).
pub fn is_foreign() -> bool {
    let Ok(own) = fs::metadata(OWN) else { return false };
    let here = fs::read_link(OWN).and_then(fs::metadata);
    if here.is_ok_and(|here| (here.dev(), here.ino()) == (own.dev(), own.ino())) {
        return false;
    }
    // Replaced or removed since it was started, or foreign: its mount tells (statx(2), Linux 5.8).
    let Ok(found) = rustix::fs::statx(CWD, OWN, AtFlags::empty(), StatxFlags::MNT_ID) else { return false };
    if found.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        return false;
    }
    let Ok(mounts) = super::read_proc("/proc/self/mountinfo") else { return false };
    let id = found.stx_mnt_id.to_string();
    !mounts.lines().any(|line| line.split(' ').next() == Some(&*id))
}
