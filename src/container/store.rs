//! The containers of one user on disk.
//!
//! A container that is being made or runs has a file in `running/` whose flock its monitor (and the
//! monitor's guard) hold; the file records the processes that have to end with it. Whoever gets the lock
//! knows that nobody looks after the container any more, and puts it in order: see [`crate::container::sweep`].
//!
//! What is read here may have been torn by a crash or written by somebody else: entries whose names are no
//! IDs are not ours and left alone, and no symlink leads out of the store.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::container::directory::ContainerDirectory;
use crate::container::files::{clear_away, make_directory, names_in, write_json, write_over};
use crate::container::name;
use crate::container::process::{ProcessRef, boot_id};
use crate::container::scratch;
use crate::container::settings::Settings;
use crate::container::spec::{Root, Spec};
use crate::container::state::State;
use crate::error::{Error, Result, Step};
use crate::network::named;
use crate::secret;
use crate::volume::hold::hold;

pub use crate::container::claim::{Claim, Restarting, Running};

/// How long a guard, or processes of a killed monitor, may take to let go of the lock.
const DYING: Duration = Duration::from_secs(5);

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

    /// Where the directory of a container is on its way out: no command finds it there but the sweep.
    pub fn retired(&self, id: &str) -> ContainerDirectory {
        ContainerDirectory::new(self.root.join("removed").join(id))
    }

    /// Takes the directory out of everybody's sight, and with it makes the name free, in one step.
    ///
    /// # Errors
    /// Those of rename(2), and of mkdir(2) at the first time.
    pub fn retire(&self, id: &str) -> io::Result<()> {
        let (directory, retired) = (self.directory(id), self.retired(id));
        let retire = || fs::rename(directory.path(), retired.path());
        retire().or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            make_directory(&self.root.join("removed"))?;
            retire()
        })
    }

    /// The same with the place of the layers that the container changes.
    pub fn directory_of(&self, spec: &Spec) -> ContainerDirectory {
        let directory = self.directory(&spec.id);
        match &spec.scratch {
            Some(scratch) => directory.with_uppers(scratch.join(&spec.id)),
            None => directory,
        }
    }

    fn running(&self, id: &str) -> PathBuf {
        self.root.join("running").join(id)
    }

    fn names(&self) -> PathBuf {
        self.root.join("names")
    }

    /// Makes the container's lock and directory with its spec. Whoever reads the spec sees all of it.
    pub fn create(&self, spec: &Spec) -> Result<(Claim, ContainerDirectory)> {
        let claim = self.claim(&spec.id)?;
        let directory = self.directory_of(spec);
        match self.fill(spec, &directory) {
            Ok(()) => Ok((claim, directory)),
            Err(error) => {
                self.release_name(&spec.name, &spec.id);
                let _ = fs::remove_dir_all(directory.path());
                if spec.scratch.is_some() {
                    let _ = fs::remove_dir_all(directory.uppers());
                }
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
        if spec.scratch.is_some() {
            scratch::make(directory.uppers(), &self.root)
                .map_err(|error| no_room(error, scratch_failed(directory.uppers())))?;
        }
        let mut parts = Vec::new();
        if spec.bound_root().is_none() {
            parts.extend([directory.upper(), directory.work()]);
        }
        let staged = match &spec.root {
            Root::Host { .. } => true,
            Root::Layers { layers, .. } => layers.is_empty(),
            _ => false,
        };
        if staged {
            parts.push(directory.stage());
        }
        for part in parts {
            fs::DirBuilder::new().mode(0o755).create(part).map_err(|error| no_room(error, failed()))?;
        }
        secret::copies::keep(&self.root, spec, directory)?;
        self.take_name(&spec.name, &spec.id)?;
        let _network = named::hold(self, &spec.network)?;
        let volumes = hold(self, spec)?;
        write_json(&directory.spec(), spec).map_err(|error| {
            volumes.undo(self, spec);
            no_room(error, failed())
        })
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
                    fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(|error| {
                        no_room(error, format!("cannot make the store `{}`", parent.display()))
                    })?;
                    continue;
                }
                result => result.map_err(|error| no_room(error, failed()))?,
            };
            file.lock().step(failed)?;
            let claim = Claim::new(file, path.clone());
            // Between the two a sweep may have taken the new file for a dead container's.
            if claim.is_current().step(failed)? {
                return Ok(claim);
            }
        }
    }

    /// Every container that is being made or runs, or was when its monitor was killed.
    pub fn running_ids(&self) -> Vec<String> {
        ids_in(&self.root.join("running"))
    }

    /// Whether anything is left of a container.
    pub fn has_traces(&self, id: &str) -> bool {
        let places =
            [self.running(id), self.directory(id).path().to_owned(), self.retired(id).path().to_owned()];
        places.iter().any(|path| path.symlink_metadata().is_ok())
    }

    /// Whether somebody makes or removes the container, or was killed while doing so.
    pub fn is_locked_without_spec(&self, id: &str) -> bool {
        let missing = |path: PathBuf| path.symlink_metadata().is_err();
        // In the order in which both go.
        missing(self.directory(id).spec()) && !missing(self.running(id))
    }

    /// Every container that has a directory, whole or not.
    pub fn ids(&self) -> Vec<String> {
        ids_in(&self.root.join("containers"))
    }

    /// The same, for whoever removes what none of them needs.
    ///
    /// # Errors
    /// The directory cannot be read: there may be more.
    pub fn all_ids(&self) -> Result<Vec<String>> {
        let directory = self.root.join("containers");
        let failed = || format!("cannot read `{}`", directory.display());
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.step(failed)?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            ids.extend(entry.step(failed)?.file_name().into_string().ok().filter(|name| is_id(name)));
        }
        Ok(ids)
    }

    /// The lock of a container that nobody looks after any more. Where its monitor is dead and the guard is
    /// still at its work, that is waited for.
    pub fn claim_abandoned(&self, id: &str) -> Option<Claim> {
        let path = self.running(id);
        let mut options = File::options();
        options.read(true).write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let is_file = fs::symlink_metadata(&path).ok()?.is_file();
        if !is_file {
            clear_away(&path);
            return self.claim(id).ok();
        }
        let claim = Claim::new(options.open(&path).ok()?, path);
        let mut until = None;
        while let Err(error) = claim.try_lock() {
            let dying = || {
                let record = claim.recorded();
                // The processes of another machine that has the store, too, are not to be seen here.
                record.monitor.is_some_and(|monitor| !monitor.may_be_alive()) && record.boot_id == boot_id()
            };
            let dying = matches!(error, TryLockError::WouldBlock) && dying();
            if !dying || *until.get_or_insert_with(|| Instant::now() + DYING) <= Instant::now() {
                return None;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        claim.is_current().ok()?.then_some(claim)
    }

    /// Whether somebody looks after the container, on this machine or another.
    pub fn is_looked_after(&self, id: &str) -> bool {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = File::options().read(true).write(true).custom_flags(flags).open(self.running(id));
        file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
    }

    /// The lock of a container that does not run, to remove it.
    ///
    /// # Errors
    /// Where the lock file cannot be made.
    pub fn claim_stopped(&self, id: &str) -> Result<Option<Claim>> {
        match self.claim_abandoned(id) {
            Some(claim) => Ok(Some(claim)),
            None if self.running(id).exists() => Ok(None),
            None => match self.claim(id) {
                // Somebody was faster.
                Err(_) if self.running(id).exists() => Ok(None),
                made => made.map(Some),
            },
        }
    }

    /// What the lock file of a container says, whether it runs or not.
    pub fn record_of(&self, id: &str) -> Option<Running> {
        serde_json::from_slice(&super::claim::read(&self.running(id)).ok()?).ok()
    }

    /// Who serves a running container, read without the lock.
    ///
    /// # Errors
    /// A container that does not run.
    pub fn running_record(&self, id: &str) -> Result<Running> {
        match self.record_of(id) {
            Some(record) if record.init.is_some_and(ProcessRef::is_alive) => Ok(record),
            _ => Err(Error::new(format!("container {} is not running", short(id)))
                .hint("a namespace can be joined only while the container it belongs to runs")),
        }
    }

    /// The ID that a name, a full ID or an unambiguous prefix of one means.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub fn find(&self, word: &str) -> Result<String> {
        if name::check(word).is_ok()
            && let Some(id) = self.owner_of(word)
            && self.directory(&id).path().is_dir()
        {
            return Ok(id);
        }
        let mut matching = self.ids().into_iter().filter(|id| !word.is_empty() && id.starts_with(word));
        match (matching.next(), matching.next()) {
            (Some(id), None) => Ok(id),
            (Some(_), Some(_)) => Err(Error::new(format!("the ID prefix `{word}` is ambiguous"))),
            _ => Err(Error::new(format!("no container with the name or ID `{word}`"))
                .hint("`sbx ps -a` lists the containers")),
        }
    }

    /// The spec of a container, as it was when the container was made.
    ///
    /// # Errors
    /// It is missing, damaged, or another container's.
    pub fn read_spec(&self, id: &str) -> Result<Spec> {
        let path = self.directory(id).spec();
        let way_out = |error: Error| {
            let upper = self.directory(id).upper();
            error.hint(format!(
                "what the container has written is in `{}`; `sbx rm {}` removes it",
                upper.display(),
                short(id)
            ))
        };
        let text = super::claim::read(&path)
            .step(|| format!("cannot read `{}`", path.display()))
            .map_err(way_out)?;
        let read = || {
            let mut spec: Spec = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
            if spec.id != id {
                return Err("it is the spec of another container".to_owned());
            }
            self.settings(id).lay_over(&mut spec);
            name::check(&spec.name).map_err(|error| error.to_string())?;
            Ok(spec)
        };
        read().map_err(|cause| {
            way_out(Error::new(format!("cannot understand `{}`", path.display())).because(cause))
        })
    }

    /// Keeps others from choosing subordinate IDs until the caller's choice is in its spec.
    ///
    /// # Errors
    /// Where the store cannot be made or locked.
    pub fn lock_choice_of_ids(&self) -> Result<File> {
        let directory = self.root.join("running");
        let failed = || format!("cannot lock `{}`", directory.display());
        make_directory(&directory).map_err(|error| no_room(error, failed()))?;
        let lock = File::open(&directory).step(failed)?;
        lock.lock().step(failed)?;
        Ok(lock)
    }

    /// Ties a name to a container.
    ///
    /// # Errors
    /// The name of another container that exists.
    fn take_name(&self, name: &str, id: &str) -> Result<()> {
        let link = self.names().join(name);
        let failed = || format!("cannot give the container the name `{name}`");
        loop {
            match symlink(id, &link) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    make_directory(&self.names()).map_err(|error| no_room(error, failed()))?;
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let owner = self.owner_of(name);
                    if owner.as_deref() == Some(id) {
                        // By a `rename` that was killed.
                        return Ok(());
                    }
                    if let Some(owner) = owner
                        && self.directory(&owner).path().exists()
                    {
                        return Err(Error::new(failed())
                            .because(format!(
                                "the container name \"{name}\" is already in use by container \"{owner}\""
                            ))
                            .hint(format!(
                                "choose another name, or remove that container: `sbx rm -f {name}`; `--replace` does it"
                            )));
                    }
                    self.clear_name(name);
                }
                Err(error) => return Err(no_room(error, failed())),
            }
        }
    }

    /// Whether a container that exists has the name.
    pub fn is_taken(&self, name: &str) -> bool {
        self.owner_of(name).is_some_and(|owner| self.directory(&owner).path().exists())
    }

    /// The container that a name is tied to, which may be gone.
    fn owner_of(&self, name: &str) -> Option<String> {
        let owner = fs::read_link(self.names().join(name)).ok()?.into_os_string().into_string().ok()?;
        is_id(&owner).then_some(owner)
    }

    /// Removes a name whose container is gone, or an entry that never was a name. Under a lock: what was
    /// looked at must not be another container's by now.
    fn clear_name(&self, name: &str) {
        let _lock = self.lock_names();
        let gone = self.owner_of(name).is_none_or(|owner| !self.directory(&owner).path().exists());
        if gone {
            clear_away(&self.names().join(name));
        }
    }

    fn lock_names(&self) -> Option<File> {
        let directory = File::open(self.names()).ok()?;
        directory.lock().ok()?;
        Some(directory)
    }

    /// Before the container's directory goes, so that no name is ever left to nobody.
    pub fn release_name(&self, name: &str, id: &str) {
        let _lock = self.lock_names();
        if self.owner_of(name).is_some_and(|owner| owner == id) {
            let _ = fs::remove_file(self.names().join(name));
        }
    }

    /// The same where the spec that has the name was never written, or is damaged.
    pub fn release_names_of(&self, id: &str) {
        for name in names_in(&self.names()) {
            self.release_name(&name, id);
        }
    }

    /// What commands changed of a container after it was made.
    pub fn settings(&self, id: &str) -> Settings {
        let text = super::claim::read(&self.directory(id).settings());
        text.ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// Changes them, one command after the other.
    ///
    /// # Errors
    /// There is no room, the store cannot be written, or the change fails.
    pub fn change_settings(&self, id: &str, change: impl FnOnce(Settings) -> Result<Settings>) -> Result<()> {
        let _lock = self.lock_settings(id)?;
        self.write_settings(id, &change(self.settings(id))?)
    }

    fn lock_settings(&self, id: &str) -> Result<File> {
        let directory = self.directory(id);
        let failed = || format!("cannot lock `{}`", directory.path().display());
        let lock = File::open(directory.path()).step(failed)?;
        lock.lock().step(failed)?;
        Ok(lock)
    }

    fn write_settings(&self, id: &str, settings: &Settings) -> Result<()> {
        let path = self.directory(id).settings();
        let failed = || format!("cannot write `{}`", path.display());
        write_json(&path, settings).map_err(|error| no_room(error, failed()))
    }

    /// Gives a container another name.
    ///
    /// # Errors
    /// It is taken, or there is no room.
    pub fn rename(&self, id: &str, name: &str) -> Result<()> {
        let _lock = self.lock_settings(id)?;
        let old = self.read_spec(id)?.name;
        if old == name {
            return Err(Error::new(format!("cannot give the container the name `{name}`"))
                .because("it has that name already"));
        }
        let settings = self.settings(id);
        // Whoever removes the container looks for further names where there are settings.
        self.write_settings(id, &settings)?;
        self.take_name(name, id)?;
        let renamed = self.write_settings(id, &Settings { name: Some(name.to_owned()), ..settings });
        // Killed before this the container has both names; both go with it.
        self.release_name(if renamed.is_ok() { &old } else { name }, id);
        renamed
    }

    pub fn write_state(&self, id: &str, state: &State) -> Result<()> {
        let path = self.directory(id).state();
        write_json(&path, state)
            .or_else(|error| write_over(&path, state).map_err(|_| error))
            .map_err(|error| no_room(error, format!("cannot write `{}`", path.display())))
    }

    /// Writes a file of a container's directory that is no more than a record.
    ///
    /// # Errors
    /// The disk is full.
    pub(super) fn write_record(&self, path: &Path, record: &impl Serialize) -> Result<()> {
        write_json(path, record).map_err(|error| no_room(error, format!("cannot write `{}`", path.display())))
    }

    /// None: it is not there, or damaged.
    pub(super) fn read_record<T: serde::de::DeserializeOwned>(&self, path: &Path) -> Option<T> {
        serde_json::from_slice(&super::claim::read(path).ok()?).ok()
    }

    pub fn read_state(&self, id: &str) -> Option<State> {
        serde_json::from_slice(&super::claim::read(&self.directory(id).state()).ok()?).ok()
    }
}

fn scratch_failed(path: &Path) -> String {
    format!("cannot make the directory `{}` on scratch", path.display())
}

/// As people see it.
pub fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// 64 lower-case hexadecimal digits.
pub fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn ids_in(directory: &Path) -> Vec<String> {
    let mut ids = names_in(directory);
    ids.retain(|name| is_id(name));
    ids
}

/// `message` with its cause and, where space has run out or nothing may be written, what to do.
pub fn no_room(error: io::Error, message: String) -> Error {
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
