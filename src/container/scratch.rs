//! Local scratch: where the layers lie that containers change, if the store is on a file system that does not keep
//! what they hold, or keeps it slowly (homes on NFS, Lustre, GPFS).
//!
//! `<scratch>/sbx-scratch-UID/<container>/` holds `upper`, `work` and `mounts`, and the symlink `store` that tells whose
//! it is. The container's record names it; a directory whose container is gone is removed by the next command.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, Step};
use crate::identity::Identity;
use crate::layers::remove;
use crate::layers::storage::{self, Abilities};

const STORE: &str = "store";

/// What the places depend on, in the order in which they are tried.
const VARIABLES: [&str; 2] = ["SLURM_TMPDIR", "TMPDIR"];
const LAST: &str = "/var/tmp";

/// Where uppers go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uppers {
    /// None: into the container's own directory in the store.
    pub scratch: Option<PathBuf>,
    /// Files of other owners can be kept there.
    pub owners: bool,
    pub reason: Option<String>,
}

/// `--scratch`, else SBX_SCRATCH, else, where the store is not fit for uppers, the first local directory that is.
///
/// # Errors
/// A directory that was asked for cannot be used.
pub fn choose(asked: Option<&Path>, store: &Path, identity: &Identity) -> Result<Uppers> {
    let variable = variable("SBX_SCRATCH");
    if let Some(asked) = asked.or(variable.as_deref()) {
        let directory = prepare(asked)?;
        let owners = storage::abilities(&directory, identity).map_or(true, |found| found.owners);
        return Ok(Uppers { scratch: Some(directory), owners, reason: Some("it was asked for".to_owned()) });
    }
    let in_store = |owners, reason| Uppers { scratch: None, owners, reason };
    let found = match storage::abilities(store, identity) {
        Ok(found) => found,
        Err(error) => {
            // What is missing shows when it is needed.
            log::debug!("{error}");
            return Ok(in_store(true, None));
        }
    };
    let Some(reason) = found.unfit_for_uppers() else { return Ok(in_store(true, None)) };
    for place in places() {
        let fit = prepare(&place).and_then(|directory| {
            let found = storage::abilities(&directory, identity)?;
            match found.unfit_for_uppers() {
                None => Ok(directory),
                Some(reason) => {
                    Err(Error::new(format!("cannot use `{}`", directory.display())).because(reason))
                }
            }
        });
        match fit {
            Ok(directory) => {
                return Ok(Uppers { scratch: Some(directory), owners: true, reason: Some(reason) });
            }
            Err(error) => log::info!("no scratch in `{}`: {error}", place.display()),
        }
    }
    Ok(in_store(found.owners, Some(reason)))
}

/// What [`choose`] would say, for `sbx info`: nothing is made or remembered.
pub fn foresee(store: &Path, identity: &Identity) -> (Option<Abilities>, Uppers) {
    let nearest = crate::host::paths::nearest_existing(store);
    let found = storage::look(nearest, identity).ok();
    let owners = found.as_ref().is_none_or(|found| found.owners);
    let own = |place: &Path| place.join(name());
    if let Some(asked) = variable("SBX_SCRATCH") {
        let owners = storage::look(&asked, identity).map_or(true, |found| found.owners);
        let reason = Some("SBX_SCRATCH is set".to_owned());
        return (found, Uppers { scratch: Some(own(&asked)), owners, reason });
    }
    let reason = found.as_ref().and_then(Abilities::unfit_for_uppers);
    let fit = |place: &PathBuf| {
        storage::look(place, identity).is_ok_and(|found| found.unfit_for_uppers().is_none())
    };
    match reason.is_some().then(|| places().find(fit)).flatten() {
        Some(place) => (found, Uppers { scratch: Some(own(&place)), owners: true, reason }),
        None => (found, Uppers { scratch: None, owners, reason }),
    }
}

fn places() -> impl Iterator<Item = PathBuf> {
    VARIABLES.into_iter().filter_map(variable).chain([PathBuf::from(LAST)])
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

fn name() -> String {
    format!("sbx-scratch-{}", rustix::process::geteuid().as_raw())
}

/// The caller's own directory in `place`. /tmp and the like are everybody's: one of somebody else's is refused.
fn prepare(place: &Path) -> Result<PathBuf> {
    let failed = || format!("cannot use `{}` for scratch", place.display());
    let directory = place.canonicalize().step(failed)?.join(name());
    match fs::DirBuilder::new().mode(0o711).create(&directory) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Error::new(failed()).because(error)),
    }
    let found = fs::symlink_metadata(&directory).step(failed)?;
    let uid = rustix::process::geteuid().as_raw();
    if !found.is_dir() || found.uid() != uid {
        return Err(Error::new(failed())
            .because(format!("`{}` is not a directory of user {uid}", directory.display()))
            .hint("name another directory with `--scratch DIR` or SBX_SCRATCH"));
    }
    // A container whose root is not the caller passes through.
    if found.mode() & 0o777 != 0o711 {
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o711)).step(failed)?;
    }
    Ok(directory)
}

/// Makes the directory of one container.
///
/// # Errors
/// Those of mkdir(2) and symlink(2).
pub fn make(directory: &Path, store: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o711).create(directory)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o711))?;
    symlink(store, directory.join(STORE))
}

/// Removes the directory of one container. On another machine than that where it is there is nothing to remove.
///
/// # Errors
/// Something in it cannot be removed.
pub fn remove(directory: &Path, identity: &Identity, userns: Option<&fs::File>) -> Result<()> {
    match directory.symlink_metadata() {
        Ok(found) if found.is_dir() => remove::tree(directory, identity, userns),
        _ => Ok(()),
    }
}

/// Removes what containers of this store left whose records are gone. `exists` says whether a container is there.
pub fn remove_orphans(store: &Path, identity: impl Fn() -> Result<Identity>, exists: impl Fn(&str) -> bool) {
    let places = ["SBX_SCRATCH"].into_iter().filter_map(variable).chain(places());
    for entry in places.flat_map(|place| fs::read_dir(place.join(name())).into_iter().flatten().flatten()) {
        let id = entry.file_name();
        let Some(id) = id.to_str().filter(|id| crate::container::store::is_id(id)) else { continue };
        let is_ours = fs::read_link(entry.path().join(STORE)).is_ok_and(|of| of == store);
        if !is_ours || exists(id) {
            continue;
        }
        if let Err(error) = identity().and_then(|identity| remove(&entry.path(), &identity, None)) {
            log::warn!("cannot clean up after container {}: {error}", &id[..12]);
        }
    }
}
