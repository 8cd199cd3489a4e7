//! Sparse files: the old GNU header with its map, and the three PAX ways (GNU tar manual, Appendix E.3).

use std::io;

use tar::{GnuExtSparseHeader, GnuHeader};

use crate::layers::unpack::archive::malformed;
use crate::layers::unpack::stream::{BLOCK, Stream};

/// A file of a terabyte with a hole after every 64 KiB has 16 million; nobody has packed such a one.
const MOST_PARTS: usize = 1 << 20;

/// Where the data of a file lie, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sparse {
    /// Bytes of the file with its holes.
    pub size: u64,
    /// Offset and length of each part.
    pub parts: Vec<(u64, u64)>,
}

impl Sparse {
    /// Whether the parts are in order, inside the file, and as long as the data together.
    pub fn check(&self, stored: u64) -> Result<(), &'static str> {
        let mut end = 0_u64;
        let mut sum = 0_u64;
        for (offset, length) in &self.parts {
            if *offset < end {
                return Err("is sparse and its parts overlap");
            }
            end = offset.checked_add(*length).ok_or("is sparse and longer than any file")?;
            sum += length;
        }
        if end > self.size || i64::try_from(self.size).is_err() {
            return Err("is sparse and its parts go beyond its end");
        }
        if sum != stored { Err("is sparse and has other data than its map says") } else { Ok(()) }
    }
}

/// The records `GNU.sparse.*` of a PAX header.
#[derive(Debug, Default)]
pub struct Records {
    pub name: Option<Vec<u8>>,
    version: (u32, u32),
    size: Option<u64>,
    offset: Option<u64>,
    parts: Vec<(u64, u64)>,
    mapped: bool,
}

impl Records {
    /// Takes one record, `key` without its prefix; none where its value is malformed.
    pub fn take(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let text = std::str::from_utf8(value);
        let number = || text.ok()?.parse::<u64>().ok();
        match key {
            b"major" => self.version.0 = u32::try_from(number()?).ok()?,
            b"minor" => self.version.1 = u32::try_from(number()?).ok()?,
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(number()?),
            b"offset" => {
                self.offset = Some(number()?);
                self.mapped = true;
            }
            b"numbytes" => {
                self.parts.push((self.offset.take()?, number()?));
                self.mapped = true;
            }
            b"numblocks" => {
                number()?;
                self.mapped = true;
            }
            b"map" => {
                let numbers = text.ok()?.split(',').map(|word| word.parse::<u64>().ok());
                let numbers: Vec<u64> = numbers.collect::<Option<_>>()?;
                if !numbers.len().is_multiple_of(2) {
                    return None;
                }
                self.parts = numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
                self.mapped = true;
            }
            _ => {}
        }
        (self.parts.len() <= MOST_PARTS).then_some(())
    }

    /// The map of the file, if it is sparse; version 1.0 keeps it before the data and takes it off `stored`.
    pub fn read(self, stream: &mut Stream, stored: &mut u64) -> io::Result<Option<Sparse>> {
        if self.version.0 == 1 {
            let parts = leading_map(stream, stored)?;
            let size = self.size.ok_or_else(|| malformed("a sparse file without a size"))?;
            return Ok(Some(Sparse { size, parts }));
        }
        match self.size {
            Some(size) if self.mapped => Ok(Some(Sparse { size, parts: self.parts })),
            _ => Ok(None),
        }
    }
}

/// Decimal numbers, one a line: how many parts, then offset and length of each; padded to a block.
fn leading_map(stream: &mut Stream, stored: &mut u64) -> io::Result<Vec<(u64, u64)>> {
    let bad = || malformed("the map of a sparse file is no list of numbers");
    let mut numbers: Vec<u64> = Vec::new();
    let mut wanted = None;
    let mut number: Option<u64> = None;
    loop {
        *stored = stored.checked_sub(BLOCK as u64).ok_or_else(bad)?;
        let block = stream.block()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        for byte in block {
            match byte {
                b'0'..=b'9' => {
                    let digit = u64::from(byte - b'0');
                    let longer = number.unwrap_or(0).checked_mul(10).and_then(|n| n.checked_add(digit));
                    number = Some(longer.ok_or_else(bad)?);
                }
                b'\n' => {
                    let value = number.take().ok_or_else(bad)?;
                    match wanted {
                        None => {
                            let parts = usize::try_from(value).ok().filter(|parts| *parts <= MOST_PARTS);
                            wanted = Some(2 * parts.ok_or_else(bad)?);
                        }
                        Some(_) => numbers.push(value),
                    }
                    if wanted == Some(numbers.len()) {
                        return Ok(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect());
                    }
                }
                _ => return Err(bad()),
            }
        }
    }
}

/// The map in a header of type `S` and in the blocks that continue it.
pub fn old_gnu(stream: &mut Stream, header: &GnuHeader) -> io::Result<Sparse> {
    let bad = |_| malformed("the map of a sparse file is no list of numbers");
    let mut parts = Vec::new();
    let mut take = |list: &[tar::GnuSparseHeader]| -> io::Result<()> {
        for part in list.iter().filter(|part| !part.is_empty()) {
            parts.push((part.offset().map_err(bad)?, part.length().map_err(bad)?));
        }
        if parts.len() > MOST_PARTS { Err(malformed("a sparse file of too many parts")) } else { Ok(()) }
    };
    take(&header.sparse)?;
    let mut more = header.is_extended();
    while more {
        let mut next = GnuExtSparseHeader::new();
        *next.as_mut_bytes() = stream.block()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        take(next.sparse())?;
        more = next.is_extended();
    }
    Ok(Sparse { size: header.real_size().map_err(bad)?, parts })
}
