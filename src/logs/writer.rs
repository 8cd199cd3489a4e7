//! The monitor's side: appends entries, and begins a new file where the old one is full.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::container::directory::ContainerDirectory;
use crate::container::spec::{LogDriver, Spec};
use crate::error::{Error, Result, Step};
use crate::logs::{Name, json, k8s, pieces, reader};
use crate::sys::time::Utc;

/// As much of an old file's end as is looked at: more than any entry of ours takes.
const LOOK_BACK: u64 = 256 * 1024;

/// Appends to the log of one container; there is one at a time.
pub struct Log {
    path: PathBuf,
    file: File,
    /// Of the file, in bytes.
    length: u64,
    rotation: Option<Rotation>,
    format: Format,
    /// Of each stream: what was written last is a line without its end.
    open_lines: [bool; 2],
    /// Kept between writes to spare allocations.
    lines: Vec<u8>,
}

struct Rotation {
    /// The file is full where the next entry would not fit into so many bytes.
    size: u64,
    /// The same, put off where a new file could not be had.
    due: u64,
    /// How many files there are at most, this one included.
    files: u32,
}

enum Format {
    K8s,
    Json {
        attributes: Vec<u8>,
        /// The beginnings of characters, of each stream.
        unfinished: [Vec<u8>; 2],
    },
}

impl Log {
    /// Opens the log of a container, at its end; none where nothing is kept of it. What a killed monitor has left
    /// unfinished is finished.
    ///
    /// # Errors
    /// It cannot be written, or something that is no file has its name.
    pub fn open(spec: &Spec, directory: &ContainerDirectory) -> Result<Option<Self>> {
        let format = match spec.log_driver {
            LogDriver::K8sFile => Format::K8s,
            LogDriver::JsonFile => Format::Json {
                attributes: json::attributes(&spec.log_options.attributes),
                unfinished: [Vec::new(), Vec::new()],
            },
            LogDriver::None | LogDriver::Passthrough => return Ok(None),
        };
        let options = &spec.log_options;
        let path = options.path.clone().unwrap_or_else(|| directory.log());
        let rotation =
            options.max_size.map(|size| Rotation { size, due: size, files: options.max_files.max(1) });
        Self::at(path, format, rotation).map(Some)
    }

    fn at(path: PathBuf, format: Format, rotation: Option<Rotation>) -> Result<Self> {
        let failed = || format!("cannot write the log `{}`", path.display());
        let mut file = open(&path).step(failed)?;
        let kind = file.metadata().step(failed)?.file_type();
        // /dev/null as a path means: no log.
        if !kind.is_file() && !kind.is_char_device() {
            return Err(Error::new(failed()).because("it is not a file"));
        }
        let rotation = rotation.filter(|_| kind.is_file());
        let length = file.seek(SeekFrom::End(0)).step(failed)?;
        let mut log =
            Self { path, file, length, rotation, format, open_lines: [false; 2], lines: Vec::new() };
        if kind.is_file() && length > 0 {
            // On a full disk there is nothing to mend it with, and no reason not to start.
            let _ = log.settle();
        }
        Ok(log)
    }

    /// Writes a chunk as it came, with the time `now`.
    ///
    /// # Errors
    /// ENOSPC and the like; what did not fit is then missing from the log, not from what the client sees.
    pub fn write(&mut self, stream: Name, chunk: &[u8], now: Utc) -> io::Result<()> {
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        let written = self.write_with(&mut lines, stream, chunk, now);
        self.lines = lines;
        written
    }

    fn write_with(&mut self, lines: &mut Vec<u8>, stream: Name, chunk: &[u8], now: Utc) -> io::Result<()> {
        let joined;
        let mut chunk = chunk;
        if let Format::Json { unfinished, .. } = &mut self.format {
            let kept = &mut unfinished[stream.index()];
            if !kept.is_empty() {
                kept.extend_from_slice(chunk);
                joined = std::mem::take(kept);
                chunk = &joined;
            }
            let (whole, rest) = chunk.split_at(chunk.len() - json::unfinished(chunk));
            kept.extend_from_slice(rest);
            chunk = whole;
        }
        if let Some(last) = chunk.last() {
            self.open_lines[stream.index()] = *last != b'\n';
        }
        self.encode(lines, stream, chunk, now)?;
        self.append(lines)
    }

