//! An archive put together name by name: for COPY, whose files come from elsewhere and get other names, modes and owners.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Stat};
use tar::EntryType;

use super::header::{BLOCK, Description};
use super::{Attributes, Kind, Mounts, Packer, Rules, Times, describe, open};
use crate::error::{Error, Result, Step};
use crate::layers::owners::{Line, Owners};
use crate::layers::unpack::archive::shown;

/// A file where it is found.
#[derive(Clone, Copy)]
pub struct Found<'f> {
    pub parent: BorrowedFd<'f>,
    pub name: &'f [u8],
    pub stat: &'f Stat,
    /// What the index of its layer says of it.
    pub line: Option<&'f Line>,
}

impl Found<'_> {
    /// How it is described under the name `path`, with its extended attributes.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn describe(&self, path: &[u8]) -> Result<Description> {
        let found = FileType::from_raw_mode(self.stat.st_mode);
        let attributes = Attributes::read(self.parent, self.name, found, self.line)?;
        let kind = match found {
            FileType::Directory => EntryType::Directory,
            FileType::Symlink => EntryType::Symlink,
            FileType::Fifo => EntryType::Fifo,
            FileType::CharacterDevice => EntryType::Char,
            FileType::BlockDevice => EntryType::Block,
            _ => EntryType::Regular,
        };
        let mut entry = match attributes.device() {
            Some(device) if found == FileType::RegularFile => {
                device.description(path, self.stat, &attributes)
            }
            _ => describe(kind, path, self.stat, &attributes),
        };
        match entry.kind {
            EntryType::Symlink => {
                let target = rustix::fs::readlinkat(self.parent, self.name, Vec::new())
                    .step(|| format!("cannot read the symlink `{}`", shown(path)))?;
                entry.link = target.into_bytes();
            }
            EntryType::Directory => entry.name.push(b'/'),
            EntryType::Regular => entry.size = u64::try_from(self.stat.st_size).unwrap_or(0),
            EntryType::Char | EntryType::Block if found != FileType::RegularFile => {
                entry.device = (rustix::fs::major(self.stat.st_rdev), rustix::fs::minor(self.stat.st_rdev));
            }
            _ => {}
        }
        Ok(entry)
    }
}

/// The archive in the making.
pub struct Assembly<'a> {
    packer: Packer<'a>,
}

impl<'a> Assembly<'a> {
    /// `nothing` and `no_owners` are empty.
    pub fn new(
        archive: &'a mut dyn Write,
        (nothing, no_owners): (&'a BTreeSet<Vec<u8>>, &'a Owners),
        times: Times,
    ) -> Self {
        let rules =
            Rules { kind: Kind::Root, owners: no_owners, leave_out: nothing, mounts: Mounts::Any, times };
        Self { packer: Packer::new(rules, archive) }
    }

    /// Adds an entry without data.
    ///
    /// # Errors
    /// The archive cannot be written.
    pub fn empty(&mut self, entry: &Description) -> Result<()> {
        let header = self.packer.header(&Description { size: 0, ..entry.clone() });
        self.packer.write(&header)
    }

    /// Adds a regular file that holds `bytes`.
    ///
    /// # Errors
    /// The archive cannot be written.
    pub fn bytes(&mut self, entry: &Description, bytes: &[u8]) -> Result<()> {
        let size = bytes.len() as u64;
        let header = self.packer.header(&Description { size, ..entry.clone() });
        self.packer.write(&header)?;
        self.packer.write(bytes)?;
        self.packer.pad(size)
    }

    /// Adds a regular file whose `entry.size` bytes are read from where they are found.
    ///
    /// # Errors
    /// It cannot be read, is something else by now, or the archive cannot be written.
    pub fn file(&mut self, entry: &Description, found: Found<'_>) -> Result<()> {
        let failed = || format!("cannot copy `{}`", shown(&entry.name));
        let file = open(found.parent, found.name, rustix::fs::OFlags::NONBLOCK)
            .map_err(|error| error.while_doing(failed()))?;
        let stat = rustix::fs::fstat(&file).step(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::new(failed()).because("it changed while it was being copied"));
        }
        let header = self.packer.header(entry);
        self.packer.write(&header)?;
        self.packer.content(&file, 0, entry.size).map_err(|error| error.while_doing(failed()))?;
        self.packer.pad(entry.size)
    }

    /// Writes the end marks and gives the length in bytes.
    ///
    /// # Errors
    /// The archive cannot be written.
    pub fn end(mut self) -> Result<u64> {
        let padding = vec![0; 2 * BLOCK];
        self.packer.write(&padding)?;
        Ok(self.packer.written)
    }
}
