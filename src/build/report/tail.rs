//! The end of what a command writes, and its lines as they become whole.

use crate::output::harmless;

/// How much of it is kept, in bytes.
const KEPT: usize = 64 << 10;
/// The longest line that is shown as one, in bytes.
const LONGEST_LINE: usize = 4 << 10;
/// How many lines are shown of a step that failed.
const SHOWN: usize = 20;

#[derive(Debug, Default)]
pub struct Tail {
    bytes: Vec<u8>,
    /// A line that is not whole yet.
    begun: Vec<u8>,
}

impl Tail {
    /// Takes what was written, and gives the lines that are whole by it.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > 2 * KEPT {
            self.bytes.drain(..self.bytes.len() - KEPT);
        }
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.begun.len() > LONGEST_LINE {
                lines.push(self.rest());
            }
        }
        lines
    }

    /// The line that was begun.
    pub fn rest(&mut self) -> String {
        text(&std::mem::take(&mut self.begun))
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.bytes.len().saturating_sub(KEPT)..]
    }

    /// The last lines.
    pub fn lines(&self) -> Vec<String> {
        let lines: Vec<&[u8]> = self.bytes().split(|byte| *byte == b'\n').collect();
        let lines = lines.strip_suffix(&[&b""[..]]).unwrap_or(&lines);
        lines[lines.len().saturating_sub(SHOWN)..].iter().map(|line| text(line)).collect()
    }
}

/// What a terminal would show of a line: what follows the last return, without what commands it.
fn text(line: &[u8]) -> String {
    let line = String::from_utf8_lossy(line);
    let line = line.trim_end_matches(['\n', '\r']);
    harmless::line(&without_sequences(line.rsplit('\r').next().unwrap_or_default()).replace('\t', "    "))
}

/// Leaves out the sequences that give colours (ECMA-48, CSI … m and the like).
fn without_sequences(line: &str) -> String {
    let mut left = String::with_capacity(line.len());
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        if letter != '\u{1b}' {
            left.push(letter);
        } else if letters.next() == Some('[') {
            letters.by_ref().find(|letter| ('@'..='~').contains(letter));
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_when_they_are_whole() {
        let mut tail = Tail::default();
        assert!(tail.take(b"a").is_empty());
        assert_eq!(tail.take(b"b\nc\r\nd"), ["ab", "c"]);
        assert_eq!((tail.rest(), tail.rest()), ("d".to_owned(), String::new()));
        assert_eq!(tail.take(b"10%\r90%\r100%\n"), ["100%"]);
        assert_eq!(tail.take(b"\x1b[31mred\x1b[0m \x1b]0;title\x07\tx\n"), ["red 0;title\\u{7}    x"]);
        assert_eq!(tail.take(&[b'x'; LONGEST_LINE + 1]).len(), 1);
    }

    #[test]
    fn the_end_is_kept() {
        let mut tail = Tail::default();
        for number in 0..40_000 {
            tail.take(format!("{number}\n").as_bytes());
        }
        assert_eq!((tail.lines().len(), tail.lines().last().unwrap().as_str()), (SHOWN, "39999"));
        assert!(tail.bytes().len() <= KEPT && tail.bytes.len() <= 3 * KEPT);
    }
}
