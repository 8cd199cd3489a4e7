//! Blobs: `blobs/sha256/<hex>`, there under its name only when its content has that digest.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{ImageStore, Lease, files, lock, random_name};
use crate::container::store::no_room;
use crate::error::{Error, Result, Step};
use crate::image::digest::{Digest, Hasher};
use crate::image::documents::Descriptor;

/// The mode of a blob that sbx made. Other tools give others (skopeo 0644): see [`super::gc`].
pub(super) const OWN_MODE: u32 = 0o444;
/// Larger blobs are not forced onto the disk: what a power failure cut short is seen by its size or digest,
/// and fetched again.
const LARGEST_SYNCED: u64 = 1 << 20;
/// Names of partial blobs whose digest is not known yet.
pub(super) const UNKNOWN: &str = ".new-";

/// [`ImageStore::begin_blob`].
#[derive(Debug)]
pub enum BlobBegin {
    Present,
    Write(NewBlob),
}

/// A blob in the making, held by this process alone. Dropped, it stays as a partial download that the next one
/// goes on with, if its digest is known; [`NewBlob::discard`] removes it.
#[derive(Debug)]
pub struct NewBlob {
    store: ImageStore,
    file: File,
    path: PathBuf,
    /// Digest and size in bytes, where they are known before.
    wanted: Option<(Digest, u64)>,
    hasher: Hasher,
    length: u64,
    published: bool,
}

impl ImageStore {
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    /// One lstat(2). To rely on what it says, hold the shared lock, or a lease that has the digest.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_size(digest).is_some()
    }

    /// Bytes.
    pub fn blob_size(&self, digest: &Digest) -> Option<u64> {
        let metadata = self.blob_path(digest).symlink_metadata().ok()?;
        metadata.is_file().then_some(metadata.len())
    }

    /// Opens a blob. Its size is checked; its digest is for the reader to verify, while it reads.
    ///
    /// # Errors
    /// It is missing, no regular file, or of another size than the descriptor says.
    pub fn open_blob(&self, descriptor: &Descriptor) -> Result<File> {
        let file = self.open_any_blob(&descriptor.digest)?;
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        if length != descriptor.size {
            return Err(self.damaged(
                &descriptor.digest,
                format!("it has {length} bytes and should have {}", descriptor.size),
            ));
        }
        Ok(file)
    }

    fn open_any_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.blob_path(digest);
        match files::open(&path) {
            Ok(Some(file)) => Ok(file),
            Ok(None) => Err(Error::new(format!("cannot find the blob `{}`", path.display()))
                .because("it is no longer in the store")
                .hint("pull or load the image again: what is missing is fetched")),
            Err(error) => Err(self.damaged(digest, error)),
        }
    }

    /// A blob whose content is not what its name says, with the way out.
    pub fn damaged(&self, digest: &Digest, cause: impl std::fmt::Display) -> Error {
        let path = self.blob_path(digest);
        Error::new(format!("cannot use the blob `{}`", path.display()))
            .because(cause)
            .hint(format!("remove it with `rm {}`, then pull or load the image again", path.display()))
    }

    /// Reads a document of at most `max` bytes, and verifies its digest.
    ///
    /// # Errors
    /// It is missing, larger, or damaged.
    pub fn read_document(&self, digest: &Digest, max: u64) -> Result<Vec<u8>> {
        let file = self.open_any_blob(digest)?;
        let bytes = files::read(file, max).map_err(|error| self.damaged(digest, error))?;
        if Digest::of(&bytes) != *digest {
            return Err(self.damaged(digest, "its content has another digest"));
        }
        Ok(bytes)
    }

    /// Stores a document. The lease keeps it until the index names it.
    ///
    /// # Errors
    /// Where nothing can be written.
    pub fn put_bytes(&self, bytes: &[u8], lease: &Lease) -> Result<Digest> {
        let digest = Digest::of(bytes);
        match self.begin_blob(&digest, bytes.len() as u64, lease)? {
            BlobBegin::Present => {}
            BlobBegin::Write(mut blob) => {
                blob.restart()?;
                blob.write_all(bytes).map_err(|error| no_room(error, blob.failed()))?;
                blob.finish(lease)?;
            }
        }
        Ok(digest)
    }

    /// The partial file of a blob, held alone: waits while another process (or thread) makes the same one, and
    /// may then find it there. What an earlier attempt left is kept and hashed: see [`NewBlob::existing`].
    /// Whoever waits here holds no other unfinished blob.
    ///
    /// # Errors
    /// Where nothing can be written.
    pub fn begin_blob(&self, digest: &Digest, size: u64, lease: &Lease) -> Result<BlobBegin> {
        self.prepare()?;
        lease.add(digest)?;
        if self.settled(digest, size)? {
            return Ok(BlobBegin::Present);
        }
        let path = self.partial().join(digest.hex());
        let failed = || format!("cannot make `{}`", path.display());
        let file = lock::own(&path).map_err(|error| no_room(error, failed()))?;
        if self.settled(digest, size)? {
            let _ = fs::remove_file(&path);
            return Ok(BlobBegin::Present);
        }
        let wanted = Some((digest.clone(), size));
        let mut blob = NewBlob {
            store: self.clone(),
            file,
            path,
            wanted,
            hasher: Hasher::new(),
            length: 0,
            published: false,
        };
        blob.take_up()?;
        Ok(BlobBegin::Write(blob))
    }

    /// A blob whose digest is known when it is whole.
    ///
    /// # Errors
    /// Where nothing can be written.
    pub fn begin_unknown_blob(&self) -> Result<NewBlob> {
        self.prepare()?;
        let path = self.partial().join(format!("{UNKNOWN}{}", random_name()?));
        let failed = || format!("cannot make `{}`", path.display());
        let file = lock::own(&path).map_err(|error| no_room(error, failed()))?;
        Ok(NewBlob {
            store: self.clone(),
            file,
            path,
            wanted: None,
            hasher: Hasher::new(),
            length: 0,
            published: false,
        })
    }

    /// Whether the blob is there in its size; one of another size is of no use to anybody, and removed.
    fn settled(&self, digest: &Digest, size: u64) -> Result<bool> {
        match self.blob_size(digest) {
            Some(length) if length == size => Ok(true),
            Some(length) => {
                // A wrong size in a manifest must not cost others a sound blob.
                let file = self.open_any_blob(digest)?;
                if digest_of(file).is_ok_and(|found| found == *digest) {
                    return Err(Error::new(format!("cannot store the blob {digest}"))
                        .because(format!("it has {length} bytes, and the manifest says {size}")));
                }
                let path = self.blob_path(digest);
                fs::remove_file(&path)
                    .step(|| format!("cannot remove the damaged blob `{}`", path.display()))?;
                Ok(false)
            }
            None => Ok(false),
        }
    }
}

