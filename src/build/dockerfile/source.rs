//! The text of a Dockerfile, and where in it something stands.

use std::sync::Arc;

/// A piece of the text: byte offsets, the end not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    pub fn new(start: usize, end: usize) -> Self {
        // The text is no longer than `limits::FILE`.
        Self { start: start as u32, end: end.max(start) as u32 }
    }

    /// From the start of this to the end of another.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self { start: self.start, end: other.end.max(self.start) }
    }
}

/// Where something stands, counted from 1; columns are characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub line: u32,
    pub column: u32,
}

/// A Dockerfile's text under the name that messages give it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Source(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    text: String,
    /// The offset of each line's first byte.
    lines: Vec<u32>,
}

impl Source {
    /// `name` is what messages call the file: its path, `-`, or `ONBUILD of IMAGE`.
    pub fn new(name: &str, text: String) -> Self {
        let ends = memchr::memchr_iter(b'\n', text.as_bytes()).map(|end| end as u32 + 1);
        let lines = std::iter::once(0).chain(ends).collect();
        Self(Arc::new(Inner { name: name.to_owned(), text, lines }))
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub fn text(&self) -> &str {
        &self.0.text
    }

    pub fn slice(&self, span: Span) -> &str {
        self.0.text.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    pub fn place(&self, offset: u32) -> Place {
        let line = self.0.lines.partition_point(|&start| start <= offset).max(1);
        let start = self.0.lines[line - 1];
        let before = self.slice(Span { start, end: offset });
        Place { line: line as u32, column: before.chars().count() as u32 + 1 }
    }

    /// A line without its end; `line` counts from 1.
    pub fn line(&self, line: u32) -> &str {
        let Some(&start) = self.0.lines.get((line as usize).wrapping_sub(1)) else { return "" };
        let end = self.0.lines.get(line as usize).map_or(self.0.text.len(), |&next| next as usize);
        self.0.text[start as usize..end].trim_end_matches(['\n', '\r'])
    }
}
