//! The unpacked layers of one way of keeping owners.
//!
//! `<store>/layers/<key>/<diff ID>/` holds `fs`, `facts.json` and, where something is recorded, `owners`. It is
//! made in `.new-<diff ID>`, whose maker holds the flock of `.lock-<diff ID>`, and becomes visible by one
//! rename. Who finds the lock free may remove what is there.
//!
//! Nothing waits for the disk: a layer carries the symlink `unsynced`, to the ID of the boot that made it,
//! until [`LayerStore::settle`] has written everything through. After a power cut the boot is another one and
//! the layer is not taken for whole; it is unpacked again from its blob.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags};

use crate::error::{Error, Result, Step};
use crate::identity::{Identity, MapLine, Tier};
use crate::image::digest::Digest;
use crate::layers::owners;
use crate::layers::remove;
use crate::layers::storage::{self, Abilities};
use crate::layers::unpack::{self, Keep, Limits, Unpacked};

pub use crate::layers::unpack::LayerFacts;

const FACTS: &str = "facts.json";
const FILES: &str = "fs";
const UNSYNCED: &str = "unsynced";
const LOCK: &str = ".lock-";
const NEW: &str = ".new-";
const OLD: &str = ".old-";
const LONGEST_FACTS: u64 = 1 << 20;

/// The way in which owners are kept, as the name of a directory: layers of different ways are never mixed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapKey(String);

const SINGLE: &str = "single";
const SINGLE_INDEX: &str = "single-sidecar";

impl MapKey {
    /// The key of the canonical maps. Where owners are recorded, in the single tier or on a file system that keeps
    /// none, `user.` attributes take them if there are such; afterwards the directory says so.
    pub fn of(identity: &Identity, store: &Path) -> Self {
        let found = kept_in(store, identity);
        if identity.tier == Tier::Single || found.as_ref().is_some_and(|found| !found.owners) {
            return Self::single(&store.join("layers"), found.is_none_or(|found| found.attributes));
        }
        let (users, groups) = (&identity.uid_map.0, &identity.gid_map.0);
        let same = |lines: &[MapLine]| lines.iter().all(|line| line.inside == line.outside);
        if same(users) && same(groups) {
            return Self("root".to_owned());
        }
        let part = |lines: &[MapLine]| match lines {
            [_, range] => format!("{}-{}", range.outside, range.count),
            lines => {
                let text: Vec<String> = lines.iter().skip(1).map(ToString::to_string).collect();
                Digest::of(text.join("\n").as_bytes()).short().to_owned()
            }
        };
        Self(format!("range-{}-{}", part(users), part(groups)))
    }

    fn single(layers: &Path, attributes: bool) -> Self {
        for key in [SINGLE, SINGLE_INDEX] {
            if layers.join(key).is_dir() {
                return Self(key.to_owned());
            }
        }
        Self(if attributes { SINGLE } else { SINGLE_INDEX }.to_owned())
    }

    /// A key that a container's record names; none for what cannot be one.
    pub fn from_record(text: &str) -> Option<Self> {
        let sound = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (!text.is_empty() && text.len() < 100 && text.bytes().all(sound)).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// All files belong to the caller on disk, whatever the maps.
    pub fn is_squashed(&self) -> bool {
        [SINGLE, SINGLE_INDEX].contains(&self.as_str())
    }

    fn keep(&self) -> Keep {
        match self.as_str() {
            SINGLE => Keep::Attributes,
            SINGLE_INDEX => Keep::Index,
            _ => Keep::Inodes,
        }
    }
}

/// Some file systems refuse to give files away: then owners are recorded, as in the single tier.
fn kept_in(store: &Path, identity: &Identity) -> Option<Abilities> {
    let nearest = crate::host::paths::nearest_existing(store);
    let found =
        if nearest == store { storage::abilities(store, identity) } else { storage::look(nearest, identity) };
    found.inspect_err(|error| log::debug!("{error}")).ok()
}

/// The layers below one key.
#[derive(Debug, Clone)]
pub struct LayerStore {
    root: PathBuf,
    keep: Keep,
}

/// A layer in the making.
#[derive(Debug)]
pub struct InTheMaking {
    /// The file whose flock its maker holds.
    pub lock: PathBuf,
    pub trees: Vec<PathBuf>,
}

/// [`LayerStore::stack`]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stacked {
    pub layers: Vec<Digest>,
    /// Only fuse-overlayfs understands them ([`LayerFacts::whiteout_files`]).
    pub whiteout_files: bool,
}

