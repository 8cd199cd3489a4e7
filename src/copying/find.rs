//! Where a copy comes from and where it goes: the rules of `cp -a`, as docker-cp(1) has them.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::layers::unpack::archive::shown;
use crate::sandbox::inroot::{InRoot, is_directory};

/// As path_resolution(7) has it.
const MOST_LINKS: u32 = 40;

/// Whose paths are meant.
#[derive(Clone, Copy)]
pub enum Tree<'r> {
    /// The caller's, looked up as the caller.
    Host,
    /// A container's: `..` and symlinks end in its root, and relative paths begin there (docker-cp(1)).
    Container(&'r InRoot),
}

impl Tree<'_> {
    fn open(self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { Path::new(".") } else { Path::new(OsStr::from_bytes(path)) };
        match self {
            Self::Host => rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()),
            Self::Container(root) => root.find(path),
        }
    }

    fn directory(self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let found = self.open(path)?;
        if is_directory(&found) { Ok(found) } else { Err(Errno::NOTDIR) }
    }
}

/// What of the source decides where it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    pub directory: bool,
    /// Its own name; none: the contents of a directory are meant (`SRC/.`).
    pub name: Option<Vec<u8>>,
}

/// The source, found: `name` in `parent`.
pub struct Source {
    pub parent: OwnedFd,
    pub name: Vec<u8>,
    pub shape: Shape,
}

impl Source {
    /// Finds what is to be copied. A symlink is copied itself, unless it is followed.
    ///
    /// # Errors
    /// There is no such thing, or the path says that it is a directory and it is none.
    pub fn find(tree: Tree<'_>, path: &[u8], follow: bool) -> Result<Self> {
        let failed = |error: Errno| Error::new(format!("cannot copy `{}`", shown(path))).because(error);
        let (parent, name) = split(path);
        let Some(name) = name else {
            let directory = tree.directory(path).map_err(failed)?;
            return Ok(Self {
                parent: directory,
                name: b".".to_vec(),
                shape: Shape { directory: true, name: None },
            });
        };
        let own_name = Some(name.to_vec());
        if path.ends_with(b"/") {
            let directory = tree.directory(path).map_err(failed)?;
            let shape = Shape { directory: true, name: own_name };
            return Ok(Self { parent: directory, name: b".".to_vec(), shape });
        }
        let found = if follow {
            Named::followed(tree, path)
        } else {
            tree.directory(parent).map(|parent| Named { parent, name: name.to_vec() })
        };
        let found = found.map_err(failed)?;
        let kind = found.kind().map_err(failed)?;
        let shape = Shape { directory: kind == FileType::Directory, name: own_name };
        Ok(Self { parent: found.parent, name: found.name, shape })
    }
}

/// Where the copy goes: into `directory`, under `name`; without a name its contents go there.
pub struct Target {
    pub directory: OwnedFd,
    pub name: Option<Vec<u8>>,
}

