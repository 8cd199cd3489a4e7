//! How blobs and archives are packed, told by their first bytes.

use std::io::{self, BufReader, Read, Write};

/// Enough of the beginning for [`detect`].
pub const FIRST_BYTES: usize = 6;

/// Memory that xz may take: its largest preset needs 65 MiB.
const XZ_MEMORY: u64 = 256 << 20;
const BUFFER: usize = 256 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
    Xz,
    Bzip2,
}

/// The compression whose mark `first` (a file's first [`FIRST_BYTES`]) begins with.
pub fn detect(first: &[u8]) -> Compression {
    match first {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        // A frame that decoders skip may come first (RFC 8878, 3.1.2).
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Compression::Bzip2,
        _ => Compression::None,
    }
}

/// The uncompressed stream; several members or frames one after another are one stream. Its size is bounded
/// by who reads it.
///
/// # Errors
/// A decoder cannot be made.
pub fn decompress<'a>(
    kind: Compression,
    packed: impl Read + Send + 'a,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    let packed = BufReader::with_capacity(BUFFER, packed);
    Ok(match kind {
        Compression::None => Box::new(packed),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(packed)?),
        Compression::Xz => {
            let decoder =
                liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)
                    .map_err(io::Error::other)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(packed, decoder))
        }
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(packed)),
    })
}

/// Reads the first bytes of `packed` and decompresses it by what they say.
///
/// # Errors
/// It cannot be read.
pub fn decompress_detected<'a>(
    mut packed: impl Read + Send + 'a,
) -> io::Result<(Compression, Box<dyn Read + Send + 'a>)> {
    let mut first = Vec::with_capacity(FIRST_BYTES);
    packed.by_ref().take(FIRST_BYTES as u64).read_to_end(&mut first)?;
    let kind = detect(&first);
    Ok((kind, decompress(kind, io::Cursor::new(first).chain(packed))?))
}

/// Whether reading failed for what the decoder would need, not for what the stream is.
pub fn needs_too_much(error: &io::Error) -> bool {
    let of_xz = error.get_ref().and_then(|inner| inner.downcast_ref::<liblzma::stream::Error>());
    // libzstd names its errors by texts alone (ZSTD_getErrorName).
    of_xz == Some(&liblzma::stream::Error::MemLimit) || error.to_string().contains("too much memory")
}

/// Something that packs what is written, and has to be told the end.
pub trait Compressor: Write + Send {
    /// Writes what is still held and the end mark.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// Packs what is written to it into `target`, with the level that other engines use.
///
/// # Errors
/// An encoder cannot be made.
pub fn compress<'a>(
    kind: Compression,
    target: impl Write + Send + 'a,
) -> io::Result<Box<dyn Compressor + 'a>> {
    Ok(match kind {
        Compression::None => Box::new(Plain(target)),
        Compression::Gzip => Box::new(flate2::write::GzEncoder::new(target, flate2::Compression::default())),
        Compression::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(target, 3)?;
            encoder.include_checksum(true)?;
            Box::new(encoder)
        }
        Compression::Xz => Box::new(liblzma::write::XzEncoder::new(target, 6)),
        Compression::Bzip2 => Box::new(bzip2::write::BzEncoder::new(target, bzip2::Compression::default())),
    })
}

struct Plain<W>(W);

impl<W: Write> Write for Plain<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Write + Send> Compressor for Plain<W> {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Write + Send> Compressor for flate2::write::GzEncoder<W> {
    fn finish(self: Box<Self>) -> io::Result<()> {
        flate2::write::GzEncoder::finish(*self)?.flush()
    }
}

impl<W: Write + Send> Compressor for zstd::stream::write::Encoder<'_, W> {
    fn finish(self: Box<Self>) -> io::Result<()> {
        zstd::stream::write::Encoder::finish(*self)?.flush()
    }
}

impl<W: Write + Send> Compressor for liblzma::write::XzEncoder<W> {
    fn finish(self: Box<Self>) -> io::Result<()> {
        liblzma::write::XzEncoder::finish(*self)?.flush()
    }
}

impl<W: Write + Send> Compressor for bzip2::write::BzEncoder<W> {
    fn finish(self: Box<Self>) -> io::Result<()> {
        bzip2::write::BzEncoder::finish(*self)?.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Zstd, Compression::Xz, Compression::Bzip2];

    fn pack(kind: Compression, bytes: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        let mut compressor = compress(kind, &mut packed).unwrap();
        compressor.write_all(bytes).unwrap();
        compressor.finish().unwrap();
        packed
    }

    fn unpack(packed: &[u8]) -> io::Result<(Compression, Vec<u8>)> {
        let (kind, mut reader) = decompress_detected(packed)?;
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        Ok((kind, bytes))
    }

    #[test]
    fn everything_packed_is_known_and_comes_back() {
        let bytes: Vec<u8> = (0..300_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        for kind in ALL {
            let packed = pack(kind, &bytes);
            assert_eq!(unpack(&packed).unwrap(), (kind, bytes.clone()));
            assert_eq!(unpack(&pack(kind, b"")).unwrap(), (kind, Vec::new()));
        }
        for short in [&b""[..], b"\x1f", b"BZ", b"\xfd7zX"] {
            assert_eq!(unpack(short).unwrap(), (Compression::None, short.to_vec()));
        }
    }

    #[test]
    fn members_one_after_another_are_one_stream() {
        for kind in ALL {
            let packed = [pack(kind, b"one "), pack(kind, b"two")].concat();
            assert_eq!(unpack(&packed).unwrap(), (kind, b"one two".to_vec()));
        }
        let skipped = [&b"\x50\x2a\x4d\x18\x02\0\0\0xx"[..], &pack(Compression::Zstd, b"data")].concat();
        assert_eq!(unpack(&skipped).unwrap(), (Compression::Zstd, b"data".to_vec()));
    }

    #[test]
    fn what_is_cut_or_damaged_is_an_error() {
        let bytes: Vec<u8> = (0..50_000_u32).flat_map(|n| (n * n).to_le_bytes()).collect();
        for kind in &ALL[1..] {
            let mut packed = pack(*kind, &bytes);
            assert!(unpack(&packed[..packed.len() - 9]).is_err(), "{kind:?} was cut");
            let middle = packed.len() / 2;
            packed[middle] ^= 0x55;
            assert!(unpack(&packed).is_err(), "{kind:?} was damaged");
        }
    }
}
