//! How much one layer may ask for.

/// Bounds on what an archive makes: those of a sound image are far below.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of the uncompressed archive.
    pub bytes: u64,
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes that are kept in memory until the end: the names of directories and of recorded owners, and the
    /// attributes that the file system refused.
    pub names: u64,
}

/// Below this many bytes a layer is no bomb, however small it was.
pub const HARMLESS: u64 = 8 << 30;
/// Deflate reaches 1032; zeros packed so are a bomb, what people pack stays below 20.
pub const MOST_INFLATED: u64 = 250;

impl Limits {
    /// For a blob whose manifest declares `size` bytes.
    pub fn for_compressed(size: u64) -> Self {
        Self { bytes: size.saturating_mul(MOST_INFLATED).max(HARMLESS), ..Self::default() }
    }
}

impl Default for Limits {
    /// For an archive of unknown size that the user names.
    fn default() -> Self {
        Self { bytes: u64::MAX, entries: 10_000_000, names: 512 << 20 }
    }
}
