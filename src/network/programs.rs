//! The helper programs of the host: where they are and which options their version has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, Step};
pub use crate::host::programs::find;

/// A program with the long options that its `--help` names.
#[derive(Debug, Clone)]
pub struct Program {
    pub path: PathBuf,
    options: BTreeSet<String>,
}

/// What was learned about one file; worth nothing once the file is another.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    size: u64,
    modified: (i64, i64),
    options: BTreeSet<String>,
}

impl Program {
    /// Asks a program for its options, or takes the answer from `cache`, a file of ours that is written when the
    /// program is new or another. A cache that can't be read or written costs one start of the program.
    ///
    /// # Errors
    /// The program can't be started.
    pub fn probe(path: &Path, cache: &Path) -> Result<Self> {
        let metadata = path.metadata().step(|| format!("cannot look at `{}`", path.display()))?;
        let (size, modified) = (metadata.size(), (metadata.mtime(), metadata.mtime_nsec()));
        let key = path.to_string_lossy().into_owned();
        let mut entries: BTreeMap<String, Entry> =
            fs::read(cache).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        if let Some(entry) = entries.remove(&key)
            && (entry.size, entry.modified) == (size, modified)
        {
            return Ok(Self { path: path.to_owned(), options: entry.options });
        }
        let output = Command::new(path)
            .arg("--help")
            .stdin(Stdio::null())
            .output()
            .step(|| format!("cannot ask `{} --help` for its options", path.display()))?;
        if let Some(signal) = output.status.signal() {
            // What it said so far is not all that it has to say.
            return Err(Error::new(format!("cannot learn the options of `{}`", path.display()))
                .because(format!("`{} --help` was ended by signal {signal}", path.display())));
        }
        let options = long_options(&[output.stdout, output.stderr].concat());
        entries.insert(key, Entry { size, modified, options: options.clone() });
        if let Err(cause) = store(cache, &entries) {
            log::debug!("cannot keep the options of `{}` in `{}`: {cause}", path.display(), cache.display());
        }
        Ok(Self { path: path.to_owned(), options })
    }

    /// Whether this version has an option, written with its dashes.
    pub fn has(&self, option: &str) -> bool {
        self.options.contains(option)
    }

    #[cfg(test)]
    pub fn with_options(path: &str, options: &[&str]) -> Self {
        Self { path: path.into(), options: options.iter().map(|&o| o.to_owned()).collect() }
    }
}

fn store(cache: &Path, entries: &BTreeMap<String, Entry>) -> std::io::Result<()> {
    let new = cache.with_extension(format!("{}.new", std::process::id()));
    let mut file = File::create_new(&new)?;
    let written = file.write_all(&serde_json::to_vec(entries)?).and_then(|()| fs::rename(&new, cache));
    if written.is_err() {
        // The file is of no use now, and a failure to remove it says nothing new.
        let _ = fs::remove_file(&new);
    }
    written
}

fn long_options(help: &[u8]) -> BTreeSet<String> {
    String::from_utf8_lossy(help)
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
        .filter(|word| word.len() > 2 && word.starts_with("--") && !word[2..].starts_with('-'))
        .map(|word| word.trim_end_matches('-').to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn options_are_read_from_help_texts() {
        let help = b"-r, --ready-fd=FD   the FD\n--cidr=CIDR\n      --no-map-gw\t\tDon't\n-- --- a--b\n  -4, --ipv4-only";
        let options: Vec<_> = long_options(help).into_iter().collect();
        assert_eq!(options, ["--cidr", "--ipv4-only", "--no-map-gw", "--ready-fd"]);
    }

    #[test]
    fn a_program_is_asked_once_until_it_changes() {
        let folder = tempfile::tempdir().expect("a folder");
        let (program, cache) = (folder.path().join("helper"), folder.path().join("helpers.json"));
        let write = |option: &str| {
            let log = folder.path().join("asked");
            let text = format!("#!/bin/sh\necho x >> {}\necho ' --{option}'\n", log.display());
            fs::write(&program, text).expect("a script");
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("executable");
        };
        let asked = || fs::read_to_string(folder.path().join("asked")).expect("asked").lines().count();
        write("first");
        // Another test may fork while the script is open for writing (ETXTBSY): try again.
        let probe = || loop {
            match Program::probe(&program, &cache) {
                Err(error) if error.to_string().contains("busy") => {}
                outcome => break outcome.expect("an answer"),
            }
        };
        assert!(probe().has("--first"));
        assert!(probe().has("--first"));
        assert_eq!(asked(), 1);
        write("second-one");
        assert!(probe().has("--second-one") && !probe().has("--first"));
        assert_eq!(asked(), 2);
        fs::write(&cache, "{ broken").expect("a broken cache");
        assert!(probe().has("--second-one"));
        assert_eq!(asked(), 3);
    }

    #[test]
    fn only_executable_files_are_found() {
        assert!(find("sh").is_some_and(|path| path.is_absolute()));
        assert_eq!(find("no-such-program-of-any-host"), None);
    }
}
