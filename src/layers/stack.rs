//! Looking a file up in stacked layers without mounting them: what is decided before the container exists, such as
//! the numbers of the image's user, is read this way. Layers are hostile: no symlink leads out of them, each is
//! followed by hand from the top of the stack.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};

use crate::error::{Result, Step};
use crate::sandbox::inroot::descriptor_path;

/// As path_resolution(7) has it.
const MOST_LINKS: u32 = 40;
/// The marks of a directory that hides what is below it (overlayfs.rst, `userxattr`; fuse-overlayfs(1)).
const OPAQUE: [&str; 2] = ["user.overlay.opaque", "user.fuseoverlayfs.opaque"];
/// The marks of tar layers, which fuse-overlayfs takes in directories, too.
const REMOVED: &str = ".wh.";
const OPAQUE_FILE: &str = ".wh..wh..opq";

/// One directory as it is in each layer, the topmost first.
pub type Merged = Vec<OwnedFd>;

pub struct Stack {
    layers: Vec<PathBuf>,
}

enum Found {
    Directory(Merged),
    Link(PathBuf),
    File(File),
}

impl Stack {
    /// The stack of `lowers`, the lowest first.
    ///
    /// # Errors
    /// One that cannot be opened.
    pub fn open(lowers: &[PathBuf]) -> Result<Self> {
        for lower in lowers {
            bottom(lower).step(|| format!("cannot open the layer `{}`", lower.display()))?;
        }
        Ok(Self { layers: lowers.iter().rev().cloned().collect() })
    }

    /// The first `at_most` bytes of the regular file at `path`, as a container would see it; none where it would
    /// see none, or the caller may not read it.
    pub fn read(&self, path: &Path, at_most: u64) -> Option<Vec<u8>> {
        let mut above = vec![self.root()?];
        let mut rest: VecDeque<OsString> = names(path);
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                if above.len() > 1 {
                    above.pop();
                }
                continue;
            }
            match look_up(above.last()?, &name)? {
                Found::Directory(directory) => above.push(directory),
                Found::Link(target) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return None;
                    }
                    if target.is_absolute() {
                        above.truncate(1);
                    }
                    for name in names(&target).into_iter().rev() {
                        rest.push_front(name);
                    }
                }
                Found::File(file) if rest.is_empty() => {
                    let mut text = Vec::new();
                    file.take(at_most).read_to_end(&mut text).ok()?;
                    return Some(text);
                }
                Found::File(_) => return None,
            }
        }
        None
    }

    /// Where `path` leads to, with `..` and all symlinks resolved; what is not there is taken as it is written.
    pub fn real_path(&self, path: &Path) -> PathBuf {
        let Some(root) = self.root() else { return path.to_owned() };
        let (mut above, mut real) = (vec![root], PathBuf::new());
        let mut rest: VecDeque<OsString> = names(path);
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                real.pop();
                above.truncate(above.len().saturating_sub(1).max(1));
                continue;
            }
            let depth = real.components().count();
            let found = above.get(depth).and_then(|parent| look_up(parent, &name));
            match found {
                Some(Found::Link(target)) if links < MOST_LINKS => {
                    links += 1;
                    if target.is_absolute() {
                        above.truncate(1);
                        real = PathBuf::new();
                    }
                    for name in names(&target).into_iter().rev() {
                        rest.push_front(name);
                    }
                    continue;
                }
                Some(Found::Directory(directory)) => above.push(directory),
                _ => {}
            }
            real.push(name);
        }
        real
    }

    /// The top of the tree; none where a layer is gone.
    pub fn root(&self) -> Option<Merged> {
        let mut merged = Merged::new();
        for layer in &self.layers {
            let opened = bottom(layer).ok()?;
            let hides = is_opaque(&opened);
            merged.push(opened);
            if hides {
                break;
            }
        }
        Some(merged)
    }
}

fn names(path: &Path) -> VecDeque<OsString> {
    let name = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    };
    path.components().filter_map(name).collect()
}

/// What the layers together have under one name.
pub struct Entry {
    pub stat: Stat,
    /// The topmost directory that has it.
    layer: usize,
    /// Where it is a directory itself.
    pub directory: Option<Merged>,
}

impl Entry {
    /// The directory that has it, of those in which it was looked for.
    pub fn directory_of<'m>(&self, parent: &'m Merged) -> Option<&'m OwnedFd> {
        parent.get(self.layer)
    }
}