impl Target {
    /// Finds the place for a source of this shape. A symlink is followed, to the end.
    ///
    /// # Errors
    /// A directory would replace a file or the other way round (unless `overwrite`), or what has to be there is not.
    pub fn find(tree: Tree<'_>, path: &[u8], shape: &Shape, overwrite: bool) -> Result<Self> {
        let failed = || Error::new(format!("cannot copy to `{}`", shown(path)));
        let wants_directory = path.ends_with(b"/") || split(path).1.is_none();
        let there = match tree.open(path) {
            // A slash behind the name of a directory that is to be made.
            Err(Errno::NOENT) if shape.directory => tree.open(trimmed(path)),
            there => there,
        };
        match there {
            Ok(directory) if is_directory(&directory) => {
                let file_of_that_name = |name: &Vec<u8>| {
                    let kind = kind_of(&directory, name).ok();
                    kind.is_some_and(|kind| (kind == FileType::Directory) != shape.directory)
                };
                if let Some(name) = shape.name.as_ref().filter(|name| !overwrite && file_of_that_name(name)) {
                    let what = if shape.directory { "a file" } else { "a directory" };
                    return Err(failed()
                        .because(format!("{what} is in the way: `{}`", shown(name)))
                        .hint("`--overwrite` replaces it"));
                }
                Ok(Self { directory, name: shape.name.clone() })
            }
            Ok(_) if wants_directory => Err(failed().because("it is not a directory")),
            Ok(_) if shape.directory && !overwrite => Err(failed()
                .because("a directory cannot replace a file")
                .hint("`--overwrite` replaces it, or name another place")),
            Ok(_) => {
                let found = Named::followed(tree, path).map_err(|error| failed().because(error))?;
                Ok(Self { directory: found.parent, name: Some(found.name) })
            }
            Err(Errno::NOENT) if wants_directory && !shape.directory => {
                Err(failed().because("there is no such directory"))
            }
            Err(Errno::NOENT) => {
                let (parent, name) = split(trimmed(path));
                let missing = || failed().because("there is no such directory");
                let name = name.ok_or_else(missing)?;
                let directory = tree.directory(parent).map_err(|error| match error {
                    Errno::NOENT => {
                        failed().because(format!("there is no directory `{}`", shown(trimmed(parent))))
                    }
                    error => failed().because(error),
                })?;
                if kind_of(&directory, name).is_ok() && !overwrite {
                    return Err(failed()
                        .because("it is a symlink that leads nowhere")
                        .hint("`--overwrite` replaces it"));
                }
                Ok(Self { directory, name: Some(name.to_vec()) })
            }
            Err(error) => Err(failed().because(error)),
        }
    }

    /// The directory in which an archive is unpacked.
    ///
    /// # Errors
    /// There is none.
    pub fn directory(tree: Tree<'_>, path: &[u8]) -> Result<Self> {
        let directory = tree.directory(path).map_err(|error| {
            Error::new(format!("cannot unpack an archive in `{}`", shown(path))).because(error)
        })?;
        Ok(Self { directory, name: None })
    }
}

/// A name in a directory.
struct Named {
    parent: OwnedFd,
    name: Vec<u8>,
}

impl Named {
    fn kind(&self) -> Result<FileType, Errno> {
        kind_of(&self.parent, &self.name)
    }

    /// What `path` leads to, by the name that it has there.
    fn followed(tree: Tree<'_>, path: &[u8]) -> Result<Self, Errno> {
        let mut path = path.to_vec();
        for _ in 0..MOST_LINKS {
            let (parent, name) = split(&path);
            let Some(name) = name else {
                return Ok(Self { parent: tree.directory(&path)?, name: b".".to_vec() });
            };
            let found = Self { parent: tree.directory(parent)?, name: name.to_vec() };
            if found.kind()? != FileType::Symlink {
                return Ok(found);
            }
            let target = rustix::fs::readlinkat(&found.parent, name, Vec::new())?.into_bytes();
            path = if target.starts_with(b"/") { target } else { [parent, b"/", &target].concat() };
        }
        Err(Errno::LOOP)
    }
}

