//! What is kept of a container between two commands: `<root>/<id>/` with `spec.json`, `state.json` and, until it is
//! started, `exec.fifo`. Whether it lives is asked of the kernel.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, flock};
use serde::{Deserialize, Serialize};

use crate::container::control_group;
use crate::container::listed::Attached;
use crate::container::process::{ProcessRef, boot_id};
use crate::container::spec::Spec;
use crate::error::{Error, Result, Step};
use crate::host::paths::{self, Surroundings};
use crate::sys::time::Utc;

const STATE: &str = "state.json";
const SPEC: &str = "spec.json";
const FIFO: &str = "exec.fifo";
const COMPLAINT: &str = "complaint.json";

/// The state directory of all containers.
#[derive(Debug, Clone)]
pub struct Root {
    path: PathBuf,
    /// The user's runtime directory, where it lies in that.
    runtime: Option<PathBuf>,
}

/// One container's directory, found.
#[derive(Debug, Clone)]
pub struct Container {
    path: PathBuf,
    pub state: State,
}

/// `state.json`, written by one rename.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    pub id: String,
    /// Absolute.
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    pub created: Utc,
    pub boot_id: String,
    /// The first process, once there is one.
    pub init: Option<ProcessRef>,
    /// Who is making it.
    pub creator: Option<ProcessRef>,
    /// Its control group, below the mount of version 2.
    #[serde(default)]
    pub cgroup: Option<PathBuf>,
    /// The bundle or the engine has chosen where that is.
    #[serde(default)]
    pub chose_cgroup: bool,
    /// What it is called by otherwise: an ID is taken once in each state directory, and there may be several.
    #[serde(default)]
    pub group: String,
    /// What it has mounted in a mount namespace that is joined.
    #[serde(default)]
    pub attached: Option<Attached>,
    pub owner: u32,
}

/// runtime.md, State.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

