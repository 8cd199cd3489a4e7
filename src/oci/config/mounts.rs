//! `mounts` with their options (config.md, Mounts; config-linux.md of 1.2 lists the options that must be known).

use std::path::{Component, Path};

use super::raw;
use crate::container::listed::{ListedKind, ListedMount, MountMap};
use crate::error::{Error, Result};
use crate::identity::IdMap;
use crate::sys::mount::{
    ATTR_ATIME, ATTR_NOATIME, ATTR_NODEV, ATTR_NODIRATIME, ATTR_NOEXEC, ATTR_NOSUID, ATTR_NOSYMFOLLOW,
    ATTR_RDONLY, ATTR_STRICTATIME,
};

/// Names of attributes of a mount: what is set, what is cleared. With `r` before them they are those of all mounts
/// below, too.
const ATTRIBUTES: &[(&str, u64, u64)] = &[
    ("ro", ATTR_RDONLY, 0),
    ("rw", 0, ATTR_RDONLY),
    ("nosuid", ATTR_NOSUID, 0),
    ("suid", 0, ATTR_NOSUID),
    ("nodev", ATTR_NODEV, 0),
    ("dev", 0, ATTR_NODEV),
    ("noexec", ATTR_NOEXEC, 0),
    ("exec", 0, ATTR_NOEXEC),
    ("noatime", ATTR_NOATIME, ATTR_ATIME),
    ("atime", 0, ATTR_ATIME),
    ("relatime", 0, ATTR_ATIME),
    ("norelatime", 0, ATTR_ATIME),
    ("strictatime", ATTR_STRICTATIME, ATTR_ATIME),
    ("nostrictatime", 0, ATTR_ATIME),
    ("nodiratime", ATTR_NODIRATIME, 0),
    ("diratime", 0, ATTR_NODIRATIME),
    ("nosymfollow", ATTR_NOSYMFOLLOW, 0),
    ("symfollow", 0, ATTR_NOSYMFOLLOW),
];

const PROPAGATIONS: &[(&str, u64)] = &[
    ("private", libc::MS_PRIVATE),
    ("slave", libc::MS_SLAVE),
    ("shared", libc::MS_SHARED),
    ("unbindable", libc::MS_UNBINDABLE),
];

/// Of the whole file system; a bind mount has no say in them, as with mount(8).
const OF_THE_FILE_SYSTEM: &[&str] = &["sync", "async", "dirsync", "lazytime", "nolazytime", "mand", "nomand"];
/// Nothing that shows, or the default anyway.
const WITHOUT_EFFECT: &[&str] = &["", "defaults", "silent", "loud", "iversion", "noiversion"];

/// All options of mounts that have a meaning of their own.
pub fn names() -> Vec<String> {
    let attributes = ATTRIBUTES.iter().flat_map(|(name, ..)| [(*name).to_owned(), format!("r{name}")]);
    let propagations = PROPAGATIONS.iter().flat_map(|(name, _)| [(*name).to_owned(), format!("r{name}")]);
    let others = ["bind", "rbind", "copy-symlink", "remount", "tmpcopyup", "idmap", "ridmap"].into_iter();
    let others = others.chain(OF_THE_FILE_SYSTEM.iter().chain(WITHOUT_EFFECT).copied());
    let others = others.filter(|name| !name.is_empty());
    let mut names: Vec<String> = attributes.chain(propagations).chain(others.map(str::to_owned)).collect();
    names.sort();
    names
}

/// MS_SHARED and its like for a word such as `rslave`, and whether mounts below are meant, too.
pub(super) fn propagation(word: &str) -> Option<(u64, bool)> {
    let known = |word: &str| PROPAGATIONS.iter().find(|(name, _)| *name == word).map(|(_, flag)| *flag);
    known(word).map(|flag| (flag, false)).or_else(|| Some((known(word.strip_prefix('r')?)?, true)))
}

/// Reads one mount. `bundle` is where relative sources begin.
///
/// # Errors
/// What cannot be honoured.
pub(super) fn read(mount: &raw::Mount, bundle: &Path) -> Result<ListedMount> {
    interpret(mount, bundle).map_err(|error| {
        error.while_doing(format!("cannot use the mount on `{}`", mount.destination.display()))
    })
}

