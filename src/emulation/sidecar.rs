//! Owners of files that take no attributes: symlinks, pipes, sockets and devices, and everything on a file
//! system without `user.` attributes (xattr(7)).
//!
//! What the container records is kept by inode, and the inode by an open descriptor, so that its number is
//! not given to another file and its path, also after renames, can be asked for. For the container's own layer
//! it is written to `owners` beside that, in the format of layers ([`crate::layers::owners`]): a line at once,
//! the whole when the container has ended. What the layers below bring is found by path.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};

use crate::container::directory::ContainerDirectory;
use crate::container::spec::{Driver, Root, Spec};
use crate::layers::owners::{INDEX, Line, Owners, Recorded};
use crate::layers::store::MapKey;

/// Where recorded owners lie on the host.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// The container's directory, which holds `owners`; none where changes go elsewhere.
    pub container: Option<PathBuf>,
    /// What the container changed, perhaps on scratch.
    pub upper: PathBuf,
    /// The directories of the layers, each with `fs` and perhaps `owners`, the lowest first.
    pub layers: Vec<PathBuf>,
    /// The layers were copied into `upper`.
    pub copied: bool,
}

impl Places {
    /// Those of a container in this store.
    pub fn of(spec: &Spec, store: &Path, directory: &ContainerDirectory) -> Self {
        let copied = spec.root.driver() == Some(Driver::Copy);
        match &spec.root {
            Root::Layers { key, layers, .. } => {
                let Some(key) = MapKey::from_record(key) else { return Self::default() };
                let files = crate::layers::unpacked(store, &key, layers);
                let layers = files.iter().filter_map(|files| files.parent().map(Path::to_owned)).collect();
                let container = Some(directory.path().to_owned());
                Self { container, upper: directory.upper(), layers, copied }
            }
            Root::Directories { .. } => {
                let container = Some(directory.path().to_owned());
                Self { container, upper: directory.upper(), layers: Vec::new(), copied }
            }
            Root::Host { .. } | Root::WritableDirectory { .. } => Self::default(),
        }
    }
}

pub struct Sidecar {
    places: Places,
    /// The container's first process in /proc.
    init: File,
    /// The mount that is the container's root, once that process is a program of the container's: before, it is
    /// closed to everybody.
    root_mount: OnceLock<u64>,
    /// By device and inode number.
    recorded: Mutex<HashMap<(u64, u64), Entry>>,
    layers: OnceLock<Layers>,
}

struct Entry {
    recorded: Recorded,
    /// Keeps the inode, and knows where it is.
    file: OwnedFd,
    in_root: bool,
}

struct Layer {
    files: OwnedFd,
    owners: Owners,
}

/// The topmost first, as they are looked through.
struct Layers {
    all: Vec<Layer>,
    /// Nothing is recorded in any index.
    silent: bool,
    /// Something is recorded of files that could carry an attribute.
    of_carriers: bool,
}

impl Layers {
    fn open(directories: &[PathBuf]) -> Self {
        let all: Vec<Layer> =
            directories.iter().rev().filter_map(|directory| Layer::open(directory)).collect();
        let attributeless =
            |recorded: &Recorded| matches!(recorded.kind(), libc::S_IFLNK | libc::S_IFIFO | libc::S_IFSOCK);
        let silent = all.iter().all(|layer| layer.owners.is_empty());
        let of_carriers =
            all.iter().flat_map(|layer| layer.owners.iter()).any(|(_, line)| !attributeless(&line.recorded));
        Self { all, silent, of_carriers }
    }
}

impl Sidecar {
    /// `init` is the directory in /proc of the container's first process.
    pub fn new(places: Places, init: File) -> Self {
        Self {
            places,
            init,
            root_mount: OnceLock::new(),
            recorded: Mutex::default(),
            layers: OnceLock::new(),
        }
    }

