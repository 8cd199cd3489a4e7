//! Archives, told by their content, and read with bounds.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::layers::compression::{self, Compression};
use crate::layers::unpack::archive;
use crate::layers::unpack::limits::{HARMLESS, MOST_INFLATED};

/// Bytes of the first block of an archive.
pub const FIRST: u64 = 512;

/// Whether these are the first 512 bytes of an archive, packed or not. Of a packed one it is not looked at what it is.
pub fn looks_like_one(first: &[u8]) -> bool {
    compression::detect(first) != Compression::None || archive::begins(first)
}

/// Whether a file is an archive, packed or not: "identified solely based on the contents of the file, not the name"
/// (Dockerfile reference, "Adding local tar archives"). The file is then at its beginning.
///
/// # Errors
/// It cannot be read, or unpacking it takes more memory than sbx gives it.
pub fn is_one(file: &mut File) -> io::Result<bool> {
    let mut first = Vec::new();
    let read = compression::decompress_detected(&*file)
        .and_then(|(_, unpacked)| unpacked.take(FIRST).read_to_end(&mut first));
    file.rewind()?;
    match read {
        Err(error) if compression::needs_too_much(&error) => Err(error),
        // What only begins like something packed is a file like any other.
        read => Ok(read.is_ok() && archive::begins(&first)),
    }
}

/// The uncompressed stream of an archive of any length.
///
/// # Errors
/// It cannot be read.
pub fn open<'a>(packed: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    open_within(packed, HARMLESS)
}

fn open_within<'a>(packed: impl Read + Send + 'a, harmless: u64) -> io::Result<Box<dyn Read + Send + 'a>> {
    let taken = Arc::new(AtomicU64::new(0));
    let counted = Counted { inner: packed, taken: taken.clone() };
    let (_, unpacked) = compression::decompress_detected(counted)?;
    Ok(Box::new(Bounded { inner: unpacked, taken, given: 0, harmless }))
}

/// Counts what was read.
struct Counted<R> {
    inner: R,
    taken: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.taken.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Ends what unpacks to far more than any sound archive.
struct Bounded<'r> {
    inner: Box<dyn Read + Send + 'r>,
    taken: Arc<AtomicU64>,
    given: u64,
    /// So many bytes are no bomb, however small they were.
    harmless: u64,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.given += count as u64;
        let most = self.taken.load(Ordering::Relaxed).saturating_mul(MOST_INFLATED).max(self.harmless);
        if self.given > most {
            return Err(io::Error::other(format!(
                "it unpacks to more than {most} bytes, far more than its compressed size allows"
            )));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        let mut compressor = compression::compress(Compression::Gzip, &mut packed).unwrap();
        compressor.write_all(bytes).unwrap();
        compressor.finish().unwrap();
        packed
    }

    #[test]
    fn a_bomb_ends_where_no_sound_archive_would_be() {
        let bomb = packed(&vec![0; 4 << 20]);
        let unpack = |bytes: &[u8], harmless| {
            open_within(bytes, harmless)
                .unwrap()
                .read_to_end(&mut Vec::new())
                .map_err(|error| error.to_string())
        };
        assert_eq!(unpack(&bomb, 4 << 20), Ok(4 << 20));
        assert!(unpack(&bomb, 64 << 10).unwrap_err().contains("far more than its compressed size"));
        let sound: Vec<u8> = (0..1_u32 << 18).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
        assert_eq!(unpack(&packed(&sound), 64 << 10), Ok(sound.len()));
    }

    #[test]
    fn an_archive_is_told_by_its_content() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_old();
        header.set_size(0);
        tar.append_data(&mut header, "x", io::empty()).unwrap();
        let tar = tar.into_inner().unwrap();
        for (bytes, expected) in [
            (tar.clone(), true),
            (packed(&tar), true),
            (packed(b"FROM x"), false),
            (b"FROM x".to_vec(), false),
            (vec![0; 2048], false),
            (b"\x1f\x8bnot at all".to_vec(), false),
            (Vec::new(), false),
        ] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            file.rewind().unwrap();
            assert_eq!(is_one(&mut file).unwrap(), expected, "{:?}", &bytes[..bytes.len().min(20)]);
            assert_eq!(file.stream_position().unwrap(), 0);
        }
    }
}
