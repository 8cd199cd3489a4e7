//! The process whose namespace gets its maps, held by one descriptor of its directory in /proc.

use alloc::format;
use alloc::string::{String, ToString};

use newuidmap_shim::Refusal;
use newuidmap_shim::arguments;
use newuidmap_shim::map::Map;

use crate::privilege::Caller;
use crate::sys::{self, Descriptor, Errno};

/// A process of the caller's, in a user namespace that the caller made directly below its own.
pub struct Target {
    directory: Descriptor,
}

impl Target {
    pub fn open(named: arguments::Target, caller: &Caller) -> Result<Self, Refusal> {
        let proc =
            sys::open_directory(None, "/proc").map_err(|error| format!("cannot open /proc: {error}"))?;
        let directory = match named {
            arguments::Target::Pid(pid) => sys::open_directory(Some(&proc), &pid.to_string())
                .map_err(|error| format!("cannot open /proc/{pid}: {error}"))?,
            arguments::Target::Descriptor(number) => {
                sys::duplicate(number).map_err(|error| format!("cannot use descriptor {number}: {error}"))?
            }
        };
        let target = Self { directory };
        target.check_procfs(&proc)?;
        target.check_owner(caller)?;
        target.check_alive()?;
        target.check_namespace(&proc, caller)?;
        Ok(target)
    }

    /// Another file system could put any file in the place of a map, and any process in the place of another.
    fn check_procfs(&self, proc: &Descriptor) -> Result<(), Refusal> {
        let failed = |error: Errno| format!("cannot stat the process's directory: {error}");
        if !sys::is_procfs(&self.directory).map_err(failed)? {
            return Err("the process's directory is not in a proc file system".into());
        }
        let (directory, root) =
            (sys::stat(&self.directory).map_err(failed)?, sys::stat(proc).map_err(failed)?);
        if directory.st_mode & libc::S_IFMT != libc::S_IFDIR || directory.st_dev != root.st_dev {
            return Err("the descriptor is not of a directory in /proc".into());
        }
        Ok(())
    }

    /// The directory of a process belongs to the process's effective user and group.
    fn check_owner(&self, caller: &Caller) -> Result<(), Refusal> {
        let stat = sys::stat(&self.directory)
            .map_err(|error| format!("cannot stat the process's directory: {error}"))?;
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
        sys::is_link(&self.directory, c"exe")
            .map_err(|error| format!("the process has ended or cannot be looked at: {error}").into())
    }

    fn check_namespace(&self, proc: &Descriptor, caller: &Caller) -> Result<(), Refusal> {
        let failed = |error: Errno| format!("cannot examine the process's user namespace: {error}");
        let namespace = sys::open_at(&self.directory, c"ns/user", libc::O_RDONLY).map_err(failed)?;
        let ours = sys::stat_at(proc, c"self/ns/user").map_err(failed)?;
        // EPERM: the parent is not ours nor below ours.
        let parent = match sys::parent_namespace(&namespace) {
            Ok(parent) => Some(sys::stat(&parent).map_err(failed)?),
            Err(Errno(libc::EPERM)) => None,
            Err(error) => return Err(failed(error).into()),
        };
        if parent.is_none_or(|parent| (parent.st_dev, parent.st_ino) != (ours.st_dev, ours.st_ino)) {
            return Err("the process is not in a user namespace directly below yours".into());
        }
        let owner = sys::namespace_owner(&namespace).map_err(failed)?;
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
            .then(|| sys::open_at(&self.directory, c"setgroups", libc::O_WRONLY))
            .transpose()
            .map_err(|error| format!("cannot open setgroups of the process: {error}"))?;
        let uid_map = uid_map.map(|map| MapFile::open(self, "uid_map", map)).transpose()?;
        let gid_map = gid_map.map(|map| MapFile::open(self, "gid_map", map)).transpose()?;
        if let Some(setgroups) = setgroups {
            sys::write(&setgroups, b"deny").map_err(|error| format!("cannot deny setgroups: {error}"))?;
        }
        [uid_map, gid_map].into_iter().flatten().try_for_each(MapFile::write)
    }
}

/// An open map file that was empty, and what goes into it.
struct MapFile {
    name: &'static str,
    file: Descriptor,
    text: String,
}

impl MapFile {
    fn open(target: &Target, name: &'static str, map: &Map) -> Result<Self, Refusal> {
        let path = if name == "uid_map" { c"uid_map" } else { c"gid_map" };
        let file = sys::open_at(&target.directory, path, libc::O_RDWR)
            .map_err(|error| format!("cannot open {name} of the process: {error}"))?;
        match sys::read(&file, &mut [0]) {
            Ok(0) => Ok(Self { name, file, text: map.text() }),
            Ok(_) => Err(format!("{name} of the process is written already").into()),
            Err(error) => Err(format!("cannot read {name} of the process: {error}").into()),
        }
    }

    fn write(self) -> Result<(), Refusal> {
        match sys::write(&self.file, self.text.as_bytes()) {
            Ok(count) if count == self.text.len() => Ok(()),
            Ok(_) => Err(format!("{} of the process was written in part", self.name).into()),
            Err(error) => Err(format!("cannot write {} of the process: {error}", self.name).into()),
        }
    }
}
