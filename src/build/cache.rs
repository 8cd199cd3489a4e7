//! What earlier builds have made, by what it was made of: a file for each step that makes a layer.
//!
//! ```text
//! <store>/build/steps/<key>      the layer that a step made, or that it made none
//! <store>/build/images/<key>     when the image was made first
//! ```
//!
//! A record appears by one rename. What it names is kept by the collector of images for as long as the record is there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::container::store::no_room;
use crate::error::{Result, Step};
use crate::image::digest::Digest;
use crate::image::transfer::made::Made;

/// What a step left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// None: it changed no file.
    pub layer: Option<Made>,
}

/// A record as it is kept.
#[derive(Debug)]
pub struct Kept {
    /// In hexadecimal digits.
    pub key: String,
    pub record: Record,
    pub since: SystemTime,
}

/// What pruning took away.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    pub records: usize,
}

#[derive(Debug, Clone)]
pub struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// The cache of the store; nothing is made before something is kept.
    pub fn new(store: &Path) -> Self {
        Self { directory: store.join("build") }
    }

    fn steps(&self) -> PathBuf {
        self.directory.join("steps")
    }

    fn images(&self) -> PathBuf {
        self.directory.join("images")
    }

    /// What the step with this key left; none where it was never carried out, or the record cannot be read.
    /// And where it was kept before `oldest`.
    pub fn step(&self, key: &Digest, oldest: Option<SystemTime>) -> Option<Record> {
        let path = self.steps().join(key.hex());
        if let Some(oldest) = oldest
            && path.metadata().and_then(|found| found.modified()).is_ok_and(|kept| kept < oldest)
        {
            return None;
        }
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// # Errors
    /// The store cannot be written.
    pub fn keep_step(&self, key: &Digest, record: &Record) -> Result<()> {
        let text = serde_json::to_vec(record).step(|| "cannot write a record of the build cache")?;
        keep(&self.steps(), key, &text)
    }

    /// When an image of these parts was first made, RFC 3339.
    pub fn created(&self, key: &Digest) -> Option<String> {
        let text = fs::read_to_string(self.images().join(key.hex())).ok()?;
        text.parse::<jiff::Timestamp>().ok().map(|_| text)
    }

    /// # Errors
    /// The store cannot be written.
    pub fn keep_created(&self, key: &Digest, created: &str) -> Result<()> {
        keep(&self.images(), key, created.as_bytes())
    }

    /// The layers that all records name.
    ///
    /// # Errors
    /// A record cannot be read: better nothing is removed. One that is damaged names nothing, for no build uses it.
    pub fn layers(&self) -> Result<Vec<Made>> {
        let mut layers = Vec::new();
        for path in entries(&self.steps())? {
            let text = match fs::read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                read => read.step(|| format!("cannot read `{}`", path.display()))?,
            };
            layers.extend(serde_json::from_slice::<Record>(&text).ok().and_then(|record| record.layer));
        }
        Ok(layers)
    }

    /// Every record that can be read.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn all(&self) -> Result<Vec<Kept>> {
        let kept = entries(&self.steps())?.into_iter().filter_map(|path| {
            let record = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
            let since = path.metadata().and_then(|found| found.modified()).ok()?;
            Some(Kept { key: path.file_name()?.to_str()?.to_owned(), record, since })
        });
        Ok(kept.collect())
    }

    /// Forgets everything, or what was kept before a time. What the records named is the collector's.
    ///
    /// # Errors
    /// A record cannot be removed.
    pub fn prune(&self, before: Option<SystemTime>) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        for (directory, counts) in [(self.steps(), true), (self.images(), false)] {
            for path in entries(&directory)? {
                let kept = path.metadata().and_then(|found| found.modified());
                if before.is_some_and(|before| kept.is_ok_and(|kept| kept >= before)) {
                    continue;
                }
                match fs::remove_file(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    removed => {
                        removed.step(|| format!("cannot remove `{}`", path.display()))?;
                        pruned.records += usize::from(counts);
                    }
                }
            }
        }
        Ok(pruned)
    }
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed = || format!("cannot read `{}`", directory.display());
    match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        found => {
            let paths = found.step(failed)?.map(|entry| entry.map(|entry| entry.path()));
            paths.collect::<io::Result<_>>().step(failed)
        }
    }
}

/// How often a record is written once more that somebody has pruned meanwhile.
const AGAIN: u32 = 8;

fn keep(directory: &Path, key: &Digest, text: &[u8]) -> Result<()> {
    let target = directory.join(key.hex());
    let failed = |error| no_room(error, format!("cannot write `{}`", target.display()));
    fs::create_dir_all(directory).map_err(failed)?;
    // Two builds may write the same record, and say the same.
    let unfinished = directory.join(format!(".{}-{}", key.hex(), std::process::id()));
    let write = || fs::write(&unfinished, text).and_then(|()| fs::rename(&unfinished, &target));
    let mut written = write();
    for _ in 0..AGAIN {
        // Who prunes at this moment takes away what is unfinished, too.
        match written {
            Err(error) if error.kind() == io::ErrorKind::NotFound => written = write(),
            _ => break,
        }
    }
    written.map_err(|error| {
        let _ = fs::remove_file(&unfinished);
        failed(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(text: &str) -> Made {
        let digest = Digest::of(text.as_bytes());
        Made {
            blob: crate::image::documents::Descriptor::new("x", digest.clone(), 1),
            diff_id: digest,
            size: 1,
        }
    }

    #[test]
    fn what_was_kept_is_found_until_it_is_pruned() {
        let store = tempfile::tempdir().unwrap();
        let cache = Cache::new(store.path());
        let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
        assert_eq!(cache.step(&one, None), None);
        assert_eq!(cache.prune(None).unwrap(), Pruned::default());
        let record = Record { layer: Some(made("a")) };
        cache.keep_step(&one, &record).unwrap();
        cache.keep_step(&other, &Record { layer: None }).unwrap();
        cache.keep_created(&one, "2023-11-14T22:13:20Z").unwrap();
        assert_eq!(cache.step(&one, None), Some(record));
        assert_eq!(cache.layers().unwrap(), [made("a")]);
        assert_eq!(cache.created(&one).as_deref(), Some("2023-11-14T22:13:20Z"));
        fs::write(cache.steps().join(other.hex()), "{").unwrap();
        assert_eq!(cache.step(&other, None), None);
        assert_eq!(cache.layers().unwrap().len(), 1);
        assert_eq!(cache.prune(None).unwrap(), Pruned { records: 2 });
        assert_eq!(cache.created(&one), None);
        assert!(cache.layers().unwrap().is_empty());
    }
}
