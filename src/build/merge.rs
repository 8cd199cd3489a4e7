//! ADD of an archive: its entries become entries of the layer, in their order, at their places in the image. Nothing is
//! unpacked on the way. Archives are hostile: names that lead out are refused, symlinks end in the image.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use tar::EntryType;

use crate::build::place::Plan;
use crate::build::tree::Lookup;
use crate::error::{Error, Result};
use crate::layers::pack::header::Description;
use crate::layers::pack::{Assembly, is_content};
use crate::layers::unpack::Limits;
use crate::layers::unpack::archive::{self, Entry, Kind, shown};
use crate::layers::unpack::stream::{self, Stream};
use crate::layers::unpack::tree::{DEEPEST, components};

/// As path_resolution(7) has it.
const MOST_LINKS: u32 = 40;
/// What would remove files, in a layer.
const WHITEOUT: &[u8] = b".wh.";

/// What an entry has put at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum There {
    Nothing,
    Directory,
    Link(Vec<u8>),
    Other,
}

/// One archive on its way into a layer that has begun with a plan.
struct Merge<'m, 'p, 'a> {
    plan: &'m Plan<'p>,
    image: Lookup<'p>,
    assembly: &'m mut Assembly<'a>,
    /// Where the archive goes: without symlinks, and in the plan.
    base: Vec<u8>,
    /// By paths relative to the root of the image.
    made: BTreeMap<Vec<u8>, There>,
    limits: &'m Limits,
    entries: u64,
    /// Bytes of names that are held.
    names: u64,
}

/// Adds an uncompressed archive to the layer, below `base`, a directory of the plan. What it holds takes the place of
/// what is there (Dockerfile reference, "Adding local tar archives": as `tar -x` does it).
///
/// # Errors
/// It is malformed, or has what no layer can have.
pub fn merge(
    plan: &Plan<'_>,
    base: &Path,
    archive: &mut (dyn Read + Send),
    limits: &Limits,
    assembly: &mut Assembly<'_>,
) -> Result<()> {
    let mut merge = Merge {
        plan,
        image: Lookup::new(plan.image()),
        assembly,
        base: base.as_os_str().as_bytes().to_vec(),
        made: BTreeMap::new(),
        limits,
        entries: 0,
        names: 0,
    };
    stream::read_ahead(archive, limits, |stream| {
        while let Some(entry) = archive::next(stream).map_err(|error| stream::cannot_read(&error))? {
            merge.entry(&entry, stream).map_err(|error| {
                error.while_doing(format!("cannot unpack the entry `{}`", shown(&entry.name)))
            })?;
        }
        Ok(())
    })
    .map(drop)
}

