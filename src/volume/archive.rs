//! The content of a volume as a tar, and back. Archives are hostile: they are unpacked as layers are, and nothing
//! outside of the volume is touched.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::lock::{Kind, Lock};
use super::options::{self, Backing};
use super::removal::missing;
use super::store::{VolumeDirectory, VolumeStore, canonical_identity};
use crate::container::store::{Store, no_room};
use crate::error::{Error, Result, Step};
use crate::identity::Tier;
use crate::image::transfer::unpacker;
use crate::layers::compression::decompress_detected;
use crate::layers::owners::Owners;
use crate::layers::pack::{self, pack};
use crate::layers::unpack::{Keep, Limits, unpack_plain};

/// Writes what a volume holds as a tar.
///
/// # Errors
/// There is no such volume, it holds nothing that lasts, or the tar cannot be written.
pub fn export(store: &Store, name: &str, target: &mut (dyn Write + Send)) -> Result<()> {
    let failed = || format!("cannot export the volume `{name}`");
    let data = content(&VolumeStore::of(store), name).map_err(|error| error.while_doing(failed()))?;
    let identity = canonical_identity()?;
    let write = |target: &mut dyn Write| {
        let (owners, leave_out) = (Owners::default(), BTreeSet::new());
        let source = pack::Source {
            root: &data,
            kind: pack::Kind::Root,
            owners: &owners,
            leave_out: &leave_out,
            opaque: None,
            removed: &[],
            times: crate::layers::pack::Times::Kept,
        };
        let mut target = BufWriter::with_capacity(1 << 18, target);
        pack(&source, &mut target).map_err(|error| error.while_doing(failed()))?;
        target.flush().map_err(|error| no_room(error, "cannot write the archive".to_owned()))
    };
    unpacker::run(&identity, |_| write(target), |()| Ok(()))
}

/// Puts what a tar holds (packed with gzip, zstd, xz or bzip2, or not at all) into a volume, over what is there.
///
/// # Errors
/// There is no such volume, or something of the archive cannot be had; what came before it is there.
pub fn import(store: &Store, name: &str, archive: &mut (dyn Read + Send)) -> Result<()> {
    let failed = || format!("cannot import into the volume `{name}`");
    let volumes = VolumeStore::of(store);
    let data = content(&volumes, name).map_err(|error| error.while_doing(failed()))?;
    let directory = volumes.directory(name);
    // Nobody fills or removes it meanwhile.
    let _lock = Lock::wait(&directory.record(), Kind::Shared).step(failed)?.ok_or_else(|| missing(name))?;
    let identity = canonical_identity()?;
    let keep = if identity.tier == Tier::Single { Keep::Attributes } else { Keep::Inodes };
    let read = || {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&data, flags, Mode::empty()).step(failed)?;
        let (_, mut plain) = decompress_detected(archive).step(|| "cannot read the archive")?;
        unpack_plain(root, &mut plain, keep, &Limits::default()).map_err(|error| error.while_doing(failed()))
    };
    unpacker::run(&identity, |_| read(), |()| Ok(()))?;
    // It has a content now.
    let _ = fs::remove_file(directory.fresh());
    Ok(())
}

/// Where the files of a volume are.
fn content(volumes: &VolumeStore, name: &str) -> Result<std::path::PathBuf> {
    let record = volumes.read(name).ok_or_else(|| missing(name).exit_code(crate::error::EXIT_SBX))?;
    match options::meaning(&record.options)?.backing {
        Backing::Store => plain_directory(&volumes.directory(name)),
        Backing::Bind(path) => Ok(path),
        Backing::Tmpfs { .. } => {
            Err(Error::new("it is memory of each container's own, and holds nothing outside of it"))
        }
    }
}

fn plain_directory(volume: &VolumeDirectory) -> Result<std::path::PathBuf> {
    let data = volume.data();
    if is_directory(&data) {
        Ok(data)
    } else {
        Err(Error::new(format!("`{}` is no directory", data.display())))
    }
}

fn is_directory(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_dir())
}
