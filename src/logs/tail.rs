//! `--tail`: finding the last lines from the end, in blocks, so that the size of the log does not matter.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::error::{Result, Step};
use crate::logs::Reader;
use crate::logs::reader::Format;

const BLOCK: usize = 64 * 1024;
/// Larger than any line of ours.
const LARGEST_BLOCK: usize = 1 << 20;
/// How far, in bytes, the beginning of a line is looked for before the piece that is known: other streams may have
/// written meanwhile.
const LOOK_BACK: u64 = 1 << 20;

/// Going back through entries, the newest first.
#[derive(Debug)]
struct Search {
    /// Lines that are still to be found.
    wanted: u64,
    streams: [Stream; 2],
    /// Lines of each stream that lie after the earliest piece of those that are wanted, and are not.
    skipped: [u64; 2],
    /// The same, for pieces that may still be found.
    passed: [u64; 2],
    /// Bytes since the last piece that was wanted.
    in_vain: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Stream {
    seen: bool,
    /// The pieces before belong to a line that is wanted.
    inside: bool,
}

impl Search {
    fn new(wanted: u64) -> Self {
        let streams = [Stream::default(); 2];
        Self { wanted, streams, skipped: [0; 2], passed: [0; 2], in_vain: 0 }
    }

    fn is_over(&self) -> bool {
        let inside = self.streams.iter().any(|stream| stream.inside);
        self.wanted == 0 && (!inside || self.in_vain > LOOK_BACK)
    }

    /// Whether the entry is the earliest so far that is wanted.
    fn entry(&mut self, stream: usize, ends_line: bool, length: usize) -> bool {
        let Stream { seen, inside } = self.streams[stream];
        let new_line = ends_line || !seen;
        let takes = if new_line { self.wanted > 0 } else { inside };
        if new_line {
            self.wanted -= u64::from(takes);
            self.passed[stream] += u64::from(!takes);
        }
        self.streams[stream] = Stream { seen: true, inside: takes };
        if takes {
            self.skipped = self.passed;
            self.in_vain = 0;
        } else {
            self.in_vain += length as u64;
        }
        takes
    }
}

impl Reader {
    /// Stands before the last `lines` lines, where nothing was read yet; says how many lines of each stream, which
    /// stand between the pieces of others, have to be passed over.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn seek_tail(&mut self, lines: u64) -> Result<[u64; 2]> {
        self.seek(lines).step(|| "cannot read the log")
    }

    fn seek(&mut self, lines: u64) -> io::Result<[u64; 2]> {
        let Some(mut file) = self.files.newest()? else { return Ok([0; 2]) };
        self.offset = file.metadata()?.len();
        self.file = Some(file.try_clone()?);
        let mut search = Search::new(lines);
        while !search.is_over() {
            if let Some(start) = look_through(&file, self.format, &mut search)? {
                self.file = Some(file.try_clone()?);
                self.offset = start;
            }
            match self.files.older(&file)? {
                Some(older) if !search.is_over() => file = older,
                _ => break,
            }
        }
        Ok(search.skipped)
    }
}

