//! Stacking: lowers that nobody changes and one upper of the container's own become one root.
//!
//! Two drivers do it: the kernel's overlay, mounted by the container's own process in its user namespace,
//! and fuse-overlayfs, a process beside the container that serves a FUSE mount made by the container. The
//! image `host` and every container whose map is not the canonical one take fuse-overlayfs: it squashes
//! owners, and it works with the canonical map below while FUSE shows the container's map above. Where neither
//! is to be had, the layers are copied.

pub mod compression;
pub mod copy;
pub mod fuse_overlayfs;
pub mod overlay;
pub mod owners;
pub mod pack;
pub mod remove;
pub mod stack;
pub mod storage;
pub mod store;
pub mod unpack;
pub mod walk;

use std::path::{Path, PathBuf};

use crate::container::directory::ContainerDirectory;
use crate::container::spec::{Driver, Root, Spec};
use crate::error::{Error, Result};
use crate::identity::{Identity, Tier};
use crate::image::digest::Digest;
use crate::image::{Source, Unpacked};
use crate::layers::store::{LayerStore, MapKey};

/// The directories of one container's upper layer.
#[derive(Debug, Clone)]
pub struct Upper {
    pub upper: PathBuf,
    pub work: PathBuf,
    /// The upper goes with the container, so that nothing need be written through to the disk.
    pub throw_away: bool,
    /// A write that finds no room fails at once: fuse-overlayfs' are told to close(2), which many programs do not ask.
    pub tells_writers: bool,
}

impl Upper {
    pub fn of(spec: &Spec, directory: &ContainerDirectory) -> Self {
        let has_none = matches!(spec.root, Root::WritableDirectory { .. });
        Self {
            upper: directory.upper(),
            work: directory.work(),
            throw_away: spec.remove_on_exit || spec.becomes_layer || has_none,
            // A layer is kept for long and by its content: it is not to be what there happened to be room for.
            tells_writers: spec.becomes_layer,
        }
    }
}

/// What decides between the drivers, asked only where the answer matters.
pub struct Host<'a> {
    /// The directory in which uppers lie: the store, or local scratch.
    pub uppers: &'a Path,
    /// Files have no owners on disk: fuse-overlayfs shows all as root's.
    pub squashed: bool,
    pub identity: &'a Identity,
    pub read_only: bool,
    /// Every directory and file that will be mounted on, to see whether a bare root has them all.
    pub mount_points: &'a [&'a Path],
    /// The generated files of /etc: a bare root without one of them goes without.
    pub generated: &'a [&'a str],
}

/// `--storage-driver`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Choice {
    #[default]
    Auto,
    FuseOverlayfs,
    Overlay,
}

/// Decides how `source` is stacked; what had to be left is added to `notes`.
///
/// # Errors
/// A driver that was asked for and is not to be had, or none that can do what is needed.
pub fn choose(source: Source, choice: Choice, host: &Host<'_>, notes: &mut Vec<String>) -> Result<Root> {
    match source {
        Source::Host => host_image(choice, host.uppers, notes),
        Source::WritableDirectory(path) => Ok(Root::WritableDirectory { path: directory(&path)? }),
        Source::Directories(paths) => {
            let lowers = paths.iter().map(|path| directory(path)).collect::<Result<Vec<_>>>()?;
            let driver = for_directories(&lowers, choice, host, notes)?;
            Ok(Root::Directories { lowers, driver })
        }
        Source::Image(Unpacked { id, key, stacked, .. }) => {
            let driver = if stacked.whiteout_files {
                fuse_overlayfs_alone(
                    "what its layers remove is marked by files, since the file system of the store takes no other marks",
                    choice,
                    host,
                )?
            } else {
                for_layers(stacked.layers.len(), choice, host, notes)?
            };
            Ok(Root::Layers { image: id, key: key.as_str().to_owned(), layers: stacked.layers, driver })
        }
    }
}

/// Where the unpacked layers of an image lie, in the order of `layers`.
pub fn unpacked(store: &Path, key: &MapKey, layers: &[Digest]) -> Vec<PathBuf> {
    let store = LayerStore::new(store, key);
    layers.iter().map(|layer| store.path(layer)).collect()
}

/// What the kernel's overlay does not understand.
fn fuse_overlayfs_alone(why: &str, choice: Choice, host: &Host<'_>) -> Result<Driver> {
    if choice == Choice::Overlay {
        return Err(Error::new("cannot use the driver `overlay`")
            .because(why)
            .hint("leave out `--storage-driver`, or keep the store on a local file system (`--root`)"));
    }
    fuse_overlayfs::usable(host.uppers).map(|_| Driver::FuseOverlayfs)
}

fn host_image(choice: Choice, store: &Path, notes: &mut Vec<String>) -> Result<Root> {
    match (choice, fuse_overlayfs::usable(store)) {
        (Choice::Overlay, _) => Err(Error::new("cannot use the driver `overlay` for the image `host`")
            .because("the kernel's overlay does not cross the mounts that the image is made of")
            .hint("leave out `--storage-driver`, or use `--storage-driver fuse-overlayfs`")),
        (_, Ok(_)) => Ok(Root::Host { driver: Driver::FuseOverlayfs }),
        (Choice::FuseOverlayfs, Err(missing)) => Err(missing),
        (Choice::Auto, Err(missing)) => {
            notes.push(format!(
                "the image `host` is read-only, with a tmpfs on /tmp, /run, /var/tmp and /root: {}",
                missing.causes().join(": ")
            ));
            Ok(Root::Host { driver: Driver::Bind })
        }
    }
}

