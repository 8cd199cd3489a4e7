//! How the files of the store are made, written and cleared away.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use crate::layers::remove;
use serde::Serialize;

/// For the user alone; one that is there is left as it is.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.mode(0o700);
    match builder.create(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => builder.recursive(true).create(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

/// Removes what lies where a file of the store should: never through a symlink.
pub(super) fn clear_away(path: &Path) {
    if let Err(error) = remove::own(path) {
        log::warn!("cannot remove `{}`, which is no file of sbx: {error}", path.display());
    }
}

/// A file appears whole under its name, or not at all.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let text = serde_json::to_vec(value)?;
    let mut options = File::options();
    options.write(true).create(true).truncate(true).custom_flags(libc::O_NOFOLLOW);
    let written = options
        .open(&temporary)
        .and_then(|mut file| file.write_all(&text))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// On a full disk there is no room for a second file, but that of the first is ours: it is written over
/// where the new text is no longer.
pub(super) fn write_over(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let file = File::options().write(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
    let room = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    let mut text = serde_json::to_vec(value)?;
    if text.len() > room {
        return Err(io::Error::from(io::ErrorKind::StorageFull));
    }
    text.resize(room, b' ');
    file.write_all_at(&text, 0)
}

/// The names that are text; none where there is no such directory.
pub(super) fn names_in(directory: &Path) -> Vec<String> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}
