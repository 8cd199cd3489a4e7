//! A reader that works in a thread of its own, so that fetching, decompressing and writing files overlap.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::Scope;

/// Bytes handed over at once.
pub const CHUNK: usize = 128 << 10;
/// Chunks that wait to be taken: enough to even out the stages, little enough for twenty layers at once.
const DEPTH: usize = 8;

/// The taking end.
pub struct Ahead {
    chunks: Receiver<io::Result<Vec<u8>>>,
    used: Sender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
    over: bool,
}

/// The giving end.
pub struct Feed {
    chunks: SyncSender<io::Result<Vec<u8>>>,
    used: Receiver<Vec<u8>>,
}

/// Nobody takes the bytes any more.
pub struct Unwanted;

/// Both ends of a pipe within this process.
pub fn pipe() -> (Feed, Ahead) {
    let (sender, chunks) = sync_channel(DEPTH);
    let (used, reusable) = channel();
    let ahead = Ahead { chunks, used, current: Vec::new(), position: 0, over: false };
    (Feed { chunks: sender, used: reusable }, ahead)
}

/// Reads `source` in a thread, ahead of who reads the result.
///
/// # Errors
/// No thread can be started.
pub fn read_ahead<'scope, R: Read + Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    mut source: R,
) -> io::Result<Ahead> {
    let (feed, ahead) = pipe();
    std::thread::Builder::new().spawn_scoped(scope, move || {
        loop {
            let mut chunk = feed.buffer();
            match fill(&mut source, &mut chunk) {
                Ok(()) if chunk.is_empty() => return,
                Ok(()) => {
                    if feed.give(chunk).is_err() {
                        return;
                    }
                }
                Err(error) => return feed.fail(error),
            }
        }
    })?;
    Ok(ahead)
}

/// Reads until the chunk is full or the source at its end.
pub fn fill(source: &mut impl Read, chunk: &mut Vec<u8>) -> io::Result<()> {
    chunk.resize(CHUNK, 0);
    let mut filled = 0;
    while filled < chunk.len() {
        match source.read(&mut chunk[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    chunk.truncate(filled);
    Ok(())
}

impl Feed {
    /// An empty buffer, used before where there is one.
    pub fn buffer(&self) -> Vec<u8> {
        self.used.try_recv().unwrap_or_default()
    }

    /// Waits for room.
    pub fn give(&self, chunk: Vec<u8>) -> Result<(), Unwanted> {
        self.chunks.send(Ok(chunk)).map_err(|_| Unwanted)
    }

    /// Ends the stream with an error; a feed that is dropped ends it well.
    pub fn fail(self, error: io::Error) {
        let _ = self.chunks.send(Err(error));
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.current.len() && !self.over {
            let _ = self.used.send(std::mem::take(&mut self.current));
            self.position = 0;
            match self.chunks.recv() {
                Ok(Ok(chunk)) => self.current = chunk,
                Ok(Err(error)) => {
                    self.over = true;
                    return Err(error);
                }
                Err(_) => self.over = true,
            }
        }
        let count = buffer.len().min(self.current.len() - self.position);
        buffer[..count].copy_from_slice(&self.current[self.position..self.position + count]);
        self.position += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_comes_out_in_order() {
        let source: Vec<u8> = (0..CHUNK * 20 + 7).map(|n| (n % 251) as u8).collect();
        let mut taken = Vec::new();
        std::thread::scope(|scope| {
            read_ahead(scope, source.as_slice()).unwrap().read_to_end(&mut taken).unwrap();
        });
        assert!(taken == source);
    }

    #[test]
    fn an_error_comes_out_after_what_was_before_it() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        std::thread::scope(|scope| {
            let source = io::repeat(1).take(3 * CHUNK as u64).chain(Broken);
            let mut taken = Vec::new();
            let error = read_ahead(scope, source).unwrap().read_to_end(&mut taken).unwrap_err();
            assert_eq!((error.to_string().as_str(), taken.len()), ("broken", 3 * CHUNK));
        });
    }

    #[test]
    fn whoever_stops_taking_stops_the_thread() {
        std::thread::scope(|scope| {
            let mut ahead = read_ahead(scope, io::repeat(1)).unwrap();
            ahead.read_exact(&mut [0; 10]).unwrap();
        });
    }
}
