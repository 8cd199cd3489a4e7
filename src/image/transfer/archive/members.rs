//! The files of an archive, wherever they are: in a file that can be read in any order, in a stream that is
//! spooled, or in a directory. Names are keys of a table and never paths of this machine.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path};
use std::rc::Rc;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::container::store::no_room;
use crate::error::{Error, Result, Step};
use crate::image::digest::Digest;
use crate::image::documents::Descriptor;
use crate::image::transfer::session::Session;
use crate::layers::compression::{self, Compression};

/// Documents and small layers of a stream stay in memory up to this many bytes each, …
const SMALL: u64 = 1 << 20;
/// … and this many together.
const SMALL_TOGETHER: u64 = 64 << 20;
/// Archives of images have a few files for each layer.
const MOST_MEMBERS: usize = 100_000;
/// Bytes of all their names.
const LONGEST_NAMES: usize = 64 << 20;
/// Bytes of headers before one member: the tar crate keeps names and PAX records of any length in memory.
const LONGEST_HEADERS: u64 = 4 << 20;
/// Links that lead to links.
const MOST_HOPS: usize = 8;

/// One file of the archive.
#[derive(Debug, Clone)]
pub enum Content {
    Memory(Arc<[u8]>),
    /// A part of the archive's file.
    Range {
        file: Arc<File>,
        offset: u64,
        size: u64,
    },
    /// Spooled: it is a blob of the store already.
    Blob(Descriptor),
    File {
        file: Arc<File>,
        size: u64,
    },
}

#[derive(Debug)]
pub struct Members(Place);

#[derive(Debug)]
enum Place {
    Table { files: BTreeMap<String, Content>, links: BTreeMap<String, String> },
    Directory(OwnedFd),
}

impl Members {
    /// The files of a directory.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn of_directory(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty());
        opened
            .map(|directory| Self(Place::Directory(directory)))
            .step(|| format!("cannot open `{}`", path.display()))
    }

    /// The files of an archive: a file, a pipe or a device; compressed or not.
    ///
    /// # Errors
    /// It is no archive, is damaged, or there is no room to spool it.
    pub fn of_archive(mut file: File, session: &Session) -> Result<Self> {
        let failed = || "cannot read the archive";
        let seekable = file.metadata().is_ok_and(|metadata| metadata.is_file());
        let start = if seekable { file.stream_position().step(failed)? } else { 0 };
        let mut first = Vec::new();
        file.by_ref().take(compression::FIRST_BYTES as u64).read_to_end(&mut first).step(failed)?;
        let kind = compression::detect(&first);
        if seekable && kind == Compression::None {
            file.seek(SeekFrom::Start(start)).step(failed)?;
            return scan(file, start);
        }
        let whole = Cursor::new(first).chain(file);
        spool(compression::decompress(kind, whole).step(failed)?, session)
    }

    /// The file of this name, links followed.
    ///
    /// # Errors
    /// Links lead in circles or out of the archive; a file of a directory that cannot be read.
    pub fn find(&self, name: &str) -> Result<Option<Content>> {
        match &self.0 {
            Place::Directory(directory) => open_below(directory, name),
            Place::Table { files, links } => {
                let Some(mut name) = normal(Path::new(name)) else { return Ok(None) };
                for _ in 0..MOST_HOPS {
                    if let Some(found) = files.get(&name) {
                        return Ok(Some(found.clone()));
                    }
                    match links.get(&name) {
                        Some(target) => name.clone_from(target),
                        None => return Ok(None),
                    }
                }
                Err(Error::new(format!("cannot find `{}` in the archive", name.escape_debug()))
                    .because("links lead to links, again and again"))
            }
        }
    }

    /// The whole of a small file.
    ///
    /// # Errors
    /// As [`Members::find`], and it has more than `most` bytes.
    pub fn document(&self, name: &str, most: u64, session: &Session) -> Result<Option<Vec<u8>>> {
        let Some(content) = self.find(name)? else { return Ok(None) };
        let failed = || format!("cannot read `{}` of the archive", name.escape_debug());
        if content.size() > most {
            let cause = format!("it has {} bytes, and {most} are the most that sbx reads", content.size());
            return Err(Error::new(failed()).because(cause));
        }
        let mut bytes = Vec::new();
        content.open(0, session)?.take(most).read_to_end(&mut bytes).step(failed)?;
        Ok(Some(bytes))
    }
}

