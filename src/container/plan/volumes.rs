//! What is mounted in a container beside its root: what the user asked for, what other containers have, what the image
//! wants to be a volume.

use std::path::{Path, PathBuf};

use crate::cli::container_options::{ContainerOptions, ImageVolume};
use crate::container::spec::{Mount, MountFlags, MountKind, Origin};
use crate::container::store::Store;
use crate::container::{name, volume};
use crate::error::{Error, Result, Step};
use crate::identity::{Identity, Tier};
use crate::image::Config;
use crate::layers::storage;
use crate::volume::VolumeStore;
use crate::volume::record::DRIVER;

/// Directories that become tmpfs in a read-only root (podman-run(1), --read-only-tmpfs).
const READ_ONLY_TMPFS: [&str; 3] = ["/run", "/tmp", "/var/tmp"];

/// All mounts, parents before what is below them.
///
/// # Errors
/// A flag that is wrong, a source that is missing, or a container of `--volumes-from` that is not there.
pub(super) fn mounts(options: &ContainerOptions, config: &Config, store: &Store) -> Result<Vec<Mount>> {
    if let Some(driver) = options.volume_driver.as_deref().filter(|driver| !matches!(*driver, "" | DRIVER)) {
        return Err(Error::new(format!("cannot use `--volume-driver {driver}`"))
            .because(format!("volumes are directories of the store, and the driver is `{DRIVER}`")));
    }
    let mut mounts = asked_for(options)?;
    for word in options.volumes_from.iter().rev() {
        for mount in of_container(word, store)? {
            // The user's own word beats another container, and a later container an earlier one.
            add(&mut mounts, mount);
        }
    }
    image_volumes(options, config, &mut mounts);
    if options.read_only && options.read_only_tmpfs {
        for target in READ_ONLY_TMPFS {
            add(&mut mounts, tmpfs(Path::new(target), true));
        }
    }
    for mount in &mut mounts {
        if let MountKind::Volume(new) = &mut mount.kind
            && new.name.is_empty()
        {
            new.name = name::random_id()?;
        }
    }
    mounts.sort_by_cached_key(|mount| volume::collapse(&mount.target).components().count());
    Ok(mounts)
}

fn asked_for(options: &ContainerOptions) -> Result<Vec<Mount>> {
    let cwd = match std::env::current_dir() {
        // It may have been removed, which matters to relative paths alone.
        Err(_) if options.volume.is_empty() && options.mount.is_empty() => PathBuf::from("/"),
        found => found.step(|| "cannot find the working directory")?,
    };
    let context = volume::Context { cwd: &cwd, root: Path::new("/") };
    let mounts = volume::parse_all(&options.volume, &options.mount, &options.tmpfs, context)?;
    mounts.iter().try_for_each(volume::check_source)?;
    Ok(mounts)
}

/// Adds a mount unless something is mounted there already.
fn add(mounts: &mut Vec<Mount>, mount: Mount) {
    let target = volume::collapse(&mount.target);
    if !mounts.iter().any(|other| volume::collapse(&other.target) == target) {
        mounts.push(mount);
    }
}

/// `--volumes-from CONTAINER[:ro]`: its volumes and the host's directories and files in it.
fn of_container(text: &str, store: &Store) -> Result<Vec<Mount>> {
    let failed = || format!("cannot use `--volumes-from {text}`");
    let (word, words) = text.split_once(':').unwrap_or((text, ""));
    let mut read_only = false;
    for option in words.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            // Without SELinux there are no labels.
            "rw" | "z" => {}
            _ => return Err(Error::new(failed()).because(format!("`{option}` is none of ro, rw and z"))),
        }
    }
    let spec =
        store.find(word).and_then(|id| store.read_spec(&id)).map_err(|error| error.while_doing(failed()))?;
    let mut mounts = spec.mounts;
    mounts.retain(|mount| mount.kind.bind().is_some());
    for mount in &mut mounts {
        mount.flags.read_only |= read_only;
        if let MountKind::Volume(volume) = &mut mount.kind {
            volume.origin = Origin::Shared;
        }
    }
    Ok(mounts)
}

/// Where nothing is mounted on a volume of the image, a new volume is.
fn image_volumes(options: &ContainerOptions, config: &Config, mounts: &mut Vec<Mount>) {
    for target in &config.volumes {
        match options.image_volume {
            ImageVolume::Ignore => {}
            ImageVolume::Tmpfs => add(mounts, tmpfs(target, false)),
            ImageVolume::Bind => {
                let kind = MountKind::Volume(volume::anonymous());
                add(mounts, Mount { target: target.clone(), flags: MountFlags::default(), kind });
            }
        }
    }
}

fn tmpfs(target: &Path, copy_up: bool) -> Mount {
    let flags = MountFlags { no_suid: true, no_dev: true, ..MountFlags::default() };
    let kind = MountKind::Tmpfs { size: None, mode: None, copy_up };
    Mount { target: target.to_owned(), flags, kind }
}

/// What is lost in volumes where the file system of the store keeps no owners. They stay with the store: scratch is of
/// one machine, and goes.
pub(super) fn without_owners(mounts: &[Mount], store: &Store, identity: &Identity) -> Option<String> {
    let has_volumes = mounts.iter().any(|mount| matches!(mount.kind, MountKind::Volume(_)));
    if !has_volumes {
        return None;
    }
    let found = storage::abilities(store.root(), identity).ok()?;
    let place = VolumeStore::of(store).root().display().to_string();
    let takes = match identity.tier {
        Tier::Single if !found.attributes => "owners of files in volumes are not recorded",
        Tier::Range | Tier::Root if !found.owners => {
            "files in volumes all belong to one user, and nobody can change that"
        }
        _ => return None,
    };
    let what = if found.owners { "attributes" } else { "files of other owners" };
    Some(format!(
        "{takes}: the file system of `{place}` ({}) takes no {what} (a local one does: `--root DIR`)",
        found.file_system
    ))
}
