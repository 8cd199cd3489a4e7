//! Which files COPY takes from a tree: patterns, ignore files, `--exclude`.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};

use crate::build::dockerfile::ignore::{Directory, Ignore, Verdict};
use crate::build::dockerfile::matching::Source;
use crate::build::tree::{Lookup, Tree};
use crate::error::{Error, Result, Step};
use crate::image::digest::{Digest, Hasher};
use crate::layers::stack::Merged;
use crate::layers::unpack::tree::DEEPEST;

/// One source as it was found: a file, or a directory with what is taken of it.
#[derive(Debug)]
pub struct Taken {
    /// In its tree, without symlinks.
    pub path: PathBuf,
    /// The last part of its path as it was named.
    pub name: Vec<u8>,
    /// With `--parents`: where it goes below the destination.
    pub kept: Option<String>,
    pub stat: Stat,
    /// What is below a directory, parents first, by paths relative to it.
    pub below: Vec<(PathBuf, Stat)>,
}

impl Taken {
    pub fn is_directory(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::Directory
    }
}

/// What decides which files of a tree are there.
pub struct Rules<'r> {
    /// Of the context.
    pub ignore: Option<&'r Ignore>,
    /// Of the instruction, below each source.
    pub exclude: &'r Ignore,
    pub parents: bool,
    /// What messages call the tree.
    pub place: &'r str,
}

/// Finds the sources in the order in which they are written, and in the order of their names where one has wildcards.
///
/// # Errors
/// One is not there, or cannot be read.
pub fn select(tree: &Tree, sources: &[String], rules: &Rules<'_>) -> Result<Vec<Taken>> {
    let mut taken = Vec::new();
    for text in sources {
        let failed = || format!("cannot copy `{}`", text.escape_debug());
        let source = Source::read(text, rules.parents)?;
        let found =
            Search { tree, rules, source: &source }.find().map_err(|error| error.while_doing(failed()))?;
        taken.extend(found);
    }
    Ok(taken)
}

struct Search<'s> {
    tree: &'s Tree,
    rules: &'s Rules<'s>,
    source: &'s Source,
}

