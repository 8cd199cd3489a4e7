//! The containers of one user on disk.
//!
//! A container that is being made or runs has a file in `running/` whose flock its monitor (and the
//! monitor's guard) hold; the file records the processes that have to end with it. Whoever gets the lock
//! knows that nobody looks after the container any more, and puts it in order: see [`crate::container::sweep`].

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::container::directory::ContainerDirectory;
use crate::container::process::ProcessRef;
use crate::container::spec::Spec;
use crate::container::state::State;
use crate::error::{Error, Result, Step};

/// Who has to end with a container, as its monitor last recorded it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    pub boot_id: String,
    pub monitor: Option<ProcessRef>,
    pub guard: Option<ProcessRef>,
    pub init: Option<ProcessRef>,
    /// fuse-overlayfs, slirp4netns, pasta.
    pub servers: Vec<ProcessRef>,
    /// The inode number of the user namespace.
    pub userns: u64,
    /// Seconds since the epoch; none: still being set up.
    pub started_at: Option<u64>,
}

/// The lock of one container, held as long as the value and its copies in forked processes live.
#[derive(Debug)]
pub struct Claim {
    file: File,
    path: PathBuf,
}

#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store below `root`; nothing is made before something is written.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn directory(&self, id: &str) -> ContainerDirectory {
        ContainerDirectory::new(self.root.join("containers").join(id))
    }

    fn running(&self, id: &str) -> PathBuf {
        self.root.join("running").join(id)
    }

    fn name_link(&self, name: &str) -> PathBuf {
        self.root.join("names").join(name)
    }

    /// Makes the container's lock and directory with its spec. Whoever reads the spec sees all of it.
    pub fn create(&self, spec: &Spec) -> Result<(Claim, ContainerDirectory)> {
        let claim = self.claim(&spec.id)?;
        let directory = self.directory(&spec.id);
        match self.fill(spec, &directory) {
            Ok(()) => Ok((claim, directory)),
            Err(error) => {
                let _ = fs::remove_dir_all(directory.path());
                self.release_name(&spec.name, &spec.id);
                claim.release();
                Err(error)
            }
        }
    }

    fn fill(&self, spec: &Spec, directory: &ContainerDirectory) -> Result<()> {
        let failed = || format!("cannot make the container's directory `{}`", directory.path().display());
        make_directory(directory.path()).map_err(|error| no_room(error, failed()))?;
        // A container whose root is not the caller passes through; the directories above stay closed.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711))
            .map_err(|error| no_room(error, failed()))?;
        for part in [directory.upper(), directory.work(), directory.merged()] {
            fs::DirBuilder::new().mode(0o755).create(part).map_err(|error| no_room(error, failed()))?;
        }
        self.take_name(&spec.name, &spec.id)?;
        write_json(&directory.spec(), spec).map_err(|error| no_room(error, failed()))
    }

    fn claim(&self, id: &str) -> Result<Claim> {
        let path = self.running(id);
        let failed = || format!("cannot make the lock `{}`", path.display());
        loop {
            let mut options = File::options();
            options.read(true).write(true).create_new(true).mode(0o600);
            let file = match options.open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let parent = path.parent().unwrap_or(&self.root);
                    fs::DirBuilder::new()
                        .recursive(true)
                        .mode(0o700)
                        .create(parent)
                        .step(|| format!("cannot make the store `{}`", parent.display()))?;
                    continue;
                }
                result => result.map_err(|error| no_room(error, failed()))?,
            };
            file.lock().step(failed)?;
            // Between the two a sweep may have taken the new file for a dead container's.
            if file.metadata().step(failed)?.nlink() > 0 {
                return Ok(Claim { file, path });
            }
        }
    }

    /// Every container, running or not.
    pub fn ids(&self) -> Vec<String> {
        names_in(&self.root.join("containers"))
    }

    /// Every container that is being made or runs, or was when its monitor was killed.
    pub fn running_ids(&self) -> Vec<String> {
        names_in(&self.root.join("running"))
    }

    /// The lock of a container that nobody looks after any more.
    pub fn claim_abandoned(&self, id: &str) -> Option<Claim> {
        let path = self.running(id);
        let file = File::options().read(true).write(true).open(&path).ok()?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => return None,
        }
        (file.metadata().ok()?.nlink() > 0).then_some(Claim { file, path })
    }

    /// Who serves a running container, read without the lock.
    ///
    /// # Errors
    /// A container that does not run.
    pub fn running_record(&self, id: &str) -> Result<Running> {
        let not_running = || {
            Error::new(format!("container {} is not running", id.get(..12).unwrap_or(id)))
                .hint("a namespace can be joined only while the container it belongs to runs")
        };
        let mut text = String::new();
        File::open(self.running(id))
            .and_then(|mut file| file.read_to_string(&mut text))
            .map_err(|_| not_running())?;
        let record: Running = serde_json::from_str(&text).map_err(|_| not_running())?;
        if record.init.is_some_and(ProcessRef::is_alive) { Ok(record) } else { Err(not_running()) }
    }

    /// The ID that a name, a full ID or an unambiguous prefix of one means.
    pub fn find(&self, word: &str) -> Result<String> {
        let failed = || Error::new(format!("no container with the name or ID `{word}`"));
        if !word.is_empty()
            && !word.contains('/')
            && let Ok(id) = fs::read_link(self.name_link(word))
        {
            return id.into_os_string().into_string().map_err(|_| failed());
        }
        let mut matching = self.ids().into_iter().filter(|id| !word.is_empty() && id.starts_with(word));
        match (matching.next(), matching.next()) {
            (Some(id), None) => Ok(id),
            (Some(_), Some(_)) => Err(Error::new(format!("the ID prefix `{word}` is ambiguous"))),
            _ => Err(failed()),
        }
    }

    pub fn read_spec(&self, id: &str) -> Result<Spec> {
        let path = self.directory(id).spec();
        let text = fs::read(&path).step(|| format!("cannot read `{}`", path.display()))?;
        serde_json::from_slice(&text).step(|| format!("cannot understand `{}`", path.display()))
    }

    /// Ties a name to a container.
    ///
    /// # Errors
    /// The name of another container that exists.
    fn take_name(&self, name: &str, id: &str) -> Result<()> {
        let link = self.name_link(name);
        let failed = || format!("cannot give the container the name `{name}`");
        loop {
            match symlink(id, &link) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    make_directory(link.parent().unwrap_or(&self.root)).step(failed)?;
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let Ok(owner) = fs::read_link(&link) else { continue };
                    let owner = owner.to_string_lossy().into_owned();
                    if self.directory(&owner).path().exists() {
                        return Err(Error::new(failed())
                            .because(format!(
                                "the container name \"{name}\" is already in use by container \"{owner}\""
                            ))
                            .hint(
                                "choose another name; with `--rm` a name is free again once its container ends",
                            ));
                    }
                    let _ = fs::remove_file(&link);
                }
                Err(error) => return Err(no_room(error, failed())),
            }
        }
    }

    pub fn release_name(&self, name: &str, id: &str) {
        let link = self.name_link(name);
        if fs::read_link(&link).is_ok_and(|owner| owner == Path::new(id)) {
            let _ = fs::remove_file(link);
        }
    }

    pub fn write_state(&self, id: &str, state: &State) -> Result<()> {
        let path = self.directory(id).state();
        write_json(&path, state).step(|| format!("cannot write `{}`", path.display()))
    }

    pub fn read_state(&self, id: &str) -> Option<State> {
        serde_json::from_slice(&fs::read(self.directory(id).state()).ok()?).ok()
    }
}

