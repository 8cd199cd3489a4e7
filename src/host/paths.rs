//! Where things are kept: the store and the runtime directory, decided from the environment and then made
//! with mode 0700 and checked through descriptors, because /tmp is everybody's.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags};

use crate::error::{Error, Result, Step};

/// What the decisions depend on.
#[derive(Debug, Clone)]
pub struct Surroundings {
    pub sbx_root: Option<OsString>,
    pub xdg_data_home: Option<OsString>,
    pub home: Option<OsString>,
    pub xdg_runtime_dir: Option<OsString>,
    /// The effective user: the one who will own what is made.
    pub uid: u32,
    pub passwd: PathBuf,
    pub tmp: PathBuf,
}

impl Surroundings {
    pub fn current() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            sbx_root: variable("SBX_ROOT"),
            xdg_data_home: variable("XDG_DATA_HOME"),
            home: variable("HOME"),
            xdg_runtime_dir: variable("XDG_RUNTIME_DIR"),
            uid: rustix::process::geteuid().as_raw(),
            passwd: PathBuf::from("/etc/passwd"),
            tmp: PathBuf::from("/tmp"),
        }
    }
}

/// The caller's home: $HOME where it is absolute, else the entry of /etc/passwd.
///
/// # Errors
/// Neither names one.
pub fn home(surroundings: &Surroundings) -> Result<PathBuf> {
    if let Some(home) = absolute(surroundings.home.as_ref()) {
        return Ok(home);
    }
    let passwd = fs::read_to_string(&surroundings.passwd).unwrap_or_default();
    home_in_passwd(&passwd, surroundings.uid).ok_or_else(|| {
        let cause = match &surroundings.home {
            Some(home) => format!("HOME is not an absolute path: `{}`", home.display()),
            None => "HOME is not set".to_owned(),
        };
        Error::new("cannot find the home directory")
            .because(format!(
                "{cause}, and {} has no entry for user {}",
                surroundings.passwd.display(),
                surroundings.uid
            ))
            .hint("set HOME, or name a directory for the store with `--root DIR` or SBX_ROOT")
    })
}

fn home_in_passwd(passwd: &str, uid: u32) -> Option<PathBuf> {
    let uid = uid.to_string();
    passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&uid.as_str()))
        .and_then(|fields| fields.get(5).map(PathBuf::from))
        .filter(|home| home.is_absolute())
}

/// The directory of the store: `--root` (or SBX_ROOT), $XDG_DATA_HOME/sbx, ~/.local/share/sbx. A relative
/// XDG_DATA_HOME is invalid and passed over (XDG Base Directory Specification). Nothing is made.
///
/// # Errors
/// There is no home, or a relative `--root` and no working directory; the store is in the hands of others.
pub fn store(root: Option<&Path>, surroundings: &Surroundings) -> Result<PathBuf> {
    let store = store_path(root, surroundings)?;
    // Its records say which processes to end and what to remove. A directory of root's may be for all, as the
    // root of a tmpfs is; what sbx has made in it is the caller's.
    let made = ["containers", "layers", "leases", "names", "oci", "pods", "running", "secrets", "trash"]
        .map(|part| store.join(part));
    for (path, may_be_roots) in std::iter::once((&store, true)).chain(made.iter().map(|path| (path, false))) {
        let Ok(owner) = fs::symlink_metadata(path).map(|metadata| metadata.uid()) else { continue };
        if owner != surroundings.uid && !(may_be_roots && owner == 0) {
            return Err(Error::new(format!("refusing to keep containers in `{}`", store.display()))
                .because(format!("`{}` belongs to user {owner}", path.display()))
                .hint(
                    "name a directory of your own with `--root DIR` or SBX_ROOT; `sudo -H` sets HOME, too",
                ));
        }
    }
    Ok(store)
}

fn store_path(root: Option<&Path>, surroundings: &Surroundings) -> Result<PathBuf> {
    if let Some(root) = root.or(surroundings.sbx_root.as_deref().map(Path::new)) {
        return std::path::absolute(root)
            .step(|| format!("cannot make `{}` an absolute path", root.display()));
    }
    if let Some(data) = absolute(surroundings.xdg_data_home.as_ref()) {
        return Ok(data.join("sbx"));
    }
    Ok(home(surroundings)?.join(".local/share/sbx"))
}

/// The runtime directory, decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    pub path: PathBuf,
    /// Why it isn't below XDG_RUNTIME_DIR.
    pub note: Option<String>,
}

