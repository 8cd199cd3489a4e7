//! Where archives are written to.

use std::fs::File;
use std::io::IsTerminal;
use std::path::Path;

use crate::container::store::no_room;
use crate::error::{Error, Result, Step};

/// Standard output, unless that is a terminal.
pub(super) fn stdout(verb: &str) -> Result<File> {
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
pub(super) fn file(path: &Path, write: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let failed = || format!("cannot write `{}`", path.display());
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
