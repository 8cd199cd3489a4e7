//! Files from http and https servers, kept with what the server calls their version, so that they come again only where
//! they are others.
//!
//! ```text
//! <store>/build/downloads/<key>      what was said of a URL: a record
//! <store>/build/downloads/<digest>-<seconds>   the bytes, mode 0600, with that time of modification
//! ```

use std::fs::{self, File, FileTimes};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Sha256, Sha384, Sha512};

use crate::build::dockerfile::matching::name_of_url;
use crate::build::fetch::scratch::Scratch;
use crate::container::store::no_room;
use crate::error::{Error, Result, Step};
use crate::image::digest::Digest;
use crate::layers::remove;
use crate::registry::download::{Ask, Head, fetch, shown};

/// Below the store.
pub const DIRECTORY: &str = "build/downloads";
/// Of what only its owner may read (Dockerfile reference, "Adding files from a URL").
const MODE: u32 = 0o600;
/// What the format of records is known by.
const GENERATION: u32 = 1;

/// A file that was downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// Where its bytes are. They are not changed, and may be removed when no build is under way.
    pub path: PathBuf,
    pub digest: Digest,
    /// Seconds since 1970: Last-Modified, or 0.
    pub modified: i64,
    /// What the server, or the URL, calls it; none has a `/`.
    pub name: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    generation: u32,
    etag: Option<String>,
    digest: Digest,
    size: u64,
    modified: i64,
    name: Option<String>,
}

/// What downloads share.
#[derive(Debug, Clone)]
pub struct Downloads {
    directory: PathBuf,
    store: PathBuf,
    /// Nothing that is there counts.
    anew: bool,
    stalled: Option<Duration>,
}

impl Downloads {
    pub fn new(store: &Path, anew: bool) -> Self {
        Self { directory: store.join(DIRECTORY), store: store.to_owned(), anew, stalled: None }
    }

    /// With another time without a byte after which a connection is given up.
    #[must_use]
    pub fn stalled_after(self, span: Duration) -> Self {
        Self { stalled: Some(span), ..self }
    }

    /// What the URL names, whose checksum (`ALGORITHM:HEX`) is the one that is given.
    ///
    /// # Errors
    /// It cannot be had, or is something else, or there is no room.
    pub fn get(&self, url: &str, checksum: Option<&str>) -> Result<Download> {
        let key = self.directory.join(Digest::of(url.as_bytes()).hex());
        let known = if self.anew { None } else { self.known(&key) };
        if let (Some((_, download)), Some(checksum)) = (&known, checksum)
            && checksum.eq_ignore_ascii_case(download.digest.as_str())
        {
            return Ok(download.clone());
        }
        let failed = || format!("cannot download `{}`", shown(url).escape_debug());
        let scratch = Scratch::new(&self.store)?;
        let path = scratch.path().join("download");
        let not_written = |error: io::Error| no_room(error, format!("cannot write `{}`", path.display()));
        let opened = fs::OpenOptions::new().read(true).write(true).create_new(true).mode(MODE).open(&path);
        let mut file = opened.map_err(not_written)?;
        let etag = known.as_ref().and_then(|(record, _)| record.etag.as_deref());
        let head = fetch(&Ask { url, etag, stalled: self.stalled }, &mut file)?;
        let Some(head) = head else {
            let (_, download) = known.ok_or_else(|| Error::new(failed()))?;
            check(checksum, &mut File::open(&download.path).step(failed)?)
                .map_err(|error| error.while_doing(failed()))?;
            return Ok(download);
        };
        let record = self.describe(url, head, &mut file).step(failed)?;
        check(checksum, &mut file).map_err(|error| error.while_doing(failed()))?;
        let times = FileTimes::new().set_modified(time(record.modified));
        file.set_times(times).and_then(|()| file.sync_all()).map_err(not_written)?;
        let download = self.place(&record);
        let text = serde_json::to_vec(&record).step(failed)?;
        let beside = scratch.path().join("record");
        fs::create_dir_all(&self.directory)
            .and_then(|()| fs::rename(&path, &download.path))
            .and_then(|()| fs::write(&beside, text))
            .and_then(|()| fs::rename(&beside, &key))
            .map_err(|error| no_room(error, failed()))?;
        Ok(download)
    }

    fn describe(&self, url: &str, head: Head, file: &mut File) -> io::Result<Record> {
        use std::io::Seek;
        file.rewind()?;
        let digest = digest_of::<Sha256>(file)?;
        let digest = Digest::from_hex(&digest).ok_or_else(|| io::Error::other("it has no digest"))?;
        let plain = |name: &String| !name.contains(['/', '\0']) && !matches!(name.as_str(), "" | "." | "..");
        Ok(Record {
            generation: GENERATION,
            etag: head.etag,
            digest,
            size: file.metadata()?.size(),
            modified: head.modified.unwrap_or(0),
            name: head.name.filter(plain).or_else(|| name_of_url(url)),
        })
    }

    fn place(&self, record: &Record) -> Download {
        Download {
            path: self.directory.join(format!("{}-{}", record.digest.hex(), record.modified)),
            digest: record.digest.clone(),
            modified: record.modified,
            name: record.name.clone(),
        }
    }

    /// What an earlier build has left, where it is whole.
    fn known(&self, key: &Path) -> Option<(Record, Download)> {
        let record: Record = serde_json::from_slice(&fs::read(key).ok()?).ok()?;
        let download = self.place(&record);
        let there = download.path.symlink_metadata().ok()?;
        let whole = there.is_file() && there.len() == record.size && record.generation == GENERATION;
        whole.then_some((record, download))
    }
}

fn time(seconds: i64) -> SystemTime {
    let span = Duration::from_secs(seconds.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    let time = if seconds < 0 { epoch.checked_sub(span) } else { epoch.checked_add(span) };
    time.unwrap_or(epoch)
}

/// Compares a file with what it should be.
fn check(checksum: Option<&str>, file: &mut File) -> Result<()> {
    use std::io::Seek;
    let Some(checksum) = checksum else { return Ok(()) };
    let failed = || "cannot read it";
    file.rewind().step(failed)?;
    let (algorithm, wanted) = checksum.split_once(':').unwrap_or(("", checksum));
    let found = match algorithm {
        "sha256" => digest_of::<Sha256>(file),
        "sha384" => digest_of::<Sha384>(file),
        "sha512" => digest_of::<Sha512>(file),
        _ => {
            return Err(Error::new("cannot check what was downloaded")
                .because(format!("`{}` is no checksum of a file", checksum.escape_debug()))
                .hint("write `--checksum=sha256:HEX`"));
        }
    };
    let found = found.step(failed)?;
    match found.eq_ignore_ascii_case(wanted) {
        true => Ok(()),
        false => Err(Error::new("its content is not what `--checksum` says")
            .because(format!("it has the checksum {algorithm}:{found}"))),
    }
}

fn digest_of<D: sha2::Digest>(file: &mut File) -> io::Result<String> {
    let mut hasher = D::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Removes what is kept.
///
/// # Errors
/// It cannot be removed.
pub fn prune(store: &Path) -> Result<()> {
    let directory = store.join(DIRECTORY);
    remove::own(&directory).map_err(|error| remove::failed(&directory, &error))
}