/// Whether a layer has still to be made.
#[derive(Debug)]
pub enum Begin {
    Present,
    Make(Unfinished),
}

impl LayerStore {
    /// The layers of `store` under `key`; nothing is touched.
    pub fn new(store: &Path, key: &MapKey) -> Self {
        Self { root: store.join("layers").join(key.as_str()), keep: key.keep() }
    }

    /// Whether the layer is there, and whole.
    pub fn has(&self, diff_id: &Digest) -> bool {
        is_whole(&self.directory(diff_id))
    }

    /// The directory of a layer with all that is kept of it.
    pub fn directory(&self, diff_id: &Digest) -> PathBuf {
        self.root.join(diff_id.hex())
    }

    /// The files of a layer.
    pub fn path(&self, diff_id: &Digest) -> PathBuf {
        self.directory(diff_id).join(FILES)
    }

    /// What is known of a layer that is there.
    ///
    /// # Errors
    /// Its record cannot be read.
    pub fn facts(&self, diff_id: &Digest) -> Result<LayerFacts> {
        let path = self.directory(diff_id).join(FACTS);
        let failed = || format!("cannot read `{}`", path.display());
        let mut text = Vec::new();
        let file = File::open(&path).step(failed)?;
        file.take(LONGEST_FACTS).read_to_end(&mut text).step(failed)?;
        serde_json::from_slice(&text).step(failed).map_err(|error| {
            error.hint(format!("`rm '{}'` has the layer unpacked again when it is needed", path.display()))
        })
    }

    /// The layers that make a root, lowest first: each layer once, and none that a higher one hides altogether.
    ///
    /// A layer that comes twice has its effect where it comes last, so that the lower one adds nothing; the
    /// kernel's overlay refuses it (ELOOP).
    ///
    /// # Errors
    /// As [`Self::facts`].
    pub fn stack(&self, diff_ids: &[Digest]) -> Result<Stacked> {
        let mut stacked = Stacked::default();
        for diff_id in diff_ids.iter().rev() {
            if stacked.layers.contains(diff_id) {
                continue;
            }
            let facts = self.facts(diff_id)?;
            stacked.layers.push(diff_id.clone());
            stacked.whiteout_files |= facts.whiteout_files;
            if facts.opaque {
                break;
            }
        }
        stacked.layers.reverse();
        Ok(stacked)
    }

    /// Claims the making of a layer. Waits while another process or thread makes the same; then it may be
    /// present. A thread holds one claim at a time, or two of them could wait for each other.
    ///
    /// # Errors
    /// The store cannot be written, or its file system has no locks.
    pub fn begin(&self, diff_id: &Digest) -> Result<Begin> {
        if self.has(diff_id) {
            return Ok(Begin::Present);
        }
        self.make_root()?;
        let lock = self.lock(diff_id.hex())?;
        if self.has(diff_id) {
            return Ok(Begin::Present);
        }
        let mut unfinished = Unfinished::new(self.clone(), lock, diff_id.hex())?;
        // It survived a power cut, but perhaps not whole.
        self.discard(diff_id.hex())?;
        unfinished.diff_id = Some(diff_id.clone());
        Ok(Begin::Make(unfinished))
    }

    fn begin_unknown(&self) -> Result<Unfinished> {
        self.make_root()?;
        let mut random = [0_u8; 16];
        crate::sys::random::fill(&mut random).step(|| "cannot get random bytes")?;
        let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let lock = self.lock(&name)?;
        Unfinished::new(self.clone(), lock, &name)
    }