impl Claim {
    /// Replaces what the lock file says. Readers see the old record or the new one: it is one short write.
    pub fn record(&self, running: &Running) -> Result<()> {
        use std::os::unix::fs::FileExt;
        let failed = || format!("cannot write `{}`", self.path.display());
        let mut text = serde_json::to_vec(running).step(failed)?;
        let old = self.file.metadata().map_or(0, |metadata| metadata.len());
        // Spaces over the rest of a longer record: never a moment without a whole one.
        text.resize(text.len().max(usize::try_from(old).unwrap_or(0)), b' ');
        self.file.write_all_at(&text, 0).step(failed)
    }

    pub fn recorded(&self) -> Running {
        let mut text = String::new();
        let _ = (&self.file).read_to_string(&mut text);
        serde_json::from_str(&text).unwrap_or_default()
    }

    pub fn descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.file.as_fd()
    }

    /// Says that nothing of the container runs any more.
    pub fn release(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.mode(0o700);
    match builder.create(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => builder.recursive(true).create(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

/// A file appears whole under its name, or not at all.
fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    drop(file);
    fs::rename(&temporary, path)
}

fn names_in(directory: &Path) -> Vec<String> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

fn no_room(error: io::Error, message: String) -> Error {
    let kind = error.raw_os_error();
    let failed = Error::new(message).because(error);
    match kind {
        Some(libc::ENOSPC | libc::EDQUOT) => {
            failed.hint("free some space there, or keep containers elsewhere with `--root DIR` or SBX_ROOT")
        }
        Some(libc::EROFS | libc::EACCES | libc::EPERM) => {
            failed.hint("the store has to be writable: name another directory with `--root DIR` or SBX_ROOT")
        }
        _ => failed,
    }
}