impl Content {
    /// Bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Range { size, .. } | Self::File { size, .. } => *size,
            Self::Blob(blob) => blob.size,
        }
    }

    /// Reads from `offset` on; the same content may be read by several threads.
    ///
    /// # Errors
    /// A spooled one is no longer there.
    pub fn open(&self, offset: u64, session: &Session) -> Result<Box<dyn Read + Send>> {
        let left = self.size().saturating_sub(offset);
        Ok(match self {
            Self::Memory(bytes) => {
                let mut reader = Cursor::new(Arc::clone(bytes));
                reader.set_position(offset);
                Box::new(reader)
            }
            Self::Range { file, offset: start, .. } => {
                Box::new(Part { file: Arc::clone(file), at: start + offset, left })
            }
            Self::File { file, .. } => Box::new(Part { file: Arc::clone(file), at: offset, left }),
            Self::Blob(blob) => {
                let mut file = session.store.open_blob(blob)?;
                file.seek(SeekFrom::Start(offset)).step(|| "cannot read a spooled file of the archive")?;
                Box::new(file)
            }
        })
    }
}

/// A part of a file, by pread(2): the descriptor's own position belongs to nobody.
struct Part {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..most], self.at)?;
        if count == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// A name without `.` and doubled slashes; none for one that leads out or is no text.
fn normal(name: &Path) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::ParentDir => {
                parts.pop()?;
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// Collects the members of a tar.
#[derive(Default)]
struct Table {
    files: BTreeMap<String, Content>,
    links: BTreeMap<String, String>,
    /// Bytes of names.
    names: usize,
}

impl Table {
    fn count(&mut self, bytes: usize) -> Result<()> {
        let refused = |why: String| Err(Error::new("cannot read the archive").because(why));
        self.names += bytes;
        if self.files.len() + self.links.len() >= MOST_MEMBERS {
            return refused(format!("it has more than {MOST_MEMBERS} files"));
        }
        if self.names > LONGEST_NAMES {
            return refused(format!("the names in it have more than {LONGEST_NAMES} bytes"));
        }
        Ok(())
    }

    fn add(&mut self, name: &str, content: Content) -> Result<()> {
        self.count(name.len())?;
        // Readers differ in which of the two they take: one of them would be deceived.
        if self.links.contains_key(name) || self.files.insert(name.to_owned(), content).is_some() {
            return Err(Error::new("cannot read the archive")
                .because(format!("it has two files of the name `{}`", name.escape_debug())));
        }
        Ok(())
    }

    /// A member that is a link: to a name beside it (symlink), or from the top (hard link).
    fn add_link(&mut self, name: String, entry: &tar::Entry<'_, impl Read>, beside: bool) -> Result<()> {
        let Ok(Some(target)) = entry.link_name() else { return Ok(()) };
        let from = if beside && !target.is_absolute() { Path::new(&name).parent() } else { None };
        if let Some(target) = normal(&from.unwrap_or(Path::new("")).join(target)) {
            self.count(name.len() + target.len())?;
            self.links.insert(name, target);
        }
        Ok(())
    }

    fn finish(self) -> Members {
        Members(Place::Table { files: self.files, links: self.links })
    }
}

enum Member {
    File(String),
    Link(String, bool),
    Other,
}

fn classify(entry: &tar::Entry<'_, impl Read>) -> Member {
    let Some(name) = entry.path().ok().and_then(|path| normal(&path)) else { return Member::Other };
    match entry.header().entry_type() {
        tar::EntryType::Regular | tar::EntryType::Continuous => Member::File(name),
        tar::EntryType::Symlink => Member::Link(name, true),
        tar::EntryType::Link => Member::Link(name, false),
        _ => Member::Other,
    }
}

fn unreadable(error: &io::Error) -> Error {
    let error_of_tar = error.kind() == io::ErrorKind::Other && error.raw_os_error().is_none();
    // The reader of tars quotes what it did not understand, which may be anything.
    let cause =
        if error_of_tar { "it is no tar archive, or a damaged one".to_owned() } else { error.to_string() };
    Error::new("cannot read the archive").because(cause).hint("`sbx load` takes what `save` of sbx, podman and docker writes; a root file system is for `sbx import`")
}

/// An archive whose headers may not go on without end.
struct Guarded<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

/// How many bytes may be read before the next member begins.
struct Guard(Rc<Cell<u64>>);

impl Guard {
    fn around<R>(inner: R) -> (Self, Guarded<R>) {
        let left = Rc::new(Cell::new(LONGEST_HEADERS));
        (Self(Rc::clone(&left)), Guarded { inner, left })
    }

    /// A member has begun, and is read.
    fn lift(&self) {
        self.0.set(u64::MAX);
    }

    /// The next header follows after `rest` bytes of the last member.
    fn set(&self, rest: u64) {
        self.0.set(rest.saturating_add(LONGEST_HEADERS));
    }
}

impl<R: Read> Read for Guarded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 {
            return Err(io::Error::other(format!(
                "it has more than {LONGEST_HEADERS} bytes of headers before one file"
            )));
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.inner.read(&mut buffer[..most])?;
        self.left.set(left - count as u64);
        Ok(count)
    }
}

