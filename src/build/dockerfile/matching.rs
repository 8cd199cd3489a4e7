//! What COPY and ADD take, and where they put it: the rules that need no file system (Dockerfile reference, "COPY").

use super::glob::{self, Pattern};
use crate::error::{Error, Result};

/// A source of COPY or ADD below the root of a context, a stage or an image.
///
/// A walk begins at [`Self::directory`] and asks [`Self::takes`] for each path below it; [`Self::may_be_below`] tells
/// which directories are worth opening.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where a walk begins: a path without wildcards, relative to the root, empty for the root itself.
    pub directory: String,
    /// What is below it; none: the directory (or file) itself, as written.
    patterns: Option<Wildcard>,
    /// With `--parents`: how many parts of the path, from the root on, are not kept.
    pivot: Option<usize>,
}

#[derive(Debug, Clone)]
struct Wildcard {
    pattern: Pattern,
    /// How many parts a path has to have; none with `**`.
    depth: Option<usize>,
    /// The pattern of each part, for [`Source::may_be_below`].
    parts: Vec<Pattern>,
}

impl Source {
    /// Reads a source as it was written. A leading slash and `..` out of the root are taken off, as the reference says.
    ///
    /// # Errors
    /// It is no pattern.
    pub fn read(text: &str, parents: bool) -> Result<Self> {
        let refused = |why: &str| {
            Error::new(format!("cannot use the source `{}`", text.escape_debug()))
                .because(format!("it is no pattern: {why}"))
                .hint("put a `\\` before a `[` that means itself")
        };
        let (mut path, mut pivot) = (inside(text), parents.then_some(0));
        if parents && let Some((before, after)) = text.split_once("/./") {
            // Before the pivot `**` has no meaning of its own: what is dropped has as many parts as were written.
            let before = inside(&before.replace("**", "*"));
            pivot = Some(before.split('/').filter(|part| !part.is_empty()).count());
            path = inside(&format!("{before}/{after}"));
        }
        let split = wildcard_part(&path);
        let Some(split) = split else {
            return Ok(Self { directory: unescaped(&path), patterns: None, pivot });
        };
        let (directory, rest) = path.split_at(split);
        let double = parents && rest.contains("**");
        let pattern = match double {
            true => Pattern::read_with_directories(rest),
            false => Pattern::read(rest),
        };
        let pattern = pattern.map_err(refused)?;
        let parts: Vec<&str> = rest.split('/').collect();
        let wildcard = Wildcard {
            depth: (!double).then_some(parts.len()),
            // A bracket with a slash in it is one part for Go; then all directories are opened.
            parts: match double {
                true => Vec::new(),
                false => parts.iter().map_while(|part| Pattern::read(part).ok()).collect(),
            },
            pattern,
        };
        let directory = unescaped(directory.trim_end_matches('/'));
        Ok(Self { directory, patterns: Some(wildcard), pivot })
    }

    /// Whether it has wildcards: then it may name several things, or none.
    pub fn is_wildcard(&self) -> bool {
        self.patterns.is_some()
    }

    /// Whether the path, relative to [`Self::directory`], is taken.
    pub fn takes(&self, path: &str) -> bool {
        match &self.patterns {
            None => path.is_empty(),
            Some(wildcard) => wildcard.pattern.matches(path),
        }
    }

    /// Whether something below the directory, relative to [`Self::directory`], may be taken.
    pub fn may_be_below(&self, directory: &str) -> bool {
        let Some(wildcard) = &self.patterns else { return false };
        if directory.is_empty() {
            return true;
        }
        let Some(depth) = wildcard.depth else { return wildcard.pattern.may_match_below(directory) };
        let parts: Vec<&str> = directory.split('/').collect();
        if wildcard.parts.len() < depth {
            return true;
        }
        parts.len() < depth && parts.iter().zip(&wildcard.parts).all(|(part, pattern)| pattern.matches(part))
    }

    /// With `--parents`: how many parts of a path, from the root on, are not made below the destination.
    pub fn dropped(&self) -> Option<usize> {
        self.pivot
    }
}

