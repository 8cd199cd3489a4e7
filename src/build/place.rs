//! Where COPY puts what it takes among the files of an image, and the layer that this makes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Stat};
use tar::EntryType;

use crate::build::dockerfile::chmod::Chmod;
use crate::build::dockerfile::matching::Destination;
use crate::build::select::Taken;
use crate::build::tree::{Lookup, Tree};
use crate::error::{Error, Result};
use crate::layers::owners::Owners;
use crate::layers::pack::header::Description;
use crate::layers::pack::{Assembly, Found, Times};
use crate::layers::unpack::archive::Time;

/// Mode of what is made for the sake of what is below it.
const DIRECTORY: u32 = 0o755;
/// Mode of a here-document.
const FILE: u32 = 0o644;

/// What the entries of a layer are to be.
#[derive(Debug, Clone, Default)]
pub struct Attributes {
    pub owner: Option<(u32, u32)>,
    pub mode: Option<Chmod>,
    /// Of what is made anew.
    pub now: Time,
    /// A destination that is made for what a directory holds is as that directory is.
    pub like_source: bool,
}

/// Where an entry's content and description come from.
#[derive(Debug, Clone)]
enum Entry {
    /// A directory that was not there.
    Made,
    /// A directory that is made for what is in a source: it has the mode of the instruction.
    Destination,
    /// A directory of the image, described as it is.
    Kept,
    /// By the number of a tree that files are taken from, and its path there.
    Taken(usize, PathBuf, FileType),
    Inline(Vec<u8>),
}

/// The layer of one instruction, as a plan.
pub struct Plan<'t> {
    image: &'t Tree,
    attributes: Attributes,
    /// By paths relative to the root, so that directories precede what is in them.
    entries: BTreeMap<Vec<u8>, Entry>,
}

impl<'t> Plan<'t> {
    pub fn new(image: &'t Tree, attributes: Attributes) -> Self {
        Self { image, attributes, entries: BTreeMap::new() }
    }

    /// Whether nothing would be made.
    pub fn is_empty(&self) -> bool {
        !self.entries.values().any(|entry| !matches!(entry, Entry::Kept))
    }

    /// Makes a directory with those above it where they are missing (WORKDIR), and gives its path without symlinks.
    ///
    /// # Errors
    /// Something else stands there.
    pub fn directory(&mut self, path: &str) -> Result<PathBuf> {
        let real = self.image.real(Path::new(path));
        self.parents(&real)?;
        self.ensure(&real)?;
        Ok(real)
    }

    /// Places what COPY has taken, all sources of one instruction.
    ///
    /// # Errors
    /// A file would take the place of a directory, or the other way round; or there are several files for one name.
    pub fn copy(
        &mut self,
        taken: &[Taken],
        inline: &[(String, Vec<u8>)],
        destination: &Destination,
    ) -> Result<()> {
        let base = self.image.real(Path::new(&destination.path));
        let there = self.kind(&base);
        let exists = there == Some(FileType::Directory);
        let files = taken.iter().filter(|source| !source.is_directory()).count() + inline.len();
        if files > 1 && !exists && !destination.is_directory {
            return Err(Error::new(format!("cannot copy {files} files to `{}`", destination.path))
                .because("it is no directory")
                .hint(format!("write `{}/`", destination.path)));
        }
        for source in taken {
            if let Some(kept) = &source.kept {
                self.with_parents(source, &base, kept)?;
            } else if source.is_directory() {
                self.contents(source, &base)?;
            } else {
                let name = OsStr::from_bytes(&source.name);
                let target = self.target_of_file(&base, name, destination, exists);
                self.file(&target, Entry::Taken(source.tree, source.path.clone(), kind_of(&source.stat)))?;
            }
        }
        for (name, content) in inline {
            let target = self.target_of_file(&base, OsStr::new(name), destination, exists);
            self.file(&target, Entry::Inline(content.clone()))?;
        }
        Ok(())
    }

    fn target_of_file(&self, base: &Path, name: &OsStr, destination: &Destination, exists: bool) -> PathBuf {
        match destination.is_directory || exists || base.as_os_str().is_empty() {
            true => base.join(name),
            false => base.to_owned(),
        }
    }

    /// What a directory holds goes into the destination.
    fn contents(&mut self, source: &Taken, base: &Path) -> Result<()> {
        self.parents(base)?;
        match self.kind(base) {
            Some(FileType::Directory) => self.ensure(base)?,
            None if self.attributes.like_source => {
                self.put(base, Entry::Taken(source.tree, source.path.clone(), FileType::Directory));
            }
            // The directory itself is not copied (Dockerfile reference, COPY, Source).
            None => self.put(base, Entry::Destination),
            Some(_) => return Err(not_a_directory(base)),
        }
        self.below(source, base)
    }

    fn below(&mut self, source: &Taken, base: &Path) -> Result<()> {
        for (path, stat) in &source.below {
            let (target, from) = (base.join(path), source.path.join(path));
            self.node(&target, Entry::Taken(source.tree, from, kind_of(stat)))?;
        }
        Ok(())
    }

