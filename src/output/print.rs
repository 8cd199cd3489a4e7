//! The one place that writes to standard output.

use std::io::{ErrorKind, Write};

use crate::error::{Result, Step};

/// Whether anybody still reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    Listening,
    /// The pipe's other end is closed, as with `sbx ps | head -1`: no failure, but whoever prints without
    /// end should stop.
    Gone,
}

/// Writes the text to standard output and flushes it.
///
/// # Errors
/// The write fails for another reason than a closed pipe, such as a full disk.
pub fn text(text: &str) -> Result<Reader> {
    to(&mut std::io::stdout().lock(), text.as_bytes())
}

/// Writes the text and a newline.
///
/// # Errors
/// As [`text`].
pub fn line(line: &str) -> Result<Reader> {
    text(&format!("{line}\n"))
}

/// Writes bytes as they are.
///
/// # Errors
/// As [`text`].
pub fn bytes(bytes: &[u8]) -> Result<Reader> {
    to(&mut std::io::stdout().lock(), bytes)
}

fn to(stream: &mut impl Write, bytes: &[u8]) -> Result<Reader> {
    match stream.write_all(bytes).and_then(|()| stream.flush()) {
        Ok(()) => Ok(Reader::Listening),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(error).step(|| "cannot write to standard output"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let (read, mut write) = std::io::pipe().unwrap();
        assert_eq!(to(&mut write, b"x").unwrap(), Reader::Listening);
        drop(read);
        assert_eq!(to(&mut write, b"x").unwrap(), Reader::Gone);
    }

    #[test]
    fn a_full_disk_is_one() {
        let mut full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let error = to(&mut full, b"x").unwrap_err();
        assert!(error.to_string().contains("No space left"), "{error}");
    }
}
