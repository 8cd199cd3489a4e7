//! One uid_map or gid_map, complete and checked before anything is touched.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::Refusal;
use crate::number::decimal;

/// Linux before 4.15 takes no more lines, and no caller of ours needs more.
pub const MAX_LINES: usize = 5;

/// `inside outside count` (user_namespaces(7)): `count` is at least 1 and no ID exceeds 4294967294.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    pub inside: u32,
    pub outside: u32,
    pub count: u32,
}

/// One to five lines that overlap neither inside nor outside.
#[derive(Debug, PartialEq, Eq)]
pub struct Map(Vec<Line>);

impl Map {
    /// Reads and checks the triples of a command line.
    pub fn from_words(words: &[&[u8]]) -> Result<Self, Refusal> {
        if words.is_empty() || !words.len().is_multiple_of(3) {
            return Err("a map is one or more triples: ID inside, ID outside, count".into());
        }
        if words.len() / 3 > MAX_LINES {
            return Err(format!("more than {MAX_LINES} lines in one map").into());
        }
        let lines = words.chunks_exact(3).map(Line::from_words).collect::<Result<Vec<_>, _>>()?;
        for (index, line) in lines.iter().enumerate() {
            for earlier in &lines[..index] {
                if overlap((line.inside, line.count), (earlier.inside, earlier.count)) {
                    return Err(format!("lines {earlier} and {line} overlap inside").into());
                }
                if overlap((line.outside, line.count), (earlier.outside, earlier.count)) {
                    return Err(format!("lines {earlier} and {line} overlap outside").into());
                }
            }
        }
        Ok(Self(lines))
    }

    pub fn lines(&self) -> &[Line] {
        &self.0
    }

    /// The text for /proc/PID/uid_map, which the kernel takes in a single write(2) only.
    pub fn text(&self) -> String {
        self.0.iter().map(|line| format!("{} {} {}\n", line.inside, line.outside, line.count)).collect()
    }
}

impl Line {
    fn from_words(words: &[&[u8]]) -> Result<Self, Refusal> {
        let [inside, outside, count] = [id(words[0])?, id(words[1])?, id(words[2])?];
        let line = Self { inside, outside, count };
        if count == 0 {
            return Err(format!("line {line} maps no ID").into());
        }
        // The kernel refuses a sum that wraps; (uid_t)-1, "no ID" for setresuid(2), so stays unmapped.
        if inside.checked_add(count).is_none() || outside.checked_add(count).is_none() {
            return Err(format!("line {line} goes beyond the last ID 4294967294").into());
        }
        Ok(line)
    }
}

impl core::fmt::Display for Line {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "`{} {} {}`", self.inside, self.outside, self.count)
    }
}

fn id(word: &[u8]) -> Result<u32, Refusal> {
    decimal(word).ok_or_else(|| format!("`{}` is not a decimal 32-bit number", word.escape_ascii()).into())
}

/// Whether two ranges of (first, count) share an ID; sums don't wrap, [`Line::from_words`] saw to it.
fn overlap(one: (u32, u32), other: (u32, u32)) -> bool {
    one.0 < other.0 + other.1 && other.0 < one.0 + one.1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> Result<Map, Refusal> {
        Map::from_words(&text.split_whitespace().map(str::as_bytes).collect::<Vec<_>>())
    }

    #[test]
    fn text_is_one_line_per_triple() {
        assert_eq!(map("0 1000 1 1 100000 65536").unwrap().text(), "0 1000 1\n1 100000 65536\n");
    }

    #[test]
    fn five_lines_are_the_limit() {
        assert!(map("0 0 1 1 1 1 2 2 1 3 3 1 4 4 1").is_ok());
        let refusal = map("0 0 1 1 1 1 2 2 1 3 3 1 4 4 1 5 5 1").unwrap_err();
        assert!(refusal.0.contains("more than 5 lines"), "{refusal:?}");
    }

    #[test]
    fn the_last_id_is_never_mapped() {
        assert!(map("0 4294967294 1").is_ok());
        assert!(map("4294967294 0 1").is_ok());
        for text in ["0 4294967295 1", "4294967295 0 1", "1 0 4294967295", "0 1 4294967295"] {
            assert!(map(text).unwrap_err().0.contains("last ID"), "{text}");
        }
    }

    #[test]
    fn broken_triples_are_refused() {
        for text in ["", "0", "0 1", "0 1 1 2", "0 1 0", "a 1 1", "0 -1 1", "0 1 1 1 2 x", "0 1 4294967296"] {
            assert!(map(text).is_err(), "{text}");
        }
    }

    #[test]
    fn overlaps_are_refused_on_both_sides() {
        assert!(map("0 100 10 9 200 1").unwrap_err().0.contains("overlap inside"));
        assert!(map("0 100 10 10 109 1").unwrap_err().0.contains("overlap outside"));
        assert!(map("5 100 1 0 200 10").unwrap_err().0.contains("overlap inside"));
        assert!(map("0 100 10 10 110 1").is_ok());
    }
}
