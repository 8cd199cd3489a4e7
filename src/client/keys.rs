//! The keys that leave a container running (docker-attach(1), --detach-keys).

use std::str::FromStr;

use crate::error::{Error, Result};

/// The flag's value where it is not given.
pub const DEFAULT: &str = "ctrl-p,ctrl-q";

/// A sequence of keys, as the terminal sends them; an empty one is never typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DetachKeys(Vec<u8>);

impl FromStr for DetachKeys {
    type Err = Error;

    /// Keys with commas between them: a character, or `ctrl-` and one of a-z, @, [, \, ], ^, _.
    fn from_str(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let keys: Option<Vec<u8>> = text.split(',').map(key).collect();
        keys.map(Self).ok_or_else(|| {
            Error::new(format!("cannot use `--detach-keys {text}`"))
                .because("it is no sequence of keys")
                .hint("write keys such as `ctrl-p,ctrl-q` or `ctrl-a,d`, or nothing to switch them off")
        })
    }
}

fn key(text: &str) -> Option<u8> {
    if let [byte @ 1..0x80] = text.as_bytes() {
        return Some(*byte);
    }
    let lower = text.to_ascii_lowercase();
    match lower.strip_prefix("ctrl-").map(str::as_bytes) {
        Some([letter @ b'a'..=b'z']) => Some(letter - b'a' + 1),
        Some([sign @ (b'@' | b'['..=b'_')]) => Some(sign - b'@'),
        None if lower == "del" => Some(0x7f),
        _ => None,
    }
}

/// Looks for the sequence in what is typed.
#[derive(Debug)]
pub struct Watch {
    keys: Vec<u8>,
    /// So many of them were typed and are held back.
    held: usize,
}

impl Watch {
    pub fn new(keys: &DetachKeys) -> Self {
        Self { keys: keys.0.clone(), held: 0 }
    }

    /// Adds to `passed` what is the container's; true where the sequence is complete: what came after it is nobody's.
    pub fn typed(&mut self, typed: &[u8], passed: &mut Vec<u8>) -> bool {
        if self.keys.is_empty() {
            passed.extend_from_slice(typed);
            return false;
        }
        for byte in typed {
            while self.held > 0 && self.keys[self.held] != *byte {
                // The sequence may have begun a little later.
                let held = &self.keys[..self.held];
                let shorter =
                    (0..self.held).rev().find(|length| held.ends_with(&held[..*length])).unwrap_or(0);
                passed.extend_from_slice(&held[..self.held - shorter]);
                self.held = shorter;
            }
            if self.keys[self.held] == *byte {
                self.held += 1;
            } else {
                passed.push(*byte);
            }
            if self.held == self.keys.len() {
                self.held = 0;
                return true;
            }
        }
        false
    }

    /// No more is typed: what was held back is the container's.
    pub fn give_up(&mut self) -> &[u8] {
        &self.keys[..std::mem::take(&mut self.held)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What passes of `typed` in chunks of `size`, and whether the sequence was in it.
    fn passes(keys: &str, typed: &str, size: usize) -> (String, bool) {
        let mut watch = Watch::new(&keys.parse().unwrap());
        let mut passed = Vec::new();
        let found = typed.as_bytes().chunks(size).any(|chunk| watch.typed(chunk, &mut passed));
        passed.extend_from_slice(watch.give_up());
        (String::from_utf8(passed).unwrap(), found)
    }

    #[test]
    fn the_sequence_is_found_and_the_rest_passes() {
        for size in 1..5 {
            for (keys, typed, passed, found) in [
                (DEFAULT, "ab\x10\x11cd", "ab", true),
                (DEFAULT, "a\x10b\x10\x10\x11", "a\x10b\x10", true),
                (DEFAULT, "\x10", "\x10", false),
                (DEFAULT, "\x11\x10x", "\x11\x10x", false),
                ("a,a,b", "aaab", "a", true),
                ("a,b,a,c", "ababac", "ab", true),
                ("a,b,a,c", "ababx", "ababx", false),
                ("x", "\x10\x11", "\x10\x11", false),
                ("x", "x", "", true),
                ("", "\x10\x11", "\x10\x11", false),
            ] {
                assert_eq!(passes(keys, typed, size), (passed.to_owned(), found), "{keys} {typed:?} {size}");
            }
        }
    }

    #[test]
    fn keys_are_written_as_docker_has_them() {
        for (text, keys) in [
            ("ctrl-p,ctrl-q", &[16, 17][..]),
            ("ctrl-P", &[16]),
            ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", &[0, 27, 28, 29, 30, 31]),
            ("a,Z,1,~", b"aZ1~"),
            ("ctrl-a,d", &[1, b'd']),
            ("DEL", &[127]),
            ("", &[]),
        ] {
            assert_eq!(text.parse::<DetachKeys>().unwrap().0, keys, "{text}");
        }
        for text in ["ctrl-", "ctrl-1", "ctrl-ab", "ab", "a,,b", ",", "alt-a", "€"] {
            let error = text.parse::<DetachKeys>().unwrap_err();
            assert!(error.message().contains(text), "{error}");
        }
    }
}