/// What stands under `name` in the layers of `parent`; none where the topmost of them hides it.
pub fn entry(parent: &Merged, name: &OsStr) -> Option<Entry> {
    let mut merged = Merged::new();
    let mut first = None;
    for (at, layer) in parent.iter().enumerate() {
        let mut removed = OsString::from(REMOVED);
        removed.push(name);
        let has_mark = rustix::fs::statat(layer, &removed, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        let Ok(stat) = rustix::fs::statat(layer, name, AtFlags::SYMLINK_NOFOLLOW) else {
            if has_mark {
                break;
            }
            continue;
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            let opened = directory(layer, name).ok()?;
            let hides = has_mark || is_opaque(&opened);
            first.get_or_insert((stat, at));
            merged.push(opened);
            if hides {
                break;
            }
            continue;
        }
        if !merged.is_empty() {
            break;
        }
        let is_whiteout = kind == FileType::CharacterDevice && stat.st_rdev == 0;
        return (!is_whiteout).then_some(Entry { stat, layer: at, directory: None });
    }
    first.map(|(stat, layer)| Entry { stat, layer, directory: Some(merged) })
}

/// The names that a container would see in a directory.
pub fn names_in(merged: &Merged) -> BTreeSet<OsString> {
    let mut names = BTreeSet::new();
    for layer in merged {
        let Ok(readable) = rustix::fs::openat(layer, ".", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        else {
            continue;
        };
        for found in Dir::read_from(&readable).into_iter().flatten().flatten() {
            names.insert(OsStr::from_bytes(found.file_name().to_bytes()).to_owned());
        }
    }
    names.retain(|name| {
        let bytes = name.as_bytes();
        bytes != b"."
            && bytes != b".."
            && !bytes.starts_with(REMOVED.as_bytes())
            && entry(merged, name).is_some()
    });
    names
}

fn look_up(parent: &Merged, name: &OsStr) -> Option<Found> {
    let found = entry(parent, name)?;
    if let Some(directory) = found.directory {
        return Some(Found::Directory(directory));
    }
    let layer = &parent[found.layer];
    match FileType::from_raw_mode(found.stat.st_mode) {
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(layer, name, Vec::new()).ok()?;
            Some(Found::Link(OsString::from_vec(target.into_bytes()).into()))
        }
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = File::from(rustix::fs::openat(layer, name, flags, Mode::empty()).ok()?);
            file.metadata().ok()?.is_file().then_some(Found::File(file))
        }
        // Nothing else is worth reading.
        _ => None,
    }
}

fn directory(parent: impl std::os::fd::AsFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// A layer itself, whose path is sbx's or the user's own.
fn bottom(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

pub fn is_opaque(directory: &OwnedFd) -> bool {
    OPAQUE.iter().any(|name| has_mark(directory, name))
        || rustix::fs::statat(directory, OPAQUE_FILE, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// Whether the kernel's overlay takes the directory for one that hides what is below it.
pub fn is_opaque_for_kernel(directory: &OwnedFd) -> bool {
    has_mark(directory, OPAQUE[0])
}

fn has_mark(directory: &OwnedFd, name: &str) -> bool {
    let mut value = [0_u8; 1];
    let path = descriptor_path(directory);
    rustix::fs::getxattr(path.as_str(), name, &mut value[..]).is_ok_and(|_| value == *b"y")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn layers(count: usize) -> (tempfile::TempDir, Vec<PathBuf>) {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let paths: Vec<PathBuf> = (0..count).map(|number| dir.path().join(number.to_string())).collect();
        for path in &paths {
            fs::create_dir_all(path.join("etc")).unwrap();
        }
        (dir, paths)
    }

    fn read(paths: &[PathBuf], path: &str) -> Option<String> {
        let text = Stack::open(paths).unwrap().read(Path::new(path), 100)?;
        Some(String::from_utf8(text).unwrap())
    }

    #[test]
    fn the_topmost_file_counts_and_removed_ones_do_not() {
        let (_dir, paths) = layers(3);
        fs::write(paths[0].join("etc/passwd"), "lowest").unwrap();
        fs::write(paths[0].join("etc/group"), "lowest").unwrap();
        fs::write(paths[1].join("etc/passwd"), "middle").unwrap();
        fs::write(paths[2].join("etc/.wh.group"), "").unwrap();
        assert_eq!(read(&paths, "/etc/passwd").as_deref(), Some("middle"));
        assert_eq!(read(&paths[..2], "/etc/group").as_deref(), Some("lowest"));
        assert_eq!(read(&paths, "/etc/group"), None);
        assert_eq!(read(&paths, "/etc"), None);
        assert_eq!(read(&paths, "/etc/passwd/x"), None);
    }

    #[test]
    fn an_opaque_directory_hides_what_is_below() {
        let (_dir, paths) = layers(2);
        fs::write(paths[0].join("etc/passwd"), "hidden").unwrap();
        fs::write(paths[1].join("etc/group"), "seen").unwrap();
        assert_eq!(read(&paths, "/etc/passwd").as_deref(), Some("hidden"));
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(paths[1].join("etc"), "user.overlay.opaque", b"y", flags).unwrap();
        assert_eq!(read(&paths, "/etc/passwd"), None);
        assert_eq!(read(&paths, "/etc/group").as_deref(), Some("seen"));
        rustix::fs::removexattr(paths[1].join("etc"), "user.overlay.opaque").unwrap();
        fs::write(paths[1].join("etc/.wh..wh..opq"), "").unwrap();
        assert_eq!(read(&paths, "/etc/passwd"), None);
    }

    #[test]
    fn symlinks_lead_from_layer_to_layer_and_never_out() {
        let (dir, paths) = layers(2);
        fs::write(dir.path().join("passwd"), "outside").unwrap();
        fs::create_dir(paths[0].join("usr")).unwrap();
        fs::write(paths[0].join("usr/accounts"), "inside").unwrap();
        symlink("../../../usr/accounts", paths[1].join("etc/passwd")).unwrap();
        symlink("../../passwd", paths[1].join("etc/out")).unwrap();
        symlink(dir.path().join("passwd"), paths[1].join("etc/absolute")).unwrap();
        symlink("loop", paths[1].join("etc/loop")).unwrap();
        assert_eq!(read(&paths, "/etc/passwd").as_deref(), Some("inside"));
        for path in ["/etc/out", "/etc/absolute", "/etc/loop"] {
            assert_eq!(read(&paths, path), None, "{path}");
        }
    }
}