fn kind_of(directory: impl AsFd, name: &[u8]) -> Result<FileType, Errno> {
    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

/// Without slashes at the end, but for the root.
fn trimmed(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    if end == 0 && !path.is_empty() { &path[..1] } else { &path[..end] }
}

/// The directory and the name in it; no name where the last component is none (`/`, `.`, `..`).
fn split(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    let path = trimmed(path);
    let at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    match &path[at..] {
        b"" | b"." | b".." => (path, None),
        name => (&path[..at], Some(name)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn world() -> (tempfile::TempDir, InRoot) {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir_all(at("d/e")).unwrap();
        fs::write(at("f"), "x").unwrap();
        symlink("/d", at("to-d")).unwrap();
        symlink("../../f", at("d/to-f")).unwrap();
        symlink("/nowhere/at/all", at("dangling")).unwrap();
        symlink("loop", at("loop")).unwrap();
        let root = InRoot::open(directory.path()).unwrap();
        (directory, root)
    }

    fn shape(root: &InRoot, path: &str, follow: bool) -> Result<(bool, Option<String>), String> {
        let found = Source::find(Tree::Container(root), path.as_bytes(), follow);
        let found = found.map_err(|error| error.causes().join(": "))?;
        let name = found.shape.name.map(|name| String::from_utf8(name).unwrap());
        Ok((found.shape.directory, name))
    }

    #[test]
    fn a_source_is_named_as_it_was_typed() {
        let (_world, root) = world();
        let named = |directory: bool, name: &str| Ok((directory, Some(name.to_owned())));
        assert_eq!(shape(&root, "/f", false), named(false, "f"));
        assert_eq!(shape(&root, "f", false), named(false, "f"));
        assert_eq!(shape(&root, "d", false), named(true, "d"));
        assert_eq!(shape(&root, "/d/", false), named(true, "d"));
        for contents in ["d/.", "/", ".", "d/e/.."] {
            assert_eq!(shape(&root, contents, false), Ok((true, None)), "{contents}");
        }
        assert_eq!(shape(&root, "to-d", false), named(false, "to-d"));
        assert_eq!(shape(&root, "to-d", true), named(true, "to-d"));
        assert_eq!(shape(&root, "to-d/", false), named(true, "to-d"));
        assert_eq!(shape(&root, "/d/to-f", true), named(false, "to-f"));
        assert_eq!(shape(&root, "f/", false), Err("Not a directory".to_owned()));
        assert_eq!(shape(&root, "f/.", false), Err("Not a directory".to_owned()));
        assert_eq!(shape(&root, "none", false), Err("No such file or directory".to_owned()));
        assert_eq!(shape(&root, "loop", true), Err("Too many levels of symbolic links".to_owned()));
    }

    /// The place below the root, and the name there.
    fn target(root: &InRoot, path: &str, directory: bool, overwrite: bool) -> Result<String, String> {
        let shape = Shape { directory, name: Some(b"src".to_vec()) };
        let found = Target::find(Tree::Container(root), path.as_bytes(), &shape, overwrite);
        let found = found.map_err(|error| error.causes().join(": "))?;
        let path_of = |fd: &dyn AsRawFdOf| fs::read_link(format!("/proc/self/fd/{}", fd.number())).unwrap();
        let at = path_of(&found.directory);
        let at = at.strip_prefix(path_of(&root.directory())).unwrap().display().to_string();
        Ok(format!("{at}|{}", String::from_utf8(found.name.unwrap_or_default()).unwrap()))
    }

    trait AsRawFdOf {
        fn number(&self) -> i32;
    }

    impl<F: std::os::fd::AsRawFd> AsRawFdOf for F {
        fn number(&self) -> i32 {
            self.as_raw_fd()
        }
    }

    #[test]
    fn the_rules_for_files_and_directories() {
        let (_world, root) = world();
        let (file, directory) =
            (|path| target(&root, path, false, false), |path| target(&root, path, true, false));
        for into in ["d", "/d", "d/", "d/.", "to-d", "to-d/"] {
            assert_eq!(file(into).as_deref(), Ok("d|src"), "{into}");
            assert_eq!(directory(into).as_deref(), Ok("d|src"), "{into}");
        }
        assert_eq!(file("new").as_deref(), Ok("|new"));
        assert_eq!(directory("new").as_deref(), Ok("|new"));
        assert_eq!(directory("new/").as_deref(), Ok("|new"));
        assert_eq!(file("new/").unwrap_err(), "there is no such directory");
        assert_eq!(file("none/new").unwrap_err(), "there is no directory `none`");
        assert_eq!(file("f").as_deref(), Ok("|f"));
        assert_eq!(file("d/to-f").as_deref(), Ok("|f"));
        assert_eq!(file("f/").unwrap_err(), "Not a directory");
        assert_eq!(directory("f").unwrap_err(), "a directory cannot replace a file");
        assert_eq!(target(&root, "f", true, true).as_deref(), Ok("|f"));
        assert_eq!(file("dangling").unwrap_err(), "it is a symlink that leads nowhere");
        assert_eq!(file("/").as_deref(), Ok("|src"));
    }

    #[test]
    fn what_is_of_another_kind_is_replaced_on_request_alone() {
        let (world, root) = world();
        fs::create_dir(world.path().join("d/src")).unwrap();
        assert_eq!(target(&root, "d", true, false).as_deref(), Ok("d|src"));
        assert_eq!(target(&root, "d", false, false).unwrap_err(), "a directory is in the way: `src`");
        assert_eq!(target(&root, "d", false, true).as_deref(), Ok("d|src"));
    }
}
