//! What the file system of a directory lets sbx keep there: owners, attributes, whiteouts, locks. File systems of
//! this machine's disks do; network and user-space file systems are asked by trying, once for each mount.

use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, StatxFlags, Uid, XattrFlags};
use serde::{Deserialize, Serialize};

use crate::container::process::boot_id;
use crate::error::{Error, Result, Step};
use crate::host::filesystem::{self, FileSystem};
use crate::host::overlay;
use crate::identity::{Identity, Tier};

/// Those that keep everything, wherever they are mounted.
const LOCAL: [&str; 5] = ["ext4", "xfs", "btrfs", "f2fs", "bcachefs"];

/// STATX_MNT_ID_UNIQUE of linux/stat.h.
const MNT_ID_UNIQUE: u32 = 0x4000;

/// Each a bit of the trial's exit code.
const OWNERS: i32 = 1;
const ATTRIBUTES: i32 = 2;
const WHITEOUTS: i32 = 4;
const LOCKS: i32 = 8;
/// Set always, so that no other failure passes for a file system that keeps nothing.
const TRIED: i32 = 16;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Abilities {
    pub file_system: String,
    pub network: bool,
    /// Files may belong to the caller's subordinate IDs. In the single tier nobody asks for it.
    pub owners: bool,
    /// `user.` extended attributes (xattr(7)).
    pub attributes: bool,
    /// Character devices 0:0, as overlays mark what was removed.
    pub whiteouts: bool,
    /// flock(2)
    pub locks: bool,
}

impl Abilities {
    /// Why the layers that containers change are better kept elsewhere; none: they are well kept here.
    pub fn unfit_for_uppers(&self) -> Option<String> {
        let mut lacks = Vec::new();
        if !self.owners {
            lacks.push("files of other owners");
        }
        if !self.attributes {
            lacks.push("extended attributes");
        }
        if !self.whiteouts {
            lacks.push("whiteouts");
        }
        if !lacks.is_empty() {
            return Some(format!("its file system ({}) takes no {}", self.file_system, lacks.join(", no ")));
        }
        self.network.then(|| format!("its file system ({}) is one of a network", self.file_system))
    }
}

impl Abilities {
    /// Why the kernel's overlay cannot have layers that are kept here.
    pub fn unfit_for_overlay(&self) -> Option<String> {
        let of_layers = self.owners && self.attributes && self.whiteouts;
        let name = &self.file_system;
        (!of_layers).then(|| {
            format!("layers on this file system ({name}) keep their owners and marks beside the files")
        })
    }
}

/// Beside what was found: when it does not hold any more.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    boot: String,
    device: u64,
    mount: u64,
    user_namespace: u64,
    /// The maps decide which owners there are.
    map: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    seen: Seen,
    abilities: Abilities,
}

/// What can be kept in `directory`, which exists. Remembered in `directory/cache` until the next boot or mount.
///
/// # Errors
/// It cannot be tried: nothing can be made there, or there is no user namespace.
pub fn abilities(directory: &Path, identity: &Identity) -> Result<Abilities> {
    let found = filesystem::of(directory).step(|| failed(directory))?;
    if LOCAL.contains(&found.name.as_str()) {
        return Ok(all(found.name));
    }
    let seen = seen(directory, identity).step(|| failed(directory))?;
    let cache = cache(directory);
    if let Some(known) = remembered(&cache).filter(|known| known.seen == seen) {
        return Ok(known.abilities);
    }
    let known = Remembered { seen, abilities: attempt(directory, identity, found)? };
    if let Err(error) = remember(&cache, &known) {
        log::debug!("cannot write `{}`: {error}", cache.display());
    }
    Ok(known.abilities)
}

/// As [`abilities`], but nothing is remembered.
///
/// # Errors
/// As [`abilities`].
pub fn look(directory: &Path, identity: &Identity) -> Result<Abilities> {
    let found = filesystem::of(directory).step(|| failed(directory))?;
    if LOCAL.contains(&found.name.as_str()) {
        Ok(all(found.name))
    } else {
        attempt(directory, identity, found)
    }
}

