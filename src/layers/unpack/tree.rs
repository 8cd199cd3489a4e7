//! Finding the directory of an entry inside the layer, and nothing outside of it.
//!
//! The way is walked one component at a time from descriptors that are kept open, never following a link in
//! the kernel: symlinks of the layer are read and continued from the layer's own root, as after chroot(2).
//! Archives list a directory's files one after another, so that most entries open nothing.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::layers::unpack::archive::shown;
use crate::layers::unpack::whiteouts::is_whiteout;

/// As the kernel's own limit (path_resolution(7)).
const MOST_LINKS: u32 = 40;
/// Every tool that walks a tree holds a descriptor for each level.
pub const DEEPEST: usize = 500;
/// What a thread takes that walks a tree of this depth, in bytes: as much as a process has.
pub const STACK: usize = 8 << 20;

/// What mends it.
pub const SHALLOWER: &str = "layers and archives hold none that lie deeper: remove it, or move it up";

/// Says so of what lies deeper than [`DEEPEST`].
pub fn too_deep(failed: Error) -> Error {
    failed.because(format!("it lies more than {DEEPEST} directories deep")).hint(SHALLOWER)
}

/// PATH_MAX with its NUL (limits.h).
pub const LONGEST_PATH: usize = 4095;

/// The root of the layer and the directories on the way to the last entry, none of them a symlink.
pub struct Tree {
    root: OwnedFd,
    way: Vec<Level>,
    /// How many of `way` lead to the directory that was asked for last.
    depth: usize,
}

struct Level {
    name: Vec<u8>,
    directory: OwnedFd,
}

/// Makes a directory that is missing; the tree is in its parent.
pub type Make<'m> = dyn FnMut(&Tree, &[u8], Missing) -> Result<()> + 'm;

/// What stands in the way where a directory has to be.
pub enum Missing {
    /// Nothing.
    Nothing,
    /// A whiteout of the same layer.
    Whiteout,
}

impl Tree {
    pub fn new(root: OwnedFd) -> Self {
        Self { root, way: Vec::new(), depth: 0 }
    }

    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The directory that was entered last.
    pub fn here(&self) -> BorrowedFd<'_> {
        match self.depth.checked_sub(1) {
            Some(last) => self.way[last].directory.as_fd(),
            None => self.root.as_fd(),
        }
    }

    /// Its path from the root of the layer, free of symlinks, with `name` after it.
    pub fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let mut path = Vec::new();
        for level in &self.way[..self.depth] {
            path.extend_from_slice(&level.name);
            path.push(b'/');
        }
        path.extend_from_slice(name);
        path
    }

    /// Forgets directories that may no longer be what their names say.
    pub fn forget(&mut self) {
        self.way.truncate(self.depth);
    }

    /// Enters the directory at `components`. Missing ones are made by `make`, which is called with the parent
    /// entered; without it they are an error.
    ///
    /// # Errors
    /// A file is in the way, links without end, too many levels, or the kernel's.
    pub fn enter(&mut self, components: &[&[u8]], mut make: Option<&mut Make<'_>>) -> Result<()> {
        if self.leads_to(components) {
            return Ok(());
        }
        let mut links = 0;
        let mut ahead: VecDeque<Vec<u8>> = components.iter().map(|name| name.to_vec()).collect();
        self.depth = 0;
        while let Some(name) = ahead.pop_front() {
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    self.depth = self.depth.saturating_sub(1);
                    continue;
                }
                _ => {}
            }
            if self.way.get(self.depth).is_some_and(|level| level.name == name) {
                self.depth += 1;
                continue;
            }
            self.way.truncate(self.depth);
            match open(self.here(), &name) {
                Ok(directory) => self.push(name, directory)?,
                Err(Errno::NOENT) => self.make(name, Missing::Nothing, &mut make)?,
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    if let Some(target) = self.link_target(&name) {
                        links += 1;
                        if links > MOST_LINKS {
                            return Err(self.cannot_enter(&name).because("too many symlinks"));
                        }
                        if target.first() == Some(&b'/') {
                            self.depth = 0;
                        }
                        for part in target.split(|byte| *byte == b'/').rev() {
                            ahead.push_front(part.to_vec());
                        }
                    } else if is_whiteout(self.here(), &name) {
                        self.make(name, Missing::Whiteout, &mut make)?;
                    } else {
                        return Err(self.cannot_enter(&name).because("it is a file of the same layer"));
                    }
                }
                Err(error) => return Err(self.cannot_enter(&name).because(error)),
            }
        }
        Ok(())
    }

    /// The common case: the directory entered last, or one above it.
    fn leads_to(&mut self, components: &[&[u8]]) -> bool {
        let known = components.len() <= self.way.len()
            && components.iter().zip(&self.way).all(|(name, level)| *name == level.name);
        if known {
            self.depth = components.len();
        }
        known
    }

    fn make(&mut self, name: Vec<u8>, missing: Missing, make: &mut Option<&mut Make<'_>>) -> Result<()> {
        let Some(make) = make else {
            return Err(self.cannot_enter(&name).because("it is not in the layer"));
        };
        make(self, &name, missing)?;
        let directory = open(self.here(), &name).map_err(|error| self.cannot_enter(&name).because(error))?;
        self.push(name, directory)
    }

    fn push(&mut self, name: Vec<u8>, directory: OwnedFd) -> Result<()> {
        if self.depth >= DEEPEST {
            return Err(too_deep(self.cannot_enter(&name)));
        }
        self.way.push(Level { name, directory });
        self.depth += 1;
        Ok(())
    }

    fn link_target(&self, name: &[u8]) -> Option<Vec<u8>> {
        rustix::fs::readlinkat(self.here(), name, Vec::new()).ok().map(std::ffi::CString::into_bytes)
    }

    fn cannot_enter(&self, name: &[u8]) -> Error {
        Error::new(format!("cannot enter the directory `{}`", shown(&self.path_of(name))))
    }
}

/// Opens a directory for work in it; O_PATH needs no permission to read.
fn open(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// The components of an entry's name, without `.` and with `..` taken away by text.
///
/// # Errors
/// It leads above the root, is too long, or holds NUL.
pub fn components(name: &[u8]) -> Result<Vec<&[u8]>> {
    let failed = || Error::new(format!("cannot unpack the entry `{}`", shown(name)));
    if name.len() > LONGEST_PATH {
        return Err(failed().because(format!("its name is longer than {LONGEST_PATH} bytes")));
    }
    if name.contains(&0) {
        return Err(failed().because("its name holds a NUL byte"));
    }
    let mut components: Vec<&[u8]> = Vec::with_capacity(16);
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                if components.pop().is_none() {
                    return Err(failed().because("its name leads out of the layer"));
                }
            }
            part => components.push(part),
        }
    }
    Ok(components)
}
