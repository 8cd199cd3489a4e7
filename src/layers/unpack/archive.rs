//! The entries of a tar archive: ustar, PAX and GNU (tar(5), pax(1p)). Headers are read here rather than by
//! the tar crate's iterator, which keeps extension headers of any length in memory, splits PAX records at
//! newlines (file capabilities may hold one) and reads no PAX sparse files; its `Header` knows the fields.

use std::io;

use tar::{EntryType, Header};

use crate::layers::unpack::sparse::{self, Sparse};
use crate::layers::unpack::stream::{BLOCK, Stream, padding};

/// Extension headers are a few names and attributes; Linux takes 64 KiB for one attribute.
const LONGEST_EXTENSION: u64 = 1 << 20;
/// Bytes of all extension headers of one entry.
const LONGEST_EXTENSIONS: u64 = 4 << 20;
/// More than that no list of a file's attributes holds (xattr(7): 64 KiB of names).
const MOST_ATTRIBUTES: usize = 4096;
/// chown(2) takes it for "as it is".
const NO_ID: u32 = u32::MAX;

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    HardLink,
    Symlink,
    Character,
    Block,
    Directory,
    Fifo,
}

/// Seconds and nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Time {
    pub seconds: i64,
    pub nanoseconds: u32,
}

/// One entry; its data are the stream's next `stored` bytes.
#[derive(Debug, Clone)]
pub struct Entry {
    pub name: Vec<u8>,
    pub kind: Kind,
    /// The target of a link, as it was written.
    pub link: Vec<u8>,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub modified: Time,
    pub device: (u32, u32),
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Bytes of data in the archive.
    pub stored: u64,
    pub sparse: Option<Sparse>,
}

/// What extension headers say of the next entry.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    modified: Option<Time>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: sparse::Records,
}

/// The next entry, with the stream at its data; none at the end of the archive.
///
/// # Errors
/// What is malformed, or the stream's own.
pub fn next(stream: &mut Stream) -> io::Result<Option<Entry>> {
    let mut extensions = Extensions::default();
    let mut room = LONGEST_EXTENSIONS;
    loop {
        let Some(block) = stream.block()? else { return Ok(None) };
        if block == [0; BLOCK] {
            return match stream.block()? {
                None => Ok(None),
                Some(block) if block == [0; BLOCK] => Ok(None),
                Some(_) => Err(malformed("a header follows the mark of the end")),
            };
        }
        let header = Header::from_byte_slice(&block);
        check(header)?;
        let size = number(&header.as_old().size).and_then(|size| u64::try_from(size).ok());
        let size = size.ok_or_else(|| malformed("a header without a size"))?;
        let kind = header.entry_type();
        if matches!(kind, EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader) {
            let left = room.checked_sub(size.clamp(BLOCK as u64, LONGEST_EXTENSION));
            room =
                left.ok_or_else(|| malformed("an entry has more extension headers than any file needs"))?;
        }
        match kind {
            EntryType::GNULongName => extensions.name = Some(long(stream, size)?),
            EntryType::GNULongLink => extensions.link = Some(long(stream, size)?),
            EntryType::XHeader => {
                let data = stream.data(size, LONGEST_EXTENSION)?;
                extensions.take(&data)?;
            }
            // It says nothing of files: git writes the commit into it.
            EntryType::XGlobalHeader => {
                stream.data(size, LONGEST_EXTENSION)?;
            }
            kind => return entry(stream, header, kind, size, extensions).map(Some),
        }
    }
}

