//! The network log of a container: records, a line each, in two files at most.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::record::Record;
use crate::error::{Error, Step};

/// Bytes of one file; with the one before it, twice as much is kept.
const LARGEST: u64 = 4 << 20;
/// A line that is longer is none of ours.
const LONGEST_LINE: usize = 32 * 1024;

/// The monitor's end.
#[derive(Debug)]
pub struct NetworkLog {
    path: PathBuf,
    file: File,
    length: u64,
    largest: u64,
}

impl NetworkLog {
    /// Goes on with what is there.
    ///
    /// # Errors
    /// It cannot be written, or is a symlink.
    pub fn open(path: &Path) -> io::Result<Self> {
        let (file, length) = open(path)?;
        Ok(Self { path: path.to_owned(), file, length, largest: LARGEST })
    }

    /// Appends a line, with the line feed. Where the file is full it becomes the older of two.
    ///
    /// # Errors
    /// ENOSPC and the like; the line is then missing.
    pub fn write(&mut self, line: &str) -> io::Result<()> {
        if self.length > 0 && self.length + line.len() as u64 > self.largest {
            fs::rename(&self.path, older(&self.path))?;
            (self.file, self.length) = open(&self.path)?;
        }
        let text = format!("{line}\n");
        self.file.write_all(text.as_bytes())?;
        self.length += text.len() as u64;
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let mut options = File::options();
    let file = options.append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

fn older(path: &Path) -> PathBuf {
    path.with_added_extension("1")
}

/// Hands out all records, the oldest first; what is no record is passed over. None are there before the first.
///
/// # Errors
/// A file cannot be read, or `body` fails.
pub fn read<E: From<Error>>(path: &Path, mut body: impl FnMut(Record) -> Result<(), E>) -> Result<(), E> {
    for path in [older(path), path.to_owned()] {
        let failed = || format!("cannot read `{}`", path.display());
        let file = match File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened.step(failed)?,
        };
        for line in BufReader::new(file).split(b'\n') {
            let line = line.step(failed)?;
            if line.len() <= LONGEST_LINE
                && let Ok(record) = serde_json::from_slice(&line)
            {
                body(record)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::record::Verdict;
    use super::*;

    #[test]
    fn two_files_are_kept_and_read_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("network.log");
        let mut log = NetworkLog { largest: 1000, ..NetworkLog::open(&path).unwrap() };
        let record = |number: u64| Record { count: number, ..Record::new(Verdict::Refused, "tcp") };
        for number in 2..100 {
            log.write(&record(number).line()).unwrap();
        }
        drop(log);
        NetworkLog::open(&path).unwrap().write("{ broken").unwrap();
        let mut found = Vec::new();
        read(&path, |record| {
            found.push(record.count);
            Ok::<_, Error>(())
        })
        .unwrap();
        let first = found[0];
        assert!(first > 2 && found == (first..100).collect::<Vec<_>>(), "{found:?}");
        let bytes: u64 =
            fs::read_dir(folder.path()).unwrap().map(|one| one.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes < 2100, "{bytes}");
    }

    #[test]
    fn a_log_that_was_never_written_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        read::<Error>(&folder.path().join("network.log"), |_| panic!("a record")).unwrap();
    }
}
