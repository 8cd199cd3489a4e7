//! What containers have written, kept in files: the monitor writes them, `sbx logs` reads them.
//!
//! One line of a file is an entry: a line of the container, or a piece of one. A file that has grown to the size
//! that was asked for becomes `log.1`, and what had that name `log.2`, and so on.

mod files;
pub mod follow;
mod json;
mod k8s;
pub mod options;
mod reader;
pub mod show;
mod tail;
pub mod when;
mod writer;

pub use options::Options;
pub use reader::{Entry, Reader};
pub use writer::Log;

/// The longest text of one entry in bytes: what is longer goes on in the next (CRI of Kubernetes, and docker's copier).
const LONGEST_TEXT: usize = 16 * 1024;

/// Which of the container's streams; all that goes to a terminal is `Stdout`.
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

    fn index(self) -> usize {
        self as usize
    }
}

/// A chunk of output, in pieces that are an entry each.
fn pieces(chunk: &[u8], longest: impl Fn(&[u8]) -> usize) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = chunk;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        // A line of exactly the longest text takes its end with it.
        let window = &rest[..rest.len().min(LONGEST_TEXT + 1)];
        let (text, taken, ends_line) = match memchr::memchr(b'\n', window) {
            Some(end) => (&rest[..end], end + 1, true),
            None if window.len() > LONGEST_TEXT => {
                let cut = longest(&window[..LONGEST_TEXT]);
                (&rest[..cut], cut, false)
            }
            None => (rest, rest.len(), false),
        };
        rest = &rest[taken..];
        Some(Piece { text, ends_line })
    })
}

/// The text of one entry.
struct Piece<'a> {
    text: &'a [u8],
    /// Otherwise the line goes on in the next entry of the stream.
    ends_line: bool,
}