impl Root {
    /// The directory that was asked for, or the user's own.
    ///
    /// # Errors
    /// There is no place for it.
    pub fn new(asked: Option<&Path>) -> Result<Self> {
        if let Some(asked) = asked {
            let path =
                std::path::absolute(asked).step(|| format!("cannot use `--root {}`", asked.display()))?;
            return Ok(Self { path, runtime: None });
        }
        let runtime = paths::runtime(&Surroundings::current())?.path;
        Ok(Self { path: runtime.join("oci"), runtime: Some(runtime) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins a container: from now on its ID is taken.
    ///
    /// # Errors
    /// The ID is none, or another container has it.
    pub fn begin(&self, spec: &Spec) -> Result<(Container, File)> {
        check_id(&spec.id)?;
        let failed = || format!("cannot make the state directory of the container `{}`", spec.id);
        if !self.path.is_dir() {
            if let Some(runtime) = &self.runtime {
                paths::create_runtime(runtime, rustix::process::geteuid().as_raw())?;
            }
            DirBuilder::new().recursive(true).mode(0o700).create(&self.path).step(failed)?;
        }
        // No later command would use what is made there.
        if let Some(owner) = stranger(&fs::metadata(&self.path).step(failed)?) {
            return Err(Error::new(failed())
                .because(format!("`{}` belongs to user {owner}", self.path.display()))
                .hint("name a directory of your own with `--root`"));
        }
        let path = self.path.join(&spec.id);
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(Error::new(format!("container with given ID already exists: `{}`", spec.id))
                    .hint(format!("`delete --force {}` removes it", spec.id)));
            }
            Err(error) => return Err(error).step(failed),
        }
        let begun = (|| {
            let lock = lock(&path)?;
            let state = State {
                id: spec.id.clone(),
                bundle: spec.listed.as_ref().map(|listed| listed.bundle.clone()).unwrap_or_default(),
                rootfs: spec.bound_root().map(Path::to_owned).unwrap_or_default(),
                created: spec.created,
                boot_id: boot_id(),
                init: None,
                creator: ProcessRef::of(std::process::id().cast_signed()),
                cgroup: None,
                chose_cgroup: false,
                group: format!("oci-{}-{}", spec.id, std::process::id()),
                attached: None,
                owner: rustix::process::getuid().as_raw(),
            };
            let container = Container { path: path.clone(), state };
            container.record()?;
            write(&path.join(SPEC), &serde_json::to_vec(spec).step(failed)?)?;
            Ok((container, lock))
        })();
        if begun.is_err() {
            let _ = fs::remove_dir_all(&path);
        }
        begun
    }

    /// Finds a container.
    ///
    /// # Errors
    /// There is none, it is another user's, or its record is damaged.
    pub fn find(&self, id: &str) -> Result<Container> {
        let path = self.path.join(id);
        if !self.has(id)? {
            return Err(Error::new(format!("container does not exist: there is none with the ID `{id}`")));
        }
        let failed = || format!("cannot read the state of the container `{id}`");
        let text = fs::read(path.join(STATE)).step(failed)?;
        let state: State = serde_json::from_slice(&text).step(failed)?;
        if state.id != id {
            return Err(Error::new(failed()).because("it is another container's"));
        }
        Ok(Container { path, state })
    }

    /// Whether something has the ID, whatever state it is in.
    ///
    /// # Errors
    /// The ID is none, or the container is another user's: its record names hooks and processes to kill, which root
    /// believes nobody else.
    pub fn has(&self, id: &str) -> Result<bool> {
        check_id(id)?;
        let Ok(found) = fs::metadata(self.path.join(id)) else { return Ok(false) };
        // Whoever has the directory above can put another one in its place.
        let above = fs::metadata(&self.path).ok();
        if let Some(owner) = above.iter().chain([&found]).find_map(stranger) {
            return Err(Error::new(format!("cannot use the container `{id}`"))
                .because(format!("it belongs to user {owner}"))
                .hint("run sbx as that user (`runuser -u USER -- sbx oci …`)"));
        }
        Ok(found.is_dir())
    }

    /// Removes what is left of a container whose record cannot be read.
    ///
    /// # Errors
    /// Those of unlink(2).
    pub fn remove_damaged(&self, id: &str) -> Result<()> {
        check_id(id)?;
        remove(&self.path.join(id), id)
    }

    /// All containers, by ID; those whose record cannot be read are told of and left out.
    pub fn all(&self) -> Vec<Container> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let mut found: Vec<Container> = entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter_map(|id| {
                // One that is just being made has no record yet, one that is just being deleted none any more.
                let has_record = || self.path.join(&id).join(STATE).exists();
                if !has_record() {
                    return None;
                }
                self.find(&id)
                    .inspect_err(|error| {
                        if has_record() {
                            ::log::warn!("{error}");
                        }
                    })
                    .ok()
            })
            .collect();
        found.sort_by(|one, other| one.state.id.cmp(&other.state.id));
        found
    }
}

impl Container {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for other commands that are changing the container.
    ///
    /// # Errors
    /// The container is gone.
    pub fn lock(&self) -> Result<File> {
        lock(&self.path)
    }

