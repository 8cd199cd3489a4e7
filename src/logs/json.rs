//! docker's json-file: `{"log":"TEXT\n","stream":"stdout","time":"TIMESTAMP"}`, with the newline where the line ends.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

use crate::logs::reader::Entry;
use crate::logs::{Name, Piece};
use crate::sys::time::Utc;

/// What stands after the texts of one chunk; `attributes` are [`attributes`].
pub(super) fn tail(attributes: &[u8], stream: Name, now: Utc) -> Vec<u8> {
    let mut tail = format!("\",\"stream\":\"{}\"", stream.as_str()).into_bytes();
    tail.extend_from_slice(attributes);
    tail.extend_from_slice(format!(",\"time\":\"{now}\"}}\n").as_bytes());
    tail
}

/// The member `attrs` with the comma before it.
pub(super) fn attributes(attributes: &BTreeMap<String, String>) -> Vec<u8> {
    if attributes.is_empty() {
        return Vec::new();
    }
    let mut text = b",\"attrs\":".to_vec();
    text.extend(serde_json::to_vec(attributes).unwrap_or_else(|_| b"{}".to_vec()));
    text
}

/// What is no UTF-8 becomes U+FFFD: JSON has no way to say it.
pub(super) fn write(lines: &mut Vec<u8>, tail: &[u8], piece: &Piece<'_>) {
    lines.extend_from_slice(b"{\"log\":\"");
    for chunk in piece.text.utf8_chunks() {
        escape(lines, chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            lines.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    if piece.ends_line {
        lines.extend_from_slice(b"\\n");
    }
    lines.extend_from_slice(tail);
}

fn escape(lines: &mut Vec<u8>, text: &[u8]) {
    let mut from = 0;
    for (at, byte) in text.iter().enumerate() {
        let short = match byte {
            b'"' | b'\\' => *byte,
            b'\r' => b'r',
            b'\t' => b't',
            0..0x20 => b'u',
            _ => continue,
        };
        lines.extend_from_slice(&text[from..at]);
        lines.extend_from_slice(&[b'\\', short]);
        if short == b'u' {
            lines.extend_from_slice(format!("{byte:04x}").as_bytes());
        }
        from = at + 1;
    }
    lines.extend_from_slice(&text[from..]);
}

/// How many bytes at the end are the beginning of a character of which the rest is missing.
pub(super) fn unfinished(text: &[u8]) -> usize {
    for back in 1..=text.len().min(3) {
        let byte = text[text.len() - back];
        let length = match byte {
            0x80..0xc0 => continue,
            0xc2..0xe0 => 2,
            0xe0..0xf0 => 3,
            0xf0..0xf5 => 4,
            _ => 1,
        };
        return if length > back { back } else { 0 };
    }
    0
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    time: &'a str,
}

/// Reads one line without its newline; none where it is no entry.
pub(super) fn read(line: &[u8]) -> Option<Entry<'_>> {
    let Line { log, stream, time } = serde_json::from_slice(line).ok()?;
    let stream = match stream.as_ref() {
        "stdout" => Name::Stdout,
        "stderr" => Name::Stderr,
        _ => return None,
    };
    let ends_line = log.ends_with('\n');
    let text = match log {
        Cow::Borrowed(text) => Cow::Borrowed(text.strip_suffix('\n').unwrap_or(text).as_bytes()),
        Cow::Owned(mut text) => {
            text.truncate(text.len() - usize::from(ends_line));
            Cow::Owned(text.into_bytes())
        }
    };
    Some(Entry { time: time.as_bytes(), stream, text, ends_line })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{LONGEST_TEXT, pieces};

    fn written(chunk: &[u8], attrs: &BTreeMap<String, String>) -> String {
        let tail = tail(&attributes(attrs), Name::Stderr, Utc::at(1_767_323_045, 7));
        let mut lines = Vec::new();
        let whole = |window: &[u8]| window.len() - unfinished(window);
        pieces(chunk, whole).for_each(|piece| write(&mut lines, &tail, &piece));
        String::from_utf8(lines).unwrap()
    }

    fn shown(entry: &Entry<'_>) -> String {
        let end = if entry.ends_line { "\n" } else { "" };
        String::from_utf8(entry.text.to_vec()).unwrap() + end
    }

    #[test]
    fn an_entry_is_what_docker_writes() {
        let attrs = BTreeMap::from([("tag".to_owned(), "a\"b".to_owned())]);
        assert_eq!(
            written(b"x\n", &attrs),
            "{\"log\":\"x\\n\",\"stream\":\"stderr\",\"attrs\":{\"tag\":\"a\\\"b\"},\"time\":\"2026-01-02T03:04:05.000000007Z\"}\n"
        );
    }

    #[test]
    fn every_text_comes_back() {
        let every: String = (0..0x250).filter_map(char::from_u32).chain("€𝄞".chars()).collect();
        let lines = written(every.as_bytes(), &BTreeMap::new());
        let back: String = lines.lines().map(|line| shown(&read(line.as_bytes()).unwrap())).collect();
        assert_eq!(back, every);
        let lines = written(b"a\xffb", &BTreeMap::new());
        assert_eq!(shown(&read(lines.trim_end().as_bytes()).unwrap()), "a\u{fffd}b");
    }

    #[test]
    fn characters_are_not_cut() {
        let text = "€".repeat(LONGEST_TEXT);
        let lines = written(text.as_bytes(), &BTreeMap::new());
        assert!(!lines.contains('\u{fffd}'));
        for (text, missing) in [
            (&b""[..], 0),
            (b"a", 0),
            ("€".as_bytes(), 0),
            (b"a\xe2\x82", 2),
            (b"\xe2", 1),
            (b"\xf0\x9d\x84", 3),
            (b"\x82\x82\x82\x82", 0),
            (b"\xff", 0),
        ] {
            assert_eq!(unfinished(text), missing, "{text:?}");
        }
    }
}
