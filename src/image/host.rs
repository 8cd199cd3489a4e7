//! The built-in image `host`: an allow-list of the machine's own system directories. Homes, /tmp, /run, /srv
//! and everything else of the host are not there.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, accessat, open, openat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_bind, mount_bind_recursive};

use crate::error::{Result, Step};
use crate::image::Config;
use crate::sandbox::inroot::descriptor_path;

/// System directories, and the parts of /var that package managers, compilers and interpreters need.
/// Those that a machine lacks are left out.
const SYSTEM: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc",
    "/opt",
    "/var/lib/dpkg",
    "/var/lib/apt",
    "/var/lib/pam",
    "/var/lib/python",
    "/var/lib/ucf",
    "/var/lib/rpm",
    "/var/lib/dnf",
    "/var/lib/pacman",
    "/var/lib/texmf",
    "/var/lib/ghc",
    "/var/lib/alternatives",
    "/var/cache/debconf",
    "/var/cache/fontconfig",
    "/var/cache/ldconfig",
    "/var/cache/man",
];

/// Directories that are there but empty, with their modes.
const EMPTY: &[(&str, u32)] = &[
    ("/boot", 0o755),
    ("/dev", 0o755),
    ("/home", 0o755),
    ("/media", 0o755),
    ("/mnt", 0o755),
    ("/proc", 0o555),
    ("/root", 0o700),
    ("/run", 0o755),
    ("/run/lock", 0o1777),
    ("/srv", 0o755),
    ("/sys", 0o555),
    ("/tmp", 0o1777),
    ("/var", 0o755),
    ("/var/backups", 0o755),
    ("/var/cache", 0o755),
    ("/var/cache/apt", 0o755),
    ("/var/cache/apt/archives", 0o755),
    ("/var/cache/apt/archives/partial", 0o700),
    ("/var/lib", 0o755),
    ("/var/log", 0o755),
    ("/var/log/apt", 0o755),
    ("/var/mail", 0o2775),
    ("/var/opt", 0o755),
    ("/var/spool", 0o755),
    ("/var/tmp", 0o1777),
];

/// Files that only root may read and that package managers and useradd(8) open before they do anything: locks,
/// and lists of secrets. Where the caller may not read one, an empty file stands in its place, so that the
/// tools work and the secrets stay where they are.
const BLANK: &[&str] = &[
    "/etc/.pwd.lock",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/shadow",
    "/etc/shadow-",
    "/var/cache/debconf/passwords.dat",
    "/var/cache/debconf/passwords.dat-old",
    "/var/lib/apt/daily_lock",
    "/var/lib/apt/lists/lock",
    "/var/lib/dpkg/lock",
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/triggers/Lock",
];

/// A shell, as the images of distributions have it.
pub fn config() -> Config {
    Config { command: vec!["/bin/sh".to_owned()], ..Config::default() }
}

