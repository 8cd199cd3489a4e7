//! The volumes of a container that is being started: where they lie, and who of those that start at once fills a new
//! one.
//!
//! A volume is filled by the container's own process, from the root that it has mounted and with the owners that it
//! sees there, into `_copy`, which is mounted at once. When the container is ready, and has not run yet, `_copy` becomes
//! `_data` by one rename. Until then this process has the lock alone: others wait, and find the volume used.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use super::lock::{Kind, Lock};
use super::options::{self, Backing, Meaning};
use super::store::{VolumeDirectory, read_record, remove_tree};
use crate::container::spec::{FirstUse, Mount, MountFlags, MountKind, Spec, VolumeMount};
use crate::error::{Error, Result, Step};
use crate::identity::Identity;
use crate::layers::remove;

/// What a container that is being started has of its volumes.
#[derive(Default)]
pub struct Attachment {
    mounts: Option<Vec<Mount>>,
    fresh: Vec<Fresh>,
}

struct Fresh {
    name: String,
    directory: VolumeDirectory,
    _lock: Lock,
    kept: bool,
}

/// Where one volume is for the mounts of a container.
struct Found {
    meaning: Meaning,
    source: std::path::PathBuf,
    /// Given to the first mount that may be filled.
    first_use: Option<FirstUse>,
}

/// Finds the volumes of `spec`, which is a located one. Waits for whoever fills one of them.
///
/// # Errors
/// One of them is gone, or cannot be used as it is.
pub fn attach(spec: &Spec) -> Result<Attachment> {
    let mut attachment = Attachment::default();
    let mut by_name: BTreeMap<&str, Vec<&VolumeMount>> = BTreeMap::new();
    for volume in spec.volumes() {
        by_name.entry(&volume.name).or_default().push(volume);
    }
    if by_name.is_empty() {
        return Ok(attachment);
    }
    let mut found = BTreeMap::new();
    for (name, mounts) in by_name {
        let one = attachment
            .find(name, &mounts, &spec.identity)
            .map_err(|error| error.while_doing(format!("cannot use the volume `{name}`")))?;
        found.insert(name.to_owned(), one);
    }
    attachment.mounts = Some(spec.mounts.iter().map(|mount| resolved(mount, &mut found)).collect());
    Ok(attachment)
}

impl Attachment {
    /// The spec with mounts whose sources are there.
    pub fn spec<'s>(&self, spec: &'s Spec) -> Cow<'s, Spec> {
        match &self.mounts {
            Some(mounts) => Cow::Owned(Spec { mounts: mounts.clone(), ..spec.clone() }),
            None => Cow::Borrowed(spec),
        }
    }

    /// The container is ready: what was filled is the volume's content from now on.
    ///
    /// # Errors
    /// Somebody has put something into a volume meanwhile.
    pub fn keep(mut self) -> Result<()> {
        self.fresh.iter_mut().try_for_each(Fresh::keep)
    }

    fn find(&mut self, name: &str, mounts: &[&VolumeMount], identity: &Identity) -> Result<Found> {
        let directory =
            VolumeDirectory::from(mounts.first().map(|one| one.directory.clone()).unwrap_or_default());
        if !directory.path().symlink_metadata().is_ok_and(|found| found.is_dir()) {
            return Err(Error::new("it is not there").hint(format!("make it: `sbx volume create {name}`")));
        }
        let record = read_record(&directory.record()).unwrap_or_default();
        let meaning = options::meaning(&record.options)?;
        match &meaning.backing {
            Backing::Tmpfs { .. } => return Ok(Found { meaning, source: directory.data(), first_use: None }),
            Backing::Bind(path) => {
                let source = path.clone();
                fs::metadata(&source)
                    .step(|| format!("cannot reach its directory `{}`", source.display()))?;
                return Ok(Found { meaning, source, first_use: None });
            }
            Backing::Store => {}
        }
        let data = directory.data();
        ensure_data(&data)?;
        let fills = |mount: &&&VolumeMount| mount.subpath.is_none() && mount.copy && !meaning.no_copy;
        let wanted = mounts.iter().any(|mount| fills(&mount));
        let owned = meaning.uid.is_some() || meaning.gid.is_some();
        if directory.is_fresh() && (wanted || owned) {
            // A volume that is gone while it is waited for was removed by force.
            let failed = || format!("cannot lock `{}`", directory.record().display());
            let lock = Lock::wait(&directory.record(), Kind::Exclusive).step(failed)?;
            let lock = lock.ok_or_else(|| Error::new("it was removed"))?;
            if directory.is_fresh() && is_empty(&data) {
                make_copy(&directory, identity)?;
                let source = directory.copy();
                let fresh = Fresh { name: name.to_owned(), directory, _lock: lock, kept: false };
                self.fresh.push(fresh);
                let first_use = Some(FirstUse { copy: wanted, uid: meaning.uid, gid: meaning.gid });
                return Ok(Found { meaning, source, first_use });
            }
            // Somebody filled it by hand, or a monitor was killed at its last step.
            let _ = fs::remove_file(directory.fresh());
        }
        Ok(Found { meaning, source: data, first_use: None })
    }
}

