//! A directory tree becomes a tar archive: the reverse of [`super::unpack`], for export, commit and build.
//!
//! The same tree gives the same bytes: names in the order of their bytes, numbers for owners, no names of them.

mod assembly;
mod content;
pub mod header;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use tar::EntryType;

use crate::error::{Error, Result, Step};
use crate::layers::owners::{self, Owners, Recorded};
use crate::layers::stack;
use crate::layers::unpack::archive::{Time, shown};
use crate::layers::unpack::tree::{DEEPEST, too_deep};
use crate::layers::unpack::whiteouts::{OPAQUE, WHITEOUT};

use header::{BLOCK, Description};

pub use assembly::{Assembly, Found};

/// How often a name is looked at anew that is something else each time.
const MOST_ATTEMPTS: u32 = 16;

/// File systems that show the kernel's own state (magic numbers of linux/magic.h): /proc, /sys with what is
/// mounted in it, cgroups, and devpts.
const OF_THE_KERNEL: [u64; 9] = [
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x1cd1,
    0x6462_6720,
    0x7363_6673,
    0x7472_6163,
    0xcafe_4a11,
];

/// What the tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A layer, or the upper of a container: whiteouts and opaque directories become files of the archive.
    Layer,
    /// A whole root: what looks like a whiteout is a device.
    Root,
}

/// When files are said to have been modified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Times {
    /// As it is.
    #[default]
    Kept,
    /// No later than this (`SOURCE_DATE_EPOCH`).
    AtMost(Time),
    /// All at once (`--timestamp`).
    Exactly(Time),
}

impl Times {
    fn of(self, time: Time) -> Time {
        let after = |latest: Time| (time.seconds, time.nanoseconds) > (latest.seconds, latest.nanoseconds);
        match self {
            Self::AtMost(latest) if after(latest) => latest,
            Self::Exactly(exact) => exact,
            _ => time,
        }
    }
}

/// What is packed.
pub struct Source<'a> {
    /// The directory; as root of the user namespace that its owners are those of.
    pub root: &'a Path,
    pub kind: Kind,
    /// The index of the layer, or an empty one.
    pub owners: &'a Owners,
    /// Paths relative to the root that are not packed, nor what is below them.
    pub leave_out: &'a BTreeSet<Vec<u8>>,
    /// The directories that hide what lower layers have there, where that is known; none: those that are marked so.
    pub opaque: Option<&'a BTreeSet<Vec<u8>>>,
    /// What a layer removes without having a mark for it.
    pub removed: &'a [Vec<u8>],
    pub times: Times,
}

/// One name with all that is below it, packed under another.
pub struct Part<'a> {
    pub parent: BorrowedFd<'a>,
    pub name: &'a [u8],
    /// Its name in the archive.
    pub becomes: &'a [u8],
    /// The index of the tree, with names as they are in the archive ([`Owners::below`]).
    pub owners: &'a Owners,
}

/// Writes the archive of `source` with its end marks and gives its length in bytes. What vanishes meanwhile is left
/// out.
///
/// # Errors
/// A file that cannot be read, or the archive not be written.
pub fn pack(source: &Source<'_>, archive: &mut dyn Write) -> Result<u64> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(source.root, flags, Mode::empty())
        .step(|| format!("cannot open `{}`", source.root.display()))?;
    let rules = Rules {
        kind: source.kind,
        owners: source.owners,
        leave_out: source.leave_out,
        opaque: source.opaque,
        mounts: Mounts::Any,
        times: source.times,
        cut_off: CutOff::Zeros,
    };
    let mut packer = Packer::new(rules, archive);
    packer.directory(&root, b"")?;
    source.removed.iter().try_for_each(|path| packer.whiteout(path))?;
    packer.end()
}

/// Writes the archive of `part` with its end marks and gives its length in bytes. What is mounted below is packed,
/// too, but for the kernel's own file systems.
///
/// # Errors
/// As [`pack`], and where there is no such name.
pub fn pack_part(part: &Part<'_>, archive: &mut dyn Write) -> Result<u64> {
    let nothing = BTreeSet::new();
    let rules = Rules {
        kind: Kind::Root,
        owners: part.owners,
        leave_out: &nothing,
        opaque: None,
        mounts: Mounts::NotOfTheKernel,
        times: Times::Kept,
        cut_off: CutOff::Zeros,
    };
    let mut packer = Packer::new(rules, archive);
    let failed = |error: Error| error.while_doing(format!("cannot pack `{}`", shown(part.becomes)));
    let stat = rustix::fs::statat(part.parent, part.name, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| failed(Error::new("cannot look at it").because(error)))?;
    let inner = packer.entry(part.parent, part.name, part.becomes, &stat).map_err(failed)?;
    if let Some(inner) = inner {
        packer.directory(&inner, part.becomes)?;
    }
    packer.end()
}

