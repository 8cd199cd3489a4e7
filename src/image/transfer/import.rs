//! A root file system's tar becomes an image of one layer.

use std::fs::File;
use std::io::{Cursor, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use crate::container::store::no_room;
use crate::error::{Error, Result, Step};
use crate::image::changes;
use crate::image::digest::Digest;
use crate::image::documents::{Descriptor, History, ImageConfig, RootFs, media_type};
use crate::image::platform::Wanted;
use crate::image::reference::Reference;
use crate::image::store::{NewBlob, NewImage};
use crate::image::transfer::ahead::{Feed, fill, pipe};
use crate::image::transfer::archive::docker::manifest;
use crate::image::transfer::layer::{self, Layer};
use crate::image::transfer::session::Session;
use crate::image::transfer::{Place, unpacker};
use crate::layers::compression::{self, Compression};
use crate::layers::store::{Begin, unpack_unknown};
use crate::layers::unpack::Limits;
use crate::output::progress::{Bar, Progress};

/// What an import is told.
#[derive(Debug, Clone)]
pub struct Options {
    pub name: Option<Reference>,
    /// Instructions: see [`changes::apply`].
    pub changes: Vec<String>,
    pub message: Option<String>,
    pub platform: Wanted,
    pub quiet: bool,
    /// The file or URL, for the history.
    pub from: String,
}

/// Where the tar comes from.
pub enum Input {
    /// Opened by the caller, with the caller's own permissions.
    File(File),
    Stream(Box<dyn Read + Send>),
}

/// Imports the tar and gives the image's ID.
///
/// # Errors
/// It is no tar, holds what no layer may hold, a change is not understood, or there is no room.
pub fn import(place: &Place, options: &Options, open: impl FnOnce() -> Result<Input>) -> Result<Digest> {
    // Before anything is read.
    changes::apply(&options.changes, &mut ImageConfig::default().config)?;
    let mut imported = None;
    unpacker::run(
        &place.identity,
        |results| {
            let session = Session::begin(&place.store, place.key(), Progress::new(options.quiet))?;
            let input: Box<dyn Read + Send> = match open()? {
                Input::File(file) => Box::new(file),
                Input::Stream(stream) => stream,
            };
            results.hand_over(&import_stream(&session, options, input)?)
        },
        |id: Digest| {
            imported = Some(id);
            Ok(())
        },
    )?;
    imported.ok_or_else(|| Error::new("cannot import the archive"))
}

fn import_stream(session: &Session, options: &Options, mut input: Box<dyn Read + Send>) -> Result<Digest> {
    let failed = || format!("cannot import `{}`", options.from);
    let mut first = Vec::new();
    input.by_ref().take(compression::FIRST_BYTES as u64).read_to_end(&mut first).step(failed)?;
    if first.is_empty() {
        return Err(Error::new(failed())
            .because("there is nothing in it")
            .hint("if it came through a pipe: the command before it has failed, perhaps"));
    }
    let kind = compression::detect(&first);
    let whole = Cursor::new(first).chain(input);
    // Layers may be packed in three ways; what comes in another is kept unpacked.
    let (stream, media_type): (Box<dyn Read + Send>, _) = match kind {
        Compression::None => (Box::new(whole), media_type::OCI_LAYER),
        Compression::Gzip => (Box::new(whole), media_type::OCI_LAYER_GZIP),
        Compression::Zstd => (Box::new(whole), media_type::OCI_LAYER_ZSTD),
        Compression::Xz | Compression::Bzip2 => {
            (compression::decompress(kind, whole).step(failed)?, media_type::OCI_LAYER)
        }
    };
    let bar = session.progress.bar("Importing", 0);
    let (blob, diff_id, size) =
        both(session, stream, media_type, &bar).map_err(|error| error.while_doing(failed()))?;
    bar.done("Import complete");
    finish(session, options, blob, diff_id, size)
}

/// Keeps the bytes as a blob while they are unpacked.
pub(super) fn both(
    session: &Session,
    mut stream: Box<dyn Read + Send>,
    media_type: &str,
    bar: &Bar,
) -> Result<(Descriptor, Digest, u64)> {
    let (feed, ahead) = pipe();
    let mut blob = session.store.begin_unknown_blob()?;
    let failed = AtomicBool::new(false);
    let (written, unpacked) = std::thread::scope(|scope| {
        let writing = std::thread::Builder::new()
            .name("blob".to_owned())
            .spawn_scoped(scope, || copy(session, &mut stream, &mut blob, feed, (bar, &failed)))
            .step(|| "cannot start a thread")?;
        let unpacked = compression::decompress_detected(ahead)
            .step(|| "cannot read it")
            .and_then(|(_, mut tar)| unpack_unknown(&session.layers, &mut tar, &Limits::default()));
        failed.store(unpacked.is_err(), Ordering::Relaxed);
        let written = writing.join().unwrap_or_else(|_| Err(Error::new("cannot store it")));
        Ok::<_, Error>((written, unpacked))
    })?;
    let (length, (diff_id, facts)) = match (written, unpacked) {
        (Ok(length), Ok(unpacked)) => (length, unpacked),
        (Err(error), _) | (_, Err(error)) => {
            blob.discard();
            return Err(error);
        }
    };
    let digest = blob.finish(&session.lease)?;
    let blob = Descriptor::new(media_type, digest, length);
    // Nobody knew of the layer before it was there.
    session.lease.add(&diff_id)?;
    if let Begin::Make(unfinished) = session.layers.begin(&diff_id)? {
        layer::from_store(session, Layer { blob: &blob, diff_id: &diff_id }, unfinished)?;
    }
    Ok((blob, diff_id, facts.size))
}

/// Bytes copied to the end of the stream, or until unpacking has failed; the feed gets them for as long as it
/// wants them.
fn copy(
    session: &Session,
    stream: &mut impl Read,
    blob: &mut NewBlob,
    feed: Feed,
    (bar, failed): (&Bar, &AtomicBool),
) -> Result<u64> {
    let mut feed = Some(feed);
    let mut length = 0;
    let mut source = session.watched(stream);
    bar.moving("Reading");
    loop {
        let mut chunk = feed.as_ref().map_or_else(Vec::new, Feed::buffer);
        if let Err(error) = fill(&mut source, &mut chunk) {
            if let Some(feed) = feed {
                feed.fail(std::io::Error::other("it cannot be read"));
            }
            return Err(error).step(|| "cannot read it");
        }
        if chunk.is_empty() || failed.load(Ordering::Relaxed) {
            return Ok(length);
        }
        blob.write_all(&chunk).map_err(|error| no_room(error, "cannot store it".to_owned()))?;
        length += chunk.len() as u64;
        bar.advance(chunk.len() as u64);
        if feed.as_ref().is_some_and(|feed| feed.give(chunk).is_err()) {
            feed = None;
        }
    }
}

fn finish(
    session: &Session,
    options: &Options,
    blob: Descriptor,
    diff_id: Digest,
    size: u64,
) -> Result<Digest> {
    let now = jiff::Timestamp::try_from(SystemTime::now()).step(|| "cannot tell the time")?.to_string();
    let mut config = ImageConfig {
        architecture: options.platform.architecture.clone(),
        os: options.platform.os.clone(),
        variant: options.platform.variant.clone(),
        created: Some(now.clone()),
        rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![diff_id] },
        history: vec![History {
            created: Some(now.clone()),
            comment: options.message.clone().unwrap_or_else(|| format!("Imported from {}", options.from)),
            ..History::default()
        }],
        ..ImageConfig::default()
    };
    changes::apply(&options.changes, &mut config.config)?;
    let written = || "cannot write the image's documents";
    let config_bytes = serde_json::to_vec(&config).step(written)?;
    let id = session.store.put_bytes(&config_bytes, &session.lease)?;
    let document =
        manifest(Descriptor::new(media_type::OCI_CONFIG, id.clone(), config_bytes.len() as u64), vec![blob]);
    let bytes = serde_json::to_vec(&document).step(written)?;
    let digest = session.store.put_bytes(&bytes, &session.lease)?;
    let image = NewImage {
        manifest: Descriptor::new(media_type::OCI_MANIFEST, digest, bytes.len() as u64),
        id: id.clone(),
        created: Some(now),
        size,
        repo_digests: Vec::new(),
        index: None,
    };
    let mut change = session.store.change()?;
    change.put(options.name.as_ref(), &image);
    change.commit()?;
    Ok(id)
}
