//! Making the volumes of a new container, and keeping them until its spec says that it has them.

use std::collections::BTreeMap;

use super::lock::{Kind, Lock};
use super::{Record, VolumeStore, removal};
use crate::container::spec::{Origin, Spec, VolumeMount};
use crate::container::store::Store;
use crate::error::{Error, Result, Step};

/// While this lives nobody removes the volumes.
#[must_use]
pub struct Hold {
    locks: Vec<Lock>,
    made: Vec<String>,
}

/// Makes what is missing of the volumes of `spec`, which is not on disk yet, and holds all of them.
///
/// # Errors
/// A volume that cannot be made, or one of another container that is gone; then what was made is removed.
pub fn hold(store: &Store, spec: &Spec) -> Result<Hold> {
    // In the order of names, as everybody takes these locks: nobody waits for somebody who waits for him.
    let by_name: BTreeMap<&str, &VolumeMount> =
        spec.volumes().map(|volume| (volume.name.as_str(), volume)).collect();
    let mut held = Hold { locks: Vec::new(), made: Vec::new() };
    if by_name.is_empty() {
        return Ok(held);
    }
    let volumes = VolumeStore::of(store);
    for (name, volume) in by_name {
        if let Err(error) = held.add(&volumes, name, volume, &spec.id) {
            held.undo(store, spec);
            return Err(error);
        }
    }
    Ok(held)
}

impl Hold {
    fn add(
        &mut self,
        volumes: &VolumeStore,
        name: &str,
        volume: &VolumeMount,
        container: &str,
    ) -> Result<()> {
        let failed = || format!("cannot use the volume `{name}`");
        super::name::check(name)?;
        loop {
            let record = volumes.directory(name).record();
            if volumes.exists(name)
                && let Some(lock) = Lock::wait(&record, Kind::Shared).step(failed)?
            {
                self.locks.push(lock);
                return Ok(());
            }
            if volume.origin == Origin::Shared {
                return Err(Error::new(failed()).because("it was removed with the container that had it"));
            }
            let anonymous = volume.origin == Origin::Anonymous;
            let record = Record {
                anonymous,
                made_for: anonymous.then(|| container.to_owned()),
                labels: volume.labels.clone(),
                options: volume.options.clone(),
                ..Record::new(name)
            };
            if volumes.create(&record)? {
                self.made.push(name.to_owned());
            }
        }
    }

    /// The container will not be: what was made for it goes, unless somebody else has it by now.
    pub fn undo(self, store: &Store, spec: &Spec) {
        let Self { locks, made } = self;
        drop(locks);
        for name in made {
            if let Err(error) = removal::remove(store, &name, Some(&spec.id), None) {
                log::debug!("{error}");
            }
        }
    }
}
