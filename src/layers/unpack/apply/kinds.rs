//! What each kind of entry becomes.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::layers::owners::Line;
use crate::layers::unpack::Keep;
use crate::layers::unpack::archive::{Entry, Kind, shown};
use crate::layers::unpack::attributes::{self, Outcome};
use crate::layers::unpack::failures::{attribute_error, check, explain};
use crate::layers::unpack::stream::{Stream, cannot_read};
use crate::layers::unpack::tree::components;
use crate::layers::unpack::whiteouts::{is_whiteout, mark_opaque, open_directory, take_whiteout_file};

use super::{Apply, recorded, times};

impl Apply<'_> {
    pub(super) fn file(
        &mut self,
        entry: &Entry,
        name: &[u8],
        stream: &mut Stream,
        left: &mut u64,
    ) -> Result<()> {
        let file = self.new_file(entry, name)?;
        let length = entry.sparse.as_ref().map_or(entry.stored, |sparse| sparse.size);
        let mut fill = |size: u64, at: Option<u64>| {
            let mut at = at;
            let result = stream.pass(size, |bytes| {
                *left -= bytes.len() as u64;
                write_all(&file, bytes, &mut at).map_err(|error| std::io::Error::other(NotWritten(error)))
            });
            result.map_err(|error| {
                match error.get_ref().and_then(|inner| inner.downcast_ref::<NotWritten>()) {
                    Some(NotWritten(error)) => explain(*error, "write it"),
                    None => cannot_read(&error),
                }
            })
        };
        match &entry.sparse {
            None => fill(entry.stored, None)?,
            Some(sparse) => {
                check(rustix::fs::ftruncate(&file, sparse.size), "make a sparse file of its size")?;
                for (offset, size) in &sparse.parts {
                    fill(*size, Some(*offset))?;
                }
            }
        }
        self.facts.size = self.facts.size.saturating_add(length);
        self.finish_file(entry, name, &file, libc::S_IFREG, true)
    }

    /// Creates a regular file, over whatever has its name.
    fn new_file(&mut self, entry: &Entry, name: &[u8]) -> Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(self.on_disk(entry) & 0o777);
        self.over(name, "make it", |directory| rustix::fs::openat(directory, name, flags, mode))
    }

    /// Everything of a new regular file but its content.
    fn finish_file(
        &mut self,
        entry: &Entry,
        name: &[u8],
        file: &OwnedFd,
        kind: u32,
        chmod: bool,
    ) -> Result<()> {
        let chowned = self.own(entry, |uid, gid| rustix::fs::fchown(file, uid, gid))?;
        // A change of owner takes setuid away, and so does writing.
        let mode = self.on_disk(entry);
        if chmod && (chowned && mode & 0o7000 != 0 || mode & (self.umask | 0o7000) != 0) {
            check(rustix::fs::fchmod(file, Mode::from_raw_mode(mode)), "set its mode")?;
        }
        let path = self.tree.path_of(name);
        self.attributes(entry, file.as_fd(), path, kind)?;
        check(rustix::fs::futimens(file, &times(entry.modified)), "set its time")
    }

    pub(super) fn hard_link(&mut self, entry: &Entry, name: &[u8], parent: &[&[u8]]) -> Result<()> {
        let target = components(&entry.link)?;
        let Some((target_name, target_parent)) = target.split_last() else {
            return Err(Error::new("it is a hard link to the root of the layer"));
        };
        let from = |error: Error| error.while_doing(format!("it is a hard link to `{}`", shown(&entry.link)));
        self.tree.enter(target_parent, None).map_err(from)?;
        let directory = self
            .tree
            .here()
            .try_clone_to_owned()
            .map_err(|error| from(Error::new("cannot hold its directory").because(error)))?;
        let source =
            rustix::fs::statat(&directory, *target_name, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| {
                from(match error {
                    Errno::NOENT => Error::new("the layer has no such file"),
                    error => explain(error, "look at it"),
                })
            })?;
        if FileType::from_raw_mode(source.st_mode) == FileType::Directory {
            return Err(from(Error::new("that is a directory")));
        }
        if is_whiteout(directory.as_fd(), target_name) {
            return Err(from(Error::new("the layer removes that file")));
        }
        let recorded = self.owners.get(&self.tree.path_of(target_name)).cloned();
        self.enter(parent)?;
        // A link to itself, under whatever name: there already, and removing it would lose the file.
        if let Ok(there) = rustix::fs::statat(self.tree.here(), name, AtFlags::SYMLINK_NOFOLLOW)
            && (there.st_dev, there.st_ino) == (source.st_dev, source.st_ino)
        {
            return Ok(());
        }
        self.over(name, "make it", |here| {
            rustix::fs::linkat(&directory, *target_name, here, name, AtFlags::empty())
        })?;
        if let Some(line) = recorded {
            let path = self.tree.path_of(name);
            self.put(path, line)?;
        }
        Ok(())
    }

    pub(super) fn symlink(&mut self, entry: &Entry, name: &[u8]) -> Result<()> {
        if entry.link.is_empty() || entry.link.contains(&0) {
            return Err(Error::new("it is a symlink to nothing"));
        }
        self.over(name, "make it", |directory| {
            rustix::fs::symlinkat(entry.link.as_slice(), directory, name)
        })?;
        self.finish_special(entry, name, libc::S_IFLNK)
    }

    pub(super) fn fifo(&mut self, entry: &Entry, name: &[u8]) -> Result<()> {
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        self.over(name, "make it", |directory| {
            rustix::fs::mknodat(directory, name, FileType::Fifo, mode, 0)
        })?;
        self.finish_special(entry, name, libc::S_IFIFO)
    }

    /// No user namespace may make one: an empty file stands for it, and the record says what it is.
    pub(super) fn device(&mut self, entry: &Entry, name: &[u8]) -> Result<()> {
        let file = self.new_file(entry, name)?;
        let kind = if entry.kind == Kind::Block { libc::S_IFBLK } else { libc::S_IFCHR };
        self.finish_file(entry, name, &file, kind, true)
    }

    /// Owner, mode, attributes and time of what cannot be opened.
    fn finish_special(&mut self, entry: &Entry, name: &[u8], kind: u32) -> Result<()> {
        let here = self.tree.here();
        let here = here
            .try_clone_to_owned()
            .map_err(|error| Error::new("cannot hold its directory").because(error))?;
        let directory = here.as_fd();
        self.own(entry, |uid, gid| {
            rustix::fs::chownat(directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        })?;
        // It was made a moment ago and is no symlink, so that nothing is followed.
        if kind == libc::S_IFIFO && entry.mode & (self.umask | 0o7000) != 0 {
            let mode = Mode::from_raw_mode(entry.mode);
            check(rustix::fs::chmodat(directory, name, mode, AtFlags::empty()), "set its mode")?;
        }
        let mut refused = Vec::new();
        for (attribute, value) in &entry.xattrs {
            match attributes::set_at(directory, name, attribute, value) {
                Ok(Outcome::Refused) => refused.push((attribute.clone(), value.clone())),
                Ok(_) => {}
                Err(error) => return Err(attribute_error(attribute, error)),
            }
        }
        let times = times(entry.modified);
        check(rustix::fs::utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW), "set its time")?;
        let owned = self.keep != Keep::Inodes && (entry.uid, entry.gid) != (0, 0);
        if owned || !refused.is_empty() {
            let recorded = recorded(entry, kind);
            self.put(self.tree.path_of(name), Line { recorded, xattrs: refused })?;
        }
        Ok(())
    }

    pub(super) fn directory(&mut self, entry: &Entry, name: &[u8]) -> Result<()> {
        // The owner may always work in it until the end.
        let mode = Mode::from_raw_mode(entry.mode & 0o777 | 0o700);
        let made = rustix::fs::mkdirat(self.tree.here(), name, mode);
        let mut hides = take_whiteout_file(self.tree.here(), name, &self.facts);
        let fresh = match made {
            Ok(()) => true,
            Err(Errno::EXIST) => {
                let there = rustix::fs::statat(self.tree.here(), name, AtFlags::SYMLINK_NOFOLLOW);
                let there = check(there, "look at what is there")?;
                if FileType::from_raw_mode(there.st_mode) == FileType::Directory {
                    false
                } else {
                    hides = hides || is_whiteout(self.tree.here(), name);
                    self.remove(name)?;
                    check(rustix::fs::mkdirat(self.tree.here(), name, mode), "make it")?;
                    true
                }
            }
            Err(error) => return Err(explain(error, "make it")),
        };
        let path = self.tree.path_of(name);
        let plain = fresh && entry.xattrs.is_empty() && self.keep == Keep::Inodes && !hides;
        let on_disk = self.on_disk(entry);
        if plain && on_disk == entry.mode && (entry.uid, entry.gid) == self.own {
            // Nothing to be done through a descriptor.
        } else {
            let directory = open_directory(self.tree.here(), name)?;
            self.own_directory(entry, directory.as_fd())?;
            self.attributes(entry, directory.as_fd(), path.clone(), libc::S_IFDIR)?;
            if hides {
                mark_opaque(directory.as_fd(), &mut self.facts)?;
            }
        }
        let asis = fresh && on_disk & (self.umask | 0o7000) == 0 && on_disk & 0o700 == 0o700;
        self.later(path, (!asis).then_some(on_disk), entry.modified)
    }
}

/// Writes all of `bytes`, behind what was written before or at an offset that is moved on.
fn write_all(file: &OwnedFd, mut bytes: &[u8], at: &mut Option<u64>) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let written = match at {
            None => rustix::io::write(file, bytes),
            Some(at) => rustix::io::pwrite(file, bytes, *at),
        };
        match written {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => {
                bytes = &bytes[count..];
                if let Some(at) = at {
                    *at += count as u64;
                }
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Tells a failure of the file from one of the stream.
#[derive(Debug)]
struct NotWritten(Errno);

impl std::fmt::Display for NotWritten {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for NotWritten {}