    /// The same without waiting: none where another command is changing it.
    ///
    /// # Errors
    /// The container is gone.
    pub fn try_lock(&self) -> Result<Option<File>> {
        let failed = || format!("cannot lock `{}`", self.path.display());
        let directory = File::open(&self.path).step(failed)?;
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(directory)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error).step(failed),
        }
    }

    /// Writes `state.json`.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn record(&self) -> Result<()> {
        let failed = || format!("cannot record the state of the container `{}`", self.state.id);
        write(&self.path.join(STATE), &serde_json::to_vec(&self.state).step(failed)?)
    }

    /// # Errors
    /// It cannot be read.
    pub fn spec(&self) -> Result<Spec> {
        let failed = || format!("cannot read the spec of the container `{}`", self.state.id);
        serde_json::from_slice(&fs::read(self.path.join(SPEC)).step(failed)?).step(failed)
    }

    /// The FIFO at which the first process waits, and the file for why it ends; both are made here.
    ///
    /// # Errors
    /// Those of mkfifo(3) and open(2).
    pub fn make_gate(&self) -> Result<crate::sandbox::listed::Gate> {
        use std::os::fd::OwnedFd;
        use std::os::unix::fs::OpenOptionsExt;
        let failed = || "cannot make what the container waits at";
        let fifo = self.fifo();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .step(failed)?;
        let fifo = File::options().read(true).write(true).open(&fifo).step(failed)?;
        let complaint =
            File::options().write(true).create_new(true).mode(0o600).open(self.complaint()).step(failed)?;
        Ok(crate::sandbox::listed::Gate { fifo: OwnedFd::from(fifo), complaint: OwnedFd::from(complaint) })
    }

    pub fn fifo(&self) -> PathBuf {
        self.path.join(FIFO)
    }

    pub fn complaint(&self) -> PathBuf {
        self.path.join(COMPLAINT)
    }

    /// The first process, where it lives.
    pub fn init(&self) -> Option<ProcessRef> {
        self.state.init.filter(|init| self.state.boot_id == boot_id() && init.is_alive())
    }

    /// Asks the kernel.
    pub fn status(&self) -> Status {
        if self.init().is_none() {
            let creating = self.state.init.is_none()
                && self.state.boot_id == boot_id()
                && self.state.creator.is_some_and(ProcessRef::is_alive);
            return if creating { Status::Creating } else { Status::Stopped };
        }
        if self.state.creator.is_some() {
            // Its set-up is not complete, and nobody goes on with it.
            return if self.state.creator.is_some_and(ProcessRef::is_alive) {
                Status::Creating
            } else {
                Status::Stopped
            };
        }
        match () {
            () if self.is_frozen() => Status::Paused,
            () if self.waits() => Status::Created,
            () => Status::Running,
        }
    }

    /// Whether the first process has not executed the command yet: it reads from the FIFO.
    pub fn waits(&self) -> bool {
        use std::os::unix::fs::OpenOptionsExt;
        File::options().write(true).custom_flags(libc::O_NONBLOCK).open(self.fifo()).is_ok()
    }

    /// Its control group, with the mount. What was recorded before a reboot is somebody else's now.
    pub fn control_group(&self) -> Option<PathBuf> {
        let path = self.state.cgroup.as_deref().filter(|_| self.state.boot_id == boot_id());
        path.and_then(control_group::find)
    }

    pub fn is_frozen(&self) -> bool {
        self.control_group().is_some_and(|path| {
            fs::read_to_string(path.join("cgroup.freeze")).is_ok_and(|text| text.trim() == "1")
        })
    }

    /// Removes the directory.
    ///
    /// # Errors
    /// Those of unlink(2).
    pub fn remove(&self) -> Result<()> {
        remove(&self.path, &self.state.id)
    }
}

fn remove(path: &Path, id: &str) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).step(|| format!("cannot remove the state directory of the container `{id}`"))
        }
        _ => Ok(()),
    }
}

/// IDs become names of directories: letters, digits and `_ + - .`, as runc has it.
///
/// # Errors
/// It is empty, or has other characters.
pub fn check_id(id: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
    if id.is_empty() || !id.chars().all(allowed) || id == "." || id == ".." || id.len() > 255 {
        return Err(Error::new(format!("invalid container ID format: `{}`", id.escape_debug()))
            .hint("an ID has up to 255 letters, digits and `_`, `+`, `-`, `.`"));
    }
    Ok(())
}

/// Whose it is, unless it is the caller's or root's.
fn stranger(found: &fs::Metadata) -> Option<u32> {
    Some(found.uid()).filter(|owner| *owner != 0 && *owner != rustix::process::geteuid().as_raw())
}

fn lock(path: &Path) -> Result<File> {
    let failed = || format!("cannot lock `{}`", path.display());
    let directory = File::open(path).step(failed)?;
    flock(&directory, FlockOperation::LockExclusive).step(failed)?;
    Ok(directory)
}

fn write(path: &Path, text: &[u8]) -> Result<()> {
    let failed = || format!("cannot write `{}`", path.display());
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    fs::write(&name, text).step(failed)?;
    fs::rename(&name, path).step(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_lead_nowhere() {
        for id in ["", ".", "..", "a/b", "../a", "a b", "a\0", "ä", &"x".repeat(256)] {
            assert!(check_id(id).is_err(), "{id}");
        }
        for id in ["a", "A-1_b+c.d", "host.user.1.0.0"] {
            assert!(check_id(id).is_ok(), "{id}");
        }
    }
}