impl<R: Seek> Seek for Guarded<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

/// Bytes that a member has in the archive. Of a sparse one its size says how long it is unpacked.
fn stored(entry: &tar::Entry<'_, impl Read>) -> u64 {
    match entry.header().entry_type() {
        tar::EntryType::GNUSparse => entry.header().entry_size().unwrap_or(0),
        _ => entry.size(),
    }
}

/// Reads the headers alone.
fn scan(mut file: File, start: u64) -> Result<Members> {
    let length = file.metadata().step(|| "cannot read the archive")?.len();
    let shared = Arc::new(file.try_clone().step(|| "cannot read the archive")?);
    // Positions of entries count from where the reader began.
    file.seek(SeekFrom::Start(start)).step(|| "cannot read the archive")?;
    let (guard, file) = Guard::around(file);
    let mut archive = tar::Archive::new(file);
    let mut table = Table::default();
    for entry in archive.entries_with_seek().map_err(|error| unreadable(&error))? {
        let entry = entry.map_err(|error| unreadable(&error))?;
        // What a member holds is passed over, not read.
        guard.set(0);
        match classify(&entry) {
            Member::File(name) => {
                let (offset, size) = (start + entry.raw_file_position(), entry.size());
                if offset.checked_add(size).is_none_or(|end| end > length) {
                    return Err(unreadable(&io::Error::other("it ends early")));
                }
                table.add(&name, Content::Range { file: Arc::clone(&shared), offset, size })?;
            }
            Member::Link(name, beside) => table.add_link(name, &entry, beside)?,
            Member::Other => {}
        }
    }
    Ok(table.finish())
}