/// Searches one file from its end; where the earliest entry begins that is wanted.
fn look_through(file: &File, format: Format, search: &mut Search) -> io::Result<Option<u64>> {
    let mut found = None;
    let mut end = file.metadata()?.len();
    let mut size = BLOCK;
    let mut block = Vec::new();
    while end > 0 && !search.is_over() {
        let from = end.saturating_sub(size as u64);
        block.resize(usize::try_from(end - from).unwrap_or(size), 0);
        match file.read_exact_at(&mut block, from) {
            // A monitor on a full disk has taken half a line back.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                end = end.min(file.metadata()?.len()).min(from);
                continue;
            }
            read => read?,
        }
        // The first line of the block may have begun before it.
        let first =
            if from == 0 { 0 } else { memchr::memchr(b'\n', &block).map_or(block.len(), |at| at + 1) };
        if first >= block.len() && size < LARGEST_BLOCK {
            size *= 2;
            continue;
        }
        let mut line_end = block.len();
        while line_end > first && !search.is_over() {
            let text = &block[first..line_end];
            let text = text.strip_suffix(b"\n").unwrap_or(text);
            let start = memchr::memrchr(b'\n', text).map_or(0, |at| at + 1);
            if let Some(entry) = format.read(&text[start..])
                && search.entry(entry.stream.index(), entry.ends_line, line_end - first - start)
            {
                found = Some(from + (first + start) as u64);
            }
            line_end = first + start;
        }
        // A line longer than the largest block is none of ours.
        end = if first < block.len() { from + first as u64 } else { from };
        size = BLOCK;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::logs::Name;
    use crate::logs::files::Files;

    /// The log of the lines `o TEXT` (standard output) and `e TEXT`; a capital letter is a piece of a line.
    fn log(directory: &tempfile::TempDir, files: &[&[&str]]) -> Reader {
        for (number, lines) in files.iter().rev().enumerate() {
            let entry = |line: &&str| {
                let (stream, flag) = match line.as_bytes()[0] {
                    b'o' => ("stdout", 'F'),
                    b'e' => ("stderr", 'F'),
                    b'O' => ("stdout", 'P'),
                    _ => ("stderr", 'P'),
                };
                format!("2026-01-02T03:04:05.000000007Z {stream} {flag} {}\n", &line[2..])
            };
            let name = if number == 0 { "log".to_owned() } else { format!("log.{number}") };
            std::fs::write(directory.path().join(name), lines.iter().map(entry).collect::<String>()).unwrap();
        }
        Reader::new(Files::new(directory.path().join("log"), 9), Format::K8s)
    }

    /// What a reader gives that passes over what it has to.
    fn tail(reader: &mut Reader, lines: u64) -> String {
        let mut skip = reader.seek_tail(lines).unwrap();
        let mut told = String::new();
        let mut sink = |entry: crate::logs::Entry<'_>| {
            let skip = &mut skip[entry.stream.index()];
            if *skip > 0 {
                *skip -= u64::from(entry.ends_line);
                return;
            }
            told.push_str(if entry.stream == Name::Stdout { "o:" } else { "e:" });
            told.push_str(&String::from_utf8_lossy(&entry.text));
            told.push_str(if entry.ends_line { "." } else { "" });
        };
        let _ = reader.read(&mut sink, &mut || ControlFlow::Continue(())).unwrap();
        told
    }

    #[test]
    fn the_last_lines_are_whole() {
        let lines: &[&str] = &["o 1", "O a", "e 2", "o b", "e 3", "o 4", "O c"];
        for (count, wanted) in [
            (0, ""),
            (1, "o:c"),
            (2, "o:4.o:c"),
            (3, "e:3.o:4.o:c"),
            // `a` and `b` are one line, and the line of the other stream between them is not wanted.
            (4, "o:ao:b.e:3.o:4.o:c"),
            (5, "o:ae:2.o:b.e:3.o:4.o:c"),
            (6, "o:1.o:ae:2.o:b.e:3.o:4.o:c"),
            (99, "o:1.o:ae:2.o:b.e:3.o:4.o:c"),
        ] {
            let directory = tempfile::tempdir().unwrap();
            assert_eq!(tail(&mut log(&directory, &[lines]), count), wanted, "{count}");
            for cut in 0..lines.len() {
                let (older, newer) = lines.split_at(cut);
                assert_eq!(tail(&mut log(&directory, &[older, newer]), count), wanted, "{count} of {cut}");
            }
        }
    }

    #[test]
    fn blocks_do_not_show() {
        let directory = tempfile::tempdir().unwrap();
        let lines: Vec<String> = (0..10_000).map(|n| format!("o {n} {}", "x".repeat(n % 300))).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        for count in [1, 2, 700, 9_999, 10_000] {
            let told = tail(&mut log(&directory, &[&lines]), count as u64);
            let wanted: String =
                lines[lines.len() - count..].iter().map(|line| format!("o:{}.", &line[2..])).collect();
            assert!(told == wanted, "{count}");
        }
    }

    #[test]
    fn the_beginning_of_a_line_of_many_pieces_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let long = format!("O {}", "x".repeat(16_000));
        let mut lines = vec!["o before"];
        lines.extend([long.as_str(); 300]);
        lines.push("o end");
        let told = tail(&mut log(&directory, &[&lines]), 1);
        assert_eq!(told.matches('x').count(), 300 * 16_000);
        assert!(!told.contains("before"));
    }

    #[test]
    fn what_is_no_entry_is_no_line() {
        let directory = tempfile::tempdir().unwrap();
        let mut reader = log(&directory, &[&["o 1", "o 2"]]);
        let path = directory.path().join("log");
        let noise = [std::fs::read(&path).unwrap(), vec![b'x'; 3 << 20], b"\n\n\0\n".to_vec()].concat();
        std::fs::write(&path, noise).unwrap();
        assert_eq!(tail(&mut reader, 1), "o:2.");
        assert!(reader.damaged() > 0);
    }
}
