//! The volumes of one user on disk.
//!
//! What is read here may have been torn by a crash or made by somebody else: entries whose names are none of volumes,
//! or that are no directories, are not ours; a volume without a sound record is one without labels.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::lock::Lock;
use super::record::DRIVER;
use super::{Record, name};
use crate::container::name::random_id;
use crate::container::store::{Store, no_room};
use crate::error::{Error, Result, Step};
use crate::events::{self, Action, Event, Kind};
use crate::identity::{self, Caller, Host, Identity};
use crate::layers::remove;

const RECORD: &str = "volume.json";
/// Longer records are not ours.
const LONGEST_RECORD: u64 = 16 << 20;

/// Attempts to remove a directory in which a file is that was just closed, every 10 ms.
const LATE_CLOSES: u32 = 100;

/// `<store>/volumes`
#[derive(Debug, Clone)]
pub struct VolumeStore {
    store: PathBuf,
    root: PathBuf,
}

/// `<store>/volumes/<name>`: what lies where in it.
#[derive(Debug, Clone)]
pub struct VolumeDirectory(PathBuf);

impl VolumeDirectory {
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What containers see.
    pub fn data(&self) -> PathBuf {
        self.0.join("_data")
    }

    pub(super) fn record(&self) -> PathBuf {
        self.0.join(RECORD)
    }

    /// There until the volume is used for the first time.
    pub(super) fn fresh(&self) -> PathBuf {
        self.0.join("fresh")
    }

    /// Filled from the image, and then renamed to [`Self::data`].
    pub(super) fn copy(&self) -> PathBuf {
        self.0.join("_copy")
    }

    pub fn is_fresh(&self) -> bool {
        self.fresh().symlink_metadata().is_ok()
    }
}

impl From<PathBuf> for VolumeDirectory {
    fn from(path: PathBuf) -> Self {
        Self(path)
    }
}

impl VolumeStore {
    /// The volumes in the store `root`; nothing is made before something is written.
    pub fn new(root: &Path) -> Self {
        Self { store: root.to_owned(), root: root.join("volumes") }
    }

    pub fn of(store: &Store) -> Self {
        Self::new(store.root())
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn directory(&self, name: &str) -> VolumeDirectory {
        VolumeDirectory(self.root.join(name))
    }

    /// Half-made volumes, and those that are being removed.
    pub(super) fn part(&self) -> PathBuf {
        self.root.join(".part")
    }

    pub fn exists(&self, word: &str) -> bool {
        name::check(word).is_ok() && is_directory(self.directory(word).path())
    }

    /// All volumes, by name.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn names(&self) -> Result<Vec<String>> {
        let failed = || format!("cannot read `{}`", self.root.display());
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.step(failed)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let found = entry.step(failed)?.file_name().into_string();
            names.extend(found.ok().filter(|name| self.exists(name)));
        }
        names.sort_unstable();
        Ok(names)
    }

    /// What is known of a volume; none: there is no such volume.
    pub fn read(&self, name: &str) -> Option<Record> {
        if !self.exists(name) {
            return None;
        }
        let directory = self.directory(name);
        let record = read_record(&directory.record()).unwrap_or_else(|| Record {
            driver: DRIVER.to_owned(),
            created: made_at(&directory.data()),
            ..Record::default()
        });
        Some(Record { name: name.to_owned(), ..record })
    }

    /// Every volume, by name.
    ///
    /// # Errors
    /// As [`Self::names`].
    pub fn all(&self) -> Result<Vec<Record>> {
        Ok(self.names()?.iter().filter_map(|name| self.read(name)).collect())
    }

    /// Makes a volume, which appears whole. False: there is one of that name.
    ///
    /// # Errors
    /// Something else is in the way, or there is no room.
    pub fn create(&self, record: &Record) -> Result<bool> {
        name::check(&record.name)?;
        if self.exists(&record.name) {
            return Ok(false);
        }
        let failed = || format!("cannot make the volume `{}`", record.name);
        let no_space = |error| no_room(error, failed());
        let (part, _lock) = self.make_part(record).map_err(no_space)?;
        let target = self.directory(&record.name);
        let renamed = fs::rename(&part, target.path());
        if renamed.is_err() {
            let _ = fs::remove_dir_all(&part);
        }
        match renamed {
            Ok(()) => {
                let event = Event::new(Kind::Volume, Action::Create, &record.name, &record.name);
                events::record_here(&self.store, event.with_labels(&record.labels));
                Ok(true)
            }
            Err(error) if is_directory(target.path()) && is_taken(&error) => Ok(false),
            Err(error) if is_taken(&error) || error.kind() == io::ErrorKind::NotADirectory => {
                Err(Error::new(failed()).because(format!("`{}` is in the way", target.path().display())))
            }
            Err(error) => Err(no_space(error)),
        }
    }

    /// A whole volume under a name of its own, and its lock, which tells others that somebody is at it.
    fn make_part(&self, record: &Record) -> io::Result<(PathBuf, Lock)> {
        let text = serde_json::to_vec(record)?;
        loop {
            let path = self.part().join(random_id().map_err(io::Error::other)?);
            make_directories(&self.part())?;
            let part = VolumeDirectory(path);
            match fill(&part, &text) {
                Ok(Some(lock)) => return Ok((part.0, lock)),
                // A sweep took it for one that was left.
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let _ = fs::remove_dir_all(part.path());
                    return Err(error);
                }
            }
        }
    }

    /// Takes a volume out of everybody's sight. Whoever calls this has its lock alone.
    pub(super) fn retire(&self, name: &str) -> io::Result<PathBuf> {
        let away = self.part().join(random_id().map_err(io::Error::other)?);
        fs::rename(self.directory(name).path(), &away).or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            make_directories(&self.part())?;
            fs::rename(self.directory(name).path(), &away)
        })?;
        Ok(away)
    }

    /// Removes what killed processes left: half-made volumes, and volumes half-removed.
    pub fn sweep(&self) {
        let Ok(entries) = fs::read_dir(self.part()) else { return };
        for entry in entries.flatten() {
            let part = VolumeDirectory(entry.path());
            let abandoned = match Lock::try_existing(&part.record()) {
                Ok(Some(lock)) => Some(Some(lock)),
                Ok(None) => None,
                // The record is made first and removed last: beside it there is nothing, or nobody's.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    fs::remove_dir(part.path()).is_err().then_some(None)
                }
                Err(error) => {
                    log::debug!("cannot lock `{}`: {error}", part.path().display());
                    None
                }
            };
            if let Some(lock) = abandoned
                && let Err(error) = erase(part.path(), lock, None)
            {
                log::warn!("cannot remove what is left of a volume: {error}");
            }
        }
    }
}