/// Reads a stream to its end: small files stay in memory, the others become blobs.
fn spool(stream: impl Read, session: &Session) -> Result<Members> {
    let (guard, stream) = Guard::around(session.watched(stream));
    let mut archive = tar::Archive::new(stream);
    let mut table = Table::default();
    let mut in_memory = 0;
    for entry in archive.entries().map_err(|error| unreadable(&error))? {
        let mut entry = entry.map_err(|error| unreadable(&error))?;
        guard.lift();
        let mut rest = stored(&entry);
        match classify(&entry) {
            Member::File(name) => {
                let size = entry.size();
                let content = if size <= SMALL && in_memory + size <= SMALL_TOGETHER {
                    in_memory += size;
                    let mut bytes = Vec::new();
                    entry.read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
                    Content::Memory(bytes.into())
                } else {
                    Content::Blob(spool_one(&mut entry, &name, session)?)
                };
                if content.size() != size {
                    return Err(unreadable(&io::Error::other("it ends early")));
                }
                table.add(&name, content)?;
                rest = 0;
            }
            Member::Link(name, beside) => table.add_link(name, &entry, beside)?,
            Member::Other => {}
        }
        guard.set(rest);
    }
    Ok(table.finish())
}

fn spool_one(entry: &mut impl Read, name: &str, session: &Session) -> Result<Descriptor> {
    let mut blob = session.store.begin_unknown_blob()?;
    let copied = std::io::copy(entry, &mut blob);
    let copied = copied
        .map_err(|error| no_room(error, format!("cannot store `{}` of the archive", name.escape_debug())));
    let finished = copied.and_then(|size| Ok((size, blob.finish(&session.lease)?)));
    let (size, digest): (u64, Digest) = finished?;
    Ok(Descriptor::new("application/octet-stream", digest, size))
}

fn open_below(directory: &OwnedFd, name: &str) -> Result<Option<Content>> {
    let failed = || format!("cannot open `{}` of the directory", name.escape_debug());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = rustix::fs::openat2(directory, name, flags, Mode::empty(), ResolveFlags::BENEATH);
    let file = match opened {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(Error::new(failed()).because(error)),
    };
    let metadata = file.metadata().step(failed)?;
    if !metadata.is_file() {
        return Err(Error::new(failed()).because("it is not a file"));
    }
    Ok(Some(Content::File { file: Arc::new(file), size: metadata.len() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(headers: &[(tar::EntryType, u64)]) -> io::Result<usize> {
        let mut bytes = Vec::new();
        for (kind, size) in headers {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(*size);
            header.set_cksum();
            bytes.extend_from_slice(header.as_bytes());
            bytes.resize(bytes.len() + size.next_multiple_of(512) as usize, b'x');
        }
        bytes.resize(bytes.len() + 1024, 0);
        let (guard, reader) = Guard::around(bytes.as_slice());
        let mut archive = tar::Archive::new(reader);
        let mut count = 0;
        for entry in archive.entries()? {
            guard.set(stored(&entry?));
            count += 1;
        }
        Ok(count)
    }

    #[test]
    fn headers_do_not_fill_the_memory() {
        use tar::EntryType::{Directory, GNULongName, Regular};
        let long = 2 * LONGEST_HEADERS;
        assert_eq!(entries(&[(Directory, long), (GNULongName, 300), (Regular, long)]).unwrap(), 2);
        let refused = entries(&[(GNULongName, long), (Regular, 1)]).unwrap_err().to_string();
        assert!(refused.contains("headers before one file"), "{refused}");
    }

    #[test]
    fn links_count_as_members() {
        let mut table = Table::default();
        assert!(table.count(LONGEST_NAMES).is_ok());
        assert!(table.count(1).is_err());
        let many = |number: usize| (number.to_string(), String::new());
        let mut table = Table { links: (0..MOST_MEMBERS).map(many).collect(), ..Table::default() };
        assert!(table.count(1).is_err());
    }

    #[test]
    fn names_stay_inside() {
        for (name, normalised) in [
            ("./a//b", Some("a/b")),
            ("/a/./b", Some("a/b")),
            ("a/../b", Some("b")),
            ("../a", None),
            ("a/../../b", None),
            (".", None),
            ("", None),
        ] {
            assert_eq!(normal(Path::new(name)).as_deref(), normalised, "{name}");
        }
    }
}