fn resolved(mount: &Mount, found: &mut BTreeMap<String, Found>) -> Mount {
    let MountKind::Volume(volume) = &mount.kind else { return mount.clone() };
    let Some(found) = found.get_mut(&volume.name) else { return mount.clone() };
    let flags = joined(mount.flags, found.meaning.flags);
    if let Backing::Tmpfs { size, mode } = found.meaning.backing {
        let kind = MountKind::Tmpfs { size, mode, copy_up: volume.copy && !found.meaning.no_copy };
        return Mount { target: mount.target.clone(), flags, kind };
    }
    let mut volume = volume.clone();
    volume.bind.source = found.source.clone();
    let fits = |first: &mut FirstUse| volume.subpath.is_none() && (volume.copy || !first.copy);
    volume.first_use = found.first_use.take_if(fits);
    Mount { target: mount.target.clone(), flags, kind: MountKind::Volume(volume) }
}

fn joined(one: MountFlags, other: MountFlags) -> MountFlags {
    MountFlags {
        read_only: one.read_only || other.read_only,
        no_exec: one.no_exec || other.no_exec,
        no_suid: one.no_suid || other.no_suid,
        no_dev: one.no_dev || other.no_dev,
    }
}

/// A volume that lost its directory (a crash) is an empty one. What is there and no directory leads elsewhere.
fn ensure_data(data: &Path) -> Result<()> {
    let failed = || format!("cannot use `{}`", data.display());
    match data.symlink_metadata() {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(Error::new(failed()).because("it is no directory")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::DirBuilder::new().mode(0o755).create(data).step(failed)
        }
        Err(error) => Err(Error::new(failed()).because(error)),
    }
}

/// One that the caller may not read is somebody's, and not new.
fn is_empty(data: &Path) -> bool {
    fs::read_dir(data).is_ok_and(|mut entries| entries.next().is_none())
}

/// The directory that is filled, writable by the container's root.
fn make_copy(directory: &VolumeDirectory, identity: &Identity) -> Result<()> {
    let copy = directory.copy();
    let failed = || format!("cannot make `{}`", copy.display());
    let no_room = |error| crate::container::store::no_room(error, failed());
    // Of a container that was killed while it filled it.
    remove_tree(&copy, None)?;
    fs::DirBuilder::new().mode(0o755).create(&copy).map_err(no_room)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).map_err(no_room)?;
    let Some((uid, gid)) = stranger(identity, &copy)? else { return Ok(()) };
    let give = || {
        let given = std::os::unix::fs::chown(&copy, Some(uid), Some(gid));
        given.err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO).clamp(1, 124))
    };
    match crate::sandbox::userns::run_in(identity, give)? {
        0 => Ok(()),
        code => Err(Error::new(failed()).because(io::Error::from_raw_os_error(code))),
    }
}

/// The container's root, by IDs of the canonical namespace, where its map leaves the caller out: it could write
/// nothing then.
fn stranger(identity: &Identity, copy: &Path) -> Result<Option<(u32, u32)>> {
    let Some(nested) = &identity.nested else { return Ok(None) };
    let caller = copy.metadata().step(|| format!("cannot look at `{}`", copy.display()))?.uid();
    if identity.host_uid_map().to_container(caller).is_some() {
        return Ok(None);
    }
    let lowest =
        |map: &crate::identity::IdMap| map.0.iter().min_by_key(|line| line.inside).map(|line| line.outside);
    Ok(lowest(&nested.uid_map).zip(lowest(&nested.gid_map)))
}

impl Fresh {
    fn keep(&mut self) -> Result<()> {
        let data = self.directory.data();
        fs::rename(self.directory.copy(), &data).map_err(|error| {
            Error::new(format!("cannot fill the volume `{}`", self.name)).because(error).hint(
                "somebody has put files into it meanwhile: start the container again, and they are used",
            )
        })?;
        self.kept = true;
        let _ = fs::remove_file(self.directory.fresh());
        Ok(())
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if !self.kept {
            // What is left is removed by who comes next.
            let _ = remove::own(&self.directory.copy());
        }
    }
}
