//! The data of regular files, and the maps of those with holes.

use std::os::fd::OwnedFd;

use rustix::fs::{SeekFrom, Stat};
use rustix::io::Errno;

use crate::error::{Error, Result, Step};

use super::header::{BLOCK, Description};
use super::{CutOff, Packer};

/// Below this many bytes of holes a file is packed whole.
const WORTHWHILE_HOLES: u64 = 64 << 10;

impl Packer<'_> {
    /// Writes the entry of a regular file that is open.
    pub(super) fn opened(&mut self, file: &OwnedFd, mut entry: Description, stat: &Stat) -> Result<()> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        match holes(file, stat)? {
            None => {
                entry.size = size;
                self.write(&self.header(&entry))?;
                self.content(file, 0, size)?;
                self.pad(size)
            }
            Some(parts) => self.sparse(file, entry, size, &parts),
        }
    }

    fn sparse(&mut self, file: &OwnedFd, entry: Description, size: u64, parts: &[(u64, u64)]) -> Result<()> {
        let data = self.sparse_header(entry, size, parts)?;
        for (offset, length) in parts {
            self.content(file, *offset, *length)?;
        }
        self.pad(data)
    }

    /// PAX sparse format 1.0 (GNU tar manual, Appendix E.3): the map precedes the data, whose length is given.
    pub(super) fn sparse_header(
        &mut self,
        mut entry: Description,
        size: u64,
        parts: &[(u64, u64)],
    ) -> Result<u64> {
        let mut map = format!("{}\n", parts.len());
        for (offset, length) in parts {
            map.push_str(&format!("{offset}\n{length}\n"));
        }
        let mut map = map.into_bytes();
        map.resize(map.len().next_multiple_of(BLOCK), 0);
        let data: u64 = parts.iter().map(|(_, length)| length).sum();
        let real_name = std::mem::take(&mut entry.name);
        let mut short = b"GNUSparseFile.0/".to_vec();
        let base = real_name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        short.extend_from_slice(&base[..base.len().min(60)]);
        let records = [
            (b"GNU.sparse.major".to_vec(), b"1".to_vec()),
            (b"GNU.sparse.minor".to_vec(), b"0".to_vec()),
            (b"GNU.sparse.name".to_vec(), real_name),
            (b"GNU.sparse.realsize".to_vec(), size.to_string().into_bytes()),
        ];
        entry.records.extend(records);
        entry.name = short;
        entry.size = map.len() as u64 + data;
        self.write(&self.header(&entry))?;
        self.write(&map)?;
        Ok(data)
    }

    /// Exactly `length` bytes.
    fn content(&mut self, file: &OwnedFd, mut offset: u64, length: u64) -> Result<()> {
        let end = offset + length;
        while offset < end {
            let most = usize::try_from(end - offset).unwrap_or(usize::MAX).min(self.buffer.len());
            let count = match rustix::io::pread(file, &mut self.buffer[..most], offset) {
                Err(Errno::INTR) => continue,
                result => result.step(|| "cannot read it")?,
            };
            let count = match (count, self.rules.cut_off) {
                (0, CutOff::Zeros) => {
                    self.buffer[..most].fill(0);
                    most
                }
                (0, CutOff::Error) => {
                    return Err(Error::new("it became shorter while it was being read")
                        .hint("try again when nothing writes to it"));
                }
                (count, _) => count,
            };
            offset += count as u64;
            let buffer = std::mem::take(&mut self.buffer);
            let written = self.write(&buffer[..count]);
            self.buffer = buffer;
            written?;
        }
        Ok(())
    }

    pub(super) fn pad(&mut self, size: u64) -> Result<()> {
        let padding = size.next_multiple_of(BLOCK as u64) - size;
        self.write(&[0; BLOCK][..padding as usize])
    }
}

/// The parts with data, where what lies between them is worth a map. Offsets are those of lseek(2), SEEK_DATA.
fn holes(file: &OwnedFd, stat: &Stat) -> Result<Option<Vec<(u64, u64)>>> {
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let on_disk = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
    if size < on_disk + WORTHWHILE_HOLES {
        return Ok(None);
    }
    let mut parts = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => break,
            // The file system does not tell.
            Err(Errno::INVAL) => return Ok(None),
            result => result.step(|| "cannot find its holes")?.min(size),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start)).step(|| "cannot find its holes")?.min(size);
        if end <= start {
            break;
        }
        parts.push((start, end - start));
        at = end;
    }
    // Where it was cut off meanwhile, what had data looks like a hole.
    let now = rustix::fs::fstat(file).step(|| "cannot look at it")?;
    if (now.st_ctime, now.st_ctime_nsec, now.st_size) != (stat.st_ctime, stat.st_ctime_nsec, stat.st_size) {
        return Ok(None);
    }
    let data: u64 = parts.iter().map(|(_, length)| length).sum();
    if size - data < WORTHWHILE_HOLES {
        return Ok(None);
    }
    // An end without data is told by a part of no length, as GNU tar does.
    if parts.last().is_none_or(|(start, length)| start + length < size) {
        parts.push((size, 0));
    }
    Ok(Some(parts))
}
