//! The container's log: `TIMESTAMP STREAM F|P TEXT`, a line for each line or piece of one (P: it goes on in
//! the next), as the CRI of Kubernetes has it and podman's k8s-file driver writes it.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use crate::sys::time::Utc;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    Stdout,
    Stderr,
}

impl Name {
    fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Appends to a log file.
pub struct Log {
    file: File,
    /// Where the last whole write ended.
    length: u64,
    /// Kept between writes to spare allocations.
    lines: Vec<u8>,
}

impl Log {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().append(true).create(true).open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, length, lines: Vec::new() })
    }

    /// Writes a chunk as it came, with the time `now`.
    ///
    /// # Errors
    /// ENOSPC and the like; what did not fit is then missing from the log, not from what the client sees.
    pub fn write(&mut self, stream: Name, chunk: &[u8], now: Utc) -> io::Result<()> {
        self.lines.clear();
        format(&mut self.lines, stream, chunk, now);
        match self.file.write_all(&self.lines) {
            Ok(()) => {
                self.length += self.lines.len() as u64;
                Ok(())
            }
            Err(error) => {
                // No half line stays, to which the next one would be added.
                let written = self.file.metadata().map_or(0, |now| now.len().saturating_sub(self.length));
                let written = usize::try_from(written).unwrap_or(0).min(self.lines.len());
                let whole =
                    self.lines[..written].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                self.length += whole as u64;
                let _ = self.file.set_len(self.length);
                Err(error)
            }
        }
    }
}

fn format(lines: &mut Vec<u8>, stream: Name, chunk: &[u8], now: Utc) {
    let head = format!("{now} {} ", stream.as_str());
    for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
        lines.extend_from_slice(head.as_bytes());
        let (flag, text) = match piece.strip_suffix(b"\n") {
            Some(text) => (b"F ", text),
            None => (b"P ", piece),
        };
        lines.extend_from_slice(flag);
        lines.extend_from_slice(text);
        lines.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_full_and_the_rest_is_partial() {
        let mut lines = Vec::new();
        format(&mut lines, Name::Stderr, b"a\n\nb", Utc::at(1_767_323_045, 7));
        let head = "2026-01-02T03:04:05.000000007Z stderr";
        assert_eq!(String::from_utf8(lines).unwrap(), format!("{head} F a\n{head} F \n{head} P b\n"));
    }
}
