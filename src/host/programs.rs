//! Finds helper programs: in PATH, and where distributions put them, because cron and ssh give a poor PATH.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const WELL_KNOWN: &[&str] = &["/usr/local/bin", "/usr/bin", "/usr/sbin", "/bin", "/sbin"];

/// The first executable file of that name in [`directories`]. No process is started.
pub fn find(name: &str) -> Option<PathBuf> {
    find_in(&directories(), name)
}

/// The first executable file of that name in these directories.
pub fn find_in(directories: &[PathBuf], name: &str) -> Option<PathBuf> {
    directories.iter().map(|directory| directory.join(name)).find(|file| is_executable(file))
}

/// Where programs are looked for: PATH, then the well-known directories.
pub fn directories() -> Vec<PathBuf> {
    directories_of(std::env::var_os("PATH").as_deref(), WELL_KNOWN.iter().map(Path::new))
}

/// Relative entries of `path` are passed over: what they mean depends on the working directory, which may be
/// anybody's.
fn directories_of<'a>(path: Option<&'a OsStr>, well_known: impl Iterator<Item = &'a Path>) -> Vec<PathBuf> {
    let listed = path.map(OsStr::as_bytes).unwrap_or_default().split(|b| *b == b':');
    let listed = listed.map(|entry| Path::new(OsStr::from_bytes(entry)));
    let mut directories: Vec<PathBuf> = Vec::new();
    for directory in listed.filter(|directory| directory.is_absolute()).chain(well_known) {
        if !directories.iter().any(|known| known == directory) {
            directories.push(directory.to_owned());
        }
    }
    directories
}

/// A regular file that the effective user may execute.
pub fn is_executable(file: &Path) -> bool {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    file.is_file() && accessat(CWD, file, Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn program(directory: &Path, mode: u32) -> PathBuf {
        fs::create_dir_all(directory).unwrap();
        let file = directory.join("helper");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn path_comes_before_the_well_known_directories() {
        let dir = tempfile::tempdir().unwrap();
        let listed = program(&dir.path().join("listed"), 0o755);
        program(&dir.path().join("known"), 0o755);
        let known = dir.path().join("known");
        let path = dir.path().join("listed");
        let found =
            find_in(&directories_of(Some(path.as_os_str()), std::iter::once(known.as_path())), "helper");
        assert_eq!(found, Some(listed));
    }

    #[test]
    fn a_poor_path_is_made_up_for() {
        let dir = tempfile::tempdir().unwrap();
        let known = program(&dir.path().join("known"), 0o755);
        let directory = dir.path().join("known");
        for path in [None, Some(OsStr::new("")), Some(OsStr::new("/nonexistent"))] {
            let directories = directories_of(path, std::iter::once(directory.as_path()));
            assert_eq!(find_in(&directories, "helper"), Some(known.clone()));
        }
    }

    #[test]
    fn files_without_the_executable_bit_and_relative_entries_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        program(dir.path(), 0o644);
        assert_eq!(find_in(&[dir.path().to_owned()], "helper"), None);
        assert!(directories_of(Some(OsStr::new("src:.:")), std::iter::empty()).is_empty());
    }
}