    /// The diff IDs of all layers, whole or not.
    pub fn ids(&self) -> Vec<Digest> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        entries.filter_map(|entry| Digest::from_hex(entry.file_name().to_str()?)).collect()
    }

    /// What is in the making, or was when its maker was killed: who gets the lock without waiting may remove it.
    pub fn in_the_making(&self) -> Vec<InTheMaking> {
        let mut found: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            if let Some(rest) = name.strip_prefix(LOCK) {
                found.entry(rest.to_owned()).or_default();
            } else if let Some(rest) = name.strip_prefix(NEW).or_else(|| name.strip_prefix(OLD)) {
                found.entry(rest.to_owned()).or_default().push(entry.path());
            }
        }
        let with_lock = |(name, trees)| InTheMaking { lock: self.root.join(format!("{LOCK}{name}")), trees };
        found.into_iter().map(with_lock).collect()
    }

    /// Writes all layers through to the disk and lets later boots trust them. Takes as long as the disk does,
    /// so that it comes last, when nobody waits any more.
    ///
    /// # Errors
    /// The disk fails: the layers stay marked, and are made again after the next boot.
    pub fn settle(&self) -> Result<()> {
        let marked: Vec<PathBuf> = self
            .ids()
            .iter()
            .map(|diff_id| self.directory(diff_id).join(UNSYNCED))
            .filter(|mark| fs::read_link(mark).is_ok_and(|boot| boot.as_os_str() == boot_id()))
            .collect();
        if marked.is_empty() {
            return Ok(());
        }
        let failed = || format!("cannot write `{}` through to the disk", self.root.display());
        let root = File::open(&self.root).step(failed)?;
        rustix::fs::syncfs(&root).step(failed)?;
        for mark in marked {
            let _ = fs::remove_file(mark);
        }
        Ok(())
    }

    fn make_root(&self) -> Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.root)
            .step(|| format!("cannot make `{}`", self.root.display()))
    }

    /// Moves a layer that is not whole out of sight and removes it.
    fn discard(&self, name: &str) -> Result<()> {
        let (there, old) = (self.root.join(name), self.root.join(format!("{OLD}{name}")));
        match fs::rename(&there, &old) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).step(|| format!("cannot remove `{}`", there.display())),
            Ok(()) => remove(&old),
        }
    }

    /// The flock of one name, waited for.
    fn lock(&self, name: &str) -> Result<Lock> {
        let path = self.root.join(format!("{LOCK}{name}"));
        let failed = || format!("cannot lock `{}`", path.display());
        loop {
            let mut options = OpenOptions::new();
            let file = options
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&path)
                .step(failed)?;
            match file.lock() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(Error::new(failed())
                        .because(error)
                        .hint("keep the store on a file system with locks (`--root DIR` or SBX_ROOT)"));
                }
                Ok(()) => {}
            }
            // Its holder removes it before it lets go: then it is a lock of nothing.
            let current = fs::symlink_metadata(&path).is_ok_and(|there| {
                file.metadata().is_ok_and(|ours| (ours.dev(), ours.ino()) == (there.dev(), there.ino()))
            });
            if current {
                return Ok(Lock { _file: file, path });
            }
        }
    }
}

#[derive(Debug)]
struct Lock {
    _file: File,
    path: PathBuf,
}

/// The name goes while the lock is still held.
impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// A layer being made. Dropped, it is removed.
#[derive(Debug)]
pub struct Unfinished {
    store: LayerStore,
    /// None once it is visible.
    directory: Option<PathBuf>,
    diff_id: Option<Digest>,
    _lock: Lock,
}

impl Unfinished {
    fn new(store: LayerStore, lock: Lock, name: &str) -> Result<Self> {
        let directory = store.root.join(format!("{NEW}{name}"));
        let unfinished = Self { store, directory: Some(directory.clone()), diff_id: None, _lock: lock };
        let failed = || format!("cannot make `{}`", directory.display());
        // A maker that was killed left it.
        remove(&directory)?;
        fs::create_dir(&directory).map_err(|error| no_room(&error, failed()))?;
        let files = directory.join(FILES);
        fs::create_dir(&files).map_err(|error| no_room(&error, failed()))?;
        fs::set_permissions(&files, fs::Permissions::from_mode(0o755)).step(failed)?;
        // A store below a directory with setgid has its group.
        let _ = std::os::unix::fs::chown(&files, None, Some(rustix::process::getegid().as_raw()));
        Ok(unfinished)
    }