/// Builds the image's tree on `stage`, a directory in a mount namespace of the caller's own: a tmpfs with
/// the system directories bound into it, all of it read-only. Called with CAP_SYS_ADMIN in that namespace.
///
/// For an image that can be changed, `for_changes` puts a file of its own in the place of each that changing
/// needs and that the caller may not open. Where the caller is root of the host, what only root may read in
/// /etc is left out: it stays as unreadable as it is for everybody else.
pub fn stage(stage: &Path, for_changes: bool) -> Result<()> {
    // The tmpfs of the blank files lies below that of the image and is reached by its descriptor alone.
    mount("sbx-blank", stage, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=700")
        .step(|| format!("cannot mount a tmpfs on `{}`", stage.display()))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let blanks = open(stage, flags, Mode::empty()).step(|| "cannot open a tmpfs")?;
    build(stage)?;
    let covered = |path: &Path| format!("cannot put an empty file in the place of `{}`", path.display());
    if for_changes {
        for path in BLANK.iter().map(Path::new) {
            if accessat(CWD, path, Access::READ_OK, AtFlags::EACCESS) == Err(Errno::ACCESS) {
                cover(&blanks, path, &below(stage, path)).step(|| covered(path))?;
            }
        }
    }
    // Nothing that goes wrong above it may write to the host.
    crate::sandbox::root::make_read_only(stage, true)
}

fn build(stage: &Path) -> Result<()> {
    mount("sbx-host", stage, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=755")
        .step(|| format!("cannot mount a tmpfs on `{}`", stage.display()))?;
    for (path, mode) in EMPTY {
        let path = below(stage, path);
        make_directory(&path, *mode).step(|| format!("cannot make `{}`", path.display()))?;
    }
    for path in SYSTEM {
        add_system(stage, Path::new(path)).step(|| format!("cannot bring `{path}` into the image `host`"))?;
    }
    for (link, target) in [("/var/run", "/run"), ("/var/lock", "/run/lock")] {
        symlink(target, below(stage, link)).step(|| format!("cannot make the symlink `{link}`"))?;
    }
    Ok(())
}

/// What others than their owner and group may not read below a directory, each directory of the kind as one.
#[derive(Default)]
struct Private {
    paths: BTreeSet<PathBuf>,
    /// The inode numbers of all directories that may be read.
    directories: BTreeSet<u64>,
}

impl Private {
    fn look(&mut self, directory: &Path) -> io::Result<()> {
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            // What somebody has just renamed away is not there any more.
            let Ok(metadata) = entry.metadata() else { continue };
            let mode = metadata.mode();
            if metadata.is_dir() && mode & 0o005 == 0o005 {
                self.directories.insert(metadata.ino());
                self.look(&entry.path())?;
            } else if metadata.is_dir() || (metadata.is_file() && mode & 0o004 == 0) {
                self.paths.insert(entry.path());
            }
        }
        Ok(())
    }

    fn has_some_below(&self, directory: &Path) -> bool {
        self.paths.range(directory.to_owned()..).next().is_some_and(|path| path.starts_with(directory))
    }

    /// Makes a directory that find(1) takes for none of those below it: fuse-overlayfs shows the inode numbers of
    /// several file systems as those of one. A tmpfs gives each number once.
    fn make_directory(&self, path: &Path, mode: u32) -> io::Result<()> {
        loop {
            make_directory(path, mode)?;
            if !self.directories.contains(&path.metadata()?.ino()) {
                return Ok(());
            }
            std::fs::remove_dir(path)?;
        }
    }
}

/// Brings a directory without what is private in it. Empty files and directories stand in the place of that. A mount
/// over each would not do: the kernel takes it away when somebody renames another file there, as passwd(1) does.
fn add_public(stage: &Path, directory: &Path, private: &Private) -> io::Result<()> {
    if !private.has_some_below(directory) {
        return add(stage, directory);
    }
    private.make_directory(&below(stage, directory), directory.metadata()?.mode() & 0o7777)?;
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let Ok(metadata) = path.symlink_metadata() else { continue };
        if metadata.is_dir() && private.paths.contains(&path) {
            make_directory(&below(stage, &path), 0o700)?;
        } else if metadata.is_dir() {
            add_public(stage, &path, private)?;
        } else if metadata.is_file() && metadata.mode() & 0o004 == 0 {
            make_blank(&below(stage, &path))?;
        } else {
            add(stage, &path)?;
        }
    }
    Ok(())
}

fn make_blank(path: &Path) -> io::Result<()> {
    let create = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    Ok(open(path, create, Mode::from_raw_mode(0o600)).map(drop)?)
}

fn cover(blanks: &OwnedFd, path: &Path, staged: &Path) -> io::Result<()> {
    // One for each: two names of one file would be taken for hard links.
    let name = path.to_string_lossy().replace('/', "%");
    let create = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    let blank = openat(blanks, &name, create, Mode::from_raw_mode(0o600))?;
    mount_bind(descriptor_path(&blank), staged).map_err(io::Error::from)
}

fn add_system(stage: &Path, path: &Path) -> io::Result<()> {
    // Everybody else is refused by the kernel.
    if path == Path::new("/etc") && path.metadata()?.uid() == 0 {
        let mut private = Private::default();
        private.look(path)?;
        return add_public(stage, path, &private);
    }
    add(stage, path)
}

fn add(stage: &Path, path: &Path) -> io::Result<()> {
    let Ok(metadata) = path.symlink_metadata() else { return Ok(()) };
    let target = below(stage, path);
    if metadata.is_symlink() {
        return symlink(std::fs::read_link(path)?, target);
    }
    if metadata.is_dir() {
        std::fs::create_dir_all(&target)?;
        // Recursive: mounts below that came from a more privileged namespace may not be uncovered.
        mount_bind_recursive(path, &target)?;
    } else if metadata.is_file() {
        std::fs::File::create_new(&target)?;
        mount_bind(path, &target)?;
    }
    Ok(())
}

fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

fn below(stage: &Path, path: impl AsRef<Path>) -> std::path::PathBuf {
    let path = path.as_ref();
    stage.join(path.strip_prefix("/").unwrap_or(path))
}
