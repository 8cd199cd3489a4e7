//! A pipe between two threads, so that fetching goes on while the layer is being unpacked.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

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

/// Reads until the chunk is full or the source at its end. What was read before an error is in the chunk.
pub fn fill(source: &mut impl Read, chunk: &mut Vec<u8>) -> io::Result<()> {
    chunk.resize(CHUNK, 0);
    let mut filled = 0;
    while filled < chunk.len() {
        match source.read(&mut chunk[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                chunk.truncate(filled);
                return Err(error);
            }
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
        let (feed, mut ahead) = pipe();
        let mut taken = Vec::new();
        std::thread::scope(|scope| {
            let mut source = source.as_slice();
            scope.spawn(move || {
                loop {
                    let mut chunk = feed.buffer();
                    fill(&mut source, &mut chunk).unwrap();
                    if chunk.is_empty() || feed.give(chunk).is_err() {
                        return;
                    }
                }
            });
            ahead.read_to_end(&mut taken).unwrap();
        });
        assert!(taken == source);
    }

    #[test]
    fn an_error_comes_out_after_what_was_before_it() {
        let (feed, mut ahead) = pipe();
        feed.give(vec![1; 3]).ok().unwrap();
        feed.fail(io::Error::other("broken"));
        let mut taken = Vec::new();
        let error = ahead.read_to_end(&mut taken).unwrap_err();
        assert_eq!((error.to_string().as_str(), taken.len()), ("broken", 3));
    }

    #[test]
    fn whoever_gives_learns_that_nobody_takes() {
        let (feed, ahead) = pipe();
        drop(ahead);
        assert!(feed.give(vec![1]).is_err());
    }

    #[test]
    fn what_came_before_an_error_is_kept() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let mut chunk = Vec::new();
        assert!(fill(&mut [1_u8; 5].chain(Broken), &mut chunk).is_err());
        assert_eq!(chunk, [1; 5]);
    }
}
