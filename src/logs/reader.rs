//! Reading entries, from the oldest file to the newest and on.
//!
//! The files belong to the user, who may have put anything into them: memory is bounded, and what is no entry is
//! counted and left out.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;

use crate::container::directory::ContainerDirectory;
use crate::container::spec::{LogDriver, Spec};
use crate::error::{Error, Result, Step};
use crate::logs::files::Files;
use crate::logs::{Name, json, k8s};

/// A line of a file that does not fit in here is none of ours, but is still shown piece by piece.
const BUFFER: usize = 256 * 1024;

/// A line of the container, or a piece of one.
#[derive(Debug)]
pub struct Entry<'a> {
    /// RFC 3339, as it stands in the file.
    pub time: &'a [u8],
    pub stream: Name,
    /// Without its newline.
    pub text: Cow<'a, [u8]>,
    /// Otherwise the line goes on in the next entry of the stream.
    pub ends_line: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    K8s,
    Json,
}

impl Format {
    pub(super) fn read(self, line: &[u8]) -> Option<Entry<'_>> {
        match self {
            Self::K8s => {
                let k8s::Entry { time, stream, ends_line, text } = k8s::read(line)?;
                Some(Entry { time, stream, text: Cow::Borrowed(text), ends_line })
            }
            Self::Json => json::read(line),
        }
    }
}

/// Reads the log of one container.
pub struct Reader {
    pub(super) files: Files,
    pub(super) format: Format,
    /// None before the first file was found.
    pub(super) file: Option<File>,
    /// Of the first byte that is not in the buffer.
    pub(super) offset: u64,
    buffer: Box<[u8]>,
    /// A line that did not fit into the buffer: what its last piece is.
    inside: Option<Inside>,
    damaged: u64,
}

/// The rest of a line of which the beginning was given already.
#[derive(Debug, Clone, Copy)]
enum Inside {
    Entry { stream: Name, ends_line: bool },
    Damage,
}

impl Reader {
    /// Stands before the oldest entry.
    ///
    /// # Errors
    /// The log driver of the container keeps nothing.
    pub fn open(spec: &Spec, directory: &ContainerDirectory) -> Result<Self> {
        let path = spec.log_options.path.clone().unwrap_or_else(|| directory.log());
        let files = if spec.log_options.max_size.is_some() { spec.log_options.max_files } else { 1 };
        Self::at(path, spec.log_driver, files)
    }

