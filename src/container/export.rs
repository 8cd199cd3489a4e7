//! The root of a container as a tar, whether it runs or not: its layers and its upper put together, without what
//! was mounted on them.

use std::collections::BTreeSet;
use std::io::{BufWriter, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, mount_change};

use crate::container::directory::ContainerDirectory;
use crate::container::spec::{Driver, Root, Spec};
use crate::container::store::{Store, no_room};
use crate::error::{Error, Result, Step};
use crate::image::transfer::unpacker;
use crate::layers::owners::Owners;
use crate::layers::pack::{Kind, Source, pack};
use crate::layers::{copy, overlay, remove};
use crate::sandbox::inroot::descriptor_path;

/// Writes the tar of a container's root, in a process of the container's own user namespace.
///
/// # Errors
/// There is no such container, it has no root of its own, or the tar cannot be written.
pub fn export(store: &Store, id: &str, target: &mut (dyn Write + Send)) -> Result<()> {
    let spec = store.read_spec(id)?;
    let directory = store.directory_of(&spec);
    let spec = spec.located(store.root(), &directory)?.into_owned();
    if matches!(spec.root, Root::Host { .. }) {
        return Err(Error::new(format!("cannot export the container `{}`", spec.name))
            .because("its root is this machine's own system (the image `host`)"));
    }
    unpacker::run(&spec.identity, |_| write(&spec, &directory, target), |()| Ok(()))
}

/// The same in a process of that namespace, for a spec whose layers are located. It goes into a mount namespace of its
/// own.
///
/// # Errors
/// As [`export`].
pub(crate) fn write(spec: &Spec, directory: &ContainerDirectory, target: &mut dyn Write) -> Result<()> {
    let mut target = BufWriter::with_capacity(1 << 18, target);
    let packed = match &spec.root {
        Root::WritableDirectory { path } => pack_root(path, &Owners::default(), &mut target),
        Root::Directories { lowers, driver } => {
            let mut owners = owners(lowers)?;
            // What emulated root recorded in this container.
            owners.cover(Owners::load(directory.path())?);
            // A copy has all of them in the upper.
            let mut layers = if *driver == Driver::Copy { Vec::new() } else { lowers.clone() };
            if directory.upper().is_dir() {
                layers.push(directory.upper());
            }
            stacked(&layers, *driver, directory, |root| pack_root(root, &owners, &mut target))
        }
        Root::Host { .. } | Root::Layers { .. } => Err(Error::new("cannot tell what the root consists of")),
    };
    packed.map_err(|error| error.while_doing(format!("cannot export the container `{}`", spec.name)))?;
    target.flush().map_err(|error| no_room(error, "cannot write the archive".to_owned()))
}

fn pack_root(root: &Path, owners: &Owners, target: &mut dyn Write) -> Result<()> {
    let leave_out = BTreeSet::new();
    pack(
        &Source {
            root,
            kind: Kind::Root,
            owners,
            leave_out: &leave_out,
            opaque: None,
            removed: &[],
            times: crate::layers::pack::Times::Kept,
        },
        target,
    )
    .map(|_| ())
}

/// What the indexes beside the layers say, the higher before the lower.
fn owners(lowers: &[PathBuf]) -> Result<Owners> {
    let mut all = Owners::default();
    for layer in lowers.iter().filter_map(|lower| lower.parent()) {
        all.cover(Owners::load(layer)?);
    }
    Ok(all)
}

/// Shows `work` the layers, lowest first, as one tree.
fn stacked(
    layers: &[PathBuf],
    driver: Driver,
    directory: &ContainerDirectory,
    work: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    if let [only] = layers {
        return work(only);
    }
    if driver == Driver::Overlay
        && let Ok(root) = mounted(layers, &directory.stage())
    {
        return work(Path::new(&descriptor_path(&root)));
    }
    // fuse-overlayfs has marks of its own in the upper; a copy needs nothing but room, and shares blocks.
    let scratch = directory.path().join(format!("export-{}", std::process::id()));
    let failed = |error| no_room(error, format!("cannot make `{}`", scratch.display()));
    std::fs::create_dir(&scratch).map_err(failed)?;
    let done = copy::merge(layers, &scratch).and_then(|()| work(&scratch));
    let removed = remove::own(&scratch);
    done?;
    removed.map_err(|error| remove::failed(&scratch, &error))
}

/// Mounts the layers read-only in a mount namespace of this process's own. The upper of a container that runs may
/// be among them: what it changes meanwhile may be seen or not.
fn mounted(layers: &[PathBuf], scratch: &Path) -> Result<OwnedFd> {
    let failed = || "cannot mount the layers";
    let open = |path: &Path| {
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).step(failed)
    };
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).step(failed)?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC).step(failed)?;
    std::fs::create_dir_all(scratch).step(failed)?;
    // In the new mount namespace: an overlay takes none of another's.
    let opened = layers.iter().rev().map(|layer| open(layer)).collect::<Result<Vec<_>>>()?;
    let options = |before: &str| format!("{},userxattr", overlay::lowerdir(&opened, before));
    overlay::mount_descriptors(scratch, MountFlags::RDONLY, options).step(failed)?;
    open(scratch)
}