    fn with_parents(&mut self, source: &Taken, base: &Path, kept: &[(OsString, PathBuf)]) -> Result<()> {
        self.parents(base)?;
        self.ensure(base)?;
        let mut target = base.to_owned();
        for (index, (name, from)) in kept.iter().enumerate() {
            target.push(name);
            if index + 1 == kept.len() {
                self.node(&target, Entry::Taken(source.tree, source.path.clone(), kind_of(&source.stat)))?;
            } else if self.kind(&target) == Some(FileType::Directory) {
                self.ensure(&target)?;
            } else {
                // The directories between are as they are where the source is.
                self.node(&target, Entry::Taken(source.tree, from.clone(), FileType::Directory))?;
            }
        }
        match source.is_directory() {
            true => self.below(source, &target),
            false => Ok(()),
        }
    }

    /// One name of a tree that is copied: directories become one with those that are there.
    fn node(&mut self, target: &Path, entry: Entry) -> Result<()> {
        let directory = matches!(entry, Entry::Taken(.., FileType::Directory));
        match (self.kind(target), directory) {
            (Some(FileType::Directory), false) => Err(is_a_directory(target)),
            (Some(kind), true) if kind != FileType::Directory => Err(not_a_directory(target)),
            _ => {
                self.put(target, entry);
                Ok(())
            }
        }
    }

    fn file(&mut self, target: &Path, entry: Entry) -> Result<()> {
        self.parents(target)?;
        self.node(target, entry)
    }

    /// Everything above a path: kept as it is, or made.
    fn parents(&mut self, path: &Path) -> Result<()> {
        let mut above = PathBuf::new();
        let names = components(path);
        for name in names.iter().take(names.len().saturating_sub(1)) {
            above.push(name);
            self.ensure(&above)?;
        }
        Ok(())
    }

    /// A directory: kept as it is, or made.
    fn ensure(&mut self, path: &Path) -> Result<()> {
        if path.as_os_str().is_empty()
            || self.entries.get(path.as_os_str().as_bytes()).is_some_and(is_directory)
        {
            return Ok(());
        }
        match self.kind(path) {
            Some(FileType::Directory) => self.put(path, Entry::Kept),
            None => self.put(path, Entry::Made),
            Some(_) => return Err(not_a_directory(path)),
        }
        Ok(())
    }

    fn put(&mut self, path: &Path, entry: Entry) {
        self.entries.insert(path.as_os_str().as_bytes().to_vec(), entry);
    }

