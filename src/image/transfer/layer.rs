//! One layer on its way into the store: its blob and its files are made at once, from one stream, and each
//! becomes visible when its own digest has been verified.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::container::store::no_room;
use crate::error::{Error, Result, Step};
use crate::image::digest::Digest;
use crate::image::documents::Descriptor;
use crate::image::store::{BlobBegin, NewBlob};
use crate::image::transfer::ahead::{Feed, fill, pipe};
use crate::image::transfer::session::Session;
use crate::layers::compression;
use crate::layers::store::{Begin, Unfinished};
use crate::layers::unpack::Limits;
use crate::output::progress::Bar;

/// After a layer failed to unpack, its blob is still read to the end where that is near: its digest tells
/// whether the layer is wrong or was damaged on the way.
const WORTH_READING: u64 = 64 << 20;

/// A layer of a manifest.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'m> {
    pub blob: &'m Descriptor,
    pub diff_id: &'m Digest,
}

/// Where the bytes of a blob come from.
pub struct Origin<'o> {
    /// `Downloading`
    pub action: &'static str,
    /// Opens the blob at an offset in bytes.
    #[allow(clippy::type_complexity)]
    pub open: &'o (dyn Fn(&Descriptor, u64) -> Result<Box<dyn Read + Send>> + Sync),
}

/// Brings one layer into the store, whatever of it is missing, and gives the bytes of its files.
///
/// # Errors
/// It cannot be read, is not what its digests say, holds what no layer may hold, or there is no room.
pub fn bring(session: &Session, layer: Layer<'_>, bar: &Bar, origin: &Origin<'_>) -> Result<u64> {
    session.lease.add(layer.diff_id)?;
    match session.store.begin_blob(&layer.blob.digest, layer.blob.size, &session.lease)? {
        BlobBegin::Present => match session.layers.begin(layer.diff_id)? {
            Begin::Present => bar.done("Already exists"),
            Begin::Make(unfinished) => {
                bar.working("Unpacking");
                from_store(session, layer, unfinished)?;
                bar.done("Unpacked");
            }
        },
        BlobBegin::Write(blob) => {
            let done = if origin.action == "Downloading" { "Pull complete" } else { "Load complete" };
            bar.moving(origin.action);
            match session.layers.begin(layer.diff_id)? {
                Begin::Present => {
                    let failed = AtomicBool::new(false);
                    Writer { session, layer, bar, origin, failed: &failed }.write(blob, None)?;
                }
                Begin::Make(unfinished) => both(session, layer, bar, origin, blob, unfinished)?,
            }
            bar.done(done);
        }
    }
    Ok(session.layers.facts(layer.diff_id)?.size)
}

/// Unpacks a layer whose blob is in the store.
///
/// # Errors
/// As [`bring`].
pub fn from_store(session: &Session, layer: Layer<'_>, unfinished: Unfinished) -> Result<()> {
    let file = session.store.open_blob(layer.blob)?;
    unpack(session.watched(file), layer, unfinished)
        .map_err(|error| error.hint("if the blob is damaged: remove the image and pull or load it again"))
}

fn unpack(packed: impl Read + Send, layer: Layer<'_>, unfinished: Unfinished) -> Result<()> {
    let failed = || format!("cannot unpack the layer {}", layer.blob.digest.short());
    let (_, mut tar) = compression::decompress_detected(packed).step(failed)?;
    let limits = Limits::for_compressed(layer.blob.size);
    unfinished.unpack(&mut tar, &limits).map(|_| ()).map_err(|error| error.while_doing(failed()))
}

/// Writes the blob in one thread and unpacks it in others.
fn both(
    session: &Session,
    layer: Layer<'_>,
    bar: &Bar,
    origin: &Origin<'_>,
    blob: NewBlob,
    unfinished: Unfinished,
) -> Result<()> {
    let (feed, ahead) = pipe();
    let failed = AtomicBool::new(false);
    let writer = Writer { session, layer, bar, origin, failed: &failed };
    std::thread::scope(|scope| {
        let writing = std::thread::Builder::new()
            .name("blob".to_owned())
            .spawn_scoped(scope, move || writer.write(blob, Some(feed)))
            .step(|| "cannot start a thread")?;
        let unpacked = unpack(ahead, layer, unfinished);
        failed.store(unpacked.is_err(), Ordering::Relaxed);
        let written = writing.join().unwrap_or_else(|_| Err(Error::new("cannot store the blob").into()));
        match written {
            // What is wrong with the blob explains what is wrong with the layer.
            Err(Stopped::Because(error)) => Err(error),
            Err(Stopped::ByUnpacking) | Ok(()) => unpacked,
        }
    })
}

