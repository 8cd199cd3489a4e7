//! The file system below a path: its kind decides what a store may do on it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, StatVfsMountFlags, XattrFlags};
use serde::Serialize;

/// statfs(2) and statvfs(3) of one directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileSystem {
    pub name: String,
    pub read_only: bool,
    pub nosuid: bool,
    pub nodev: bool,
    pub noexec: bool,
    /// Bytes.
    pub size: u64,
    pub free: u64,
    /// Bytes of those that the caller may write: some are reserved for root.
    pub available: u64,
}

/// Magic numbers of statfs(2) and, for those out of the kernel's tree, of their own sources.
const NAMES: &[(u64, &str)] = &[
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x0102_1994, "tmpfs"),
    (0x8584_58f6, "ramfs"),
    (0x794c_7630, "overlay"),
    (0x6969, "nfs"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x517b, "smb"),
    (0x0bd0_0bd0, "lustre"),
    (0x4750_4653, "gpfs"),
    (0x6573_5546, "fuse"),
    (0x00c3_6400, "ceph"),
    (0x1983_0326, "beegfs"),
    (0x0102_1997, "9p"),
    (0x5346_414f, "afs"),
    (0xf2f5_2010, "f2fs"),
    (0x2fc1_2fc1, "zfs"),
    (0xca45_1a4e, "bcachefs"),
    (0xf15f, "ecryptfs"),
    (0x7371_7368, "squashfs"),
    (0xe0f5_e1e2, "erofs"),
    (0x9660, "iso9660"),
    (0x4d44, "vfat"),
    (0x2011_bab0, "exfat"),
    (0x5346_544e, "ntfs"),
    (0x7366_746e, "ntfs3"),
    (0x00c0_ffee, "hostfs"),
];

/// Network file systems: they squash or refuse foreign owners, and locks on them may not hold.
const NETWORK: &[&str] = &["nfs", "cifs", "smb2", "smb", "lustre", "gpfs", "ceph", "beegfs", "9p", "afs"];

impl FileSystem {
    pub fn is_network(&self) -> bool {
        NETWORK.contains(&self.name.as_str())
    }

    /// A server decides about permissions, on this machine or another.
    pub fn is_served(&self) -> bool {
        self.is_network() || self.name == "fuse"
    }
}

/// The file system of an existing path.
///
/// # Errors
/// Those of statfs(2).
pub fn of(path: &Path) -> io::Result<FileSystem> {
    let kind = rustix::fs::statfs(path)?;
    let space = rustix::fs::statvfs(path)?;
    let flags = space.f_flag;
    Ok(FileSystem {
        name: name(magic(kind.f_type)),
        read_only: flags.contains(StatVfsMountFlags::RDONLY),
        nosuid: flags.contains(StatVfsMountFlags::NOSUID),
        nodev: flags.bits() & libc::ST_NODEV != 0,
        noexec: flags.bits() & libc::ST_NOEXEC != 0,
        size: space.f_blocks.saturating_mul(space.f_frsize),
        free: space.f_bfree.saturating_mul(space.f_frsize),
        available: space.f_bavail.saturating_mul(space.f_frsize),
    })
}

/// f_type is signed on some architectures; the magic numbers are 32 bits wide.
#[allow(clippy::unnecessary_cast, reason = "the width of f_type differs between architectures")]
fn magic(f_type: rustix::fs::FsWord) -> u64 {
    u64::from(f_type as u32)
}

fn name(magic: u64) -> String {
    let known = NAMES.iter().find(|(number, _)| *number == magic);
    known.map_or_else(|| format!("unknown ({magic:#x})"), |(_, name)| (*name).to_owned())
}

/// The device number, which tells two file systems apart.
///
/// # Errors
/// Those of stat(2).
pub fn device(path: &Path) -> io::Result<u64> {
    fs::metadata(path).map(|metadata| metadata.dev())
}

/// Whether files in a directory take `user.` extended attributes (xattr(7)), tried on a file without a name.
/// Not for the fast path: it writes.
///
/// # Errors
/// No file can be made in the directory; O_TMPFILE is not known to its file system.
pub fn user_xattrs(directory: &Path) -> io::Result<bool> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR)?;
    match rustix::fs::fsetxattr(&file, "user.sbx.probe", b"1", XattrFlags::CREATE) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::PERM) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_their_magic_numbers() {
        assert_eq!(of(Path::new("/proc")).unwrap().name, "unknown (0x9fa0)");
        assert_eq!(name(0x6969), "nfs");
        assert_eq!(name(0x0bd0_0bd0), "lustre");
        assert_eq!(of(Path::new("/nonexistent")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn network_file_systems_are_known_as_such() {
        let mut file_system = of(Path::new("/")).unwrap();
        assert!(file_system.size >= file_system.available);
        for (kind, network) in [("nfs", true), ("gpfs", true), ("ext4", false), ("fuse", false)] {
            file_system.name = kind.to_owned();
            assert_eq!(file_system.is_network(), network, "{kind}");
        }
    }

    #[test]
    fn the_xattr_probe_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        user_xattrs(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(user_xattrs(Path::new("/proc")).is_err());
    }
}