impl Merge<'_, '_, '_> {
    fn entry(&mut self, entry: &Entry, stream: &mut Stream) -> Result<()> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(Error::new(format!("the archive has more than {} entries", self.limits.entries)));
        }
        let path = components(&entry.name)?;
        if path.iter().any(|name| name.starts_with(WHITEOUT)) {
            return Err(Error::new("a name that begins with `.wh.` would remove files, in a layer"));
        }
        if path.len() > DEEPEST {
            return Err(Error::new(format!("it lies more than {DEEPEST} directories deep")));
        }
        let mut left = entry.stored;
        // The destination stays as it is, whatever the archive says of its own root.
        if let Some((name, parent)) = path.split_last() {
            let parent = self.enter(parent)?;
            self.put(entry, &joined(&parent, name), stream, &mut left)?;
        }
        archive::finish(stream, entry, left).map_err(|error| stream::cannot_read(&error))
    }

    fn put(&mut self, entry: &Entry, path: &[u8], stream: &mut Stream, left: &mut u64) -> Result<()> {
        let mut description = self.describe(entry, path);
        let there = match entry.kind {
            Kind::Directory => There::Directory,
            Kind::Symlink if entry.link.is_empty() || entry.link.contains(&0) => {
                return Err(Error::new("it is a symlink to nothing"));
            }
            Kind::Symlink => There::Link(entry.link.clone()),
            Kind::HardLink => {
                description.link = self.target(&entry.link)?;
                // Of a file with several names, one that is there already.
                if description.link == path {
                    return Ok(());
                }
                self.made.get(&description.link).cloned().unwrap_or(There::Other)
            }
            _ => There::Other,
        };
        if there != There::Directory && self.there(path) == There::Directory {
            self.forget_below(path);
        }
        match (entry.kind, &entry.sparse) {
            (Kind::File, None) => {
                let length = self.assembly.begin(&description)?;
                self.content(stream, length, left)?;
            }
            (Kind::File, Some(sparse)) => {
                let length = self.assembly.begin_sparse(&description, sparse.size, &sparse.parts)?;
                self.content(stream, length, left)?;
            }
            _ => self.assembly.empty(&description)?,
        }
        self.remember(path.to_vec(), there)
    }

    fn content(&mut self, stream: &mut Stream, length: u64, left: &mut u64) -> Result<()> {
        let mut failed = None;
        let passed = stream.pass(length, |bytes| {
            *left -= bytes.len() as u64;
            self.assembly.data(bytes).map_err(|error| {
                failed = Some(error);
                io::Error::other("it cannot be written")
            })
        });
        match (passed, failed) {
            (_, Some(error)) => Err(error),
            (Err(error), None) => Err(stream::cannot_read(&error)),
            (Ok(()), None) => self.assembly.end_of_data(length),
        }
    }

    fn describe(&self, entry: &Entry, path: &[u8]) -> Description {
        let attributes = self.plan.attributes();
        let directory = entry.kind == Kind::Directory;
        let (uid, gid) = attributes.owner.unwrap_or((entry.uid, entry.gid));
        let mut name = path.to_vec();
        if directory {
            name.push(b'/');
        }
        let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        if entry.kind != Kind::HardLink {
            // A `=` would end the name of the record.
            let kept = entry.xattrs.iter().filter(|(name, _)| is_content(name) && !name.contains(&b'='));
            records.extend(
                kept.map(|(name, value)| ([b"SCHILY.xattr.", name.as_slice()].concat(), value.clone())),
            );
            records.sort();
        }
        Description {
            kind: match entry.kind {
                Kind::File => EntryType::Regular,
                Kind::HardLink => EntryType::Link,
                Kind::Symlink => EntryType::Symlink,
                Kind::Character => EntryType::Char,
                Kind::Block => EntryType::Block,
                Kind::Directory => EntryType::Directory,
                Kind::Fifo => EntryType::Fifo,
            },
            name,
            link: entry.link.clone(),
            mode: match &attributes.mode {
                Some(mode) if entry.kind != Kind::Symlink => mode.apply(entry.mode, directory),
                _ => entry.mode,
            },
            uid,
            gid,
            modified: entry.modified,
            device: entry.device,
            size: if entry.kind == Kind::File { entry.stored } else { 0 },
            records,
        }
    }

    /// The directory at a path of the archive, without symlinks; it is made where it is missing.
    fn enter(&mut self, path: &[&[u8]]) -> Result<Vec<u8>> {
        let mut ahead: VecDeque<Vec<u8>> = path.iter().map(|name| name.to_vec()).collect();
        let mut at = self.base.clone();
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    let end = at.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                    at.truncate(end);
                    continue;
                }
                _ => {}
            }
            let next = joined(&at, &name);
            match self.there(&next) {
                There::Directory => {
                    if !self.made.contains_key(&next) && !self.plan.has(&next) {
                        self.plan.keep(&next, &mut self.image, self.assembly)?;
                        self.remember(next.clone(), There::Directory)?;
                    }
                    at = next;
                }
                There::Nothing => {
                    self.assembly.empty(&self.plan.made_directory(&next))?;
                    self.remember(next.clone(), There::Directory)?;
                    at = next;
                }
                There::Link(target) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(Error::new(format!("too many symlinks lead to `/{}`", shown(&next))));
                    }
                    if target.first() == Some(&b'/') {
                        at.clear();
                    }
                    for part in target.split(|byte| *byte == b'/').rev() {
                        ahead.push_front(part.to_vec());
                    }
                }
                There::Other => {
                    return Err(Error::new(format!("`/{}` is in the way: it is no directory", shown(&next))));
                }
            }
        }
        Ok(at)
    }

    /// What a hard link names: a file of the same archive.
    fn target(&mut self, link: &[u8]) -> Result<Vec<u8>> {
        let what = || format!("it is a hard link to `{}`", shown(link));
        let failed = || Error::new(what());
        let path = components(link).map_err(|error| error.while_doing(what()))?;
        let Some((name, parent)) = path.split_last() else {
            return Err(failed().because("that is the root of the archive"));
        };
        let target = joined(&self.enter(parent)?, name);
        match self.made.get(&target) {
            Some(There::Other | There::Link(_)) => Ok(target),
            Some(There::Directory) => Err(failed().because("that is a directory")),
            _ => Err(failed().because("the archive has no such file before it")),
        }
    }

    fn there(&self, path: &[u8]) -> There {
        if let Some(there) = self.made.get(path) {
            return there.clone();
        }
        let real = PathBuf::from(OsString::from_vec(path.to_vec()));
        match self.plan.kind(&real) {
            None => There::Nothing,
            Some(FileType::Directory) => There::Directory,
            // One that the same instruction copies is only known by its place.
            Some(FileType::Symlink) if !self.plan.has(path) => {
                self.plan.image().link(&real).map_or(There::Other, There::Link)
            }
            Some(_) => There::Other,
        }
    }

    fn remember(&mut self, path: Vec<u8>, there: There) -> Result<()> {
        self.names += path.len() as u64 + 64;
        if self.names > self.limits.names {
            return Err(Error::new("the names of its files need too much memory")
                .because(format!("more than {} bytes", self.limits.names)));
        }
        self.made.insert(path, there);
        Ok(())
    }

    /// A directory of the archive was replaced, and what was in it with it.
    fn forget_below(&mut self, path: &[u8]) {
        let begin = [path, b"/"].concat();
        let below: Vec<Vec<u8>> = self
            .made
            .range(begin.clone()..)
            .take_while(|(name, _)| name.starts_with(&begin))
            .map(|(name, _)| name.clone())
            .collect();
        below.iter().for_each(|name| {
            self.made.remove(name);
        });
    }
}

fn joined(parent: &[u8], name: &[u8]) -> Vec<u8> {
    match parent.is_empty() {
        true => name.to_vec(),
        false => [parent, b"/", name].concat(),
    }
}
