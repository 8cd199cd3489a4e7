//! What the words of `sbx cp` name.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::error::{Error, Result};

/// One end of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `-`: an archive on standard input or output.
    Stream,
    /// A path of the caller.
    Local(Vec<u8>),
    /// A path in the container of this name or ID.
    Container { container: String, path: Vec<u8> },
}

impl Place {
    /// Reads `CONTAINER:PATH`, `PATH` or `-`. What begins with `/` or `.` is a path, whatever follows.
    ///
    /// # Errors
    /// The path in the container is empty.
    pub fn parse(word: &OsStr) -> Result<Self> {
        let bytes = word.as_bytes();
        if bytes == b"-" {
            return Ok(Self::Stream);
        }
        let local = || Ok(Self::Local(bytes.to_vec()));
        let Some(colon) = bytes.iter().position(|byte| *byte == b':') else { return local() };
        if bytes.starts_with(b"/") || bytes.starts_with(b".") {
            return local();
        }
        let Ok(container) = std::str::from_utf8(&bytes[..colon]) else { return local() };
        let refused = |why: &str| {
            Err(Error::new(format!("cannot copy `{}`", word.display()))
                .because(why.to_owned())
                .hint("write CONTAINER:PATH, or a path of this machine with `./` before it"))
        };
        match (container, &bytes[colon + 1..]) {
            ("", _) => refused("the container is missing"),
            (_, []) => refused("the path in the container is missing"),
            (container, path) => Ok(Self::Container { container: container.to_owned(), path: path.to_vec() }),
        }
    }

    /// As the user wrote it.
    pub fn shown(&self) -> String {
        match self {
            Self::Stream => "-".to_owned(),
            Self::Local(path) => path_of(path).display().to_string(),
            Self::Container { container, path } => format!("{container}:{}", path_of(path).display()),
        }
    }
}

fn path_of(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(word: &str) -> Place {
        Place::parse(OsStr::new(word)).unwrap()
    }

    #[test]
    fn a_colon_divides_container_and_path_unless_the_word_is_a_path() {
        let inside =
            |container: &str, path: &str| Place::Container { container: container.into(), path: path.into() };
        assert_eq!(place("web:/etc"), inside("web", "/etc"));
        assert_eq!(place("web:a:b"), inside("web", "a:b"));
        assert_eq!(place("-"), Place::Stream);
        for local in ["/a:b", "./a:b", "../a:b", ".a:b", "plain", "a/b"] {
            assert_eq!(place(local), Place::Local(local.into()), "{local}");
        }
    }

    #[test]
    fn what_names_neither_is_refused() {
        for word in [":/etc", "web:"] {
            let error = Place::parse(OsStr::new(word)).unwrap_err();
            assert!(error.to_string().contains("is missing"), "{error}");
        }
    }
}