fn entry(
    stream: &mut Stream,
    header: &Header,
    kind: EntryType,
    size: u64,
    extensions: Extensions,
) -> io::Result<Entry> {
    let own_name = extensions.sparse.name.clone().or(extensions.name);
    let name = own_name.unwrap_or_else(|| header.path_bytes().into_owned());
    let kind = match kind {
        // Before POSIX a directory was a file whose name ends with a slash.
        EntryType::Regular if name.ends_with(b"/") => Kind::Directory,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
        EntryType::Link => Kind::HardLink,
        EntryType::Symlink => Kind::Symlink,
        EntryType::Char => Kind::Character,
        EntryType::Block => Kind::Block,
        EntryType::Directory => Kind::Directory,
        EntryType::Fifo => Kind::Fifo,
        other => {
            return Err(malformed(&format!(
                "`{}` is an entry of the unknown type `{}`",
                shown(&name),
                char::from(other.as_byte()).escape_default()
            )));
        }
    };
    let bad = |field: &str| malformed(&format!("the {field} of `{}` is no number that fits", shown(&name)));
    let old = header.as_old();
    let id = |name: &str, own: Option<u32>, field: &[u8]| match own {
        Some(id) => Ok(id),
        None => small(field).ok_or_else(|| bad(name)),
    };
    let id = |name: &str, own, field: &[u8]| match id(name, own, field)? {
        NO_ID => Err(bad(name)),
        id => Ok(id),
    };
    let device = match (kind, header.as_ustar(), header.as_gnu()) {
        (Kind::Character | Kind::Block, Some(ustar), _) => (&ustar.dev_major, &ustar.dev_minor),
        (Kind::Character | Kind::Block, _, Some(gnu)) => (&gnu.dev_major, &gnu.dev_minor),
        _ => (&[0; 8], &[0; 8]),
    };
    let mut stored = extensions.size.unwrap_or(size);
    let mut sparse = None;
    if kind == Kind::File {
        sparse = match header.as_gnu() {
            Some(gnu) if header.entry_type() == EntryType::GNUSparse => Some(sparse::old_gnu(stream, gnu)?),
            _ => extensions.sparse.read(stream, &mut stored)?,
        };
        if let Some(sparse) = &sparse {
            sparse.check(stored).map_err(|why| malformed(&format!("`{}` {why}", shown(&name))))?;
        }
    }
    Ok(Entry {
        kind,
        link: extensions
            .link
            .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned))
            .unwrap_or_default(),
        mode: small(&old.mode).ok_or_else(|| bad("mode"))? & 0o7777,
        uid: id("user ID", extensions.uid, &old.uid)?,
        gid: id("group ID", extensions.gid, &old.gid)?,
        modified: match extensions.modified {
            Some(time) => time,
            None => Time { seconds: number(&old.mtime).ok_or_else(|| bad("time"))?, nanoseconds: 0 },
        },
        device: (
            small(device.0).ok_or_else(|| bad("device number"))?,
            small(device.1).ok_or_else(|| bad("device number"))?,
        ),
        xattrs: extensions.xattrs,
        stored,
        sparse,
        name,
    })
}

/// A name for messages: printable and not endless.
pub fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let mut shown: String = text.chars().take(200).collect::<String>().escape_debug().to_string();
    if text.chars().nth(200).is_some() {
        shown.push('…');
    }
    shown
}

pub fn malformed(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it is no sound tar archive: {why}"))
}

/// A field of octal digits, or of big-endian binary with the highest bit set (GNU); blank is 0, as old programs
/// leave what they do not use.
fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        let negative = first & 0x40 != 0;
        let mut value: i128 = if negative { -1 } else { 0 };
        for (at, byte) in field.iter().enumerate() {
            let byte = if at == 0 && !negative { byte & 0x7f } else { *byte };
            value = value << 8 | i128::from(byte);
        }
        return i64::try_from(value).ok();
    }
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    let digits = std::str::from_utf8(&field[..end]).ok()?.trim();
    if digits.is_empty() { Some(0) } else { i64::from_str_radix(digits, 8).ok() }
}

fn small(field: &[u8]) -> Option<u32> {
    number(field).and_then(|value| u32::try_from(value).ok())
}

