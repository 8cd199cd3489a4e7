//! What layers add, change and delete, read from their archives: that needs neither unpacked layers nor the user
//! namespace in which they can be read.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::image::digest::Digest;
use crate::image::documents::Descriptor;
use crate::image::store::{Image, ImageStore};
use crate::layers::compression;
use crate::layers::unpack::Limits;
use crate::layers::unpack::archive::{self, Entry, Kind};
use crate::layers::unpack::stream;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// podman-diff(1)
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Change {
    Added,
    Changed,
    Deleted,
}

/// Files by their paths, without a leading slash.
type Tree = BTreeMap<Vec<u8>, Seen>;

/// What tells that a file is another.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    kind: Kind,
    mode: u32,
    owner: (u32, u32),
    size: u64,
    modified: (i64, u32),
    link: Vec<u8>,
    device: (u32, u32),
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The changes from `base` to `image`, sorted by path; without a base, those of the topmost layer.
///
/// # Errors
/// A layer's blob is missing or damaged.
pub fn between(store: &ImageStore, image: &Image, base: Option<&Image>) -> Result<Vec<(Change, Vec<u8>)>> {
    let after = layers(image);
    let before = match base {
        Some(base) => layers(base),
        None => after[..after.len().saturating_sub(1)].to_vec(),
    };
    // What both have below was made once.
    let shared = before.iter().zip(&after).take_while(|(a, b)| a.0 == b.0).count();
    let mut tree = Tree::new();
    for layer in &after[..shared] {
        apply(store, layer, &mut tree)?;
    }
    let mut base_tree = tree.clone();
    for layer in &before[shared..] {
        apply(store, layer, &mut base_tree)?;
    }
    for layer in &after[shared..] {
        apply(store, layer, &mut tree)?;
    }
    Ok(compare(&base_tree, &tree))
}

fn layers(image: &Image) -> Vec<(&Digest, &Descriptor)> {
    image.config.rootfs.diff_ids.iter().zip(&image.document.layers).collect()
}

fn apply(store: &ImageStore, (diff_id, blob): &(&Digest, &Descriptor), tree: &mut Tree) -> Result<()> {
    let failed = |error: Error| error.while_doing(format!("cannot read the layer {}", blob.digest));
    let file = store.open_blob(blob)?;
    let (_, mut tar) =
        compression::decompress_detected(file).map_err(|error| store.damaged(&blob.digest, error))?;
    let limits = Limits::for_compressed(blob.size);
    let read = |stream: &mut stream::Stream| {
        let mut own = Own::default();
        while let Some(entry) = archive::next(stream).map_err(|error| stream::cannot_read(&error))? {
            archive::finish(stream, &entry, entry.stored).map_err(|error| stream::cannot_read(&error))?;
            own.add(entry, &limits)?;
        }
        Ok(own)
    };
    let (own, whole) = stream::read_ahead(&mut *tar, &limits, read).map_err(failed)?;
    if whole.digest != **diff_id {
        return Err(store.damaged(&blob.digest, "its content is not what the image's configuration says"));
    }
    own.put_onto(tree);
    Ok(())
}

/// One layer, before it is put onto those below.
#[derive(Default)]
struct Own {
    entries: Vec<(Vec<u8>, Seen)>,
    gone: Vec<Vec<u8>>,
    opaque: Vec<Vec<u8>>,
    names: u64,
}

impl Own {
    fn add(&mut self, entry: Entry, limits: &Limits) -> Result<()> {
        let Some(path) = clean(&entry.name) else { return Ok(()) };
        self.names += (path.len() + entry.link.len()) as u64;
        let count = self.entries.len() + self.gone.len() + self.opaque.len();
        if self.names > limits.names || count as u64 >= limits.entries {
            return Err(Error::new("cannot tell the changes of the layer").because("it has too many entries"));
        }
        let at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let (parent, name) = path.split_at(at);
        let parent = parent.strip_suffix(b"/").unwrap_or(parent).to_vec();
        match name.strip_prefix(WHITEOUT) {
            _ if name == OPAQUE => self.opaque.push(parent),
            // The marks of aufs.
            Some(rest) if rest.starts_with(WHITEOUT) => {}
            Some(rest) => self.gone.push(if parent.is_empty() {
                rest.to_vec()
            } else {
                [&parent, &b"/"[..], rest].concat()
            }),
            None if path.is_empty() => {}
            None => self.entries.push((path.clone(), seen(entry))),
        }
        Ok(())
    }

    fn put_onto(self, tree: &mut Tree) {
        for directory in self.opaque {
            remove_below(tree, &directory);
        }
        for path in self.gone {
            tree.remove(&path);
            remove_below(tree, &path);
        }
        for (path, mut seen) in self.entries {
            if seen.kind == Kind::HardLink {
                let target = clean(&seen.link).and_then(|target| tree.get(&target).cloned());
                seen = target.unwrap_or(seen);
            }
            if seen.kind != Kind::Directory {
                remove_below(tree, &path);
            }
            tree.insert(path, seen);
        }
    }
}

