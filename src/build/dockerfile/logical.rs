//! Logical lines: physical lines whose last character is the escape character are joined, comments among them left out.

use std::ops::Range;

use super::ast::Word;
use super::source::Span;

/// One instruction's line, and where each piece of it came from.
#[derive(Debug, Clone, Default)]
pub struct Logical {
    pub text: String,
    /// Where in `text` a piece begins, and where in the file.
    pieces: Vec<(usize, usize)>,
    /// Lines in between with nothing but white space.
    pub empty: Vec<Span>,
}

impl Logical {
    fn push(&mut self, text: &str, at: usize) {
        self.pieces.push((self.text.len(), at));
        self.text.push_str(text);
    }

    /// Where in the file a byte of `text` stands.
    fn at(&self, offset: usize) -> usize {
        let piece = self.pieces.partition_point(|&(start, _)| start <= offset).max(1);
        let (start, at) = self.pieces.get(piece - 1).copied().unwrap_or_default();
        at + (offset - start)
    }

    pub fn span(&self, range: Range<usize>) -> Span {
        // The end belongs to the piece of the last byte, not to the one that begins after it.
        let end = if range.end > range.start { self.at(range.end - 1) + 1 } else { self.at(range.start) };
        Span::new(self.at(range.start), end)
    }

    pub fn word(&self, range: Range<usize>) -> Word {
        Word { text: self.text[range.clone()].to_owned(), span: self.span(range) }
    }

    /// The part of a range without white space around it.
    pub fn trimmed(&self, range: Range<usize>) -> Range<usize> {
        let text = &self.text[range.clone()];
        let start = range.start + (text.len() - text.trim_start().len());
        start..(start + text.trim().len())
    }
}

/// Reads a file line by line.
#[derive(Debug)]
pub struct Reader<'t> {
    text: &'t str,
    at: usize,
    pub escape: char,
}

/// A physical line: its text without its end, and where it begins and where the next one does.
#[derive(Debug, Clone, Copy)]
pub struct Physical<'t> {
    pub text: &'t str,
    pub start: usize,
    pub end: usize,
}

impl<'t> Reader<'t> {
    pub fn new(text: &'t str) -> Self {
        // A mark of byte order is no part of the first instruction.
        Self { text, at: if text.starts_with('\u{feff}') { 3 } else { 0 }, escape: '\\' }
    }

    /// Where the next line begins.
    pub fn position(&self) -> usize {
        self.at
    }

    pub fn peek(&self) -> Option<Physical<'t>> {
        let rest = &self.text[self.at..];
        if rest.is_empty() {
            return None;
        }
        let length = memchr::memchr(b'\n', rest.as_bytes()).map_or(rest.len(), |end| end + 1);
        let text = rest[..length].trim_end_matches(['\r', '\n']);
        Some(Physical { text, start: self.at, end: self.at + length })
    }

    pub fn advance(&mut self) -> Option<Physical<'t>> {
        let line = self.peek()?;
        self.at = line.end;
        Some(line)
    }

    /// A line with its end.
    pub fn raw(&self, line: Physical<'t>) -> &'t str {
        &self.text[line.start..line.end]
    }

    /// The next line that says something, with all that continue it.
    pub fn logical(&mut self) -> Option<Logical> {
        loop {
            let first = self.advance()?;
            let text = first.text.trim_start();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let mut logical = Logical::default();
            let start = first.start + (first.text.len() - text.len());
            let Some(head) = continued(text, self.escape) else {
                logical.push(text, start);
                return Some(logical);
            };
            logical.push(head, start);
            self.continue_with(&mut logical);
            // Escape characters alone say nothing.
            if !logical.text.trim().is_empty() {
                return Some(logical);
            }
        }
    }

    fn continue_with(&mut self, logical: &mut Logical) {
        while let Some(line) = self.advance() {
            let trimmed = line.text.trim_start();
            if trimmed.starts_with('#') {
                continue;
            }
            if trimmed.is_empty() {
                logical.empty.push(Span::new(line.start, line.end));
                continue;
            }
            match continued(line.text, self.escape) {
                Some(head) => logical.push(head, line.start),
                None => return logical.push(line.text, line.start),
            }
        }
    }
}

/// What stands before the escape character that joins this line with the next; a doubled one joins nothing.
fn continued(line: &str, escape: char) -> Option<&str> {
    let head = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!head.ends_with(escape)).then_some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str, escape: char) -> Vec<String> {
        let mut reader = Reader::new(text);
        reader.escape = escape;
        std::iter::from_fn(|| reader.logical().map(|line| line.text)).collect()
    }

    #[test]
    fn lines_are_joined_where_they_end_with_the_escape_character() {
        let cases: &[(&str, char, &[&str])] = &[
            ("RUN a \\\n  b\nRUN c", '\\', &["RUN a   b", "RUN c"]),
            ("RUN a \\  \t\nb\n", '\\', &["RUN a b"]),
            ("RUN a \\\n# comment\n  # another \\\n b\n", '\\', &["RUN a  b"]),
            ("RUN a \\\n\n\n b\n", '\\', &["RUN a  b"]),
            ("RUN dir c:\\\\\nRUN b", '\\', &["RUN dir c:\\\\", "RUN b"]),
            ("RUN a `\nb\\\nRUN c", '`', &["RUN a b\\", "RUN c"]),
            ("RUN a \\", '\\', &["RUN a "]),
            ("\\\n\\\nRUN a", '\\', &["RUN a"]),
            ("\\\n", '\\', &[]),
            ("  # c\n\n\t RUN a", '\\', &["RUN a"]),
            ("RUN a \\\r\nb\r\nRUN c\r\n", '\\', &["RUN a b", "RUN c"]),
            ("\u{feff}FROM a", '\\', &["FROM a"]),
            ("RUN a # no comment", '\\', &["RUN a # no comment"]),
            ("", '\\', &[]),
        ];
        for (text, escape, lines) in cases {
            assert_eq!(all(text, *escape), *lines, "{text:?}");
        }
    }

    #[test]
    fn every_piece_knows_its_place_in_the_file() {
        let text = "FROM a\nCOPY --from=b \\\n# c\n\n   src \\\n dst\n";
        let mut reader = Reader::new(text);
        reader.logical();
        let line = reader.logical().unwrap();
        for word in ["COPY", "--from=b", "src", "dst"] {
            let at = line.text.find(word).unwrap();
            let span = line.span(at..at + word.len());
            assert_eq!(&text[span.start as usize..span.end as usize], word);
        }
        assert_eq!(line.empty.len(), 1);
        let whole = line.span(0..line.text.len());
        assert_eq!(&text[whole.start as usize..whole.end as usize], text[7..].trim_end());
    }
}