/// A path below the root: without `.`, `..` and slashes around.
fn inside(path: &str) -> String {
    glob::clean(&format!("/{path}")).trim_start_matches('/').to_owned()
}

/// Where the first part with a wildcard begins.
fn wildcard_part(path: &str) -> Option<usize> {
    let mut begins = 0;
    let mut letters = path.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '/' => begins = at + 1,
            '\\' => drop(letters.next()),
            '*' | '?' | '[' => return Some(begins),
            _ => {}
        }
    }
    None
}

fn unescaped(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    let mut letters = path.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => plain.extend(letters.next().or(Some('\\'))),
            letter => plain.push(letter),
        }
    }
    plain
}

/// Where COPY and ADD put things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Absolute and clean.
    pub path: String,
    /// It was written as a directory: with a slash at the end, or as `.`.
    pub is_directory: bool,
}

impl Destination {
    /// Relative destinations lie below the working directory.
    pub fn read(text: &str, working_directory: &str) -> Self {
        let is_directory = text.ends_with('/')
            || matches!(text, "." | "..")
            || text.ends_with("/.")
            || text.ends_with("/..");
        let path = match text.starts_with('/') {
            true => glob::clean(text),
            false => glob::clean(&format!("/{working_directory}/{text}")),
        };
        Self { path, is_directory }
    }

    /// Where a source goes that is a file: into a directory under its own name, else under the destination's.
    /// `exists_as_directory` is whether the destination is a directory already.
    pub fn of_file(&self, name: &str, exists_as_directory: bool) -> String {
        match self.is_directory || exists_as_directory || self.path == "/" {
            true => self.below(name),
            false => self.path.clone(),
        }
    }

    /// Where what a directory holds goes: the destination itself, which is made where it is missing. The directory's own
    /// name counts for nothing.
    pub fn of_directory(&self) -> &str {
        &self.path
    }

    /// Where something goes with `--parents`, or the entry of a directory.
    pub fn below(&self, path: &str) -> String {
        format!("{}/{path}", self.path.trim_end_matches('/'))
    }
}

/// The last part of the path of a URL, under which ADD keeps what it downloads; none: the URL has none.
pub fn name_of_url(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let rest = rest.split(['?', '#']).next()?;
    let (_, path) = rest.split_once('/')?;
    let name = path.rsplit('/').next().filter(|name| !name.is_empty())?;
    let mut bytes = Vec::new();
    let mut rest = name.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let encoded = match (first, tail) {
            (b'%', [high, low, ..]) => byte(*high, *low),
            _ => None,
        };
        bytes.push(encoded.unwrap_or(first));
        rest = if encoded.is_some() { &tail[2..] } else { tail };
    }
    let name = String::from_utf8(bytes).ok()?;
    // What is encoded may not lead elsewhere.
    (!name.contains(['/', '\0']) && name != "." && name != "..").then_some(name)
}

