//! The archive as a stream of large pieces. A thread of its own reads (which decompresses) and hashes, so
//! that both go on while files are being written.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use crate::error::{Error, Result};
use crate::image::digest::{Digest, Hasher};
use crate::layers::unpack::Limits;

/// Bytes of one piece: large enough for few handovers, small enough for the cache.
const PIECE: usize = 256 << 10;
/// Pieces between reader and writer: what lies between a burst of small files and a large one.
const PIECES: usize = 16;

/// The size of a tar block.
pub const BLOCK: usize = 512;

/// The writer's end.
pub struct Stream {
    pieces: Receiver<io::Result<Vec<u8>>>,
    /// Used pieces go back, so that their memory stays warm.
    used: SyncSender<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

/// What went through a stream to its end.
#[derive(Debug, Clone)]
pub struct Whole {
    pub digest: Digest,
    pub bytes: u64,
}

/// Reads `source` ahead while `work` takes it, and gives the digest of the whole of it.
///
/// # Errors
/// What `work` says, also of the source's own failures.
pub fn read_ahead<T>(
    source: &mut (dyn Read + Send),
    limits: &Limits,
    work: impl FnOnce(&mut Stream) -> Result<T>,
) -> Result<(T, Whole)> {
    let (send, pieces) = sync_channel(PIECES);
    let (used, back) = sync_channel(PIECES);
    let most = limits.bytes;
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new()
            .name("read-ahead".to_owned())
            .spawn_scoped(scope, move || feed(source, most, &send, &back))
            .map_err(|error| Error::new("cannot start a thread").because(error))?;
        let mut stream = Stream { pieces, used, piece: Vec::new(), at: 0 };
        let result = work(&mut stream).and_then(|value| {
            stream.drain().map_err(|error| cannot_read(&error))?;
            Ok(value)
        });
        drop(stream);
        let read = reader.join();
        let value = result?;
        match read {
            Ok(Some(read)) => Ok((value, read)),
            _ => Err(Error::new("cannot read the layer").because("its reader ended early")),
        }
    })
}

/// The error for a source that fails.
pub fn cannot_read(error: &io::Error) -> Error {
    let failed = Error::new("cannot read the layer");
    match error.kind() {
        io::ErrorKind::UnexpectedEof => failed.because("the archive ends early"),
        _ => failed.because(error),
    }
}

fn feed(
    source: &mut dyn Read,
    most: u64,
    send: &SyncSender<io::Result<Vec<u8>>>,
    back: &Receiver<Vec<u8>>,
) -> Option<Whole> {
    let mut hasher = Hasher::new();
    let mut bytes = 0_u64;
    loop {
        let mut piece = back.try_recv().unwrap_or_default();
        piece.resize(PIECE, 0);
        let mut filled = 0;
        while filled < PIECE {
            match source.read(&mut piece[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let _ = send.send(Err(error));
                    return None;
                }
            }
        }
        if filled == 0 {
            return Some(Whole { digest: hasher.finish(), bytes });
        }
        bytes += filled as u64;
        if bytes > most {
            let _ = send.send(Err(io::Error::other(format!(
                "it unpacks to more than {most} bytes, far more than its compressed size allows"
            ))));
            return None;
        }
        piece.truncate(filled);
        hasher.update(&piece);
        if send.send(Ok(piece)).is_err() {
            return None;
        }
    }
}

impl Stream {
    /// What is there of the next bytes; nothing at the end.
    pub fn fill(&mut self) -> io::Result<&[u8]> {
        while self.at == self.piece.len() {
            let Ok(next) = self.pieces.recv() else { return Ok(&[]) };
            let used = std::mem::replace(&mut self.piece, next?);
            self.at = 0;
            match self.used.try_send(used) {
                Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
            }
        }
        Ok(&self.piece[self.at..])
    }

    /// Moves over `count` bytes of what [`Self::fill`] gave.
    pub fn consume(&mut self, count: usize) {
        self.at = (self.at + count).min(self.piece.len());
    }

    /// The next block; none at the end.
    pub fn block(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let there = self.fill()?;
            if there.is_empty() {
                return if filled == 0 { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
            let count = there.len().min(BLOCK - filled);
            block[filled..filled + count].copy_from_slice(&there[..count]);
            filled += count;
            self.consume(count);
        }
        Ok(Some(block))
    }

    /// The data of an entry, of at most `most` bytes, without its padding.
    pub fn data(&mut self, size: u64, most: u64) -> io::Result<Vec<u8>> {
        if size > most {
            return Err(io::Error::other(format!("a header of {size} bytes is longer than any may be")));
        }
        let mut data = Vec::with_capacity(size as usize);
        self.pass(size, |bytes| {
            data.extend_from_slice(bytes);
            Ok(())
        })?;
        self.skip(padding(size))?;
        Ok(data)
    }

    /// Hands the next `size` bytes to `take`, in pieces.
    pub fn pass(&mut self, size: u64, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut left = size;
        while left > 0 {
            let there = self.fill()?;
            if there.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(there.len());
            take(&there[..count])?;
            self.consume(count);
            left -= count as u64;
        }
        Ok(())
    }

    pub fn skip(&mut self, size: u64) -> io::Result<()> {
        self.pass(size, |_| Ok(()))
    }

    /// Reads to the end: what follows the archive counts for its digest.
    fn drain(&mut self) -> io::Result<()> {
        loop {
            let count = self.fill()?.len();
            if count == 0 {
                return Ok(());
            }
            self.consume(count);
        }
    }
}

/// Bytes from the end of `size` bytes of data to the next block.
pub fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}