fn interpret(mount: &raw::Mount, bundle: &Path) -> Result<ListedMount> {
    if mount.destination.as_os_str().is_empty() {
        return Err(Error::new("it has no destination"));
    }
    // Relative ones are taken for paths below the root, as they were before version 1.0.
    let destination = Path::new("/").join(&mount.destination);
    if destination.components().all(|part| part == Component::RootDir) {
        return Err(Error::new("the root is mounted already")
            .hint("`root.path` names what is to be the root of the container"));
    }
    let mut read = ListedMount {
        destination,
        kind: ListedKind::Existing,
        set: 0,
        clear: 0,
        set_below: 0,
        clear_below: 0,
        propagation: Vec::new(),
        copy_up: false,
        map: None,
    };
    let mut options = Vec::new();
    let (mut bind, mut recursive, mut no_follow, mut remount) = (false, false, false, false);
    let mut mapped = None;
    for option in &mount.options {
        match option.as_str() {
            "bind" => bind = true,
            "rbind" => (bind, recursive) = (true, true),
            "copy-symlink" => no_follow = true,
            "remount" => remount = true,
            "tmpcopyup" => read.copy_up = true,
            "idmap" => mapped = Some(false),
            "ridmap" => mapped = Some(true),
            word if WITHOUT_EFFECT.contains(&word) => {}
            word if OF_THE_FILE_SYSTEM.contains(&word) => options.push((option.clone(), None)),
            word => {
                if let Some(propagation) = propagation(word) {
                    read.propagation.push(propagation);
                } else if !attribute(&mut read, word) {
                    options.push(match option.split_once('=') {
                        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                        None => (option.clone(), None),
                    });
                }
            }
        }
    }
    read.map = map(mount, mapped)?;
    if remount {
        // Like mount(8) with `bind,remount`; it changes the place, and not what is mounted there.
        return match options.first() {
            Some((option, _)) => {
                Err(Error::new(format!("a mount that is there cannot get the option `{option}`"))
                    .because("sbx changes its attributes, such as `ro`, and nothing of its file system"))
            }
            None => Ok(read),
        };
    }
    read.kind = kind(mount, bundle, (bind, recursive, no_follow), options)?;
    if read.copy_up && !matches!(&read.kind, ListedKind::FileSystem { kind, .. } if kind == "tmpfs") {
        return Err(Error::new("`tmpcopyup` is an option of tmpfs alone"));
    }
    Ok(read)
}

fn attribute(mount: &mut ListedMount, word: &str) -> bool {
    let known = |word: &str| ATTRIBUTES.iter().find(|(name, ..)| *name == word);
    if let Some((_, set, clear)) = known(word) {
        mount.set = mount.set & !clear | set;
        mount.clear = mount.clear & !set | clear;
        return true;
    }
    let Some((_, set, clear)) = word.strip_prefix('r').and_then(known) else { return false };
    mount.set_below = mount.set_below & !clear | set;
    mount.clear_below = mount.clear_below & !set | clear;
    true
}

fn kind(
    mount: &raw::Mount,
    bundle: &Path,
    (bind, recursive, no_follow): (bool, bool, bool),
    options: Vec<(String, Option<String>)>,
) -> Result<ListedKind> {
    if bind {
        if mount.source.as_os_str().is_empty() {
            return Err(Error::new("it has no source"));
        }
        if let Some((option, _)) =
            options.iter().find(|(name, _)| !OF_THE_FILE_SYSTEM.contains(&name.as_str()))
        {
            return Err(Error::new(format!("a bind mount has no option `{option}`")));
        }
        return Ok(ListedKind::Bind { source: bundle.join(&mount.source), recursive, no_follow });
    }
    match mount.kind.as_str() {
        "" | "none" | "bind" => Err(Error::new(
            "it has no type of a file system, and neither `bind` nor `rbind` among its options",
        )),
        "cgroup" => Ok(ListedKind::Cgroup),
        "cgroup2" => Ok(ListedKind::Cgroup2),
        kind => Ok(ListedKind::FileSystem {
            kind: kind.to_owned(),
            source: match mount.source.to_str() {
                Some("") => kind.to_owned(),
                Some(source) => source.to_owned(),
                None => return Err(Error::new("its source is no UTF-8")),
            },
            options,
        }),
    }
}

fn map(mount: &raw::Mount, asked: Option<bool>) -> Result<Option<MountMap>> {
    let given = !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty();
    match (given, asked) {
        (false, None) => Ok(None),
        (false, Some(recursive)) => Ok(Some(MountMap { maps: None, recursive })),
        (true, asked) => {
            let maps =
                (lines("uidMappings", &mount.uid_mappings)?, lines("gidMappings", &mount.gid_mappings)?);
            Ok(Some(MountMap { maps: Some(maps), recursive: asked == Some(true) }))
        }
    }
}

/// A map as it is listed.
///
/// # Errors
/// None of the kernel's maps.
pub(super) fn lines(name: &str, lines: &[raw::Mapping]) -> Result<IdMap> {
    if lines.is_empty() {
        return Err(Error::new(format!("`{name}` has no lines"))
            .because("a user namespace without a map has no users"));
    }
    let lines = lines.iter().map(|line| crate::identity::MapLine::new(line.container, line.host, line.size));
    IdMap::new(lines.collect()).map_err(|fault| Error::new(format!("cannot use `{name}`")).because(fault))
}
