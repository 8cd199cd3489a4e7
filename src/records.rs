//! Small records that have names: each is one file, which appears whole under its name or not at all, and which nobody
//! but the owner reads.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::error::{Error, Result, Step};

/// Begins the file of every name, so that none is taken for a file that is being written.
const PREFIX: &str = "s.";
const UNFINISHED: &str = "new.";
/// Longer files are not ours.
const LARGEST: u64 = 4 << 20;

/// The records in one directory, which need not be there.
#[derive(Debug, Clone)]
pub struct Records {
    directory: PathBuf,
}

impl Records {
    pub fn in_directory(directory: PathBuf) -> Self {
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{PREFIX}{name}"))
    }

    /// Writes a record; `name` is the name of a file, at most 253 bytes long.
    ///
    /// # Errors
    /// Without `replace`: `AlreadyExists`, where the name is taken.
    pub fn write(&self, name: &str, text: &[u8], replace: bool) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        self.remove_unfinished();
        let temporary = self.directory.join(format!("{UNFINISHED}{}", std::process::id()));
        let mut options = File::options();
        options.write(true).create_new(true).mode(0o600);
        let written = options.open(&temporary).and_then(|mut file| file.write_all(text)).and_then(|()| {
            // A link is refused where the name is taken, a rename is not.
            match replace {
                true => fs::rename(&temporary, self.path(name)),
                false => fs::hard_link(&temporary, self.path(name)),
            }
        });
        let _ = fs::remove_file(&temporary);
        written
    }

    /// What a process was writing when it was killed.
    fn remove_unfinished(&self) {
        let own = std::process::id();
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(UNFINISHED)) else { continue };
            let runs = |pid: u32| pid != own && Path::new("/proc").join(pid.to_string()).exists();
            if !rest.parse().is_ok_and(runs) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// The names, sorted.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn names(&self) -> Result<Vec<String>> {
        let failed = || format!("cannot read `{}`", self.directory.display());
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.step(failed)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.step(failed)?.file_name().into_string().ok();
            names.extend(name.and_then(|name| Some(name.strip_prefix(PREFIX)?.to_owned())));
        }
        names.sort();
        Ok(names)
    }

    /// None: there is none of that name.
    ///
    /// # Errors
    /// Those of open(2) and read(2).
    pub fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match read(&self.path(name), LARGEST) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            text => text.map(Some),
        }
    }

    /// A record as the value that was written, None where there is none of that name. `what` it is, with its article.
    ///
    /// # Errors
    /// It cannot be read, or is damaged, or `is_its` says that it is another's: the file is named, and the way out.
    pub fn value<T: DeserializeOwned>(
        &self,
        what: &str,
        name: &str,
        is_its: impl FnOnce(&T) -> bool,
    ) -> Result<Option<T>> {
        let failed = || format!("cannot read {what} `{}`", name.escape_debug());
        let Some(text) = self.read(name).step(failed)? else { return Ok(None) };
        let path = self.path(name);
        let damaged = |cause: String| {
            Error::new(failed())
                .because(format!("`{}` is damaged", path.display()))
                .because(cause)
                .hint(format!("remove it: `rm '{}'`; then {what} can be made again", path.display()))
        };
        let value = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        match is_its(&value) {
            true => Ok(Some(value)),
            false => Err(damaged("it is another's".to_owned())),
        }
    }

    /// # Errors
    /// Those of unlink(2); one that is not there is none.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Reads a file of the store, never through a symlink and never from a pipe.
///
/// # Errors
/// Those of open(2) and read(2), or it is no file.
pub fn read(path: &Path, at_most: u64) -> io::Result<Vec<u8>> {
    let file = File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut text = Vec::new();
    file.take(at_most).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn world() -> (tempfile::TempDir, Records) {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::in_directory(folder.path().join("records"));
        (folder, records)
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let (_folder, records) = world();
        assert!(records.names().unwrap().is_empty() && records.read("a").unwrap().is_none());
        records.write("b", b"1", false).unwrap();
        records.write("a", b"2", false).unwrap();
        assert_eq!(records.names().unwrap(), ["a", "b"]);
        assert_eq!(records.write("a", b"3", false).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(records.read("a").unwrap().unwrap(), b"2");
        records.write("a", b"3", true).unwrap();
        assert_eq!(records.read("a").unwrap().unwrap(), b"3");
        records.remove("a").unwrap();
        records.remove("a").unwrap();
        records.remove("b").unwrap();
        assert_eq!(fs::read_dir(&records.directory).unwrap().count(), 0, "something is left");
    }

    #[test]
    fn a_damaged_record_is_named_with_the_way_out() {
        let (_folder, records) = world();
        let read = || records.value("the thing", "a", |value: &String| value == "a");
        assert_eq!(read().unwrap(), None);
        records.write("a", b"\"a\"", false).unwrap();
        assert_eq!(read().unwrap(), Some("a".to_owned()));
        for damage in ["", "\"a", "null", "\u{1}", "\"b\""] {
            records.write("a", damage.as_bytes(), true).unwrap();
            let error = read().unwrap_err();
            let path = records.path("a").display().to_string();
            assert!(
                error.message() == "cannot read the thing `a`" && error.to_string().contains(&path),
                "{error}"
            );
            assert!(error.hints()[0].contains(&format!("`rm '{path}'`")), "{damage}: {:?}", error.hints());
        }
    }

    #[test]
    fn nobody_else_reads_it() {
        let (_folder, records) = world();
        records.write("a", b"1", false).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&records.directory), 0o700);
        assert_eq!(mode(&records.path("a")), 0o600);
    }

    #[test]
    fn what_a_killed_process_left_is_removed() {
        let (_folder, records) = world();
        records.write("new.1", b"1", false).unwrap();
        let left = ["new.999999999", "new.x"].map(|name| records.directory.join(name));
        left.iter().for_each(|path| fs::write(path, "half").unwrap());
        let others = records.directory.join("new.1");
        fs::write(&others, "of init").unwrap();
        records.write("a", b"1", false).unwrap();
        assert!(left.iter().all(|path| !path.exists()) && others.exists());
        assert_eq!(records.names().unwrap(), ["a", "new.1"]);
    }

    #[test]
    fn no_link_leads_elsewhere() {
        let (_folder, records) = world();
        records.write("a", b"1", false).unwrap();
        std::os::unix::fs::symlink(records.path("a"), records.path("link")).unwrap();
        assert!(records.read("link").is_err());
    }
}
