//! Paths inside a root file system that may be hostile: every look-up goes through openat2(2) with
//! RESOLVE_IN_ROOT, so that `..` and symlinks end inside the root, whatever the image holds.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Error, Result, Step};

/// Symlinks followed by hand before a dangling chain is given up (path_resolution(7) has the same limit).
const MOST_LINKS: u32 = 40;

/// Look-ups that others disturb are tried again, so many of them without a pause.
const MOST_ATTEMPTS: u32 = 256;
const AT_ONCE: u32 = 16;

/// The directory that becomes `/`.
pub struct InRoot {
    directory: OwnedFd,
}

impl InRoot {
    /// Opens the root; `path` is a path of sbx's own making on the host.
    pub fn open(path: &Path) -> Result<Self> {
        // openat2(2) here already, so that a host without it is told at once.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), ResolveFlags::empty());
        let directory = opened.map_err(|error| {
            let failed = Error::new(format!("cannot open the root file system `{}`", path.display()));
            match error {
                Errno::NOSYS => failed.because("openat2 is not there").hint(
                    "sbx needs Linux 5.6 or later; the seccomp profile of an outer container may hide it: start \
                     that one with `--security-opt seccomp=unconfined`",
                ),
                _ => failed.because(error),
            }
        })?;
        Ok(Self { directory })
    }

    /// A root that is open already.
    pub fn of(directory: OwnedFd) -> Self {
        Self { directory }
    }

    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Opens what is at `path`, following symlinks inside the root.
    pub fn find(&self, path: &Path) -> Result<OwnedFd, Errno> {
        self.resolve(path, OFlags::PATH, ResolveFlags::empty())
    }

    /// Opens the file `path` itself, with the flags of open(2). With NONBLOCK a FIFO does not hold the caller up.
    pub fn open_file(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        self.resolve(path, flags, ResolveFlags::empty())
    }

    /// Whether the way to `path` leads into something that is mounted in the root.
    pub fn is_behind_a_mount(&self, path: &Path) -> bool {
        matches!(self.resolve(path, OFlags::PATH, ResolveFlags::NO_XDEV), Err(Errno::XDEV))
    }

    /// Opens a directory that the kernel's own file systems go on: none of its components may be a symlink,
    /// or an image could have /proc mounted elsewhere.
    pub fn plain_directory(&self, path: &Path) -> Result<OwnedFd> {
        match self.resolve(path, OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::NO_SYMLINKS) {
            Ok(found) => Ok(found),
            Err(Errno::NOENT) => {
                self.ensure_directory(path)?;
                self.resolve(path, OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::NO_SYMLINKS)
                    .step(|| format!("cannot open `{}` in the root file system", path.display()))
            }
            Err(Errno::LOOP | Errno::NOTDIR) => Err(Error::new(format!(
                "cannot mount on `{}` of the root file system: it is a symlink or no directory",
                path.display()
            ))
            .hint("replace it by an empty directory")),
            Err(error) => {
                Err(error).step(|| format!("cannot open `{}` in the root file system", path.display()))
            }
        }
    }

    /// Opens the directory `path`, making it and its parents (mode 0755) where they are missing.
    ///
    /// A dangling symlink on the way gets its target made inside the root.
    pub fn ensure_directory(&self, path: &Path) -> Result<OwnedFd> {
        self.ensure_directory_within(path, MOST_LINKS)
    }