    /// Unpacks the uncompressed archive `tar`, reads it to its end (bytes after the archive count for the
    /// diff ID), verifies it and makes the layer visible.
    ///
    /// # Errors
    /// What is wrong with the archive, or could not be made. Nothing stays.
    pub fn unpack(mut self, tar: &mut (dyn Read + Send), limits: &Limits) -> Result<LayerFacts> {
        let shown = self.diff_id.as_ref().map(Digest::to_string).unwrap_or_default();
        let within = |error: Error| error.while_doing(format!("cannot unpack the layer `{shown}`"));
        let unpacked = self.unpack_files(tar, limits).map_err(within)?;
        if let Some(diff_id) = &self.diff_id
            && *diff_id != unpacked.digest
        {
            return Err(within(
                Error::new("its content is not what the image's configuration says")
                    .because(format!("its digest is `{}`", unpacked.digest))
                    .hint("the image is damaged where it comes from: ask who made it to push it again"),
            ));
        }
        self.publish(&unpacked).map_err(within)?;
        Ok(unpacked.facts)
    }

    fn unpack_files(&self, tar: &mut (dyn Read + Send), limits: &Limits) -> Result<Unpacked> {
        unpack::unpack(self.files()?, tar, self.store.keep, limits)
    }

    fn files(&self) -> Result<OwnedFd> {
        let path = self.directory.as_deref().unwrap_or(&self.store.root).join(FILES);
        rustix::fs::open(&path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .step(|| format!("cannot open `{}`", path.display()))
    }

    fn publish(&mut self, unpacked: &Unpacked) -> Result<()> {
        let Some(directory) = self.directory.as_deref() else { return Ok(()) };
        let write = |name: &str, bytes: &[u8]| {
            let path = directory.join(name);
            fs::write(&path, bytes)
                .map_err(|error| no_room(&error, format!("cannot write `{}`", path.display())))
        };
        if !unpacked.owners.is_empty() {
            write(owners::INDEX, &unpacked.owners.to_bytes())?;
        }
        write(FACTS, &serde_json::to_vec(&unpacked.facts).step(|| "cannot describe the layer")?)?;
        let mark = directory.join(UNSYNCED);
        std::os::unix::fs::symlink(boot_id(), &mark)
            .map_err(|error| no_room(&error, format!("cannot make `{}`", mark.display())))?;
        let target = self.store.directory(&unpacked.digest);
        match fs::rename(directory, &target) {
            // An import of what is there already: dropping ours is all.
            Err(_) if is_whole(&target) => Ok(()),
            Err(error) => Err(error).step(|| format!("cannot make `{}` visible", target.display())),
            Ok(()) => {
                self.directory = None;
                Ok(())
            }
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(directory) = &self.directory
            && let Err(error) = remove(directory)
        {
            log::debug!("{error}");
        }
    }
}

/// Unpacks an archive whose diff ID nobody has said (import), and gives it.
///
/// # Errors
/// As [`Unfinished::unpack`].
pub fn unpack_unknown(
    store: &LayerStore,
    tar: &mut (dyn Read + Send),
    limits: &Limits,
) -> Result<(Digest, LayerFacts)> {
    let mut unfinished = store.begin_unknown()?;
    let unpacked = unfinished.unpack_files(tar, limits)?;
    if !store.has(&unpacked.digest) {
        // Whoever makes the same layer under its name is waited for, and its remains are cleared.
        let lock = store.lock(unpacked.digest.hex())?;
        if !store.has(&unpacked.digest) {
            store.discard(unpacked.digest.hex())?;
        }
        unfinished.publish(&unpacked)?;
        drop(lock);
    }
    Ok((unpacked.digest, unpacked.facts))
}

fn is_whole(directory: &Path) -> bool {
    match fs::read_link(directory.join(UNSYNCED)) {
        Ok(boot) => boot.as_os_str() == boot_id(),
        Err(_) => directory.join(FACTS).symlink_metadata().is_ok(),
    }
}

fn boot_id() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(crate::container::process::boot_id)
}

fn remove(directory: &Path) -> Result<()> {
    remove::own(directory).map_err(|error| remove::failed(directory, &error))
}

fn no_room(error: &io::Error, message: String) -> Error {
    let failed = Error::new(message).because(error);
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => failed.hint(
            "free some space where images are kept (`sbx info` names the place), or choose another with `--root`",
        ),
        _ => failed,
    }
}

#[cfg(test)]
mod tests;
