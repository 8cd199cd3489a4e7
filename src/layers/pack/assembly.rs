//! An archive put together name by name: for COPY, whose files come from elsewhere and get other names, modes and owners.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, OFlags, Stat};
use tar::EntryType;

use super::header::{BLOCK, Description};
use super::{Attributes, CutOff, Kind, Mounts, Packer, Rules, Times, describe, open};
use crate::error::{Error, Result, Step};
use crate::layers::owners::{Line, Owners};
use crate::layers::unpack::archive::shown;

/// Two files are compared in pieces of so many bytes.
const PIECE: usize = 128 << 10;

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
    pub fn is_directory(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::Directory
    }

    /// Whether the bytes are those of the other; everything but a regular file has none. What cannot be read is not the
    /// same.
    pub fn has_content_of(&self, other: &Self) -> bool {
        if FileType::from_raw_mode(self.stat.st_mode) != FileType::RegularFile {
            return true;
        }
        let opened = |found: &Self| open(found.parent, found.name, OFlags::NONBLOCK).ok().map(File::from);
        let (Some(mut one), Some(mut two)) = (opened(self), opened(other)) else { return false };
        let (mut first, mut second) = (Vec::with_capacity(PIECE), Vec::with_capacity(PIECE));
        loop {
            first.clear();
            second.clear();
            let next = |file: &mut File, bytes: &mut Vec<u8>| {
                Read::by_ref(file).take(PIECE as u64).read_to_end(bytes).is_ok()
            };
            if !next(&mut one, &mut first) || !next(&mut two, &mut second) || first != second {
                return false;
            }
            if first.is_empty() {
                return true;
            }
        }
    }

    /// How it is described under the name `path`, with its extended attributes.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn describe(&self, path: &[u8]) -> Result<Description> {
        let found = FileType::from_raw_mode(self.stat.st_mode);
        let attributes = Attributes::read(self.parent, self.name, self.line)?;
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
        let rules = Rules {
            kind: Kind::Root,
            owners: no_owners,
            leave_out: nothing,
            opaque: None,
            mounts: Mounts::Any,
            times,
            cut_off: CutOff::Error,
        };
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

    /// Adds a regular file as it is where it is found.
    ///
    /// # Errors
    /// It cannot be read, is something else by now or becomes shorter meanwhile, or the archive cannot be written.
    pub fn file(&mut self, entry: &Description, found: Found<'_>) -> Result<()> {
        let failed = || format!("cannot copy `{}`", shown(&entry.name));
        let file =
            open(found.parent, found.name, OFlags::NONBLOCK).map_err(|error| error.while_doing(failed()))?;
        let stat = rustix::fs::fstat(&file).step(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::new(failed()).because("it changed while it was being copied"));
        }
        self.packer.opened(&file, entry.clone(), &stat).map_err(|error| error.while_doing(failed()))
    }

    /// Begins a regular file of `entry.size` bytes, which follow as [`Self::data`]; then [`Self::end_of_data`].
    ///
    /// # Errors
    /// The archive cannot be written.
    pub fn begin(&mut self, entry: &Description) -> Result<u64> {
        let header = self.packer.header(entry);
        self.packer.write(&header)?;
        Ok(entry.size)
    }

    /// As [`Self::begin`], of a file of `size` bytes that has data in these parts alone (offset and length, in order);
    /// gives the length of the data.
    ///
    /// # Errors
    /// The archive cannot be written.
    pub fn begin_sparse(&mut self, entry: &Description, size: u64, parts: &[(u64, u64)]) -> Result<u64> {
        self.packer.sparse_header(entry.clone(), size, parts)
    }

    /// # Errors
    /// The archive cannot be written.
    pub fn data(&mut self, bytes: &[u8]) -> Result<()> {
        self.packer.write(bytes)
    }

    /// Ends a file whose data were so many bytes.
    ///
    /// # Errors
    /// The archive cannot be written.
    pub fn end_of_data(&mut self, length: u64) -> Result<()> {
        self.packer.pad(length)
    }

    /// Adds the mark of a layer that a name below is gone.
    ///
    /// # Errors
    /// The archive cannot be written.
    pub fn removed(&mut self, path: &[u8]) -> Result<()> {
        self.packer.whiteout(path)
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