/// What of a tree is packed, and how.
struct Rules<'a> {
    kind: Kind,
    owners: &'a Owners,
    leave_out: &'a BTreeSet<Vec<u8>>,
    opaque: Option<&'a BTreeSet<Vec<u8>>>,
    mounts: Mounts,
    times: Times,
    cut_off: CutOff,
}

/// What becomes of a file that loses its end while it is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CutOff {
    /// The entry ends with zeros, as GNU tar's does: of what runs, everything may change at any time.
    Zeros,
    /// An error: nobody ever wrote such a file.
    Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mounts {
    Any,
    /// A directory on which /proc, /sys and the like are mounted is packed without what is in it.
    NotOfTheKernel,
}

struct Packer<'a> {
    rules: Rules<'a>,
    archive: &'a mut dyn Write,
    written: u64,
    /// Names of files with several, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

impl<'a> Packer<'a> {
    fn new(rules: Rules<'a>, archive: &'a mut dyn Write) -> Self {
        Self { rules, archive, written: 0, links: HashMap::new(), buffer: vec![0; 256 << 10] }
    }

    fn end(mut self) -> Result<u64> {
        self.write(&[0; 2 * BLOCK])?;
        Ok(self.written)
    }

    fn directory(&mut self, directory: &OwnedFd, path: &[u8]) -> Result<()> {
        let failed = || format!("cannot read the directory `{}`", shown(path));
        // What runs in a container makes them as deep as it likes, and the stack is not.
        if path.iter().filter(|byte| **byte == b'/').count() >= DEEPEST {
            return Err(too_deep(Error::new(failed())));
        }
        let mut names: Vec<Vec<u8>> = Vec::new();
        for entry in Dir::read_from(directory).step(failed)? {
            let entry = match entry {
                // It was removed after it was opened.
                Err(Errno::NOENT) => break,
                entry => entry.step(failed)?,
            };
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.to_vec());
            }
        }
        names.sort_unstable();
        for name in names {
            let below = if path.is_empty() { name.clone() } else { [path, b"/", &name].concat() };
            if self.rules.leave_out.contains(&below) {
                continue;
            }
            let inner = self
                .changing(directory.as_fd(), &name, &below)
                .map_err(|error| error.while_doing(format!("cannot pack `{}`", shown(&below))))?;
            if let Some(inner) = inner {
                self.directory(&inner, &below)?;
            }
        }
        Ok(())
    }

    /// Packs one name that a running container may remove, or put something else in the place of, at any time.
    fn changing(&mut self, parent: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<Option<OwnedFd>> {
        let mut attempts = 0;
        let mut patience = (0..8).map(|doubled| Duration::from_millis(1 << doubled));
        let mut stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(None),
            result => result.step(|| "cannot look at it")?,
        };
        loop {
            let before = self.written;
            let error = match self.entry(parent, name, path, &stat) {
                Err(error) if self.written == before => error,
                result => return result,
            };
            attempts += 1;
            let now = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => return Ok(None),
                Err(_) => return Err(error),
                Ok(now) => now,
            };
            // The number of one that is removed is the next one's.
            let what =
                |stat: &Stat| (stat.st_dev, stat.st_ino, stat.st_mode, stat.st_ctime, stat.st_ctime_nsec);
            if what(&now) == what(&stat) {
                // fuse-overlayfs has removed it already, and the kernel still answers with what it remembers until
                // who removes it has been told.
                let Some(wait) = patience.next() else { return Err(error) };
                std::thread::sleep(wait);
            } else if attempts >= MOST_ATTEMPTS {
                log::warn!("`{}` is left out: it changes all the time", shown(path));
                return Ok(None);
            }
            stat = now;
        }
    }

    /// Packs one name, which was found to be `stat`; gives a directory, whose own are to follow.
    fn entry(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        stat: &Stat,
    ) -> Result<Option<OwnedFd>> {
        self.entry_as(parent, name, path, stat, self.rules.owners.get(path))
    }

    /// As [`Self::entry`], with the line of the index that belongs to the name.
    fn entry_as(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        stat: &Stat,
        line: Option<&owners::Line>,
    ) -> Result<Option<OwnedFd>> {
        let found = FileType::from_raw_mode(stat.st_mode);
        if self.rules.kind == Kind::Layer && found == FileType::CharacterDevice && stat.st_rdev == 0 {
            self.whiteout(path)?;
            return Ok(None);
        }
        // fuse-overlayfs makes files of these where it can make no devices, and beside its attributes.
        if self.rules.kind == Kind::Layer && found == FileType::RegularFile {
            match name.strip_prefix(WHITEOUT) {
                Some(_) if name == OPAQUE => return Ok(None),
                Some(removed) => {
                    let at = path.len() - name.len();
                    self.whiteout(&[&path[..at], removed].concat())?;
                    return Ok(None);
                }
                None => {}
            }
        }
        if found == FileType::Socket {
            log::debug!("the socket `{}` is left out: archives have none", shown(path));
            return Ok(None);
        }
        let attributes = Attributes::read(parent, name, line)?;
        let link_name = (stat.st_ino, stat.st_dev);
        if found != FileType::Directory
            && stat.st_nlink > 1
            && let Some(first) = self.links.get(&(link_name.1, link_name.0))
        {
            let mut entry = describe(EntryType::Link, path, stat, &attributes);
            entry.link = first.clone();
            entry.records.clear();
            self.write(&self.header(&entry))?;
            return Ok(None);
        }
        match found {
            FileType::Directory => {
                let directory = open(parent, name, OFlags::DIRECTORY)?;
                let entry = describe(EntryType::Directory, &[path, b"/"].concat(), stat, &attributes);
                self.write(&self.header(&entry))?;
                let opaque = match self.rules.opaque {
                    Some(known) => known.contains(path),
                    None => stack::is_opaque(&directory),
                };
                if opaque && self.rules.kind == Kind::Layer {
                    self.marker(&[path, b"/", OPAQUE].concat())?;
                }
                if self.rules.mounts == Mounts::NotOfTheKernel && is_of_the_kernel(parent, &directory, stat) {
                    return Ok(None);
                }
                return Ok(Some(directory));
            }
            FileType::RegularFile => self.file(parent, name, path, &attributes)?,
            FileType::Symlink => {
                let target =
                    rustix::fs::readlinkat(parent, name, Vec::new()).step(|| "cannot read the symlink")?;
                let mut entry = describe(EntryType::Symlink, path, stat, &attributes);
                entry.link = target.into_bytes();
                self.write(&self.header(&entry))?;
            }
            FileType::Fifo => {
                self.write(&self.header(&describe(EntryType::Fifo, path, stat, &attributes)))?;
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                let kind = if found == FileType::BlockDevice { EntryType::Block } else { EntryType::Char };
                let mut entry = describe(kind, path, stat, &attributes);
                entry.device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
                self.write(&self.header(&entry))?;
            }
            _ => return Err(Error::new("it is a file of an unknown kind")),
        }
        if stat.st_nlink > 1 {
            self.links.insert((link_name.1, link_name.0), path.to_vec());
        }
        Ok(None)
    }

    /// `.wh.NAME` in the directory of what is hidden.
    fn whiteout(&mut self, path: &[u8]) -> Result<()> {
        let at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        self.marker(&[&path[..at], WHITEOUT, &path[at..]].concat())
    }

    fn marker(&mut self, path: &[u8]) -> Result<()> {
        let entry = Description {
            kind: EntryType::Regular,
            name: path.to_vec(),
            link: Vec::new(),
            mode: 0,
            uid: 0,
            gid: 0,
            modified: Time::default(),
            device: (0, 0),
            size: 0,
            records: Vec::new(),
        };
        self.write(&self.header(&entry))
    }

    fn file(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        attributes: &Attributes,
    ) -> Result<()> {
        let file = open(parent, name, OFlags::NONBLOCK)?;
        // What was looked at by name may be something else by now.
        let stat = rustix::fs::fstat(&file).step(|| "cannot look at it")?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::new("it changed while it was being packed"));
        }
        if let Some(device) = attributes.device() {
            let entry = Description { size: 0, ..device.description(path, &stat, attributes) };
            return self.write(&self.header(&entry));
        }
        let entry = describe(EntryType::Regular, path, &stat, attributes);
        self.opened(&file, entry, &stat)
    }

    /// The header of an entry as it is written.
    fn header(&self, description: &Description) -> Vec<u8> {
        match self.rules.times.of(description.modified) {
            modified if modified == description.modified => description.to_bytes(),
            modified => Description { modified, ..description.clone() }.to_bytes(),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.written += bytes.len() as u64;
        self.archive.write_all(bytes).step(|| "cannot write the archive")
    }
}