/// $XDG_RUNTIME_DIR/sbx where that belongs to the caller alone, else /tmp/sbx-UID. Nothing is made.
///
/// # Errors
/// /tmp/sbx-UID has to be taken and belongs to somebody else.
pub fn runtime(surroundings: &Surroundings) -> Result<Runtime> {
    let uid = surroundings.uid;
    let unfit = match &surroundings.xdg_runtime_dir {
        None => "XDG_RUNTIME_DIR is not set".to_owned(),
        Some(given) => match unfit(Path::new(given), uid) {
            None => return Ok(Runtime { path: Path::new(given).join("sbx"), note: None }),
            Some(reason) => format!("XDG_RUNTIME_DIR={} {reason}", given.display()),
        },
    };
    let path = surroundings.tmp.join(format!("sbx-{uid}"));
    match fs::symlink_metadata(&path) {
        Ok(metadata) => check_owned(&path, metadata.is_dir(), metadata.uid(), uid)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::new(format!("cannot use `{}`", path.display())).because(error)),
    }
    let note = Some(format!("{unfit}: the runtime directory is {}", path.display()));
    Ok(Runtime { path, note })
}

/// Why a directory can't be the caller's XDG_RUNTIME_DIR (after `su`, in cron, over ssh).
fn unfit(directory: &Path, uid: u32) -> Option<String> {
    if !directory.is_absolute() {
        return Some("is not an absolute path".to_owned());
    }
    let metadata = match fs::metadata(directory) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some("does not exist".to_owned()),
        Err(_) => return Some("cannot be read".to_owned()),
    };
    if !metadata.is_dir() {
        return Some("is not a directory".to_owned());
    }
    if metadata.uid() != uid {
        return Some(format!("belongs to user {}", metadata.uid()));
    }
    if metadata.mode() & 0o022 != 0 {
        return Some("can be written by others".to_owned());
    }
    let writable = rustix::fs::accessat(CWD, directory, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS);
    writable.err().map(|_| "cannot be written".to_owned())
}

fn check_owned(path: &Path, is_directory: bool, owner: u32, uid: u32) -> Result<()> {
    let problem = if owner != uid {
        format!("it belongs to user {owner}")
    } else if !is_directory {
        "it is not a directory".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::new(format!("refusing to use `{}`", path.display()))
        .because(problem)
        .hint("set XDG_RUNTIME_DIR to a directory that belongs to you alone, or have that path removed"))
}

/// Makes the store's directory and those above it, mode 0700.
///
/// # Errors
/// Those of mkdir(2).
pub fn create_store(store: &Path) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(store).map_err(|cause| {
        Error::new(format!("cannot make the store `{}`", store.display()))
            .because(cause)
            .hint("name a directory of your own with `--root DIR` or SBX_ROOT")
    })
}

/// Makes the runtime directory with mode 0700, or takes the one that is there, and returns it opened.
/// Symlinks and directories of others are refused: the checks are made on the descriptor that is returned.
///
/// # Errors
/// It can't be made, or it isn't a directory of the caller.
pub fn create_runtime(runtime: &Path, uid: u32) -> Result<OwnedFd> {
    let cannot = || format!("cannot make the runtime directory `{}`", runtime.display());
    let (Some(parent), Some(name)) = (runtime.parent(), runtime.file_name()) else {
        return Err(Error::new(cannot()).because("it has no directory above it"));
    };
    let directory = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = rustix::fs::openat(CWD, parent, directory | OFlags::PATH, Mode::empty()).step(cannot)?;
    match rustix::fs::mkdirat(&parent, name, Mode::RWXU) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(Error::new(cannot()).because(error)),
    }
    let found = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).step(cannot)?;
    let is_directory = rustix::fs::FileType::from_raw_mode(found.st_mode).is_dir();
    check_owned(runtime, is_directory, found.st_uid, uid)?;
    let opened =
        rustix::fs::openat(&parent, name, directory | OFlags::NOFOLLOW, Mode::empty()).step(cannot)?;
    let status = rustix::fs::fstat(&opened).step(cannot)?;
    check_owned(runtime, true, status.st_uid, uid)?;
    if status.st_mode & 0o077 != 0 {
        rustix::fs::fchmod(&opened, Mode::RWXU).step(cannot)?;
    }
    Ok(opened)
}

/// The path itself where it exists, else the nearest directory above it that does: where a store that isn't
/// made yet will lie.
pub fn nearest_existing(path: &Path) -> &Path {
    path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"))
}