    fn root_mount(&self) -> Option<u64> {
        if let Some(mount) = self.root_mount.get() {
            return Some(*mount);
        }
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let root = rustix::fs::openat(&self.init, "root", flags, Mode::empty()).ok()?;
        let mount = mount_of(&root)?;
        let mut all = self.lock();
        Some(*self.root_mount.get_or_init(|| {
            self.load(&root, &mut all);
            mount
        }))
    }

    fn is_in_root(&self, file: &OwnedFd) -> bool {
        self.root_mount().is_some_and(|root| mount_of(file) == Some(root))
    }

    /// What an earlier run of the same container recorded, and what came with copied layers.
    fn load(&self, root: &OwnedFd, all: &mut HashMap<(u64, u64), Entry>) {
        let copied = self.places.layers.iter().filter(|_| self.places.copied);
        let owners: Vec<Owners> =
            copied.chain(&self.places.container).map(|directory| owners_in(directory)).collect();
        for (path, line) in owners.iter().flat_map(Owners::iter) {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            let path = std::ffi::OsStr::from_bytes(path);
            let Ok(file) = rustix::fs::openat2(root, path, flags, Mode::empty(), within) else { continue };
            let Ok(found) = rustix::fs::fstat(&file) else { continue };
            if found.st_mode & libc::S_IFMT == line.recorded.kind() {
                let entry = Entry { recorded: line.recorded, file, in_root: true };
                all.insert((found.st_dev, found.st_ino), entry);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(u64, u64), Entry>> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the layers below recorded of a file that could carry an attribute and has none: their file system
    /// refused it.
    pub fn instead_of_attribute(&self, file: &OwnedFd) -> Option<Recorded> {
        (!self.places.layers.is_empty() && self.layers().of_carriers).then(|| self.of_layers(file)).flatten()
    }

    fn layers(&self) -> &Layers {
        self.layers.get_or_init(|| Layers::open(&self.places.layers))
    }

    /// What is recorded of `file`; `key` are its device and inode number.
    pub fn get(&self, file: &OwnedFd, key: (u64, u64)) -> Option<Recorded> {
        self.root_mount();
        if let Some(entry) = self.lock().get(&key) {
            return Some(entry.recorded);
        }
        self.of_layers(file)
    }

    fn of_layers(&self, file: &OwnedFd) -> Option<Recorded> {
        if self.places.layers.is_empty() || self.layers().silent || !self.is_in_root(file) {
            return None;
        }
        let path = path_of(file)?;
        if self.places.upper.join(&path).symlink_metadata().is_ok() {
            return None;
        }
        let layer = self.layers().all.iter().find(|layer| layer.has(&path))?;
        layer.owners.get(path.as_os_str().as_bytes()).map(|line| line.recorded)
    }

    /// Records; an error where it cannot be written down.
    pub fn put(&self, file: &OwnedFd, key: (u64, u64), recorded: Recorded) -> std::io::Result<()> {
        let in_root = self.is_in_root(file);
        let kept = rustix::io::fcntl_dupfd_cloexec(file.as_fd(), 0)?;
        let mut all = self.lock();
        if in_root && let (Some(directory), Some(path)) = (&self.places.container, path_of(file)) {
            let mut one = Owners::default();
            one.put(path.as_os_str().as_bytes().to_vec(), Line { recorded, xattrs: Vec::new() });
            append(&directory.join(INDEX), &one)?;
        }
        all.insert(key, Entry { recorded, file: kept, in_root });
        Ok(())
    }

    /// Writes down where everything is now. The container has ended.
    pub fn save(&self) {
        let Some(directory) = &self.places.container else { return };
        let all = self.lock();
        let mut owners = Owners::default();
        for entry in all.values().filter(|entry| entry.in_root) {
            let there = rustix::fs::fstat(&entry.file).is_ok_and(|found| found.st_nlink > 0);
            if let Some(path) = path_of(&entry.file).filter(|_| there) {
                let line = Line { recorded: entry.recorded, xattrs: Vec::new() };
                owners.put(path.into_os_string().into_encoded_bytes(), line);
            }
        }
        let (index, new) = (directory.join(INDEX), directory.join("owners.new"));
        if owners.is_empty() {
            let _ = fs::remove_file(index);
        } else if let Err(error) = fs::write(&new, owners.to_bytes()).and_then(|()| fs::rename(&new, index)) {
            // The lines written at once still stand.
            log::debug!("cannot write `{}`: {error}", new.display());
        }
    }
}

impl Layer {
    fn open(directory: &Path) -> Option<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let files = rustix::fs::open(directory.join("fs"), flags, Mode::empty()).ok()?;
        Some(Self { files, owners: owners_in(directory) })
    }

    /// Whether it has the file, or says that it is gone (a whiteout).
    fn has(&self, path: &Path) -> bool {
        rustix::fs::statat(&self.files, path, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }
}

/// A damaged index is as good as none.
fn owners_in(directory: &Path) -> Owners {
    Owners::load(directory).unwrap_or_else(|error| {
        log::debug!("{error}");
        Owners::default()
    })
}

/// The first line of the format stands in the file once.
fn append(path: &Path, owners: &Owners) -> std::io::Result<()> {
    let mut file = File::options().append(true).create(true).open(path)?;
    let bytes = owners.to_bytes();
    let first = Owners::default().to_bytes().len();
    let from = if file.metadata()?.len() == 0 { 0 } else { first };
    file.write_all(&bytes[from..])
}

fn mount_of(file: &OwnedFd) -> Option<u64> {
    const STATX_MNT_ID: u32 = 0x1000;
    let found = crate::sys::remote::status(file.as_fd(), 0, STATX_MNT_ID).ok()?;
    (found.stx_mask & STATX_MNT_ID != 0).then_some(found.stx_mnt_id)
}

/// Where the file is in its mount namespace, without the leading slash.
fn path_of(file: &OwnedFd) -> Option<PathBuf> {
    let link = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
    if link.as_os_str().as_bytes().ends_with(b" (deleted)") {
        return None;
    }
    link.strip_prefix("/").ok().map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> (OwnedFd, (u64, u64)) {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::empty()).unwrap();
        let found = rustix::fs::fstat(&file).unwrap();
        (file, (found.st_dev, found.st_ino))
    }

    fn link(uid: u32) -> Recorded {
        Recorded { uid, gid: 7, mode: libc::S_IFLNK | 0o777, device: (0, 0) }
    }

    #[test]
    fn a_record_follows_its_file_and_ends_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let sidecar = Sidecar::new(Places::default(), File::open("/proc/self").unwrap());
        let path = directory.path().join("link");
        std::os::unix::fs::symlink("x", &path).unwrap();
        let (file, key) = open(&path);
        sidecar.put(&file, key, link(5)).unwrap();
        drop(file);
        let moved = directory.path().join("moved");
        fs::rename(&path, &moved).unwrap();
        let (file, key) = open(&moved);
        assert_eq!(sidecar.get(&file, key), Some(link(5)));
        drop(file);
        fs::remove_file(&moved).unwrap();
        // File systems give the number of a removed inode to the next new one.
        std::os::unix::fs::symlink("y", &moved).unwrap();
        let (file, key) = open(&moved);
        assert_eq!(sidecar.get(&file, key), None);
    }

    #[test]
    fn lines_are_appended_to_one_index() {
        let directory = tempfile::tempdir().unwrap();
        for (path, uid) in [("a", 1), ("b", 2), ("a", 3)] {
            let mut one = Owners::default();
            one.put(path.into(), Line { recorded: link(uid), xattrs: Vec::new() });
            append(&directory.path().join(INDEX), &one).unwrap();
        }
        let owners = Owners::load(directory.path()).unwrap();
        let uid = |path: &[u8]| owners.get(path).map(|line| line.recorded.uid);
        assert_eq!((uid(b"a"), uid(b"b"), uid(b"c")), (Some(3), Some(2), None));
    }
}