/// Whether something is mounted on the directory that is no content of the tree.
fn is_of_the_kernel(parent: BorrowedFd<'_>, directory: &OwnedFd, stat: &Stat) -> bool {
    let crossed = rustix::fs::fstat(parent).is_ok_and(|parent| parent.st_dev != stat.st_dev);
    crossed
        && rustix::fs::fstatfs(directory)
            .is_ok_and(|found| OF_THE_KERNEL.contains(&(found.f_type.cast_unsigned() & 0xffff_ffff)))
}

/// What a file carries beside its inode.
struct Attributes {
    recorded: Option<Recorded>,
    records: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Attributes {
    fn read(parent: BorrowedFd<'_>, name: &[u8], line: Option<&owners::Line>) -> Result<Self> {
        let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
        path.extend_from_slice(name);
        let mut this = Self { recorded: line.map(|line| line.recorded), records: Vec::new() };
        for attribute in list(&path)? {
            let later = attribute == owners::OWN_XATTR.as_bytes();
            let is_record = later || attribute == owners::XATTR.as_bytes();
            if !is_record && !is_content(&attribute) {
                continue;
            }
            let Some(value) = value(&path, &attribute)? else { continue };
            if is_record {
                if this.recorded.is_none() || later && line.is_none() {
                    let text = String::from_utf8(value).unwrap_or_default();
                    this.recorded = Recorded::parse(&text);
                }
            } else {
                this.records.push(([b"SCHILY.xattr.", attribute.as_slice()].concat(), value));
            }
        }
        for (attribute, value) in line.iter().flat_map(|line| &line.xattrs) {
            this.records.push(([b"SCHILY.xattr.", attribute.as_slice()].concat(), value.clone()));
        }
        this.records.sort();
        Ok(this)
    }

    fn device(&self) -> Option<Device> {
        let recorded = self.recorded?;
        let kind = match recorded.kind() {
            libc::S_IFCHR => EntryType::Char,
            libc::S_IFBLK => EntryType::Block,
            _ => return None,
        };
        Some(Device { kind, number: recorded.device })
    }
}

struct Device {
    kind: EntryType,
    number: (u32, u32),
}

impl Device {
    fn description(&self, path: &[u8], stat: &Stat, attributes: &Attributes) -> Description {
        Description { device: self.number, ..describe(self.kind, path, stat, attributes) }
    }
}

fn describe(kind: EntryType, path: &[u8], stat: &Stat, attributes: &Attributes) -> Description {
    let (uid, gid, mode) = match attributes.recorded {
        Some(recorded) => (recorded.uid, recorded.gid, recorded.permissions(stat.st_mode)),
        None => (stat.st_uid, stat.st_gid, stat.st_mode),
    };
    Description {
        kind,
        name: path.to_vec(),
        link: Vec::new(),
        mode: mode & 0o7777,
        uid,
        gid,
        modified: Time {
            seconds: stat.st_mtime,
            nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        },
        device: (0, 0),
        size: 0,
        records: attributes.records.clone(),
    }
}

/// Attributes that belong to the image, not to the host or to the drivers.
pub fn is_content(name: &[u8]) -> bool {
    let of_drivers = [&b"user.overlay."[..], b"user.fuseoverlayfs.", b"user.containers."];
    name == b"security.capability"
        || name.starts_with(b"system.posix_acl_")
        || name.starts_with(b"user.") && !of_drivers.iter().any(|prefix| name.starts_with(prefix))
}

fn list(path: &[u8]) -> Result<Vec<Vec<u8>>> {
    // The second is the kernel's limit (xattr(7)).
    for size in [1024, 64 << 10] {
        let mut names = vec![0; size];
        match rustix::fs::llistxattr(path, &mut names[..]) {
            Ok(length) => {
                let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
                return Ok(names.map(<[u8]>::to_vec).collect());
            }
            Err(Errno::RANGE) => {}
            Err(Errno::OPNOTSUPP | Errno::PERM) => return Ok(Vec::new()),
            Err(error) => return Err(error).step(|| "cannot list its attributes"),
        }
    }
    Err(Error::new("cannot list its attributes").because("there are more than any file can have"))
}

/// None: it was removed meanwhile, or is a capability of a user namespace that this one does not lie in
/// (capabilities(7), Namespaced file capabilities).
fn value(path: &[u8], name: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut value = vec![0; 64 << 10];
    let length = match rustix::fs::lgetxattr(path, name, &mut value[..]) {
        Err(Errno::NODATA | Errno::OVERFLOW) => return Ok(None),
        found => found.step(|| format!("cannot read its attribute `{}`", shown(name)))?,
    };
    value.truncate(length);
    Ok(Some(value))
}

fn open(parent: BorrowedFd<'_>, name: &[u8], more: OFlags) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC | more;
    rustix::fs::openat(parent, name, flags, Mode::empty()).step(|| "cannot open it")
}