    /// Ends the lines that the container left without an end, before its next life: what that writes first does not
    /// go on with them.
    pub fn end_lines(&mut self) {
        self.finish_characters();
        for stream in [Name::Stdout, Name::Stderr] {
            if self.open_lines[stream.index()] {
                let _ = self.write(stream, b"\n", Utc::now());
            }
        }
    }

    /// Of a character that was never completed there is something to be seen.
    fn finish_characters(&mut self) {
        let Format::Json { unfinished, .. } = &mut self.format else { return };
        let rests = std::mem::take(unfinished);
        for (stream, rest) in [Name::Stdout, Name::Stderr].into_iter().zip(rests) {
            let mut lines = Vec::new();
            if !rest.is_empty() && self.encode(&mut lines, stream, &rest, Utc::now()).is_ok() {
                self.open_lines[stream.index()] = true;
                let _ = self.append(&lines);
            }
        }
    }

    /// Adds the entries of a chunk to `lines`; those before are written where a new file has to be begun.
    fn encode(&mut self, lines: &mut Vec<u8>, stream: Name, chunk: &[u8], now: Utc) -> io::Result<()> {
        let (beside, is_json) = match &self.format {
            Format::K8s => (k8s::head(stream, now), false),
            Format::Json { attributes, .. } => (json::tail(attributes, stream, now), true),
        };
        let cut =
            |window: &[u8]| if is_json { window.len() - json::unfinished(window) } else { window.len() };
        for piece in pieces(chunk, cut) {
            let before = lines.len();
            if is_json {
                json::write(lines, &beside, &piece);
            } else {
                k8s::write(lines, &beside, &piece);
            }
            if self.is_full(before, lines.len()) {
                self.append(&lines[..before])?;
                lines.drain(..before);
                self.rotate();
            }
        }
        Ok(())
    }

    /// Whether the file has no room for an entry, where `before` bytes are to be written first and `after` with it.
    fn is_full(&self, before: usize, after: usize) -> bool {
        let Some(rotation) = &self.rotation else { return false };
        self.length + before as u64 > 0 && self.length + after as u64 > rotation.due
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut written = 0;
        while written < lines.len() {
            match self.file.write(&lines[written..]) {
                Ok(0) => return self.cut(lines, written, io::ErrorKind::WriteZero.into()),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.cut(lines, written, error),
            }
        }
        self.length += written as u64;
        Ok(())
    }

    /// No half line stays, to which the next one would be added.
    fn cut(&mut self, lines: &[u8], written: usize, error: io::Error) -> io::Result<()> {
        let whole = memchr::memrchr(b'\n', &lines[..written]).map_or(0, |at| at + 1);
        self.length += whole as u64;
        if whole < written {
            // Where somebody else writes to the file, too, it is not cut.
            let end = self.length + (written - whole) as u64;
            if self.file.metadata().is_ok_and(|now| now.len() == end) {
                let _ = self.file.set_len(self.length);
            }
        }
        Err(error)
    }

