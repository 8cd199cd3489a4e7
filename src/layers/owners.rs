//! What a layer's files are where their inodes cannot say it: owners in the single tier, device nodes, which
//! no user namespace may make, and attributes that the file system refused.
//!
//! Regular files and directories carry `user.containers.override_stat`, in the format of containers/storage,
//! where the file system takes it. For all else (the kernel gives symlinks, fifos and sockets no `user.`
//! attributes, xattr(7)) there is one index beside the layer's files, `<layer>/owners`.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::error::{Error, Result, Step};

/// The extended attribute; its value is [`Recorded::text`].
pub const XATTR: &str = "user.containers.override_stat";

/// The same where a container with emulated root recorded it on a fuse-overlayfs, which keeps attributes of
/// `user.containers.` to itself. It is the later word.
pub const OWN_XATTR: &str = "user.sbx.override_stat";

/// The index beside the directory `fs` of a layer.
pub const INDEX: &str = "owners";
const FIRST_LINE: &[u8] = b"sbx owners 1\n";
/// Longer indexes are not ours: ten million entries of a hundred bytes.
const LONGEST_INDEX: u64 = 1 << 30;

/// What a file is in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    pub uid: u32,
    pub gid: u32,
    /// st_mode with the type of the file (inode(7)).
    pub mode: u32,
    /// Major and minor number, of devices alone.
    pub device: (u32, u32),
}

impl Recorded {
    pub fn kind(&self) -> u32 {
        self.mode & libc::S_IFMT
    }

    /// The permission bits of a file that has the mode `inode` on disk. What was recorded counts as long as the
    /// inode has no others than the bits that let its owner at it: programs change modes without any record.
    pub fn permissions(&self, inode: u32) -> u32 {
        let (recorded, inode) = (self.mode & 0o7777, inode & 0o7777);
        if inode & !0o700 == recorded & !0o700 && inode & recorded == recorded { recorded } else { inode }
    }

    /// `UID:GID:MODE:TYPE`, the mode in octal; devices are `char-MAJOR-MINOR` and `block-MAJOR-MINOR`.
    pub fn text(&self) -> String {
        let kind = match self.kind() {
            libc::S_IFDIR => "dir".to_owned(),
            libc::S_IFLNK => "symlink".to_owned(),
            libc::S_IFIFO => "pipe".to_owned(),
            libc::S_IFSOCK => "socket".to_owned(),
            libc::S_IFCHR => format!("char-{}-{}", self.device.0, self.device.1),
            libc::S_IFBLK => format!("block-{}-{}", self.device.0, self.device.1),
            _ => "file".to_owned(),
        };
        format!("{}:{}:{:04o}:{kind}", self.uid, self.gid, self.mode & 0o7777)
    }

    /// The reverse of [`Self::text`]. Older programs leave out the type, and some put it into the mode.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split(':');
        let uid = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let mode = u32::from_str_radix(fields.next()?, 8).ok()?;
        let mut device = (0, 0);
        let kind = match fields.next() {
            None | Some("") => mode & libc::S_IFMT,
            Some("file") => libc::S_IFREG,
            Some("dir") => libc::S_IFDIR,
            Some("symlink") => libc::S_IFLNK,
            Some("pipe") => libc::S_IFIFO,
            Some("socket") => libc::S_IFSOCK,
            Some(text) => {
                let mut words = text.split('-');
                let kind = match words.next()? {
                    "char" => libc::S_IFCHR,
                    "block" => libc::S_IFBLK,
                    _ => return None,
                };
                device = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
                kind
            }
        };
        Some(Self { uid, gid, mode: mode & 0o7777 | kind, device })
    }

    /// What the file behind `fd` (of any kind, O_PATH too) carries itself; its type is the inode's where the
    /// record has none.
    pub fn of(fd: BorrowedFd<'_>) -> Option<Self> {
        let mut value = [0; 128];
        // fgetxattr(2) takes no O_PATH descriptor.
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let length = rustix::fs::getxattr(&path, OWN_XATTR, &mut value[..])
            .or_else(|_| rustix::fs::getxattr(&path, XATTR, &mut value[..]))
            .ok()?;
        let mut recorded = Self::parse(std::str::from_utf8(&value[..length]).ok()?)?;
        if recorded.kind() == 0 {
            recorded.mode |= rustix::fs::fstat(fd).ok()?.st_mode & libc::S_IFMT;
        }
        Some(recorded)
    }
}

