//! Layers that are made here rather than brought: packed by one thread, stored as a blob and unpacked by others.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use crate::container::difference;
use crate::container::directory::ContainerDirectory;
use crate::container::export;
use crate::container::spec::{Driver, Spec};
use crate::error::{Error, Result, Step};
use crate::image::difference::Change;
use crate::image::digest::Digest;
use crate::image::documents::{Descriptor, media_type};
use crate::image::transfer::ahead::{CHUNK, Feed, pipe};
use crate::image::transfer::import;
use crate::image::transfer::session::Session;
use crate::layers::owners::Owners;
use crate::layers::pack::{Kind, Source, Times, pack};
use crate::layers::unpack::archive::shown;
use crate::layers::unpack::tree::STACK;
use crate::layers::unpack::whiteouts::WHITEOUT;
use crate::output::progress::Bar;

/// The cause of an error of the packer that is none of its own.
const UNWANTED: &str = "nobody takes the layer any more";

/// A layer of the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Made {
    pub blob: Descriptor,
    pub diff_id: Digest,
    /// Bytes of its files.
    pub size: u64,
}

/// Stores what `pack` writes as a layer; it runs in a thread of its own.
///
/// # Errors
/// What `pack` fails with, or the store cannot take the layer.
pub fn layer(
    session: &Session,
    bar: &Bar,
    pack: impl FnOnce(&mut dyn Write) -> Result<()> + Send,
) -> Result<Made> {
    let (feed, ahead) = pipe();
    let packing = move || {
        let mut writer = Writer { feed: Some(feed), chunk: Vec::new() };
        let packed = pack(&mut writer);
        let packed = packed.and_then(|()| writer.flush().step(|| "cannot pack the layer"));
        if let (Err(_), Some(feed)) = (&packed, writer.feed.take()) {
            // Or what there is so far would pass for the whole.
            feed.fail(io::Error::other("it cannot be packed"));
        }
        packed
    };
    let (packed, stored) = std::thread::scope(|scope| {
        let packing = std::thread::Builder::new()
            .name("pack".to_owned())
            .stack_size(STACK)
            .spawn_scoped(scope, packing)
            .step(|| "cannot start a thread")?;
        let stored = import::both(session, Box::new(ahead), media_type::OCI_LAYER, bar);
        let packed = packing.join().unwrap_or_else(|_| Err(Error::new("cannot pack the layer")));
        Ok::<_, Error>((packed, stored))
    })?;
    match (packed, stored) {
        (Ok(()), stored) => stored.map(|(blob, diff_id, size)| Made { blob, diff_id, size }),
        // A packer whose bytes nobody takes any more has nothing to say.
        (Err(error), Err(stored)) if error.causes().iter().any(|cause| cause == UNWANTED) => Err(stored),
        (Err(error), _) => Err(error),
    }
}

/// Writes the archive of what a container has changed of the layers below it; with nothing below, all of its root.
/// The spec is located.
///
/// # Errors
/// A file cannot be read, or the archive not be written.
pub fn pack_container(
    (spec, directory): (&Spec, &ContainerDirectory),
    on_image: bool,
    times: Times,
    target: &mut dyn Write,
) -> Result<()> {
    if !on_image {
        return export::write(spec, directory, target);
    }
    pack_found(difference::find(spec, directory)?, (spec, directory), times, target)
}

/// As [`pack_container`], where the changes are known.
///
/// # Errors
/// As [`pack_container`].
pub fn pack_found(
    found: difference::Found,
    (spec, directory): (&Spec, &ContainerDirectory),
    times: Times,
    target: &mut dyn Write,
) -> Result<()> {
    let is_mark =
        |path: &[u8]| path.rsplit(|byte| *byte == b'/').next().is_some_and(|name| name.starts_with(WHITEOUT));
    if let Some((_, path)) = found.changes.iter().find(|(_, path)| is_mark(path)) {
        return Err(Error::new(format!("cannot pack `{}`", shown(path)))
            .because("a name that begins with `.wh.` would remove files, in a layer"));
    }
    let copied = spec.root.driver() == Some(Driver::Copy);
    let removed: Vec<Vec<u8>> = found
        .changes
        .into_iter()
        .filter(|(change, _)| copied && *change == Change::Deleted)
        .map(|(_, path)| path[1..].to_vec())
        .collect();
    let source = Source {
        root: &directory.upper(),
        kind: Kind::Layer,
        owners: &Owners::load(directory.path())?,
        leave_out: &found.unchanged,
        opaque: Some(&found.opaque),
        removed: &removed,
        times,
    };
    pack(&source, target).map(|_| ())
}

/// Hands what is written to the other thread.
struct Writer {
    feed: Option<Feed>,
    chunk: Vec<u8>,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(feed) = &self.feed else { return Ok(()) };
        if self.chunk.is_empty() {
            return Ok(());
        }
        let mut next = feed.buffer();
        next.clear();
        feed.give(std::mem::replace(&mut self.chunk, next)).map_err(|_| io::Error::other(UNWANTED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_written_comes_out_in_order() {
        use std::io::Read;
        let (feed, mut ahead) = pipe();
        let text: Vec<u8> = (0..3 * CHUNK + 5).map(|number| (number % 251) as u8).collect();
        let given = text.clone();
        let giving = std::thread::spawn(move || {
            let mut writer = Writer { feed: Some(feed), chunk: Vec::new() };
            given.chunks(1000).for_each(|piece| writer.write_all(piece).unwrap());
            writer.flush().unwrap();
        });
        let mut taken = Vec::new();
        ahead.read_to_end(&mut taken).unwrap();
        giving.join().unwrap();
        assert!(taken == text);
    }
}