    pub fn image(&self) -> &'t Tree {
        self.image
    }

    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// Whether the plan itself has something at a path.
    pub fn has(&self, path: &[u8]) -> bool {
        self.entries.contains_key(path)
    }

    /// What is, or will be, at a path.
    pub fn kind(&self, path: &Path) -> Option<FileType> {
        match self.entries.get(path.as_os_str().as_bytes()) {
            Some(Entry::Made | Entry::Destination | Entry::Kept) => Some(FileType::Directory),
            Some(Entry::Taken(.., kind)) => Some(*kind),
            Some(Entry::Inline(_)) => Some(FileType::RegularFile),
            None => self.image.kind(path),
        }
    }

    /// Writes the layer.
    ///
    /// # Errors
    /// A file cannot be read, or the archive not be written.
    pub fn pack(&self, source: Option<&Tree>, times: Times, archive: &mut dyn Write) -> Result<()> {
        let (nothing, no_owners) = (BTreeSet::new(), Owners::default());
        let mut assembly = Assembly::new(archive, (&nothing, &no_owners), times);
        self.write(source.as_slice(), &mut assembly)?;
        assembly.end().map(|_| ())
    }

    /// Writes what was planned, and not the end: more may follow. The trees are those that the sources name by number.
    ///
    /// # Errors
    /// As of [`Self::pack`].
    pub fn write(&self, sources: &[&Tree], assembly: &mut Assembly<'_>) -> Result<()> {
        let mut image = Lookup::new(self.image);
        let mut from: Vec<(&Tree, Lookup<'_>)> =
            sources.iter().map(|tree| (*tree, Lookup::new(tree))).collect();
        let mut links: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
        for (path, entry) in &self.entries {
            match entry {
                Entry::Made => assembly.empty(&self.made_directory(path))?,
                Entry::Destination => {
                    let mut made = self.made_directory(path);
                    if let Some(change) = &self.attributes.mode {
                        made.mode = change.apply(made.mode, true);
                    }
                    assembly.empty(&made)?;
                }
                Entry::Inline(content) => {
                    assembly.bytes(&self.made(path, EntryType::Regular, FILE), content)?;
                }
                Entry::Kept => self.keep(path, &mut image, assembly)?,
                Entry::Taken(number, at, _) => {
                    let Some((tree, lookup)) = from.get_mut(*number) else { continue };
                    let line = tree.line(at);
                    with_found(tree, lookup, at, line, |found| {
                        self.one(assembly, found, path, tree.is_layered(), &mut links)
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Describes a directory of the image as it is.
    ///
    /// # Errors
    /// It is not there, or the archive cannot be written.
    pub fn keep(&self, path: &[u8], image: &mut Lookup<'_>, assembly: &mut Assembly<'_>) -> Result<()> {
        let real = PathBuf::from(OsString::from_vec(path.to_vec()));
        let line = self.image.line(&real);
        with_found(self.image, image, &real, line, |found| assembly.empty(&found.describe(path)?))
    }

    fn one(
        &self,
        assembly: &mut Assembly<'_>,
        found: Found<'_>,
        path: &[u8],
        layered: bool,
        links: &mut HashMap<(u64, u64), Vec<u8>>,
    ) -> Result<()> {
        let mut entry = found.describe(path)?;
        if !layered {
            // Whose a file of the context is on the host says nothing of the image, nor do access lists.
            (entry.uid, entry.gid) = (0, 0);
            entry.records.retain(|(name, _)| !name.starts_with(b"SCHILY.xattr.system."));
        }
        if let Some(owner) = self.attributes.owner {
            (entry.uid, entry.gid) = owner;
        }
        if let Some(mode) = self.attributes.mode.as_ref().filter(|_| entry.kind != EntryType::Symlink) {
            entry.mode = mode.apply(entry.mode, entry.kind == EntryType::Directory);
        }
        let inode = (found.stat.st_dev, found.stat.st_ino);
        if entry.kind != EntryType::Directory && found.stat.st_nlink > 1 {
            if let Some(first) = links.get(&inode) {
                let link =
                    Description { kind: EntryType::Link, link: first.clone(), records: Vec::new(), ..entry };
                return assembly.empty(&link);
            }
            links.insert(inode, path.to_vec());
        }
        match entry.kind {
            // As BuildKit has it: there is a file of that name, and nothing in it.
            EntryType::Regular if kind_of(found.stat) == FileType::Socket => assembly.empty(&entry),
            EntryType::Regular => assembly.file(&entry, found),
            _ => assembly.empty(&entry),
        }
    }

    /// A directory that is made for the sake of what is below it; `--chmod=0644` must not close that to everybody.
    pub fn made_directory(&self, path: &[u8]) -> Description {
        self.made(path, EntryType::Directory, DIRECTORY)
    }

    fn made(&self, path: &[u8], kind: EntryType, mode: u32) -> Description {
        let mut name = path.to_vec();
        if kind == EntryType::Directory {
            name.push(b'/');
        }
        let (uid, gid) = self.attributes.owner.unwrap_or((0, 0));
        let mode = match &self.attributes.mode {
            Some(change) if kind != EntryType::Directory => change.apply(mode, false),
            _ => mode,
        };
        Description {
            kind,
            name,
            link: Vec::new(),
            mode,
            uid,
            gid,
            modified: self.attributes.now,
            device: (0, 0),
            size: 0,
            records: Vec::new(),
        }
    }
}

/// Looks a path up again and shows it to `work`.
fn with_found(
    tree: &Tree,
    lookup: &mut Lookup<'_>,
    path: &Path,
    line: Option<&crate::layers::owners::Line>,
    work: impl FnOnce(Found<'_>) -> Result<()>,
) -> Result<()> {
    let gone = || Error::new(format!("cannot copy `{}`", path.display())).because("it is gone meanwhile");
    let Some(name) = path.file_name() else {
        let root = tree.directory(Path::new("")).ok_or_else(gone)?;
        let holder = root.first().ok_or_else(gone)?;
        let stat = rustix::fs::fstat(holder).map_err(|error| gone().because(error))?;
        return work(Found { parent: holder.as_fd(), name: b".", stat: &stat, line });
    };
    let parent = lookup.directory(path.parent().unwrap_or(Path::new(""))).ok_or_else(gone)?;
    let node = tree.node(parent, name).ok_or_else(gone)?;
    work(Found { parent: node.holder.as_fd(), name: name.as_bytes(), stat: &node.stat, line })
}

fn is_directory(entry: &Entry) -> bool {
    matches!(entry, Entry::Made | Entry::Destination | Entry::Kept | Entry::Taken(.., FileType::Directory))
}

fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn components(path: &Path) -> Vec<OsString> {
    let name = |component| match component {
        Component::Normal(name) => Some(OsStr::to_owned(name)),
        _ => None,
    };
    path.components().filter_map(name).collect()
}

fn not_a_directory(path: &Path) -> Error {
    Error::new(format!("cannot copy to `/{}`", path.display()))
        .because("what is there in the image is no directory")
}

fn is_a_directory(path: &Path) -> Error {
    Error::new(format!("cannot copy a file to `/{}`", path.display()))
        .because("what is there in the image is a directory")
        .hint(format!("write `/{}/` to copy into it", path.display()))
}