/// One line of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub recorded: Recorded,
    /// Attributes that could not be set.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The index of one layer. Paths are relative to `fs`, without a leading slash; the root is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owners {
    lines: BTreeMap<Vec<u8>, Line>,
}

impl Owners {
    /// Reads the index of the layer in `directory` (which holds `fs`); empty where there is none.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn load(directory: &Path) -> Result<Self> {
        let path = directory.join(INDEX);
        let failed = || format!("cannot read `{}`", path.display());
        match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Ok(metadata) if metadata.len() > LONGEST_INDEX => {
                return Err(Error::new(failed()).because("it is longer than any index"));
            }
            _ => {}
        }
        let bytes = std::fs::read(&path).step(failed)?;
        Self::parse(&bytes).ok_or_else(|| {
            Error::new(failed()).because("it is damaged").hint("remove the image and pull it again")
        })
    }

    /// Adds what the index of a higher layer says.
    pub fn cover(&mut self, higher: Self) {
        self.lines.extend(higher.lines);
    }

    /// What the index says of `path`; files with an attribute are not in it ([`Self::of`]).
    pub fn get(&self, path: &[u8]) -> Option<&Line> {
        self.lines.get(path)
    }

    /// What is said of `path` and what is below it, as of a tree in which it has the name `becomes`.
    #[must_use]
    pub fn below(&self, path: &[u8], becomes: &[u8]) -> Self {
        let prefix = if path.is_empty() { Vec::new() } else { [path, b"/"].concat() };
        let lines = self
            .lines
            .iter()
            .filter_map(|(name, line)| {
                if name == path {
                    return Some((becomes.to_vec(), line.clone()));
                }
                let rest = name.strip_prefix(prefix.as_slice())?;
                Some(([becomes, b"/", rest].concat(), line.clone()))
            })
            .collect();
        Self { lines }
    }

    /// What `path` is in the image, if anything is recorded of it. `fd` is the file itself.
    pub fn of(&self, path: &Path, fd: BorrowedFd<'_>) -> Option<Recorded> {
        let path = path.as_os_str().as_bytes();
        let path = path.strip_prefix(b"/").unwrap_or(path);
        self.lines.get(path).map(|line| line.recorded).or_else(|| Recorded::of(fd))
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Line)> {
        self.lines.iter().map(|(path, line)| (path.as_slice(), line))
    }

    pub(crate) fn put(&mut self, path: Vec<u8>, line: Line) {
        self.lines.insert(path, line);
    }

    /// Forgets `path` and all below it.
    pub(crate) fn forget(&mut self, path: &[u8]) {
        self.lines.remove(path);
        let below = [path, b"/"].concat();
        let gone: Vec<Vec<u8>> = self
            .lines
            .range(below.clone()..)
            .map(|(path, _)| path)
            .take_while(|path| path.starts_with(&below))
            .cloned()
            .collect();
        for path in gone {
            self.lines.remove(&path);
        }
    }

    /// The file's content: a line that names the format, then per path `STAT XATTRS PATH` and NUL, where
    /// XATTRS is `-` or `NAME=BASE64` separated by commas.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = FIRST_LINE.to_vec();
        for (path, line) in &self.lines {
            bytes.extend_from_slice(line.recorded.text().as_bytes());
            bytes.push(b' ');
            if line.xattrs.is_empty() {
                bytes.push(b'-');
            }
            for (at, (name, value)) in line.xattrs.iter().enumerate() {
                if at > 0 {
                    bytes.push(b',');
                }
                bytes.extend_from_slice(STANDARD_NO_PAD.encode(name).as_bytes());
                bytes.push(b'=');
                bytes.extend_from_slice(STANDARD_NO_PAD.encode(value).as_bytes());
            }
            bytes.push(b' ');
            bytes.extend_from_slice(path);
            bytes.push(0);
        }
        bytes
    }

    /// The reverse of [`Self::to_bytes`].
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(FIRST_LINE)?;
        let mut lines = BTreeMap::new();
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == 0)?;
            let mut fields = rest[..end].splitn(3, |byte| *byte == b' ');
            let recorded = Recorded::parse(std::str::from_utf8(fields.next()?).ok()?)?;
            // A line always says what kind of file it is of.
            if Recorded::parse(&recorded.text()) != Some(recorded) {
                return None;
            }
            let xattrs = match fields.next()? {
                b"-" => Vec::new(),
                list => list.split(|byte| *byte == b',').map(attribute).collect::<Option<_>>()?,
            };
            lines.insert(fields.next()?.to_vec(), Line { recorded, xattrs });
            rest = &rest[end + 1..];
        }
        Some(Self { lines })
    }
}

