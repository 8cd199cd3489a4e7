//! Files that COPY takes, and the files that it puts them among: a context on the host, or the layers of an image.
//! Nothing is mounted. All of them are hostile: symlinks are followed by hand, and never lead out.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::{Result, Step};
use crate::layers::owners::{Line, Owners};
use crate::layers::stack::{self, Merged, Stack};

pub struct Tree {
    stack: Stack,
    root: Merged,
    owners: Owners,
    /// Whiteouts mean something.
    layered: bool,
}

/// What stands under a name.
pub struct Node<'d> {
    pub stat: Stat,
    /// The directory that has it.
    pub holder: &'d OwnedFd,
    /// Where it is a directory itself.
    pub directory: Option<Merged>,
}

impl Tree {
    /// A directory of the host.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn of_directory(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty())
            .step(|| format!("cannot open the directory `{}`", path.display()))?;
        let stack = Stack::open(&[path.to_owned()])?;
        Ok(Self { stack, root: vec![opened], owners: Owners::default(), layered: false })
    }

    /// The layers of an image, directories `fs` of the store, the lowest first.
    ///
    /// # Errors
    /// One of them cannot be opened.
    pub fn of_layers(layers: &[PathBuf]) -> Result<Self> {
        let stack = Stack::open(layers)?;
        let mut owners = Owners::default();
        for layer in layers.iter().filter_map(|layer| layer.parent()) {
            owners.cover(Owners::load(layer)?);
        }
        let root = stack.root().unwrap_or_default();
        Ok(Self { stack, root, owners, layered: true })
    }

    pub fn is_layered(&self) -> bool {
        self.layered
    }

    /// Where the path leads, relative to the root; what is not there is taken as it is written.
    pub fn real(&self, path: &Path) -> PathBuf {
        self.stack.real_path(path)
    }

    /// The first bytes of a regular file, symlinks followed.
    pub fn read(&self, path: &str, at_most: u64) -> Option<Vec<u8>> {
        self.stack.read(Path::new(path), at_most)
    }

    /// The directory at a path without symlinks.
    pub fn directory(&self, path: &Path) -> Option<Merged> {
        let mut directory = self.copy_of_root()?;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            directory = self.node(&directory, name)?.directory?;
        }
        Some(directory)
    }

    fn copy_of_root(&self) -> Option<Merged> {
        self.root.iter().map(|opened| opened.try_clone().ok()).collect()
    }

    /// What stands under `name`.
    pub fn node<'d>(&self, directory: &'d Merged, name: &OsStr) -> Option<Node<'d>> {
        if self.layered {
            let entry = stack::entry(directory, name)?;
            let holder = entry.directory_of(directory)?;
            return Some(Node { stat: entry.stat, holder, directory: entry.directory });
        }
        let holder = directory.first()?;
        let stat = rustix::fs::statat(holder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let directory = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                Some(vec![rustix::fs::openat(holder, name, flags, Mode::empty()).ok()?])
            }
            _ => None,
        };
        Some(Node { stat, holder, directory })
    }

    /// As [`Self::node`], at `path`: what may not be looked at is not taken for missing.
    ///
    /// # Errors
    /// It, or its directory, may not be looked at.
    pub fn look<'d>(&self, directory: &'d Merged, name: &OsStr, path: &Path) -> Result<Option<Node<'d>>> {
        let node = self.node(directory, name);
        if node.is_none()
            && !self.layered
            && let Some(holder) = directory.first()
        {
            let failed = || format!("cannot look at `{}`", path.display());
            match rustix::fs::statat(holder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => {}
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    rustix::fs::openat(holder, name, flags, Mode::empty()).step(failed)?;
                }
                found => drop(found.step(failed)?),
            }
        }
        Ok(node)
    }

    /// The directory in which a path without symlinks lies.
    ///
    /// # Errors
    /// One above it may not be looked at.
    pub fn directory_of(&self, path: &Path) -> Result<Option<Merged>> {
        let Some(mut directory) = self.copy_of_root() else { return Ok(None) };
        let mut at = PathBuf::new();
        for component in path.parent().unwrap_or(Path::new("")).components() {
            let Component::Normal(name) = component else { continue };
            at.push(name);
            let inner = self.look(&directory, name, &at)?.and_then(|node| node.directory);
            let Some(inner) = inner else { return Ok(None) };
            directory = inner;
        }
        Ok(Some(directory))
    }

    /// The names in a directory; `path` is shown in errors.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn names(&self, directory: &Merged, path: &Path) -> Result<BTreeSet<OsString>> {
        if self.layered {
            return Ok(stack::names_in(directory));
        }
        let shown = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let failed = || format!("cannot read the directory `{}`", shown.display());
        let Some(holder) = directory.first() else { return Ok(BTreeSet::new()) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let readable = rustix::fs::openat(holder.as_fd(), ".", flags, Mode::empty()).step(failed)?;
        let mut names = BTreeSet::new();
        for entry in Dir::read_from(&readable).step(failed)? {
            let entry = entry.step(failed)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.insert(OsStr::from_bytes(name).to_owned());
            }
        }
        Ok(names)
    }

    /// What the index of the layers says of a path.
    pub fn line(&self, path: &Path) -> Option<&Line> {
        self.owners.get(path.as_os_str().as_bytes())
    }

    /// What the symlink at a path without symlinks points to.
    pub fn link(&self, path: &Path) -> Option<Vec<u8>> {
        let parent = self.directory(path.parent().unwrap_or(Path::new("")))?;
        let name = path.file_name()?;
        let holder = self.node(&parent, name)?.holder;
        rustix::fs::readlinkat(holder, name, Vec::new()).ok().map(std::ffi::CString::into_bytes)
    }

    /// What is at a path without symlinks: its kind.
    pub fn kind(&self, path: &Path) -> Option<FileType> {
        if path.file_name().is_none() {
            return Some(FileType::Directory);
        }
        self.mode(path).map(FileType::from_raw_mode)
    }

    /// `st_mode` of what is at a path without symlinks below the root.
    pub fn mode(&self, path: &Path) -> Option<u32> {
        let parent = self.directory(path.parent()?)?;
        self.node(&parent, path.file_name()?).map(|node| node.stat.st_mode)
    }
}

/// The directory that was asked for last: files come in the order of their directories.
pub struct Lookup<'t> {
    tree: &'t Tree,
    last: Option<(PathBuf, Merged)>,
}

impl<'t> Lookup<'t> {
    pub fn new(tree: &'t Tree) -> Self {
        Self { tree, last: None }
    }

    /// The directory at a path without symlinks.
    pub fn directory(&mut self, path: &Path) -> Option<&Merged> {
        if self.last.as_ref().is_none_or(|(known, _)| known != path) {
            self.last = Some((path.to_owned(), self.tree.directory(path)?));
        }
        self.last.as_ref().map(|(_, directory)| directory)
    }
}