/// Removes a volume that was taken away, or never appeared. `lock` keeps others off until nothing of worth is left,
/// `userns` is the canonical user namespace, where one lives.
///
/// # Errors
/// What could not be removed; the next sweep tries again.
pub(super) fn erase(part: &Path, lock: Option<Lock>, userns: Option<&File>) -> Result<()> {
    if !is_directory(part) {
        let _ = fs::remove_file(part);
        return Ok(());
    }
    let directory = VolumeDirectory(part.to_owned());
    for tree in [directory.data(), directory.copy()] {
        remove_tree(&tree, userns)?;
    }
    // File systems with a server keep the record under another name for as long as somebody has it open, and learn
    // late that it is closed.
    drop(lock);
    for _ in 0..LATE_CLOSES {
        match remove::own(part) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                std::thread::sleep(Duration::from_millis(10));
            }
            _ => break,
        }
    }
    remove_tree(part, userns)
}

/// Removes a tree in which files of the caller's subordinate IDs may be.
///
/// # Errors
/// What could not be removed.
pub(super) fn remove_tree(tree: &Path, userns: Option<&File>) -> Result<()> {
    match remove::own(tree) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            remove::tree(tree, &canonical_identity()?, userns)
        }
        Err(error) => Err(remove::failed(tree, &error)),
    }
}

/// Whose the files of volumes are.
///
/// # Errors
/// Those of [`identity::plan_on`].
pub fn canonical_identity() -> Result<Identity> {
    let host = Host::system();
    identity::plan_on(&host, &identity::Request::default(), &Caller::current(&host)?)
}

fn fill(part: &VolumeDirectory, record: &[u8]) -> io::Result<Option<Lock>> {
    DirBuilder::new().mode(0o700).create(part.path())?;
    let create = |path: PathBuf| {
        File::options().write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)
    };
    create(part.record())?.write_all(record)?;
    let lock = Lock::try_exclusive(&part.record())?;
    if lock.is_some() {
        DirBuilder::new().mode(0o755).create(part.data())?;
        // Whatever the caller's umask says.
        fs::set_permissions(part.data(), fs::Permissions::from_mode(0o755))?;
        create(part.fresh())?;
    }
    Ok(lock)
}

fn make_directories(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

pub(super) fn read_record(path: &Path) -> Option<Record> {
    use std::io::Read;
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    file.take(LONGEST_RECORD).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// When somebody last changed the list of files in it, for want of better.
fn made_at(path: &Path) -> String {
    let time = path.symlink_metadata().and_then(|found| found.modified()).ok();
    time.and_then(|time| Timestamp::try_from(time).ok()).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

fn is_directory(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_dir())
}

/// What rename(2) says of a directory that holds something.
fn is_taken(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EEXIST | libc::ENOTEMPTY))
}