    /// The same for a log that lies at `path`, in so many files at most.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn at(path: std::path::PathBuf, driver: LogDriver, files: u32) -> Result<Self> {
        let format = match driver {
            LogDriver::K8sFile => Format::K8s,
            LogDriver::JsonFile => Format::Json,
            LogDriver::None => return Err(not_kept("none")),
            LogDriver::Passthrough => return Err(not_kept("passthrough")),
        };
        Ok(Self::new(Files::new(path, files), format))
    }

    pub(super) fn new(files: Files, format: Format) -> Self {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Self { files, format, file: None, offset: 0, buffer, inside: None, damaged: 0 }
    }

    /// The directory of the files.
    pub fn directory(&self) -> std::path::PathBuf {
        self.files.directory()
    }

    /// Lines that were no entries.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Gives `sink` every whole entry that is there; it breaks off where nobody wants more. `paused` is called where
    /// something was given and reading goes on.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn read(
        &mut self,
        sink: &mut impl FnMut(Entry<'_>),
        paused: &mut impl FnMut() -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        self.read_files(sink, paused).step(|| "cannot read the log")
    }

    fn read_files(
        &mut self,
        sink: &mut impl FnMut(Entry<'_>),
        paused: &mut impl FnMut() -> ControlFlow<()>,
    ) -> io::Result<ControlFlow<()>> {
        loop {
            if self.file.is_none() {
                (self.file, self.offset) = (self.files.oldest()?, 0);
            }
            let Some(file) = &self.file else { return Ok(ControlFlow::Continue(())) };
            // Asked before the last look: nothing is written to a file once there is a newer one.
            let next = self.files.newer(file)?;
            if self.read_file(sink, paused)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if next.is_none() {
                return Ok(ControlFlow::Continue(()));
            }
            self.torn(sink)?;
            (self.file, self.offset) = (next, 0);
        }
    }

    /// Reads the present file to its end. A line without an end is not taken: it may still be written.
    fn read_file(
        &mut self,
        sink: &mut impl FnMut(Entry<'_>),
        paused: &mut impl FnMut() -> ControlFlow<()>,
    ) -> io::Result<ControlFlow<()>> {
        let mut filled = 0;
        loop {
            let Some(file) = &self.file else { return Ok(ControlFlow::Continue(())) };
            let at = self.offset + filled as u64;
            let read = match file.read_at(&mut self.buffer[filled..], at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if read == 0 {
                return Ok(ControlFlow::Continue(()));
            }
            let from = filled;
            filled += read;
            // Of a line that goes on only the new bytes have to be looked through.
            let whole = memchr::memrchr(b'\n', &self.buffer[from..filled]).map_or(0, |end| from + end + 1);
            let buffer = std::mem::take(&mut self.buffer);
            let mut taken = self.take_lines(&buffer[..whole], sink);
            if taken == 0 && filled == buffer.len() {
                self.take_part(&buffer, sink);
                taken = filled;
            }
            self.buffer = buffer;
            self.offset += taken as u64;
            self.buffer.copy_within(taken..filled, 0);
            filled -= taken;
            if taken > 0 && paused().is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }

    /// Takes whole lines; their length.
    fn take_lines(&mut self, lines: &[u8], sink: &mut impl FnMut(Entry<'_>)) -> usize {
        let mut from = 0;
        for end in memchr::memchr_iter(b'\n', lines) {
            let line = &lines[from..end];
            from = end + 1;
            match self.inside.take() {
                Some(Inside::Entry { stream, ends_line }) => {
                    sink(Entry { time: b"", stream, text: Cow::Borrowed(line), ends_line });
                }
                Some(Inside::Damage) => {}
                None => match self.format.read(line) {
                    Some(entry) => sink(entry),
                    None => self.damaged += 1,
                },
            }
        }
        from
    }

    /// Takes a buffer that holds a part of one line.
    fn take_part(&mut self, part: &[u8], sink: &mut impl FnMut(Entry<'_>)) {
        let whole = match (self.inside, self.format) {
            (Some(Inside::Entry { stream, .. }), _) => {
                sink(Entry { time: b"", stream, text: Cow::Borrowed(part), ends_line: false });
                return;
            }
            (Some(Inside::Damage), _) => return,
            // JSON makes sense as a whole alone.
            (None, Format::Json) => None,
            (None, Format::K8s) => self.format.read(part),
        };
        self.inside = Some(match whole {
            Some(entry) => {
                let inside = Inside::Entry { stream: entry.stream, ends_line: entry.ends_line };
                sink(Entry { ends_line: false, ..entry });
                inside
            }
            None => {
                self.damaged += 1;
                Inside::Damage
            }
        });
    }

    /// The log ends here: gives what was written of a line whose writer was killed.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn finish(&mut self, sink: &mut impl FnMut(Entry<'_>)) -> Result<()> {
        self.torn(sink).step(|| "cannot read the log")
    }

    fn torn(&mut self, sink: &mut impl FnMut(Entry<'_>)) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let length = file.read_at(&mut self.buffer, self.offset)?;
        self.offset += length as u64;
        let text = &self.buffer[..length];
        let text = &text[..memchr::memchr(b'\n', text).unwrap_or(length)];
        match self.inside.take() {
            _ if text.is_empty() => {}
            Some(Inside::Entry { stream, .. }) => {
                sink(Entry { time: b"", stream, text: Cow::Borrowed(text), ends_line: false });
            }
            Some(Inside::Damage) => {}
            None => match self.format.read(text) {
                Some(entry) => sink(Entry { ends_line: false, ..entry }),
                None => self.damaged += 1,
            },
        }
        Ok(())
    }
}

fn not_kept(driver: &str) -> Error {
    Error::new("there is no log")
        .because(format!("the log driver of the container is `{driver}`, which keeps nothing"))
        .hint("make the container with `--log-driver k8s-file` or `json-file`")
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const HEAD: &str = "2026-01-02T03:04:05.000000007Z stdout";

    fn reader(path: &Path, files: u32) -> Reader {
        Reader::at(path.to_owned(), LogDriver::K8sFile, files).unwrap()
    }

    /// All that a reader gives now; `|` where a piece ends.
    fn now(reader: &mut Reader) -> String {
        let mut told = String::new();
        let mut sink = |entry: Entry<'_>| {
            told.push_str(&String::from_utf8_lossy(&entry.text));
            told.push(if entry.ends_line { '\n' } else { '|' });
        };
        assert!(reader.read(&mut sink, &mut || ControlFlow::Continue(())).unwrap().is_continue());
        told
    }

    #[test]
    fn a_line_that_is_still_being_written_waits() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut reader = reader(&path, 1);
        assert_eq!(now(&mut reader), "");
        std::fs::write(&path, format!("{HEAD} F one\n{HEAD} F tw")).unwrap();
        assert_eq!(now(&mut reader), "one\n");
        assert_eq!(now(&mut reader), "");
        std::fs::write(&path, format!("{HEAD} F one\n{HEAD} F two\n")).unwrap();
        assert_eq!(now(&mut reader), "two\n");
        // On a full disk the writer takes half a line back.
        std::fs::write(&path, format!("{HEAD} F one\n{HEAD} F two\n{HEAD} F thr")).unwrap();
        assert_eq!(now(&mut reader), "");
        std::fs::write(&path, format!("{HEAD} F one\n{HEAD} F two\n{HEAD} P x\n")).unwrap();
        assert_eq!(now(&mut reader), "x|");
        assert_eq!(reader.damaged(), 0);
    }

    #[test]
    fn what_a_killed_writer_left_is_given_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::fs::write(&path, format!("{HEAD} F one\n{HEAD} F tw")).unwrap();
        let mut reader = reader(&path, 1);
        assert_eq!(now(&mut reader), "one\n");
        let mut told = Vec::new();
        reader.finish(&mut |entry| told.push((entry.text.to_vec(), entry.ends_line))).unwrap();
        assert_eq!(told, [(b"tw".to_vec(), false)]);
        reader.finish(&mut |_| panic!("twice")).unwrap();
    }

    #[test]
    fn a_line_of_any_length_passes_in_pieces() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        for (flag, end) in [("F", "\n"), ("P", "|")] {
            let long = "x".repeat(3 * BUFFER + 17);
            let noise = "y".repeat(2 * BUFFER);
            std::fs::write(&path, format!("{HEAD} {flag} {long}\n{noise}\n{HEAD} F end\n")).unwrap();
            let mut reader = reader(&path, 1);
            let told = now(&mut reader);
            let pieces = told.strip_suffix(&format!("{end}end\n")).unwrap();
            assert_eq!(pieces.replace('|', ""), long);
            assert!(pieces.contains('|'));
            assert_eq!(reader.damaged(), 1);
        }
    }

    #[test]
    fn any_bytes_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut random = 12_345_u32;
        let mut next = |below: usize| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 8) as usize % below
        };
        let whole = format!(
            "{HEAD} F one\n{HEAD} P two\n{{\"log\":\"a\\n\",\"stream\":\"stderr\",\"time\":\"2026-01-02T03:04:05Z\"}}\n\n"
        );
        for driver in [LogDriver::K8sFile, LogDriver::JsonFile] {
            for _ in 0..300 {
                let mut bytes = whole.repeat(1 + next(4)).into_bytes();
                for _ in 0..next(6) {
                    let at = next(bytes.len());
                    match next(3) {
                        0 => bytes[at] = next(256) as u8,
                        1 => bytes.truncate(at.max(1)),
                        _ => drop(bytes.drain(at..(at + next(40)).min(bytes.len()))),
                    }
                    if bytes.is_empty() {
                        bytes.push(b'\n');
                    }
                }
                std::fs::write(&path, &bytes).unwrap();
                let texts = |reader: &mut Reader| {
                    let mut length = 0;
                    let mut sink = |entry: Entry<'_>| length += entry.text.len();
                    let _ = reader.read(&mut sink, &mut || ControlFlow::Continue(())).unwrap();
                    reader.finish(&mut sink).unwrap();
                    length
                };
                let all = texts(&mut Reader::at(path.clone(), driver, 1).unwrap());
                assert!(all <= bytes.len());
                let mut tail = Reader::at(path.clone(), driver, 1).unwrap();
                tail.seek_tail(next(5) as u64).unwrap();
                assert!(texts(&mut tail) <= all);
            }
        }
    }

    #[test]
    fn files_that_are_put_away_meanwhile_are_read_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // What the writer does, with a new file for every ten lines.
                for file in 0..3000 {
                    let lines: String = (0..10).map(|n| format!("{HEAD} F {}\n", file * 10 + n)).collect();
                    let numbered = |n: u32| directory.path().join(format!("log.{n}"));
                    std::fs::write(numbered(9), lines).unwrap();
                    for n in (1..4).rev() {
                        let _ = std::fs::rename(numbered(n), numbered(n + 1));
                    }
                    let _ = std::fs::rename(&path, numbered(1));
                    std::fs::rename(numbered(9), &path).unwrap();
                }
                done.store(true, Ordering::Release);
            });
            let mut reader = reader(&path, 5);
            let mut last = None;
            let mut count = 0;
            loop {
                let ends = done.load(Ordering::Acquire);
                for line in now(&mut reader).lines() {
                    let number: u32 = line.parse().unwrap();
                    // What was removed before it was read is missing, whole files of it; nothing comes twice.
                    let next = last.map_or(0, |last: u32| last + 1);
                    assert!(
                        number == next || (number > next && number.is_multiple_of(10)),
                        "{number} after {last:?}"
                    );
                    last = Some(number);
                    count += 1;
                }
                if ends {
                    break;
                }
            }
            assert_eq!(last, Some(29_999));
            assert!(count > 1000, "{count}");
        });
    }
}