fn attribute(text: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let equals = text.iter().position(|byte| *byte == b'=')?;
    Some((STANDARD_NO_PAD.decode(&text[..equals]).ok()?, STANDARD_NO_PAD.decode(&text[equals + 1..]).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_those_of_containers_storage() {
        let device = Recorded { uid: 0, gid: 6, mode: libc::S_IFBLK | 0o660, device: (8, 1) };
        assert_eq!(device.text(), "0:6:0660:block-8-1");
        for text in
            ["0:6:0660:block-8-1", "1:2:4755:file", "0:0:1777:dir", "0:0:0777:symlink", "5:5:0600:pipe"]
        {
            assert_eq!(Recorded::parse(text).unwrap().text(), text);
        }
        // What other programs write.
        assert_eq!(Recorded::parse("0:0:0100755").unwrap().mode, libc::S_IFREG | 0o755);
        assert_eq!(Recorded::parse("0:0:555").unwrap().mode, 0o555);
        for bad in ["", "0:0", "x:0:0", "0:0:9", "0:0:0:char-1", "0:0:0:door", "-1:0:0"] {
            assert_eq!(Recorded::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_index_is_read_as_it_was_written() {
        let mut owners = Owners::default();
        let recorded = Recorded { uid: 0, gid: 42, mode: libc::S_IFLNK | 0o777, device: (0, 0) };
        let capability = (b"security.capability".to_vec(), vec![1, 0, 10, 0, 255]);
        owners.put(b"a b/c=d,e\nf\xff".to_vec(), Line { recorded, xattrs: vec![] });
        owners.put(Vec::new(), Line { recorded, xattrs: vec![capability.clone(), capability] });
        assert_eq!(Owners::parse(&owners.to_bytes()).unwrap(), owners);
        assert_eq!(Owners::parse(b""), None);
        let whole = owners.to_bytes();
        assert_eq!(Owners::parse(&whole[..whole.len() - 1]), None, "torn");
    }

    #[test]
    fn what_is_below_a_removed_path_is_forgotten_and_its_neighbours_are_not() {
        let mut owners = Owners::default();
        let recorded = Recorded { uid: 1, gid: 1, mode: libc::S_IFREG, device: (0, 0) };
        for path in ["a", "a/b", "a/b/c", "a.b", "ab", "b"] {
            owners.put(path.into(), Line { recorded, xattrs: vec![] });
        }
        owners.forget(b"a");
        let left: Vec<_> = owners.iter().map(|(path, _)| String::from_utf8_lossy(path)).collect();
        assert_eq!(left, ["a.b", "ab", "b"]);
    }
}
