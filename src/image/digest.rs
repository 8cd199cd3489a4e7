//! Content digests (OCI image specification, descriptor.md, Digests). SHA-256 alone: it is what every registry
//! and every tool of today writes, and the specification asks for no more.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::Error;

const PREFIX: &str = "sha256:";

/// `sha256:` and 64 lower-case hexadecimal digits; nothing else can be held, so that it may be part of a path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The 64 digits without the algorithm: the name of a blob in a layout.
    pub fn hex(&self) -> &str {
        &self.0[PREFIX.len()..]
    }

    /// The first twelve digits, as tables show an ID.
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The digest of 64 digits.
    pub fn from_hex(hex: &str) -> Option<Self> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (hex.len() == 64 && hex.bytes().all(digit)).then(|| Self(format!("{PREFIX}{hex}")))
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        text.strip_prefix(PREFIX).and_then(Self::from_hex).ok_or_else(|| {
            let shown: String = text.chars().take(80).collect();
            let error = Error::new(format!("cannot use `{}` as a digest", shown.escape_debug()));
            match text.split_once(':') {
                Some((algorithm, _)) if algorithm != "sha256" => {
                    error.because("only digests of the algorithm sha256 are supported")
                }
                _ => error.because("a digest is `sha256:` and 64 lower-case hexadecimal digits"),
            }
        })
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// SHA-256 of a stream.
#[derive(Debug, Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(self) -> Digest {
        let hex: String = self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Digest(format!("{PREFIX}{hex}"))
    }
}

/// Hashes and counts what is read through it.
pub struct HashingReader<R> {
    inner: R,
    hasher: Hasher,
    count: u64,
}

impl<R: Read> HashingReader<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, hasher: Hasher::new(), count: 0 }
    }

    /// Bytes read so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The inner reader, the digest and the number of bytes read.
    pub fn finish(self) -> (R, Digest, u64) {
        (self.inner, self.hasher.finish(), self.count)
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.count += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_digest_of_nothing_is_the_known_one() {
        assert_eq!(Digest::of(b"").as_str(), EMPTY);
        let (_, digest, count) = HashingReader::new(io::empty()).finish();
        assert_eq!((digest.as_str(), count), (EMPTY, 0));
    }

    #[test]
    fn what_could_leave_a_directory_is_no_digest() {
        for text in ["", "sha256:", "sha256:../../etc/passwd", "sha256:E3B0", &EMPTY.to_uppercase()] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        assert!(
            EMPTY.replace("sha256", "sha512").parse::<Digest>().unwrap_err().to_string().contains("sha256")
        );
        assert_eq!(EMPTY.parse::<Digest>().unwrap().short(), "e3b0c44298fc");
    }
}
