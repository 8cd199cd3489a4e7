//! Removing volumes that no container has.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use super::lock::Lock;
use super::store::{VolumeStore, erase};
use super::usage::{Usage, in_use};
use crate::container::spec::Spec;
use crate::container::store::{Store, no_room};
use crate::error::{Error, Result};
use crate::events::{self, Action, Event, Kind};

/// The exit code of podman-volume-rm(1) where a volume does not exist.
pub const MISSING: u8 = 1;
/// The same where a container has it.
pub const IN_USE: u8 = 2;
/// Locks that are held at once by a prune.
const AT_ONCE: usize = 256;

/// A volume that nobody finds any more, and its lock, which keeps the sweep off.
struct Away {
    name: String,
    path: PathBuf,
    lock: Lock,
}

/// Removes one volume. `except` is a container that does not count, since it is going, too; `userns` the canonical
/// user namespace, where one lives.
///
/// # Errors
/// There is none (with the exit code [`MISSING`]), a container has it ([`IN_USE`]), or something of it cannot be
/// removed: then the next sweep tries again.
pub fn remove(store: &Store, name: &str, except: Option<&str>, userns: Option<&File>) -> Result<()> {
    let volumes = VolumeStore::of(store);
    let lock = lock(&volumes, name)?;
    // Whoever makes a container with it now waits, or has its spec on disk.
    let usage = Usage::read(store)?;
    let away = take(store, &usage, name, lock, except)?;
    erase(&away.path, Some(away.lock), userns)
}

/// Removes the anonymous volumes of a container that is being removed, unless another has them, too. Called before its
/// spec goes, so that whoever finds it half-removed goes on.
///
/// # Errors
/// Something cannot be removed; the next sweep tries again.
pub fn remove_anonymous(store: &Store, spec: &Spec, userns: Option<&File>) -> Result<()> {
    let volumes = VolumeStore::of(store);
    for name in spec.volume_names() {
        if !volumes.read(name).is_some_and(|record| record.anonymous) {
            continue;
        }
        match remove(store, name, Some(&spec.id), userns) {
            Err(error) if matches!(error.code(), IN_USE | MISSING) => log::debug!("{error}"),
            // Which volumes others have cannot be told: `volume prune` removes it one day.
            Err(error) if volumes.exists(name) => log::warn!("{error}"),
            result => result?,
        }
    }
    Ok(())
}

/// Removes the anonymous volumes of a container that was being made when its maker was killed.
///
/// # Errors
/// As [`remove_anonymous`].
pub fn remove_made_for(store: &Store, id: &str) -> Result<()> {
    for record in VolumeStore::of(store).all()? {
        if record.made_for.as_deref() != Some(id) {
            continue;
        }
        match remove(store, &record.name, None, None) {
            Err(error) if matches!(error.code(), IN_USE | MISSING) => {}
            result => result?,
        }
    }
    Ok(())
}

/// Removes those of `names` that no container has, and gives the names of those that are gone and what failed: the next
/// sweep tries again.
///
/// # Errors
/// It cannot be told which are in use.
pub fn prune(store: &Store, names: &[String]) -> Result<(Vec<String>, Vec<Error>)> {
    let volumes = VolumeStore::of(store);
    let (mut removed, mut failed) = (Vec::new(), Vec::new());
    for some in names.chunks(AT_ONCE) {
        let locked: Vec<(&String, Lock)> =
            some.iter().filter_map(|name| Some((name, lock(&volumes, name).ok()?))).collect();
        let usage = Usage::read(store)?;
        let away = locked.into_iter().filter_map(|(name, lock)| take(store, &usage, name, lock, None).ok());
        for volume in away.collect::<Vec<_>>() {
            match erase(&volume.path, Some(volume.lock), None) {
                Ok(()) => removed.push(volume.name),
                Err(error) => failed.push(error.while_doing(self::failed(&volume.name))),
            }
        }
    }
    Ok((removed, failed))
}

fn failed(name: &str) -> String {
    format!("cannot remove the volume `{}`", name.escape_debug())
}

/// There is no such volume.
pub fn missing(name: &str) -> Error {
    Error::new(format!("no such volume `{}`", name.escape_debug()))
        .hint("`sbx volume ls` lists the volumes")
        .exit_code(MISSING)
}

fn lock(volumes: &VolumeStore, name: &str) -> Result<Lock> {
    if !volumes.exists(name) {
        return Err(missing(name));
    }
    match Lock::try_exclusive(&volumes.directory(name).record()) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(Error::new(failed(name))
            .because("volume is in use: a container with it is being made, or its files are being copied")
            .exit_code(IN_USE)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing(name)),
        Err(error) => Err(Error::new(failed(name)).because(error)),
    }
}

fn take(store: &Store, usage: &Usage, name: &str, lock: Lock, except: Option<&str>) -> Result<Away> {
    let users = usage.others(name, except);
    if !users.is_empty() {
        return Err(in_use(name, &users).exit_code(IN_USE));
    }
    let path = VolumeStore::of(store).retire(name).map_err(|error| no_room(error, failed(name)))?;
    events::record_here(store.root(), Event::new(Kind::Volume, Action::Remove, name, name));
    Ok(Away { name: name.to_owned(), path, lock })
}