enum Stopped {
    Because(Error),
    /// The layer is wrong, and the rest of the blob is long.
    ByUnpacking,
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Because(error)
    }
}

impl From<Stopped> for Error {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Because(error) => error,
            Stopped::ByUnpacking => Self::new("the transfer was stopped"),
        }
    }
}

#[derive(Clone, Copy)]
struct Writer<'w> {
    session: &'w Session,
    layer: Layer<'w>,
    bar: &'w Bar,
    origin: &'w Origin<'w>,
    /// The layer could not be unpacked.
    failed: &'w AtomicBool,
}

impl Writer<'_> {
    /// Completes the blob; all of it, with what an earlier attempt left, goes to `feed`, too.
    fn write(&self, blob: NewBlob, feed: Option<Feed>) -> Result<(), Stopped> {
        let mut feed = feed;
        let result = self.copy(blob, &mut feed);
        if let (Err(_), Some(feed)) = (&result, feed) {
            feed.fail(io::Error::other("the blob cannot be read"));
        } else if result.is_ok() {
            self.bar.working("Unpacking");
        }
        result
    }

    fn copy(&self, mut blob: NewBlob, feed: &mut Option<Feed>) -> Result<(), Stopped> {
        let name = self.layer.blob.digest.short();
        let size = self.layer.blob.size;
        if blob.existing() > 0 {
            self.bar.advance(blob.existing());
            self.replay(&blob, feed)?;
        }
        if blob.existing() < size {
            let mut source = (self.origin.open)(self.layer.blob, blob.existing())?;
            let mut over = false;
            while !over {
                let mut chunk = feed.as_ref().map_or_else(Vec::new, Feed::buffer);
                let read = fill(&mut source, &mut chunk);
                over = chunk.is_empty() || read.is_err();
                blob.write_all(&chunk)
                    .map_err(|error| no_room(error, format!("cannot store the blob {name}")))?;
                self.bar.advance(chunk.len() as u64);
                read.step(|| format!("cannot read the blob {name}"))?;
                self.check(size - blob.existing().min(size))?;
                give(feed, chunk);
            }
        }
        // The end of the stream is known only now: it is not to be unpacked before.
        *feed = None;
        blob.finish(&self.session.lease)?;
        Ok(())
    }

    /// Whether to go on with `left` bytes to come.
    fn check(&self, left: u64) -> Result<(), Stopped> {
        if self.session.is_stopped() {
            return Err(Error::new("the transfer was stopped").into());
        }
        if self.failed.load(Ordering::Relaxed) && left > WORTH_READING {
            return Err(Stopped::ByUnpacking);
        }
        Ok(())
    }

    /// What an earlier attempt left, for the unpacking alone.
    fn replay(&self, blob: &NewBlob, feed: &mut Option<Feed>) -> Result<()> {
        let failed = || format!("cannot read `{}`", blob.path().display());
        let mut left = File::open(blob.path()).step(failed)?.take(blob.existing());
        while feed.is_some() {
            let mut chunk = feed.as_ref().map_or_else(Vec::new, Feed::buffer);
            fill(&mut left, &mut chunk).step(failed)?;
            if chunk.is_empty() {
                break;
            }
            give(feed, chunk);
        }
        Ok(())
    }
}

/// Hands a chunk on, until nobody takes any more: decompressors leave what follows their last member.
fn give(feed: &mut Option<Feed>, chunk: Vec<u8>) {
    if chunk.is_empty() {
        return;
    }
    if feed.as_ref().is_some_and(|feed| feed.give(chunk).is_err()) {
        *feed = None;
    }
}
