//! A small root file system out of Debian's static busybox: made once, read by every test, changed by none.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use nix::fcntl::{Flock, FlockArg};

use super::images::TestImage;
use super::prerequisites::{require, scratch};

const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
user:x:1000:1000:user:/home/user:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
";
const GROUP: &str = "\
root:x:0:
daemon:x:1:
www-data:x:33:
staff:x:50:user
user:x:1000:
nogroup:x:65534:
";
const DIRECTORIES: &[(&str, u32)] = &[
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("home/user", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("srv", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
    ("var/tmp", 0o1777),
];
const FILES: &[(&str, &str)] = &[
    ("etc/passwd", PASSWD),
    ("etc/group", GROUP),
    ("etc/hosts", "127.0.0.1 localhost\n"),
    ("etc/hostname", "image\n"),
    ("etc/resolv.conf", ""),
    ("etc/nsswitch.conf", "hosts: files dns\n"),
];

/// The directory, owned by the user that runs the tests. Safe to ask for from many processes at once.
pub fn rootfs() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let busybox = require("busybox");
        let seen = fs::metadata(&busybox).expect("busybox was just found");
        // Another busybox, or another recipe, makes another directory.
        let name = format!("rootfs-1-{}-{}", seen.len(), seen.mtime());
        make_once(scratch(), &name, |target| fill(target, &busybox))
            .unwrap_or_else(|error| panic!("cannot make the root file system for tests: {error}"))
    })
}

/// Debian's minimal system, from the image `debian` of `scripts/test-images`, as if the user that runs the tests owned
/// all of it. No test changes it.
pub fn debian_rootfs() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| unpacked("debian", &super::images().debian()))
}

/// nginx, redis, Python and iperf3 above busybox, from the image `services`, in the same way.
pub fn services_rootfs() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| unpacked("services", &super::images().services()))
}

/// All layers of an image over each other; of whiteouts nothing is known here.
fn unpacked(name: &str, image: &TestImage) -> PathBuf {
    let blob = |digest: &str| image.layout.join("blobs").join(digest.replace(':', "/"));
    let document = |path: PathBuf| -> serde_json::Value {
        serde_json::from_slice(&fs::read(path).expect("a document of the image")).expect("JSON")
    };
    let index = document(image.layout.join("index.json"));
    let manifest = document(blob(index["manifests"][0]["digest"].as_str().expect("a digest")));
    let layers = manifest["layers"].as_array().expect("layers").iter();
    let layers: Vec<&str> = layers.map(|layer| layer["digest"].as_str().expect("a layer")).collect();
    let last = layers.last().expect("a layer");
    let unpack = |target: &Path| {
        for layer in &layers {
            let done = Command::new("tar")
                .args(["--no-same-owner", "--exclude=./dev/*", "-xzf"])
                .arg(blob(layer))
                .arg("-C")
                .arg(target)
                .status()?;
            if !done.success() {
                return Err(std::io::Error::other("tar failed"));
            }
        }
        Ok(())
    };
    make_once(scratch(), &format!("{name}-1-{}", &last["sha256:".len()..][..12]), unpack)
        .unwrap_or_else(|error| panic!("cannot unpack {name} for the tests: {error}"))
}

/// Visible by one rename, made under a lock: a test run that is killed halfway leaves no half directory.
fn make_once(
    parent: &Path,
    name: &str,
    fill: impl FnOnce(&Path) -> std::io::Result<()>,
) -> std::io::Result<PathBuf> {
    let target = parent.join(name);
    let lock = fs::File::create(parent.join(format!("{name}.lock")))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    if !target.exists() {
        let half = tempfile::Builder::new().prefix("half.").tempdir_in(parent)?;
        fill(half.path())?;
        fs::rename(half.keep(), &target)?;
    }
    Ok(target)
}

fn fill(root: &Path, busybox: &Path) -> std::io::Result<()> {
    fs::set_permissions(root, fs::Permissions::from_mode(0o755))?;
    for (name, mode) in DIRECTORIES {
        fs::create_dir(root.join(name))?;
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(*mode))?;
    }
    for (name, content) in FILES {
        fs::write(root.join(name), content)?;
    }
    fs::copy(busybox, root.join("bin/busybox"))?;
    let listed = Command::new(busybox).arg("--list").output()?;
    for applet in String::from_utf8_lossy(&listed.stdout).lines().filter(|name| *name != "busybox") {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    symlink("bin", root.join("sbin"))?;
    symlink("../bin", root.join("usr/bin"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_shell_runs_without_the_hosts_libraries() {
        let root = rootfs();
        let output = Command::new("unshare")
            .args(["--user", "--map-root-user", "chroot"])
            .arg(root)
            .args(["/bin/sh", "-c", "ls -d /proc /tmp; id -u"])
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .output()
            .expect("unshare starts");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "/proc\n/tmp\n0\n", "{output:?}");
    }

    #[test]
    fn a_failed_attempt_leaves_nothing_and_the_next_succeeds() {
        let parent = tempfile::tempdir_in(scratch()).expect("a directory");
        let failed = make_once(parent.path(), "x", |_| Err(std::io::Error::other("full")));
        assert_eq!(failed.expect_err("it must fail").to_string(), "full");
        assert!(!parent.path().join("x").exists());
        let made = make_once(parent.path(), "x", |half| fs::write(half.join("f"), "1")).expect("made");
        let again = make_once(parent.path(), "x", |_| panic!("made twice")).expect("found");
        assert_eq!(made, again);
        assert_eq!(fs::read(made.join("f")).expect("a file"), b"1");
    }
}