impl NewBlob {
    /// Bytes that are there and hashed: where to go on.
    pub fn existing(&self) -> u64 {
        self.length
    }

    /// Where the bytes are until [`NewBlob::finish`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Forgets everything written so far: the source starts from its beginning.
    ///
    /// # Errors
    /// Those of ftruncate(2).
    pub fn restart(&mut self) -> Result<()> {
        if self.length == 0 {
            return Ok(());
        }
        self.file.set_len(0).and_then(|()| self.file.rewind()).step(|| self.failed())?;
        (self.hasher, self.length) = (Hasher::new(), 0);
        Ok(())
    }

    /// Removes what there is: it is of no use to the next attempt either.
    pub fn discard(self) {
        let _ = fs::remove_file(&self.path);
    }

    /// Makes the blob visible. One whose content is not what was asked for is removed.
    ///
    /// # Errors
    /// Another digest or size, or no room.
    pub fn finish(mut self, lease: &Lease) -> Result<Digest> {
        let digest = self.hasher.clone().finish();
        if let Some((wanted, size)) = &self.wanted {
            let failed = || Error::new(format!("cannot store the blob {wanted}"));
            if self.length < *size {
                // The rest may come another time.
                return Err(failed()
                    .because(format!("it ended after {} of {size} bytes", self.length))
                    .hint("try again: what has arrived is kept"));
            }
            if digest != *wanted || self.length != *size {
                let cause = format!("what has arrived has the digest {digest} and {} bytes", self.length);
                let hint = "the source is damaged or lies: nothing of it was kept";
                let error = failed().because(cause).hint(hint);
                self.discard();
                return Err(error);
            }
        }
        lease.add(&digest)?;
        let path = self.store.blob_path(&digest);
        let publish = || -> io::Result<()> {
            if self.length <= LARGEST_SYNCED {
                self.file.sync_all()?;
            }
            fs::rename(&self.path, &path)?;
            // Not before: nobody could go on with what a kill leaves.
            self.file.set_permissions(fs::Permissions::from_mode(OWN_MODE))
        };
        publish().map_err(|error| no_room(error, format!("cannot store `{}`", path.display())))?;
        self.published = true;
        Ok(digest)
    }

    /// Hashes what an earlier attempt has left.
    fn take_up(&mut self) -> Result<()> {
        let size = self.wanted.as_ref().map_or(0, |(_, size)| *size);
        if self.file.metadata().map_or(0, |metadata| metadata.len()) > size {
            self.file.set_len(0).step(|| self.failed())?;
        }
        self.file.rewind().step(|| self.failed())?;
        let mut chunk = vec![0; 128 << 10];
        loop {
            match self.file.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    self.hasher.update(&chunk[..count]);
                    self.length += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::new(self.failed()).because(error)),
            }
        }
    }

    fn failed(&self) -> String {
        format!("cannot write `{}`", self.path.display())
    }
}

/// Nobody can go on with what has no name.
impl Drop for NewBlob {
    fn drop(&mut self) {
        if self.wanted.is_none() && !self.published {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What is written is hashed and goes to the file at once. More than the size that was asked for is refused.
impl Write for NewBlob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.wanted.as_ref().map_or(u64::MAX, |(_, size)| size - self.length.min(*size));
        if room < bytes.len() as u64 {
            return Err(io::Error::other("there is more of it than the manifest says"));
        }
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn digest_of(mut file: File) -> io::Result<Digest> {
    file.seek(SeekFrom::Start(0))?;
    let mut reader = crate::image::digest::HashingReader::new(file);
    io::copy(&mut reader, &mut io::sink())?;
    Ok(reader.finish().1)
}