    /// The full file becomes the first of the old ones, the oldest goes, and an empty one takes its place. Who reads
    /// the full one keeps it. Where that fails the file just grows on for a while.
    fn rotate(&mut self) {
        let Some(rotation) = &mut self.rotation else { return };
        // Made first: whatever happens after, there is a file to write to.
        let fresh = numbered(&self.path, "new");
        let made = remove(&fresh).and_then(|()| open(&fresh));
        let moved = made.and_then(|file| {
            for number in (1..rotation.files.saturating_sub(1)).rev() {
                move_on(&numbered(&self.path, number), &numbered(&self.path, number + 1))?;
            }
            if rotation.files > 1 {
                move_on(&self.path, &numbered(&self.path, 1))?;
            }
            fs::rename(&fresh, &self.path).inspect_err(|_| {
                if rotation.files > 1 {
                    let _ = fs::rename(numbered(&self.path, 1), &self.path);
                }
            })?;
            Ok(file)
        });
        match moved {
            Ok(file) => {
                (self.file, self.length) = (file, 0);
                rotation.due = rotation.size;
            }
            Err(error) => {
                let _ = fs::remove_file(&fresh);
                rotation.due = self.length + rotation.size;
                ::log::debug!("cannot begin a new file of the log: {error}");
            }
        }
    }

    /// What an earlier monitor has left: a torn entry is completed or, where it says nothing, removed; a line that was
    /// never ended is ended, so that the next one does not seem to go on with it.
    fn settle(&mut self) -> io::Result<()> {
        let window = self.length.min(LOOK_BACK);
        let mut text = vec![0; usize::try_from(window).unwrap_or(0)];
        self.file.read_exact_at(&mut text, self.length - window)?;
        let torn = &text[memchr::memrchr(b'\n', &text).map_or(0, |at| at + 1)..];
        if !torn.is_empty() {
            if torn.len() == text.len() || (matches!(self.format, Format::K8s) && k8s::read(torn).is_some()) {
                self.append(b"\n")?;
                text.push(b'\n');
            } else {
                self.length -= torn.len() as u64;
                self.file.set_len(self.length)?;
                text.truncate(text.len() - torn.len());
            }
        }
        let reading = match self.format {
            Format::K8s => reader::Format::K8s,
            Format::Json { .. } => reader::Format::Json,
        };
        for line in text.split(|byte| *byte == b'\n') {
            if let Some(entry) = reading.read(line) {
                self.open_lines[entry.stream.index()] = !entry.ends_line;
            }
        }
        self.end_lines();
        Ok(())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.finish_characters();
    }
}

/// Never through a symlink, and never waiting for the other end of a FIFO.
fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).append(true).create(true).mode(0o600);
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)
        .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