fn seen(entry: Entry) -> Seen {
    let directory = entry.kind == Kind::Directory;
    Seen {
        kind: entry.kind,
        mode: entry.mode,
        owner: (entry.uid, entry.gid),
        size: entry.stored,
        // A directory's own follows from what was done in it.
        modified: if directory { (0, 0) } else { (entry.modified.seconds, entry.modified.nanoseconds) },
        link: entry.link,
        device: entry.device,
        xattrs: entry.xattrs,
    }
}

/// Without leading and double slashes and `.`; none for a path that leaves the root.
fn clean(name: &[u8]) -> Option<Vec<u8>> {
    let parts: Vec<&[u8]> =
        name.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    (!parts.contains(&&b".."[..])).then(|| parts.join(&b'/'))
}

fn remove_below(tree: &mut Tree, directory: &[u8]) {
    if directory.is_empty() {
        tree.clear();
        return;
    }
    let first = [directory, b"/"].concat();
    let doomed: Vec<Vec<u8>> = tree
        .range(first.clone()..)
        .map(|(path, _)| path.clone())
        .take_while(|path| path.starts_with(&first))
        .collect();
    for path in doomed {
        tree.remove(&path);
    }
}

fn compare(before: &Tree, after: &Tree) -> Vec<(Change, Vec<u8>)> {
    let mut changes: BTreeMap<&[u8], Change> = BTreeMap::new();
    for (path, seen) in after {
        match before.get(path) {
            None => drop(changes.insert(path, Change::Added)),
            Some(former) if former != seen => drop(changes.insert(path, Change::Changed)),
            _ => {}
        }
    }
    for path in before.keys().filter(|path| !after.contains_key(*path)) {
        // What lay in a directory that is gone went with it.
        if parents(path).all(|parent| after.contains_key(parent) || !before.contains_key(parent)) {
            changes.insert(path, Change::Deleted);
        }
    }
    let changed: BTreeSet<&[u8]> = changes.keys().flat_map(|path| parents(path)).collect();
    for parent in changed {
        if before.contains_key(parent) && after.contains_key(parent) {
            changes.entry(parent).or_insert(Change::Changed);
        }
    }
    changes.into_iter().map(|(path, change)| (change, [b"/", path].concat())).collect()
}

fn parents(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(size: u64) -> Seen {
        Seen {
            kind: Kind::File,
            mode: 0o644,
            owner: (0, 0),
            size,
            modified: (1, 0),
            link: Vec::new(),
            device: (0, 0),
            xattrs: Vec::new(),
        }
    }

    fn tree(paths: &[(&str, u64)]) -> Tree {
        paths
            .iter()
            .map(|(path, size)| match path.strip_suffix('/') {
                Some(path) => (path.into(), Seen { kind: Kind::Directory, ..file(0) }),
                None => ((*path).into(), file(*size)),
            })
            .collect()
    }

    #[test]
    fn changes_bring_their_directories_along() {
        let before =
            tree(&[("etc/", 0), ("etc/a", 1), ("etc/b", 1), ("usr/", 0), ("usr/x/", 0), ("usr/x/y", 1)]);
        let after = tree(&[("etc/", 0), ("etc/a", 2), ("etc/b", 1), ("etc/c", 1), ("usr/", 0)]);
        let shown: Vec<String> = compare(&before, &after)
            .into_iter()
            .map(|(change, path)| format!("{change:?} {}", String::from_utf8_lossy(&path)))
            .collect();
        assert_eq!(
            shown,
            ["Changed /etc", "Changed /etc/a", "Added /etc/c", "Changed /usr", "Deleted /usr/x"]
        );
    }

    #[test]
    fn whiteouts_hide_what_lies_below_and_no_more() {
        let mut lower = tree(&[("a/", 0), ("a/b", 1), ("ab", 1), ("c/", 0), ("c/d", 1)]);
        let own = Own {
            entries: vec![(b"c/e".to_vec(), file(1))],
            gone: vec![b"a".to_vec()],
            opaque: vec![b"c".to_vec()],
            names: 0,
        };
        own.put_onto(&mut lower);
        let left: Vec<_> = lower.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
        assert_eq!(left, ["ab", "c", "c/e"]);
    }

    #[test]
    fn names_are_cleaned_and_never_leave_the_root() {
        assert_eq!(clean(b"./a//b/").unwrap(), b"a/b");
        assert_eq!(clean(b"/").unwrap(), b"");
        assert!(clean(b"a/../../b").is_none());
    }
}