fn for_directories(
    lowers: &[PathBuf],
    choice: Choice,
    host: &Host<'_>,
    notes: &mut Vec<String>,
) -> Result<Driver> {
    // Nothing may be made in a directory that is not the container's own.
    let bare = host.read_only && lowers.len() == 1 && host.mount_points.iter().all(|p| has(&lowers[0], p));
    let missing = || host.generated.iter().copied().filter(|file| !has(&lowers[0], Path::new(file)));
    if choice == Choice::Auto {
        if bare && missing().next().is_none() {
            return Ok(Driver::Bind);
        }
        if fuse_overlayfs_squashes(lowers, host) {
            return Ok(Driver::FuseOverlayfs);
        }
    }
    let before = notes.len();
    match for_layers(lowers.len(), choice, host, notes) {
        Err(_) | Ok(Driver::Copy) if bare && choice == Choice::Auto => {
            notes.truncate(before);
            let missing: Vec<&str> = missing().collect();
            notes.push(format!(
                "the container goes without {}: the read-only root has none, and no layer can be put over it",
                missing.join(", ")
            ));
            Ok(Driver::Bind)
        }
        result => result,
    }
}

/// The driver for so many layers whose owners are those of the canonical map.
fn for_layers(count: usize, choice: Choice, host: &Host<'_>, notes: &mut Vec<String>) -> Result<Driver> {
    let remapped = host.identity.nested.is_some();
    if host.squashed {
        let why = "the file system keeps no owners, and the kernel's overlay would show all files as what they are not";
        return match fuse_overlayfs_alone(why, choice, host) {
            Err(missing) if choice == Choice::Auto && !remapped => {
                notes.push(copied(&missing, why));
                Ok(Driver::Copy)
            }
            result => result,
        };
    }
    match choice {
        Choice::FuseOverlayfs => fuse_overlayfs::usable(host.uppers).map(|_| Driver::FuseOverlayfs),
        Choice::Overlay if remapped => Err(Error::new("cannot use the driver `overlay` with this ID map")
            .because("the kernel refuses ID-mapped layers to a user namespace")
            .hint(
                "use `--storage-driver fuse-overlayfs`, or leave out `--userns`, `--uidmap` and `--gidmap`",
            )),
        Choice::Overlay => overlay_stacks(count, host).map(|()| Driver::Overlay).map_err(|reason| {
            Error::new("cannot use the driver `overlay`")
                .because(reason)
                .hint("use `--storage-driver fuse-overlayfs`, or a store on another file system (`--root`)")
        }),
        Choice::Auto => {
            let reason = if remapped { None } else { overlay_stacks(count, host).err() };
            if !remapped && reason.is_none() {
                return Ok(Driver::Overlay);
            }
            match (fuse_overlayfs::usable(host.uppers), reason) {
                (Ok(_), Some(reason)) => {
                    notes.push(format!("fuse-overlayfs stacks the layers: {reason}"));
                    Ok(Driver::FuseOverlayfs)
                }
                (Ok(_), None) => Ok(Driver::FuseOverlayfs),
                (Err(missing), Some(reason)) => {
                    notes.push(copied(&missing, &reason));
                    Ok(Driver::Copy)
                }
                (Err(missing), None) => {
                    Err(missing.hint("or leave out `--userns`, `--uidmap` and `--gidmap`"))
                }
            }
        }
    }
}

fn overlay_stacks(count: usize, host: &Host<'_>) -> Result<(), String> {
    if count > overlay::MOST_LOWERS {
        return Err(format!(
            "the kernel's overlay stacks {} layers at most, not {count}",
            overlay::MOST_LOWERS
        ));
    }
    overlay::supported(host.uppers)
}

fn copied(missing: &Error, reason: &str) -> String {
    format!("the whole root is copied for this container: {}; {reason}", missing.causes().join(": "))
}

/// With one ID mapped the kernel's overlay can change nothing of a root that belongs to somebody else.
fn fuse_overlayfs_squashes(lowers: &[PathBuf], host: &Host<'_>) -> bool {
    use std::os::unix::fs::MetadataExt;
    let caller = rustix::process::getuid().as_raw();
    let foreign = |lower: &PathBuf| lower.metadata().is_ok_and(|metadata| metadata.uid() != caller);
    host.identity.tier == Tier::Single
        && lowers.iter().any(foreign)
        && fuse_overlayfs::usable(host.uppers).is_ok()
}

fn has(root: &Path, path: &Path) -> bool {
    crate::sandbox::inroot::InRoot::open(root).is_ok_and(|root| root.find(path).is_ok())
}

/// A root that the user names: there, a directory, and absolute.
fn directory(path: &Path) -> Result<PathBuf> {
    let cannot = || format!("cannot use `{}` as the root file system", path.display());
    let real = path.canonicalize().map_err(|error| {
        Error::new(cannot()).because(error).hint("`--rootfs` takes a directory that holds a whole system")
    })?;
    if !real.is_dir() {
        return Err(Error::new(cannot())
            .because("it is not a directory")
            .hint("unpack an archive first: `mkdir DIR && sbx unshare tar -C DIR -xpf ARCHIVE`"));
    }
    if real == Path::new("/") {
        return Err(Error::new(cannot())
            .because("a root below itself cannot be stacked")
            .hint("use the image `host`: `sbx run host COMMAND`"));
    }
    Ok(real)
}