    fn ensure_directory_within(&self, path: &Path, links: u32) -> Result<OwnedFd> {
        if let Ok(found) = self.resolve(path, OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::empty()) {
            return Ok(found);
        }
        let failed = || format!("cannot make the directory `{}` in the root file system", path.display());
        let mut here = PathBuf::new();
        let mut parent = self.find(Path::new(".")).step(failed)?;
        for component in path.components() {
            let name = match component {
                Component::Normal(name) => name,
                // Behind a symlink the kernel alone knows where it leads.
                Component::ParentDir => {
                    here.push("..");
                    parent = self.find(&here).step(failed)?;
                    continue;
                }
                _ => continue,
            };
            here.push(name);
            parent = match self.find(&here) {
                Ok(found) => found,
                Err(Errno::NOENT) => {
                    if let Some(target) = link_target(&parent, name) {
                        if links == 0 {
                            return Err(Error::new(failed()).because("too many symlinks"));
                        }
                        let above = here.parent().unwrap_or(Path::new("/"));
                        parent = self.ensure_directory_within(&normalized(&above.join(target)), links - 1)?;
                        continue;
                    }
                    rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755))
                        .map_err(|error| cannot_make(error, failed(), &parent, here.parent()))?;
                    self.find(&here).step(failed)?
                }
                Err(error) => return Err(error).step(failed),
            };
        }
        if !is_directory(&parent) {
            return Err(Error::new(failed()).because("a file is in the way"));
        }
        Ok(parent)
    }

    /// Opens the file `path`, making an empty one (and its parent directories) where there is none; a
    /// dangling symlink gets its target made inside the root.
    pub fn ensure_file(&self, path: &Path) -> Result<OwnedFd> {
        self.ensure_file_within(path, MOST_LINKS)
    }

    fn ensure_file_within(&self, path: &Path, links: u32) -> Result<OwnedFd> {
        match self.find(path) {
            Ok(found) => return Ok(found),
            Err(Errno::NOENT) => {}
            Err(error) => {
                return Err(error)
                    .step(|| format!("cannot open `{}` in the root file system", path.display()));
            }
        }
        let failed = || format!("cannot make the file `{}` in the root file system", path.display());
        let parent_path = path.parent().unwrap_or(Path::new("/"));
        let parent = self.ensure_directory(parent_path)?;
        let name = path.file_name().ok_or_else(|| Error::new(failed()).because("it has no name"))?;
        if let Some(target) = link_target(&parent, name) {
            if links == 0 {
                return Err(Error::new(failed()).because("too many symlinks"));
            }
            return self.ensure_file_within(&normalized(&parent_path.join(target)), links - 1);
        }
        let create = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&parent, name, create, Mode::from_raw_mode(0o644))
            .map_err(|error| cannot_make(error, failed(), &parent, Some(parent_path)))?;
        self.find(path).step(failed)
    }

    /// Opens a regular file for reading, e.g. /etc/passwd; none if it is missing or something else.
    pub fn read(&self, path: &Path, at_most: u64) -> Option<Vec<u8>> {
        use std::io::Read;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = std::fs::File::from(self.resolve(path, flags, ResolveFlags::empty()).ok()?);
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut text = Vec::new();
        file.take(at_most).read_to_end(&mut text).ok()?;
        Some(text)
    }

    fn resolve(&self, path: &Path, flags: OFlags, more: ResolveFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
        // EAGAIN: a rename or mount, anywhere on the machine, ran beside a look-up of `..` (openat2(2), ERRORS).
        for attempt in 0..MOST_ATTEMPTS {
            if attempt >= AT_ONCE {
                std::thread::sleep(std::time::Duration::from_micros(100));
            }
            match rustix::fs::openat2(&self.directory, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
            {
                Err(Errno::AGAIN) => {}
                result => return result,
            }
        }
        Err(Errno::AGAIN)
    }
}

/// The name under which mount(2) takes a descriptor.
pub fn descriptor_path(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

pub fn is_directory(fd: impl AsFd) -> bool {
    rustix::fs::fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// Whether the owner is none of the user namespace's: the kernel shows the overflow IDs (user_namespaces(7)).
fn is_foreign(fd: &OwnedFd) -> bool {
    const OVERFLOW: u32 = 65534;
    rustix::fs::fstat(fd).is_ok_and(|stat| stat.st_uid == OVERFLOW || stat.st_gid == OVERFLOW)
}

fn link_target(parent: &OwnedFd, name: &std::ffi::OsStr) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let target = rustix::fs::readlinkat(parent, name, Vec::new()).ok()?;
    Some(PathBuf::from(std::ffi::OsString::from_vec(target.into_bytes())))
}

fn cannot_make(error: Errno, message: String, parent: &OwnedFd, parent_path: Option<&Path>) -> Error {
    let failed = Error::new(message).because(error);
    match error {
        Errno::ACCESS | Errno::PERM | Errno::OVERFLOW if is_foreign(parent) => failed.hint(format!(
            "`{}` belongs to a user or group that is not mapped in the container: give it to its root \
             (`sbx unshare chown`), or use a map that has its owner",
            Path::new("/").join(parent_path.unwrap_or(Path::new(""))).display()
        )),
        Errno::ROFS => failed.hint("the place is read-only: make it there beforehand, or choose another"),
        Errno::NOSPC | Errno::DQUOT => {
            failed.hint("free some space where the containers are kept (`sbx info` names the place)")
        }
        _ => failed,
    }
}

/// `..` taken away by text: the target of a dangling link has nothing there that could be a symlink.
fn normalized(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                plain.pop();
            }
            _ => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symlinks_and_dots_stay_inside_the_root() {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("../../../../outside/file", directory.path().join("link")).unwrap();
        let root = InRoot::open(directory.path()).unwrap();
        root.ensure_file(Path::new("/link")).unwrap();
        assert!(directory.path().join("outside/file").is_file());
        root.ensure_directory(Path::new("/../../x/y")).unwrap();
        assert!(directory.path().join("x/y").is_dir());
    }

    #[test]
    fn kernel_file_systems_go_on_plain_directories_alone() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("../etc", directory.path().join("proc")).unwrap();
        let root = InRoot::open(directory.path()).unwrap();
        let error = root.plain_directory(Path::new("/proc")).unwrap_err();
        assert!(error.message().contains("symlink"), "{error}");
        assert!(root.plain_directory(Path::new("/sys")).is_ok());
    }
}