fn failed(directory: &Path) -> String {
    format!("cannot find out what can be kept in `{}`", directory.display())
}

fn attempt(directory: &Path, identity: &Identity, found: FileSystem) -> Result<Abilities> {
    let ground = overlay::Ground::make(directory).step(|| failed(directory))?;
    let code = crate::sandbox::userns::run_in(identity, || try_all(ground.path(), identity))?;
    if code & TRIED == 0 || code >= 2 * TRIED {
        return Err(Error::new(failed(directory)).because("the trial failed"));
    }
    Ok(Abilities {
        network: found.is_network(),
        file_system: found.name,
        owners: identity.tier == Tier::Single || code & OWNERS != 0,
        attributes: code & ATTRIBUTES != 0,
        whiteouts: code & WHITEOUTS != 0,
        locks: code & LOCKS != 0,
    })
}

fn all(file_system: String) -> Abilities {
    Abilities { file_system, network: false, owners: true, attributes: true, whiteouts: true, locks: true }
}

/// In the canonical user namespace, as its root.
fn try_all(ground: &Path, identity: &Identity) -> i32 {
    let mut code = TRIED;
    let name = ground.join("file");
    let Ok(file) = File::create(&name) else { return code };
    let (uid, gid) = (foreign(&identity.uid_map), foreign(&identity.gid_map));
    if let (Some(uid), Some(gid)) = (uid, gid) {
        let given = rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        // Some say yes and do nothing.
        let kept = file.metadata().is_ok_and(|found| (found.uid(), found.gid()) == (uid, gid));
        code |= if given.is_ok() && kept { OWNERS } else { 0 };
    }
    let mark = |path: &Path| rustix::fs::setxattr(path, "user.sbx.probe", b"1", XattrFlags::empty()).is_ok();
    // On the directory, and on a file that nobody has taken away.
    let other = ground.join("other");
    if File::create(&other).is_ok() && mark(&other) && mark(ground) {
        code |= ATTRIBUTES;
    }
    let whiteout = ground.join("whiteout");
    if rustix::fs::mknodat(CWD, &whiteout, FileType::CharacterDevice, Mode::empty(), 0).is_ok() {
        if whiteout.symlink_metadata().is_ok() {
            code |= WHITEOUTS;
        } else {
            // The file system is an overlay and has taken it for its own; what comes there later is seen again.
            let _ = File::create(&whiteout);
        }
    }
    if file.try_lock().is_ok() {
        code |= LOCKS;
    }
    code
}

/// An ID of the map that is not the caller's.
fn foreign(map: &crate::identity::IdMap) -> Option<u32> {
    map.0.iter().map(|line| line.inside.saturating_add(line.count - 1)).max().filter(|id| *id != 0)
}

fn seen(directory: &Path, identity: &Identity) -> std::io::Result<Seen> {
    // Linux before 6.8 knows only the ID that the next mount may have again.
    let unique = StatxFlags::from_bits_retain(MNT_ID_UNIQUE);
    let stat = rustix::fs::statx(CWD, directory, AtFlags::empty(), StatxFlags::MNT_ID | unique)?;
    Ok(Seen {
        boot: boot_id(),
        device: filesystem::device(directory)?,
        mount: stat.stx_mnt_id,
        user_namespace: fs::metadata("/proc/self/ns/user")?.ino(),
        map: identity.uid_map.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    })
}

/// Machines that share the directory each have their own.
fn cache(directory: &Path) -> PathBuf {
    let uname = rustix::system::uname();
    let node = uname.nodename().to_string_lossy().replace(['/', '\0'], "_");
    directory.join("cache").join(format!("storage.{node}.json"))
}

fn remembered(cache: &Path) -> Option<Remembered> {
    serde_json::from_slice(&fs::read(cache).ok()?).ok()
}

fn remember(cache: &Path, known: &Remembered) -> std::io::Result<()> {
    let directory = cache.parent().unwrap_or(Path::new("/"));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let fresh = directory.join(format!("storage.json.{}", std::process::id()));
    fs::write(&fresh, serde_json::to_vec(known)?)?;
    fs::rename(&fresh, cache)
}
