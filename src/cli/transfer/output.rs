//! Where archives are written to.

use std::fs::File;
use std::io::IsTerminal;
use std::path::Path;

use crate::container::store::no_room;
use crate::error::{Error, Result, Step};

/// Standard output, unless that is a terminal.
pub(crate) fn stdout(verb: &str) -> Result<File> {
    let stdout = std::io::stdout();
    if stdout.is_terminal() {
        return Err(Error::new(format!("cowardly refusing to {verb} to a terminal"))
            .hint("name a file with `-o FILE`, or redirect the output"));
    }
    let owned = std::os::fd::AsFd::as_fd(&stdout).try_clone_to_owned();
    owned.map(File::from).step(|| "cannot write to standard output")
}

/// Has a file written that appears when it is whole. What is there and is no file (a pipe, /dev/null) is written
/// to.
pub(crate) fn file(path: &Path, write: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let failed = || format!("cannot write `{}`", path.display());
    // What a symlink leads to is replaced, as any file is; written into, it would keep its old end.
    let behind = path.canonicalize().ok().filter(|behind| path.is_symlink() && behind.is_file());
    let path = behind.as_deref().unwrap_or(path);
    if path.symlink_metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return write(&mut File::options().write(true).open(path).step(failed)?);
    }
    let name = path.file_name().ok_or_else(|| Error::new(failed()).because("it has no name"))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(temporary);
    let mut file = File::create_new(&temporary).map_err(|error| no_room(error, failed()))?;
    let rename = || std::fs::rename(&temporary, path).map_err(|error| no_room(error, failed()));
    write(&mut file).and_then(|()| rename()).inspect_err(|_| {
        let _ = std::fs::remove_file(&temporary);
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn an_old_file_is_replaced_as_a_whole_also_behind_a_symlink() {
        let directory = tempfile::tempdir().unwrap();
        let (old, link) = (directory.path().join("old"), directory.path().join("link"));
        std::os::unix::fs::symlink("old", &link).unwrap();
        for path in [&old, &link] {
            std::fs::write(&old, "much longer than what comes").unwrap();
            file(path, |_| Err(Error::new("no"))).unwrap_err();
            assert_eq!(std::fs::read_to_string(&old).unwrap(), "much longer than what comes");
            file(path, |file| file.write_all(b"new").step(|| "x")).unwrap();
            assert_eq!(std::fs::read_to_string(&old).unwrap(), "new");
            assert!(link.is_symlink());
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
        }
    }
}
