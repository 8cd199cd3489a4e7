//! Which files COPY takes from a tree: patterns, ignore files, `--exclude`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};

use crate::build::dockerfile::ignore::{Directory, Ignore, Verdict};
use crate::build::dockerfile::matching::Source;
use crate::build::tree::{Lookup, Tree};
use crate::error::{Error, Result, Step};
use crate::image::digest::{Digest, Hasher};
use crate::layers::pack::Found;
use crate::layers::stack::Merged;
use crate::layers::unpack::tree::DEEPEST;

/// One source as it was found: a file, or a directory with what is taken of it.
#[derive(Debug)]
pub struct Taken {
    /// The number of its tree, where there are several.
    pub tree: usize,
    /// In its tree, without symlinks.
    pub path: PathBuf,
    /// The last part of its path as it was named.
    pub name: Vec<u8>,
    /// With `--parents`: the names below the destination that lead to it, its own the last, each with what stands there
    /// in its tree.
    pub kept: Option<Vec<(OsString, PathBuf)>>,
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
    /// Of the instruction: below each source, of the names of files, and with `--parents` of the paths that are kept.
    pub exclude: &'r Ignore,
    pub parents: bool,
    /// What messages call the tree.
    pub place: &'r str,
}

/// Finds the sources in the order in which they are written, and in the order of their names where one has wildcards.
///
/// # Errors
/// One is not there, or cannot be read, or there is nothing to take at all.
pub fn select(tree: &Tree, sources: &[String], rules: &Rules<'_>) -> Result<Vec<Taken>> {
    let mut taken = Vec::new();
    for text in sources {
        let failed = || format!("cannot copy `{}`", text.escape_debug());
        let source = Source::read(text, rules.parents)?;
        let found =
            Search { tree, rules, source: &source }.find().map_err(|error| error.while_doing(failed()))?;
        taken.extend(found);
    }
    // Wildcards may take nothing beside others that do; what is left out on request is no mistake either.
    if let (true, true, [first, ..]) = (taken.is_empty(), rules.exclude.is_empty(), sources) {
        return Err(Error::new(format!("cannot copy `{}`", first.escape_debug()))
            .because(format!("no file of {} matches, or the ignore file hides it", rules.place)));
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
            return Ok(self.take(&begin)?.into_iter().collect());
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
                // What an ignore file leaves of it may be nothing.
                let found = self.take(&path)?;
                taken.extend(found.filter(|found| found.is_directory() || !self.is_ignored(&found.path)));
                continue;
            }
            if !self.source.may_be_below(&below) {
                continue;
            }
            if let Some(inner) = self.tree.look(directory, &name, &path)?.and_then(|node| node.directory) {
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

    /// A source itself, symlinks followed within the tree; with `--parents` not the last, as rsync(1) has it for
    /// `--relative`. None: it is excluded.
    fn take(&self, path: &Path) -> Result<Option<Taken>> {
        let real = match (self.source.dropped(), path.parent(), path.file_name()) {
            (Some(_), Some(parent), Some(name)) => self.tree.real(parent).join(name),
            _ => self.tree.real(path),
        };
        let missing = || {
            Error::new(format!("`{}` is not there", path.display()))
                .because(format!("{} has no such file or directory", self.rules.place))
        };
        let root = self.tree.directory(Path::new("")).ok_or_else(missing)?;
        let name = path.file_name().unwrap_or_default().as_bytes().to_vec();
        let kept = self.source.dropped().map(|dropped| self.kept(path, dropped));
        let (stat, directory) = match real.file_name() {
            None => {
                let holder = root.first().ok_or_else(missing)?;
                (rustix::fs::fstat(holder).step(|| "cannot look at the root")?, Some(root))
            }
            Some(name) => {
                let parent = self.tree.directory_of(&real)?.ok_or_else(missing)?;
                let node = self.tree.look(&parent, name, &real)?.ok_or_else(missing)?;
                let is_link = FileType::from_raw_mode(node.stat.st_mode) == FileType::Symlink;
                if is_link && self.source.dropped().is_none() {
                    return Err(missing().because("it is a symlink in a circle of them"));
                }
                (node.stat, node.directory)
            }
        };
        let mut taken = Taken { tree: 0, path: real, name, kept, stat, below: Vec::new() };
        let excluded = self.excluded(path, &taken);
        let Some(directory) = directory else {
            if self.is_ignored(&taken.path) && !self.source.is_wildcard() {
                return Err(Error::new(format!("`{}` is not there", path.display()))
                    .because("the ignore file leaves it out of the context"));
            }
            if excluded.is_none() {
                return Ok(None);
            }
            readable(&taken.path)?;
            return Ok(Some(taken));
        };
        let Some(excluded) = excluded else {
            // The destination is made, as for a directory without any files.
            return Ok(taken.kept.is_none().then_some(taken));
        };
        let mut ignored = self.rules.ignore.map(Ignore::root);
        for component in &taken.path {
            let (Some(ignore), Some(at)) = (self.rules.ignore, &ignored) else { break };
            match at.enter(ignore, &component.to_string_lossy()) {
                Verdict::Taken(next) | Verdict::Searched(next) => ignored = Some(next),
                Verdict::Ignored if self.source.is_wildcard() => return Ok(Some(taken)),
                Verdict::Ignored => {
                    return Err(Error::new(format!("`{}` is not there", path.display()))
                        .because("the ignore file leaves it out of the context"));
                }
            }
        }
        let mut below = Vec::new();
        self.below(&directory, Path::new(""), &State { ignored, excluded }, &mut below)?;
        taken.below = below;
        Ok(Some(taken))
    }

    /// The names of a path behind the pivot, each with what it leads to.
    fn kept(&self, path: &Path, dropped: usize) -> Vec<(OsString, PathBuf)> {
        let mut at = PathBuf::new();
        let mut kept = Vec::new();
        for (index, name) in path.iter().enumerate() {
            at.push(name);
            if index >= dropped {
                kept.push((name.to_owned(), self.tree.real(&at)));
            }
        }
        kept
    }

    /// Where `--exclude` stands at a source; none: it takes it out.
    fn excluded(&self, path: &Path, taken: &Taken) -> Option<Directory> {
        let exclude = self.rules.exclude;
        let root = exclude.root();
        let Some(kept) = &taken.kept else {
            let name = String::from_utf8_lossy(&taken.name);
            // The patterns of a directory that is named are those of what it holds.
            let by_name = !taken.is_directory() || self.source.is_wildcard();
            let out = by_name && (exclude.hides(&name) || exclude.hides(&path.to_string_lossy()));
            return (!out).then_some(root);
        };
        let mut at = root;
        for (index, (name, _)) in kept.iter().enumerate() {
            let name = name.to_string_lossy();
            if index + 1 == kept.len() && !taken.is_directory() {
                return at.takes(exclude, &name).then_some(at);
            }
            match at.enter(exclude, &name) {
                Verdict::Ignored => return None,
                Verdict::Taken(next) | Verdict::Searched(next) => at = next,
            }
        }
        Some(at)
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
            let Some(node) = self.tree.look(directory, &name, &below)? else { continue };
            let text = name.to_string_lossy();
            let Some(inner) = node.directory else {
                let kept = self.rules.ignore.zip(state.ignored.as_ref());
                if kept.is_none_or(|(ignore, at)| at.takes(ignore, &text))
                    && state.excluded.takes(self.rules.exclude, &text)
                {
                    readable(&below)?;
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

/// Names that no layer can have.
fn readable(path: &Path) -> Result<()> {
    let name = path.file_name().unwrap_or_default().as_bytes();
    match name.starts_with(b".wh.") {
        true => Err(Error::new(format!("cannot copy `{}`", path.display()))
            .because("a name that begins with `.wh.` would remove files, in a layer")),
        false => Ok(()),
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
        for (name, path) in source.kept.iter().flatten() {
            hasher.update(name.as_bytes());
            hasher.update(format!("/{:o}/", tree.mode(path).unwrap_or(0)).as_bytes());
        }
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
            if let Some(directory) = lookup.directory(path.parent().unwrap_or(Path::new("")))
                && let Some(parent) = directory.first()
            {
                let found = Found { parent: parent.as_fd(), name: name.as_bytes(), stat, line: None };
                for (name, value) in found.describe(name.as_bytes())?.records {
                    hasher.update(&name);
                    hasher.update(&value);
                }
            }
        }
    }
    Ok(hasher.finish())
}

pub fn open(lookup: &mut Lookup<'_>, path: &Path, name: &OsStr) -> Result<File> {
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