fn absolute(value: Option<&OsString>) -> Option<PathBuf> {
    value.map(PathBuf::from).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn surroundings(dir: &Path) -> Surroundings {
        let passwd = dir.join("passwd");
        fs::write(&passwd, "root:x:0:0::/root:/bin/sh\nbroken\nada:x:4242:1::/home/ada:/bin/sh\n").unwrap();
        Surroundings {
            sbx_root: None,
            xdg_data_home: None,
            home: Some("/home/h".into()),
            xdg_runtime_dir: None,
            uid: rustix::process::geteuid().as_raw(),
            passwd,
            tmp: dir.to_owned(),
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn the_store_is_where_the_first_of_root_data_home_and_home_says() {
        let dir = tempfile::tempdir().unwrap();
        let mut s = surroundings(dir.path());
        assert_eq!(store(None, &s).unwrap(), Path::new("/home/h/.local/share/sbx"));
        s.xdg_data_home = Some("/data".into());
        assert_eq!(store(None, &s).unwrap(), Path::new("/data/sbx"));
        s.xdg_data_home = Some("relative".into());
        assert_eq!(store(None, &s).unwrap(), Path::new("/home/h/.local/share/sbx"));
        s.sbx_root = Some("/sbx".into());
        assert_eq!(store(None, &s).unwrap(), Path::new("/sbx"));
        assert_eq!(store(Some(Path::new("/flag")), &s).unwrap(), Path::new("/flag"));
        let here = std::env::current_dir().unwrap();
        assert_eq!(store(Some(Path::new("./x")), &s).unwrap(), here.join("x"));
    }

    #[test]
    fn a_store_in_the_hands_of_others_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut s = surroundings(dir.path());
        assert_eq!(store(Some(dir.path()), &s).unwrap(), dir.path());
        fs::create_dir(dir.path().join("running")).unwrap();
        assert_eq!(store(Some(dir.path()), &s).unwrap(), dir.path());
        s.uid += 1;
        let error = store(Some(dir.path()), &s).unwrap_err().to_string();
        assert!(error.contains("belongs to user"), "{error}");
    }

    #[test]
    fn a_missing_or_relative_home_is_looked_up_in_passwd() {
        let dir = tempfile::tempdir().unwrap();
        let mut s = surroundings(dir.path());
        s.uid = 4242;
        for unfit in [None, Some("relative".into())] {
            s.home = unfit;
            assert_eq!(home(&s).unwrap(), Path::new("/home/ada"));
        }
        s.uid = 4243;
        let error = home(&s).unwrap_err();
        assert!(error.to_string().contains("HOME is not an absolute path: `relative`"), "{error}");
        assert!(error.hints()[0].contains("--root"));
    }

    #[test]
    fn the_runtime_directory_lies_below_xdg_runtime_dir_if_that_is_the_callers() {
        let dir = tempfile::tempdir().unwrap();
        let mut s = surroundings(dir.path());
        s.xdg_runtime_dir = Some(dir.path().into());
        assert_eq!(runtime(&s).unwrap(), Runtime { path: dir.path().join("sbx"), note: None });
    }

    #[test]
    fn each_unfit_xdg_runtime_dir_is_named_and_stepped_down_from() {
        let dir = tempfile::tempdir().unwrap();
        let mut s = surroundings(dir.path());
        let fallback = dir.path().join(format!("sbx-{}", s.uid));
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        let cases = [
            (None, "is not set"),
            (Some(OsString::from("run")), "not an absolute path"),
            (Some(dir.path().join("none").into()), "does not exist"),
            (Some(dir.path().join("passwd").into()), "is not a directory"),
            (Some(open.into()), "can be written by others"),
        ];
        for (given, reason) in cases {
            s.xdg_runtime_dir = given;
            let runtime = runtime(&s).unwrap();
            assert_eq!(runtime.path, fallback);
            let note = runtime.note.unwrap();
            assert!(note.contains(reason), "{note}");
        }
        assert!(!fallback.exists(), "deciding makes nothing");
    }

    #[test]
    fn a_runtime_dir_of_another_user_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let mut s = surroundings(dir.path());
        let owner = s.uid;
        s.uid += 1;
        s.xdg_runtime_dir = Some(dir.path().into());
        let runtime = runtime(&s).unwrap();
        assert!(runtime.note.unwrap().contains(&format!("belongs to user {owner}")));
    }

    #[test]
    fn a_fallback_that_belongs_to_somebody_else_or_is_a_symlink_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut s = surroundings(dir.path());
        let fallback = dir.path().join(format!("sbx-{}", s.uid));
        std::os::unix::fs::symlink(dir.path(), &fallback).unwrap();
        assert!(runtime(&s).unwrap_err().to_string().contains("is not a directory"));
        assert!(create_runtime(&fallback, s.uid).unwrap_err().to_string().contains("is not a directory"));
        let owner = s.uid;
        s.uid += 1;
        fs::create_dir(dir.path().join(format!("sbx-{}", s.uid))).unwrap();
        let error = runtime(&s).unwrap_err().to_string();
        assert!(error.contains(&format!("belongs to user {owner}")), "{error}");
        let error =
            create_runtime(&dir.path().join(format!("sbx-{}", s.uid)), s.uid).unwrap_err().to_string();
        assert!(error.contains(&format!("belongs to user {owner}")), "{error}");
    }

    #[test]
    fn directories_are_made_for_the_caller_alone_and_loose_ones_are_tightened() {
        let dir = tempfile::tempdir().unwrap();
        let uid = rustix::process::geteuid().as_raw();
        let path = dir.path().join("run");
        create_runtime(&path, uid).unwrap();
        assert_eq!(mode(&path), 0o700);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        create_runtime(&path, uid).unwrap();
        assert_eq!(mode(&path), 0o700);
        let store = dir.path().join("a/b/sbx");
        create_store(&store).unwrap();
        create_store(&store).unwrap();
        assert_eq!(mode(&store), 0o700);
        assert_eq!(nearest_existing(&store.join("x/y")), store);
    }
}