fn move_on(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
        .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// `log.1`, `log.2`, the oldest last.
pub(super) fn numbered(path: &Path, number: impl std::fmt::Display) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(path: &Path, format: Format, size: Option<u64>, files: u32) -> Log {
        let rotation = size.map(|size| Rotation { size, due: size, files });
        Log::at(path.to_owned(), format, rotation).unwrap()
    }

    fn json() -> Format {
        Format::Json { attributes: Vec::new(), unfinished: [Vec::new(), Vec::new()] }
    }

    fn shown(line: &str) -> String {
        let entry = json::read(line.as_bytes()).unwrap();
        String::from_utf8_lossy(&entry.text).into_owned() + if entry.ends_line { "\n" } else { "" }
    }

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn files_are_full_and_nothing_is_lost_between_them() {
        for format in [|| Format::K8s, json] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("log");
            let mut log = log(&path, format(), Some(2000), 1000);
            for round in 0..50 {
                let chunk: String = (0..round).map(|n| format!("line {round} {n}\n")).collect();
                log.write(Name::Stdout, chunk.as_bytes(), Utc::now()).unwrap();
            }
            let mut all = String::new();
            let old = (1..1000).map(|n| numbered(&path, n)).take_while(|path| path.exists());
            let files: Vec<PathBuf> = old.collect();
            assert!(files.len() > 20, "{}", files.len());
            for file in files.iter().rev().chain([&path]) {
                let text = text(file);
                assert!(text.len() <= 2000 && text.ends_with('\n'), "{}: {}", file.display(), text.len());
                all.push_str(&text);
            }
            assert_eq!(all.lines().count(), (0..50).sum::<usize>());
            assert!(all.lines().next().unwrap().contains("line 1 0"));
            assert!(!numbered(&path, "new").exists());
        }
    }

    #[test]
    fn there_are_no_more_files_than_wanted() {
        for files in [1, 2, 3] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("log");
            let mut log = log(&path, Format::K8s, Some(100), files);
            for n in 0..20 {
                log.write(Name::Stdout, format!("line {n}\n").as_bytes(), Utc::now()).unwrap();
            }
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), files as usize);
            assert!(text(&path).contains("line 19\n"));
        }
    }

    #[test]
    fn one_who_reads_a_file_that_goes_keeps_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = log(&path, Format::K8s, Some(100), 1);
        log.write(Name::Stdout, b"first\n", Utc::now()).unwrap();
        let reader = File::open(&path).unwrap();
        log.write(
            Name::Stdout,
            b"second, which is too long for the same file as the one before\n",
            Utc::now(),
        )
        .unwrap();
        assert!(!text(&path).contains("first"));
        assert!(io::read_to_string(reader).unwrap().ends_with(" F first\n"));
    }

    #[test]
    fn where_no_file_can_be_made_the_old_one_grows_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = log(&path, Format::K8s, Some(100), 3);
        fs::create_dir(numbered(&path, "new")).unwrap();
        for n in 0..10 {
            log.write(Name::Stdout, format!("line {n}\n").as_bytes(), Utc::now()).unwrap();
        }
        assert_eq!(text(&path).lines().count(), 10);
        fs::remove_dir(numbered(&path, "new")).unwrap();
        for n in 10..20 {
            log.write(Name::Stdout, format!("line {n}\n").as_bytes(), Utc::now()).unwrap();
        }
        let all = text(&numbered(&path, 2)) + &text(&numbered(&path, 1)) + &text(&path);
        assert!(text(&path).lines().count() <= 2, "{}", text(&path));
        assert!(all.contains("line 18\n") && all.contains("line 19\n"), "{all}");
    }

    #[test]
    fn what_a_killed_monitor_left_is_finished() {
        let head = "2026-01-02T03:04:05.000000007Z";
        for (left, kept) in [
            (format!("{head} stdout F whole\n"), vec!["stdout F whole"]),
            (format!("{head} stdout F a\n{head} std"), vec!["stdout F a"]),
            (format!("{head} stdout F a\n{head} stderr F to"), vec!["stdout F a", "stderr F to"]),
            (
                format!("{head} stdout P a\n{head} stderr F b\n"),
                vec!["stdout P a", "stderr F b", "stdout F "],
            ),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("log");
            fs::write(&path, left).unwrap();
            log(&path, Format::K8s, None, 1).write(Name::Stdout, b"new\n", Utc::now()).unwrap();
            let text = text(&path);
            let lines: Vec<&str> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
            assert_eq!(lines, [kept, vec!["stdout F new"]].concat());
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let entry =
            |text: &str| format!("{{\"log\":\"{text}\",\"stream\":\"stdout\",\"time\":\"{head}\"}}\n");
        fs::write(&path, entry("a") + "{\"log\":\"b").unwrap();
        log(&path, json(), None, 1).write(Name::Stdout, b"new\n", Utc::now()).unwrap();
        let told: Vec<String> = text(&path).lines().map(shown).collect();
        assert_eq!(told, ["a", "\n", "new\n"]);
    }

    #[test]
    fn characters_that_come_in_two_chunks_are_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = log(&path, json(), None, 1);
        for chunk in [&b"a\xe2"[..], b"\x82", b"\xac\n\xf0\x9d"] {
            log.write(Name::Stdout, chunk, Utc::now()).unwrap();
        }
        drop(log);
        let told: String = text(&path).lines().map(shown).collect();
        assert_eq!(told, "a€\n\u{fffd}");
    }

    #[test]
    fn only_files_are_logs() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(Log::at(path.clone(), Format::K8s, None).is_err());
        fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert!(Log::at(path, Format::K8s, None).is_err());
        log(Path::new("/dev/null"), Format::K8s, Some(10), 2)
            .write(Name::Stdout, b"x\n", Utc::now())
            .unwrap();
    }
}