/// The byte that two hexadecimal digits mean.
fn byte(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_paths_below_the_root() {
        for (text, directory) in [
            ("a", "a"),
            ("/a/b/", "a/b"),
            ("./a/../b", "b"),
            ("../../a", "a"),
            (".", ""),
            ("/", ""),
            ("a\\*b", "a*b"),
            ("a\\[b]", "a[b]"),
        ] {
            let source = Source::read(text, false).unwrap();
            assert_eq!((source.directory.as_str(), source.is_wildcard()), (directory, false), "{text}");
            assert!(source.takes("") && !source.takes("x") && !source.may_be_below(""), "{text}");
        }
        assert!(Source::read("a[", false).is_err());
    }

    #[test]
    fn wildcards_stay_within_a_part_of_the_path() {
        for (text, directory, path, takes) in [
            ("*.txt", "", "a.txt", true),
            ("*.txt", "", "b/a.txt", false),
            ("a/b/*.txt", "a/b", "c.txt", true),
            ("a/*/c", "a", "b/c", true),
            ("a/*/c", "a", "b/b/c", false),
            ("a/**/c", "a", "b/c", true),
            ("a/**/c", "a", "c", false),
            ("hom?.txt", "", "home.txt", true),
            ("[ab]\\*", "", "a*", true),
            ("arr[[]0].txt", "", "arr[0].txt", true),
            ("../*", "", "x", true),
        ] {
            let source = Source::read(text, false).unwrap();
            assert_eq!((source.directory.as_str(), source.takes(path)), (directory, takes), "{text} {path}");
        }
        let source = Source::read("a/*/c*/d", false).unwrap();
        for (directory, may) in [("", true), ("x", true), ("x/c1", true), ("x/d", false), ("x/c1/d", false)] {
            assert_eq!(source.may_be_below(directory), may, "{directory}");
        }
    }

    #[test]
    fn parents_are_kept_below_the_pivot() {
        for (text, path, takes, kept) in [
            ("a/b/c.txt", "a/b/c.txt", true, "a/b/c.txt"),
            ("a/./b/c.txt", "a/b/c.txt", true, "b/c.txt"),
            ("./a/b/*.txt", "a/b/c.txt", true, "a/b/c.txt"),
            ("**/*.txt", "a/b/c.txt", true, "a/b/c.txt"),
            ("**/*.txt", "c.txt", true, "c.txt"),
            ("a/./**/c.txt", "a/b/b/c.txt", true, "b/b/c.txt"),
            ("a/*.txt", "a/b/c.txt", false, "a/b/c.txt"),
            ("/a/b*/./c/**/e", "a/b2/c/d/e", true, "c/d/e"),
            ("a/**/./c", "a/b/c", true, "c"),
            ("a/**/./c", "a/b/b/c", false, "b/c"),
            ("a/./b/./c", "a/b/c", true, "b/c"),
            ("a/b/.", "a/b", true, "a/b"),
            ("/./a", "a", true, "a"),
        ] {
            let source = Source::read(text, true).unwrap();
            let below = path.strip_prefix(&source.directory).unwrap().trim_start_matches('/');
            let parts: Vec<&str> = path.split('/').skip(source.dropped().unwrap()).collect();
            assert_eq!((source.takes(below), parts.join("/").as_str()), (takes, kept), "{text} {path}");
        }
        assert_eq!(Source::read("a", false).unwrap().dropped(), None);
    }

    #[test]
    fn destinations_are_directories_by_their_slash() {
        for (text, working_directory, path, is_directory) in [
            ("/a", "/w", "/a", false),
            ("/a/", "/w", "/a", true),
            ("a", "/w", "/w/a", false),
            (".", "/w", "/w", true),
            ("./", "/w", "/w", true),
            ("..", "/w/x", "/w", true),
            ("../../../a", "/w", "/a", false),
            ("a", "", "/a", false),
            ("/", "/w", "/", true),
        ] {
            let destination = Destination::read(text, working_directory);
            assert_eq!((destination.path.as_str(), destination.is_directory), (path, is_directory), "{text}");
        }
        let file = |text: &str, exists| Destination::read(text, "/w").of_file("n", exists);
        assert_eq!(file("/a", false), "/a");
        assert_eq!(file("/a", true), "/a/n");
        assert_eq!(file("/a/", false), "/a/n");
        assert_eq!(file("/", false), "/n");
        assert_eq!(file(".", false), "/w/n");
    }

    #[test]
    fn downloads_are_called_as_the_end_of_their_path() {
        for (url, name) in [
            ("https://a/b/c.tar.gz", Some("c.tar.gz")),
            ("https://a/b/c.tar.gz?x=/y#z", Some("c.tar.gz")),
            ("https://a/b%20c", Some("b c")),
            ("https://a/b%2", Some("b%2")),
            ("https://a", None),
            ("https://a/", None),
            ("https://a/..", None),
            ("https://a/%2e%2e", None),
            ("https://a/x%2f..%2fy", None),
        ] {
            assert_eq!(name_of_url(url).as_deref(), name, "{url}");
        }
    }
}