/// The checksum as POSIX has it, or as summed by old programs whose bytes are signed.
fn check(header: &Header) -> io::Result<()> {
    let wanted = header.cksum().map_err(|_| malformed("a header without a checksum"))?;
    let bytes = header.as_bytes();
    let field = 148..156;
    let others = || bytes.iter().enumerate().filter(|(at, _)| !field.contains(at)).map(|(_, byte)| *byte);
    let blanks = 8 * u32::from(b' ');
    let sum = others().map(u32::from).sum::<u32>() + blanks;
    if sum == wanted {
        return Ok(());
    }
    let signed = others().map(|byte| i32::from(byte.cast_signed())).sum::<i32>() + blanks.cast_signed();
    if u32::try_from(signed) == Ok(wanted) {
        return Ok(());
    }
    Err(malformed("the checksum of a header is wrong"))
}

/// The data of a GNU long name, which ends with NUL.
fn long(stream: &mut Stream, size: u64) -> io::Result<Vec<u8>> {
    let mut name = stream.data(size, LONGEST_EXTENSION)?;
    if name.last() == Some(&0) {
        name.pop();
    }
    Ok(name)
}

impl Extensions {
    /// Takes the records of a PAX header: `LENGTH KEY=VALUE\n`, the length in bytes and of the whole record.
    fn take(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let (record, rest) = record(data).ok_or_else(|| malformed("a PAX record has a wrong length"))?;
            data = rest;
            let equals = record.iter().position(|byte| *byte == b'=');
            let equals = equals.ok_or_else(|| malformed("a PAX record without `=`"))?;
            self.record(&record[..equals], &record[equals + 1..])?;
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let bad = || malformed(&format!("the PAX record `{}` has no value that fits", shown(key)));
        let text = || std::str::from_utf8(value).map_err(|_| bad());
        // An empty value takes back what an earlier header said.
        let there = !value.is_empty();
        match key {
            b"path" => self.name = there.then(|| value.to_vec()),
            b"linkpath" => self.link = there.then(|| value.to_vec()),
            b"size" => self.size = decimal(there, text()?).ok_or_else(bad)?,
            b"uid" => self.uid = decimal(there, text()?).ok_or_else(bad)?,
            b"gid" => self.gid = decimal(there, text()?).ok_or_else(bad)?,
            b"mtime" if there => self.modified = Some(time(text()?).ok_or_else(bad)?),
            b"mtime" => self.modified = None,
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.retain(|(other, _)| other != name);
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                    if self.xattrs.len() > MOST_ATTRIBUTES {
                        return Err(malformed(
                            "an entry has more extended attributes than any file can have",
                        ));
                    }
                } else if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.take(name, value).ok_or_else(bad)?;
                }
            }
        }
        Ok(())
    }
}

/// The first record of `data` without its length and its newline, and what follows.
fn record(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = data.iter().take(12).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&data[..space]).ok()?.parse().ok()?;
    if length > data.len() || length < space + 2 || data[length - 1] != b'\n' {
        return None;
    }
    Some((&data[space + 1..length - 1], &data[length..]))
}

/// None inside where the value was taken back.
#[allow(clippy::option_option, reason = "taken back, or malformed")]
fn decimal<N: std::str::FromStr>(there: bool, text: &str) -> Option<Option<N>> {
    if there { text.parse().ok().map(Some) } else { Some(None) }
}

/// `1600000000.123456789`, of any precision and sign; further digits are cut off.
fn time(text: &str) -> Option<Time> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanoseconds: u32 = format!("{fraction:0<9}")[..9].parse().ok()?;
    if whole.starts_with('-') && nanoseconds > 0 {
        return Some(Time { seconds: seconds.checked_sub(1)?, nanoseconds: 1_000_000_000 - nanoseconds });
    }
    Some(Time { seconds, nanoseconds })
}

/// Whether an archive begins with these bytes: with a header, whatever it describes.
pub fn begins(first: &[u8]) -> bool {
    first.get(..BLOCK).is_some_and(|block| check(Header::from_byte_slice(block)).is_ok())
}

/// Moves the stream from the end of an entry's data to the next header.
pub fn finish(stream: &mut Stream, entry: &Entry, left: u64) -> io::Result<()> {
    stream.skip(left)?;
    // The padding of the last entry may be cut off together with the end marks.
    match stream.skip(padding(entry.stored)) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        result => result,
    }
}
