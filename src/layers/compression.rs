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
        Compression::Zstd => Box::new(zstd::stream::write::Encoder::new(target, 3)?),
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