impl Search<'_> {
    fn find(&self) -> Result<Vec<Taken>> {
        let begin = PathBuf::from(&self.source.directory);
        if !self.source.is_wildcard() {
            return Ok(vec![self.take(&begin)?]);
        }
        let mut taken = Vec::new();
        let real = self.tree.real(&begin);
        if let Some(directory) = self.tree.directory(&real) {
            self.search(&directory, &begin, "", &mut taken)?;
        }
        Ok(taken)
    }

    /// Looks for what the pattern takes below a directory; `below` is its path from where the walk began.
    fn search(&self, directory: &Merged, path: &Path, below: &str, taken: &mut Vec<Taken>) -> Result<()> {
        for name in self.tree.names(directory, path)? {
            let text = name.to_string_lossy();
            let below = if below.is_empty() { text.into_owned() } else { format!("{below}/{text}") };
            let path = path.join(&name);
            if self.rules.ignore.is_some_and(|ignore| ignore.hides(&path.to_string_lossy())) {
                continue;
            }
            if self.source.takes(&below) {
                let found = self.take(&path)?;
                // What an ignore file leaves of it may be nothing.
                if found.is_directory() || !self.is_ignored(&found.path) {
                    taken.push(found);
                }
                continue;
            }
            let node = self.tree.node(directory, &name);
            if self.source.may_be_below(&below)
                && let Some(inner) = node.and_then(|node| node.directory)
            {
                if below.matches('/').count() >= DEEPEST {
                    return Err(too_deep(&path));
                }
                self.search(&inner, &path, &below, taken)?;
            }
        }
        Ok(())
    }

    fn is_ignored(&self, path: &Path) -> bool {
        self.rules.ignore.is_some_and(|ignore| ignore.ignores(&path.to_string_lossy()))
    }

    /// A source itself, symlinks followed within the tree.
    fn take(&self, path: &Path) -> Result<Taken> {
        let real = self.tree.real(path);
        let missing = || {
            Error::new(format!("`{}` is not there", path.display()))
                .because(format!("{} has no such file or directory", self.rules.place))
        };
        let root = self.tree.directory(Path::new("")).ok_or_else(missing)?;
        let name = path.file_name().unwrap_or_default().as_bytes().to_vec();
        let kept = self.source.kept(&path.to_string_lossy()).map(str::to_owned);
        let (stat, directory) = match real.file_name() {
            None => {
                let holder = root.first().ok_or_else(missing)?;
                (rustix::fs::fstat(holder).step(|| "cannot look at the root")?, Some(root))
            }
            Some(name) => {
                let parent =
                    self.tree.directory(real.parent().unwrap_or(Path::new(""))).ok_or_else(missing)?;
                let node = self.tree.node(&parent, name).ok_or_else(missing)?;
                (node.stat, node.directory)
            }
        };
        let mut taken = Taken { path: real, name, kept, stat, below: Vec::new() };
        let Some(directory) = directory else {
            if self.is_ignored(&taken.path) && !self.source.is_wildcard() {
                return Err(Error::new(format!("`{}` is not there", path.display()))
                    .because("the ignore file leaves it out of the context"));
            }
            readable(&taken.path, &taken.stat)?;
            return Ok(taken);
        };
        let mut ignored = self.rules.ignore.map(Ignore::root);
        for component in &taken.path {
            let (Some(ignore), Some(at)) = (self.rules.ignore, &ignored) else { break };
            match at.enter(ignore, &component.to_string_lossy()) {
                Verdict::Taken(next) | Verdict::Searched(next) => ignored = Some(next),
                Verdict::Ignored if self.source.is_wildcard() => return Ok(taken),
                Verdict::Ignored => {
                    return Err(Error::new(format!("`{}` is not there", path.display()))
                        .because("the ignore file leaves it out of the context"));
                }
            }
        }
        let mut below = Vec::new();
        let state = State { ignored, excluded: self.rules.exclude.root() };
        self.below(&directory, Path::new(""), &state, &mut below)?;
        taken.below = below;
        Ok(taken)
    }

    fn below(
        &self,
        directory: &Merged,
        path: &Path,
        state: &State,
        found: &mut Vec<(PathBuf, Stat)>,
    ) -> Result<()> {
        if path.components().count() >= DEEPEST {
            return Err(too_deep(path));
        }
        for name in self.tree.names(directory, path)? {
            let below = path.join(&name);
            let Some(node) = self.tree.node(directory, &name) else { continue };
            let text = name.to_string_lossy();
            let Some(inner) = node.directory else {
                let kept = self.rules.ignore.zip(state.ignored.as_ref());
                if kept.is_none_or(|(ignore, at)| at.takes(ignore, &text))
                    && state.excluded.takes(self.rules.exclude, &text)
                {
                    readable(&below, &node.stat)?;
                    found.push((below, node.stat));
                }
                continue;
            };
            let kept =
                self.rules.ignore.zip(state.ignored.as_ref()).map(|(ignore, at)| at.enter(ignore, &text));
            let (ignored, searched) = match kept {
                Some(Verdict::Ignored) => continue,
                Some(Verdict::Searched(next)) => (Some(next), true),
                Some(Verdict::Taken(next)) => (Some(next), false),
                None => (None, false),
            };
            let (excluded, searched) = match state.excluded.enter(self.rules.exclude, &text) {
                Verdict::Ignored => continue,
                Verdict::Searched(next) => (next, true),
                Verdict::Taken(next) => (next, searched),
            };
            let at = found.len();
            found.push((below.clone(), node.stat));
            self.below(&inner, &below, &State { ignored, excluded }, found)?;
            // A directory that does not count itself is there for what is in it.
            if searched && found.len() == at + 1 {
                found.pop();
            }
        }
        Ok(())
    }
}

