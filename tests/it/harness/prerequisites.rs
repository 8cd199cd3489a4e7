//! What the host must have for a test: never skipped silently, but failed with the name of what to install.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// Programs that tests ask for, and the Debian package of each.
const PACKAGES: &[(&str, &str)] = &[
    ("bindfs", "bindfs"),
    ("buildah", "buildah"),
    ("busybox", "busybox-static"),
    ("bzip2", "bzip2"),
    ("catatonit", "catatonit"),
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("crun", "crun"),
    ("curl", "curl"),
    ("docker-registry", "docker-registry"),
    ("fish", "fish"),
    ("fuse-overlayfs", "fuse-overlayfs"),
    ("fusermount3", "fuse3"),
    ("gcc", "gcc"),
    ("getcap", "libcap2-bin"),
    ("getsubids", "uidmap"),
    ("ip", "iproute2"),
    ("newgidmap", "uidmap"),
    ("newuidmap", "uidmap"),
    ("nft", "nftables"),
    ("openssl", "openssl"),
    ("passt", "passt"),
    ("pasta", "passt"),
    ("podman", "podman"),
    ("perl", "perl-base"),
    ("ping", "iputils-ping"),
    ("python3", "python3"),
    ("rootlesskit", "rootlesskit"),
    ("runc", "runc"),
    ("script", "bsdutils"),
    ("setcap", "libcap2-bin"),
    ("setfattr", "attr"),
    ("setpriv", "util-linux"),
    ("skopeo", "skopeo"),
    ("slirp4netns", "slirp4netns"),
    ("strace", "strace"),
    ("systemd-analyze", "systemd"),
    ("xz", "xz-utils"),
    ("zsh", "zsh"),
    ("zstd", "zstd"),
];

/// Fails the test unless `program` is on the PATH or in a system directory for programs; returns where.
#[track_caller]
pub fn require(program: &str) -> PathBuf {
    find(program).unwrap_or_else(|| {
        let package = PACKAGES.iter().find(|(name, _)| *name == program).map(|(_, package)| *package);
        match package {
            Some(package) => {
                panic!("`{program}` is missing: run `apt-get install {package}`, or `scripts/test` as root")
            }
            None => panic!("`{program}` is missing, and no package is known that has it"),
        }
    })
}

/// Fails the test unless it runs as root, as `scripts/test` runs the modules named `as_root`.
#[track_caller]
pub fn require_root() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test states what holds for root: run `scripts/test` as root"
    );
}

/// The binary under test: `SBX_TEST_BINARY`, else the one cargo built with the tests.
pub fn sbx_binary() -> PathBuf {
    std::env::var_os("SBX_TEST_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_sbx").into(), PathBuf::from)
}

/// The shim as an administrator installs it (setuid root, or with file capabilities): `SBX_TEST_SHIM`.
#[track_caller]
pub fn shim_binary() -> PathBuf {
    let path = std::env::var_os("SBX_TEST_SHIM")
        .expect("no installed newuidmap-shim: run `scripts/install-helpers` as root and set SBX_TEST_SHIM to its path");
    path.into()
}

/// The source tree: `SBX_TEST_REPOSITORY`, else where the tests were built.
pub fn repository() -> PathBuf {
    std::env::var_os("SBX_TEST_REPOSITORY").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// A directory of this user's that holds what tests make; on a disk, since a home is.
pub(super) fn scratch() -> &'static Path {
    static SCRATCH: OnceLock<PathBuf> = OnceLock::new();
    SCRATCH.get_or_init(|| {
        let uid = nix::unistd::geteuid();
        let parent = std::env::var_os("SBX_TEST_SCRATCH").map_or_else(|| "/var/tmp".into(), PathBuf::from);
        let directory = parent.join(format!("sbx-test-{uid}"));
        let made = fs::DirBuilder::new().mode(0o755).recursive(true).create(&directory);
        made.unwrap_or_else(|error| panic!("cannot make {}: {error}", directory.display()));
        let owner = fs::symlink_metadata(&directory).expect("the directory was just made");
        assert!(
            owner.is_dir() && owner.uid() == uid.as_raw(),
            "{} is somebody else's: remove it, or set SBX_TEST_SCRATCH to another directory",
            directory.display()
        );
        directory
    })
}

/// A directory for what tests keep from one run to the next.
pub fn cache(name: &str) -> PathBuf {
    let directory = scratch().join(name);
    fs::create_dir_all(&directory)
        .unwrap_or_else(|error| panic!("cannot make {}: {error}", directory.display()));
    directory
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let directories = path.split(':').filter(|directory| !directory.is_empty()).chain(system);
    directories.map(|directory| Path::new(directory).join(program)).find(|candidate| candidate.is_file())
}

/// How long to wait for what takes no longer than that on an ordinary machine: virtual hosts without KVM are slow.
pub fn patience(time: Duration) -> Duration {
    if std::env::var_os("SBX_TEST_HOST").is_some() { 4 * time } else { time }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_found() {
        assert!(require("sh").is_absolute());
    }

    #[test]
    fn what_is_missing_fails_with_the_package() {
        let named = |program: &'static str| {
            let cause = std::panic::catch_unwind(|| require(program)).expect_err("it did not fail");
            cause.downcast_ref::<String>().cloned().expect("a message")
        };
        assert!(named("no-such-program").contains("no-such-program"));
    }
}
