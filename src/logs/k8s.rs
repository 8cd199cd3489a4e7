//! `TIMESTAMP STREAM F|P TEXT`, F for the end of a line, P for a piece that goes on in the next: as the CRI of
//! Kubernetes has it and podman's k8s-file driver writes it.

use crate::logs::{Name, Piece};
use crate::sys::time::Utc;

/// What stands before the texts of one chunk.
pub(super) fn head(stream: Name, now: Utc) -> Vec<u8> {
    format!("{now} {} ", stream.as_str()).into_bytes()
}

pub(super) fn write(lines: &mut Vec<u8>, head: &[u8], piece: &Piece<'_>) {
    lines.extend_from_slice(head);
    lines.extend_from_slice(if piece.ends_line { b"F " } else { b"P " });
    lines.extend_from_slice(piece.text);
    lines.push(b'\n');
}

/// An entry as it stands in the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub time: &'a [u8],
    pub stream: Name,
    pub ends_line: bool,
    pub text: &'a [u8],
}

/// Reads one line without its newline; none where it is no entry.
pub(super) fn read(line: &[u8]) -> Option<Entry<'_>> {
    // The time as we write it; others have fewer digits, or a zone.
    let space =
        if line.get(30) == Some(&b' ') { 30 } else { memchr::memchr(b' ', line.get(..64).unwrap_or(line))? };
    let (time, rest) = (&line[..space], &line[space + 1..]);
    let (stream, rest) = match rest.strip_prefix(b"stdout ") {
        Some(rest) => (Name::Stdout, rest),
        None => (Name::Stderr, rest.strip_prefix(b"stderr ")?),
    };
    let (flag, text) = rest.split_first()?;
    let ends_line = match flag {
        b'F' => true,
        b'P' => false,
        _ => return None,
    };
    Some(Entry { time, stream, ends_line, text: text.strip_prefix(b" ")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{LONGEST_TEXT, pieces};

    fn written(stream: Name, chunk: &[u8]) -> Vec<u8> {
        let head = head(stream, Utc::at(1_767_323_045, 7));
        let mut lines = Vec::new();
        pieces(chunk, <[u8]>::len).for_each(|piece| write(&mut lines, &head, &piece));
        lines
    }

    #[test]
    fn lines_are_full_and_the_rest_is_partial() {
        let lines = written(Name::Stderr, b"a\n\nb");
        let head = "2026-01-02T03:04:05.000000007Z stderr";
        assert_eq!(String::from_utf8(lines).unwrap(), format!("{head} F a\n{head} F \n{head} P b\n"));
    }

    #[test]
    fn no_text_is_longer_than_the_longest() {
        for (length, lengths) in [
            (LONGEST_TEXT, vec![(LONGEST_TEXT, true)]),
            (LONGEST_TEXT + 1, vec![(LONGEST_TEXT, false), (1, true)]),
            (3 * LONGEST_TEXT, vec![(LONGEST_TEXT, false), (LONGEST_TEXT, false), (LONGEST_TEXT, true)]),
        ] {
            let mut chunk = vec![b'x'; length];
            chunk.push(b'\n');
            let lines = written(Name::Stdout, &chunk);
            let found: Vec<(usize, bool)> = lines
                .split_inclusive(|byte| *byte == b'\n')
                .map(|line| read(line.strip_suffix(b"\n").unwrap()).unwrap())
                .map(|entry| (entry.text.len(), entry.ends_line))
                .collect();
            assert_eq!(found, lengths);
        }
    }

    #[test]
    fn entries_of_others_are_read_and_nonsense_is_none() {
        let entry = read(b"2026-01-02T03:04:05+01:00 stderr P a b").unwrap();
        assert_eq!((entry.time, entry.text), (&b"2026-01-02T03:04:05+01:00"[..], &b"a b"[..]));
        assert_eq!((entry.stream, entry.ends_line), (Name::Stderr, false));
        for line in ["", " ", "x", "t stdout", "t stdout ", "t stdout F", "t stdout X a", "t stdin F a"] {
            assert_eq!(read(line.as_bytes()), None, "{line}");
        }
    }
}