struct State {
    ignored: Option<Directory>,
    excluded: Directory,
}

fn too_deep(path: &Path) -> Error {
    Error::new(format!("cannot copy `{}`", path.display()))
        .because(format!("it lies more than {DEEPEST} directories deep"))
}

/// Names and kinds that no layer can have.
fn readable(path: &Path, stat: &Stat) -> Result<()> {
    let refused =
        |why: &str| Err(Error::new(format!("cannot copy `{}`", path.display())).because(why.to_owned()));
    let name = path.file_name().unwrap_or_default().as_bytes();
    if name.starts_with(b".wh.") {
        return refused("a name that begins with `.wh.` would remove files, in a layer");
    }
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Socket => refused("it is a socket, and archives have none"),
        _ => Ok(()),
    }
}

/// What the taken files of a directory of the host hold, with their modes and names: what a cache goes by. Times and
/// owners are not looked at, as the reference of the cache has it.
///
/// # Errors
/// A file cannot be read.
pub fn digest(tree: &Tree, taken: &[Taken]) -> Result<Digest> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 128 << 10];
    for source in taken {
        hasher.update(b"source\0");
        hasher.update(&source.name);
        hasher.update(source.kept.as_deref().unwrap_or_default().as_bytes());
        hasher.update(b"\0");
        let mut lookup = Lookup::new(tree);
        let all = std::iter::once((Path::new(""), &source.stat))
            .chain(source.below.iter().map(|(path, stat)| (path.as_path(), stat)));
        for (below, stat) in all {
            let path =
                if below.as_os_str().is_empty() { source.path.clone() } else { source.path.join(below) };
            hasher.update(below.as_os_str().as_bytes());
            hasher.update(format!("\0{:o}\0", stat.st_mode).as_bytes());
            let failed = || format!("cannot read `{}`", path.display());
            let Some(name) = path.file_name() else { continue };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => {
                    let mut file = open(&mut lookup, &path, name)?;
                    let mut content = Hasher::new();
                    loop {
                        match file.read(&mut buffer).step(failed)? {
                            0 => break,
                            count => content.update(&buffer[..count]),
                        }
                    }
                    hasher.update(content.finish().hex().as_bytes());
                }
                FileType::Symlink => {
                    let parent = path.parent().unwrap_or(Path::new(""));
                    let directory = lookup.directory(parent).and_then(|directory| directory.first());
                    let directory = directory.ok_or_else(|| Error::new(failed()))?;
                    let target = rustix::fs::readlinkat(directory, name, Vec::new()).step(failed)?;
                    hasher.update(target.as_bytes());
                }
                _ => hasher.update(&stat.st_rdev.to_le_bytes()),
            }
        }
    }
    Ok(hasher.finish())
}

fn open(lookup: &mut Lookup<'_>, path: &Path, name: &OsStr) -> Result<File> {
    let failed = || format!("cannot read `{}`", path.display());
    let directory = lookup.directory(path.parent().unwrap_or(Path::new(""))).and_then(|found| found.first());
    let directory = directory.ok_or_else(|| Error::new(failed()).because("its directory is gone"))?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty()).map(File::from).step(failed)
}

/// Tells whether a file was changed between two looks: inode, size and times of all of them.
pub fn fingerprint(taken: &[Taken]) -> Digest {
    let mut hasher = Hasher::new();
    for source in taken {
        for stat in std::iter::once(&source.stat).chain(source.below.iter().map(|(_, stat)| stat)) {
            let numbers = [
                stat.st_ino.cast_signed(),
                stat.st_size,
                stat.st_mtime,
                stat.st_mtime_nsec.cast_signed(),
                stat.st_ctime,
                stat.st_ctime_nsec.cast_signed(),
            ];
            numbers.iter().for_each(|number| hasher.update(&number.to_le_bytes()));
        }
        for (path, _) in &source.below {
            hasher.update(path.as_os_str().as_bytes());
        }
    }
    hasher.finish()
}
