//! The process whose namespace gets its maps, held by one descriptor of its directory in /proc.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use newuidmap_shim::Refusal;
use newuidmap_shim::arguments;
use newuidmap_shim::map::Map;

use crate::privilege::Caller;
use crate::sys;

/// A process of the caller's, in a user namespace that the caller made directly below its own.
pub struct Target {
    directory: OwnedFd,
}

impl Target {
    pub fn open(named: arguments::Target, caller: &Caller) -> Result<Self, Refusal> {
        let proc = sys::open_directory(None, "/proc")
            .map_err(|error| format!("cannot open /proc: {}", sys::plain(&error)))?;
        let directory = match named {
            arguments::Target::Pid(pid) => sys::open_directory(Some(proc.as_fd()), &pid.to_string())
                .map_err(|error| format!("cannot open /proc/{pid}: {}", sys::plain(&error)))?,
            arguments::Target::Descriptor(number) => sys::duplicate(number)
                .map_err(|error| format!("cannot use descriptor {number}: {}", sys::plain(&error)))?,
        };
        let target = Self { directory };
        target.check_procfs(proc.as_fd())?;
        target.check_owner(caller)?;
        target.check_alive()?;
        target.check_namespace(proc.as_fd(), caller)?;
        Ok(target)
    }

    /// Another file system could put any file in the place of a map, and any process in the place of another.
    fn check_procfs(&self, proc: BorrowedFd<'_>) -> Result<(), Refusal> {
        let failed = |error| format!("cannot stat the process's directory: {}", sys::plain(&error));
        if !sys::is_procfs(self.directory.as_fd()).map_err(failed)? {
            return Err("the process's directory is not in a proc file system".into());
        }
        let (directory, root) =
            (sys::stat(self.directory.as_fd()).map_err(failed)?, sys::stat(proc).map_err(failed)?);
        if directory.st_mode & libc::S_IFMT != libc::S_IFDIR || directory.st_dev != root.st_dev {
            return Err("the descriptor is not of a directory in /proc".into());
        }
        Ok(())
    }

    /// The directory of a process belongs to the process's effective user and group.
    fn check_owner(&self, caller: &Caller) -> Result<(), Refusal> {
        let stat = sys::stat(self.directory.as_fd())
            .map_err(|error| format!("cannot stat the process's directory: {}", sys::plain(&error)))?;
        if stat.st_uid != caller.uid {
            return Err(format!("the process belongs to user {}, you are {}", stat.st_uid, caller.uid).into());
        }
        if stat.st_gid != caller.gid {
            return Err(format!("the process has group {}, you have {}", stat.st_gid, caller.gid).into());
        }
        Ok(())
    }

    /// A zombie has no memory any more, and so no program that its `exe` could lead to.
    fn check_alive(&self) -> Result<(), Refusal> {
        sys::is_link(self.directory.as_fd(), c"exe").map_err(|error| {
            format!("the process has ended or cannot be looked at: {}", sys::plain(&error)).into()
        })
    }

    fn check_namespace(&self, proc: BorrowedFd<'_>, caller: &Caller) -> Result<(), Refusal> {
        let failed = |error| format!("cannot examine the process's user namespace: {}", sys::plain(&error));
        let namespace = sys::open_at(self.directory.as_fd(), c"ns/user", libc::O_RDONLY).map_err(failed)?;
        let ours = sys::stat_at(proc, c"self/ns/user").map_err(failed)?;
        // EPERM: the parent is not ours nor below ours.
        let parent = match sys::parent_namespace(namespace.as_fd()) {
            Ok(parent) => Some(sys::stat(parent.as_fd()).map_err(failed)?),
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => None,
            Err(error) => return Err(failed(error).into()),
        };
        if parent.is_none_or(|parent| (parent.st_dev, parent.st_ino) != (ours.st_dev, ours.st_ino)) {
            return Err("the process is not in a user namespace directly below yours".into());
        }
        let owner = sys::namespace_owner(namespace.as_fd()).map_err(failed)?;
        if owner != caller.uid {
            return Err(format!(
                "the process's user namespace was made by user {owner}, you are {}",
                caller.uid
            )
            .into());
        }
        Ok(())
    }

    /// Writes the maps that are given, each in one write(2), after every file is open and found empty.
    ///
    /// uid_map is first because the kernel has more reasons to refuse it; setgroups comes before both, because
    /// it must precede gid_map, and denying it takes nothing from a namespace that then fails.
    pub fn write(
        &self,
        uid_map: Option<&Map>,
        gid_map: Option<&Map>,
        deny_setgroups: bool,
    ) -> Result<(), Refusal> {
        let setgroups = deny_setgroups
            .then(|| sys::open_at(self.directory.as_fd(), c"setgroups", libc::O_WRONLY).map(File::from))
            .transpose()
            .map_err(|error| format!("cannot open setgroups of the process: {}", sys::plain(&error)))?;
        let uid_map = uid_map.map(|map| MapFile::open(self, "uid_map", map)).transpose()?;
        let gid_map = gid_map.map(|map| MapFile::open(self, "gid_map", map)).transpose()?;
        if let Some(mut setgroups) = setgroups {
            setgroups
                .write_all(b"deny")
                .map_err(|error| format!("cannot deny setgroups: {}", sys::plain(&error)))?;
        }
        [uid_map, gid_map].into_iter().flatten().try_for_each(MapFile::write)
    }
}

/// An open map file that was empty, and what goes into it.
struct MapFile {
    name: &'static str,
    file: File,
    text: String,
}

impl MapFile {
    fn open(target: &Target, name: &'static str, map: &Map) -> Result<Self, Refusal> {
        let path = if name == "uid_map" { c"uid_map" } else { c"gid_map" };
        let mut file = sys::open_at(target.directory.as_fd(), path, libc::O_RDWR)
            .map(File::from)
            .map_err(|error| format!("cannot open {name} of the process: {}", sys::plain(&error)))?;
        match file.read(&mut [0]) {
            Ok(0) => Ok(Self { name, file, text: map.text() }),
            Ok(_) => Err(format!("{name} of the process is written already").into()),
            Err(error) => Err(format!("cannot read {name} of the process: {}", sys::plain(&error)).into()),
        }
    }

    fn write(mut self) -> Result<(), Refusal> {
        match self.file.write(self.text.as_bytes()) {
            Ok(count) if count == self.text.len() => Ok(()),
            Ok(_) => Err(format!("{} of the process was written in part", self.name).into()),
            Err(error) => {
                Err(format!("cannot write {} of the process: {}", self.name, sys::plain(&error)).into())
            }
        }
    }
}
