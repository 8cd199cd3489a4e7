//! A world for one test: home, data and runtime directories of its own, and a mark on every process in it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use super::command::{Run, marked};
use super::images::TestImage;
use super::leftovers::Leftovers;
use super::prerequisites::{require, sbx_binary, scratch};
use super::pty::Pty;

/// Directories and environment that one test has for itself. When it is dropped, processes and mounts that
/// the test left behind fail it, unless [`Sbx::allow_leftovers`] was called; then everything is removed.
pub struct Sbx {
    directory: PathBuf,
    environment: BTreeMap<OsString, OsString>,
    mark: u64,
    leftovers_allowed: bool,
}

/// A fresh world.
pub fn sbx() -> Sbx {
    Sbx::new()
}

impl Sbx {
    pub fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("t.")
            .tempdir_in(scratch())
            .expect("cannot make the test's directory")
            .keep();
        for (name, mode) in [("home", 0o700), ("data", 0o700), ("run", 0o700), ("work", 0o755)] {
            fs::DirBuilder::new().mode(mode).create(directory.join(name)).expect("cannot make a directory");
        }
        let path = std::env::var_os("PATH").unwrap_or_else(|| {
            OsString::from("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        });
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid())
            .expect("cannot read the user database")
            .map_or_else(|| "nobody".to_owned(), |user| user.name);
        let environment = [
            ("PATH", path),
            ("HOME", directory.join("home").into()),
            ("USER", OsString::from(&user)),
            ("LOGNAME", OsString::from(&user)),
            ("LANG", "C.UTF-8".into()),
            ("TERM", "xterm".into()),
            ("XDG_DATA_HOME", directory.join("data").into()),
            ("XDG_RUNTIME_DIR", directory.join("run").into()),
        ]
        .map(|(name, value)| (OsString::from(name), value))
        .into();
        Self { directory, environment, mark: next_mark(), leftovers_allowed: false }
    }

    /// The directory that holds all others of this test.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn home(&self) -> PathBuf {
        self.directory.join("home")
    }

    /// `$XDG_RUNTIME_DIR`
    pub fn runtime(&self) -> PathBuf {
        self.directory.join("run")
    }

    /// Where sbx keeps what lasts: `$XDG_DATA_HOME/sbx`.
    pub fn store(&self) -> PathBuf {
        self.directory.join("data/sbx")
    }

    /// An empty directory, mode 0755, for what the test shows to its containers.
    pub fn work(&self) -> PathBuf {
        self.directory.join("work")
    }

    /// Writes a file below [`Sbx::work`] with mode 0644 and returns its path.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.work().join(name);
        fs::create_dir_all(path.parent().expect("a name has a parent")).expect("cannot make a directory");
        fs::write(&path, content).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        path
    }

    /// Writes an executable file below [`Sbx::work`].
    pub fn script(&self, name: &str, content: &str) -> PathBuf {
        let path = self.file(name, content);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("cannot set a mode");
        path
    }

    /// A root file system of this test's own, to be spoilt at will.
    pub fn own_rootfs(&self) -> PathBuf {
        let copy = self.directory.join("rootfs");
        let copied = Command::new("cp").arg("-a").arg(super::rootfs()).arg(&copy).output();
        let copied = copied.expect("cannot start cp");
        let said = String::from_utf8_lossy(&copied.stderr);
        assert!(copied.status.success(), "cannot copy the root file system: {}: {said}", copied.status);
        copy
    }

    /// Puts an image into the store as another tool would, under a whole name such as `docker.io/library/x:latest`.
    /// It is unpacked when it is first used.
    #[track_caller]
    pub fn put_image(&self, image: &TestImage, name: &str) {
        require("skopeo");
        fs::create_dir_all(self.store()).expect("cannot make the store");
        let to = format!("oci:{}:{name}", self.store().join("oci").display());
        let copy = self.program("skopeo").args(["copy", "--quiet", "--multi-arch", "all"]);
        copy.args([image.skopeo(), to]).expect_code(0);
    }

    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    #[must_use]
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.environment.remove(name.as_ref());
        self
    }

    /// `sbx run ARGS…`
    pub fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Run<'_> {
        self.sbx(["run"]).args(args)
    }

    /// `sbx ARGS…`
    pub fn sbx<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Run<'_> {
        self.program(sbx_binary()).args(args)
    }

    /// Any program in this world's environment.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Run<'_> {
        Run::new(self, program.as_ref())
    }

    /// `sbx ARGS…` on a terminal of 24 rows and 80 columns.
    pub fn pty<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Pty<'_> {
        let mut argv = vec![sbx_binary().into_os_string()];
        argv.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        Pty::start(self, &argv)
    }

    /// What is there now that this test started or made.
    pub fn leftovers(&self) -> Leftovers {
        Leftovers::find(self)
    }

    /// Waits a moment for what ends by itself, then fails if anything is left: processes, mounts, containers
    /// in the store, files in the runtime directory.
    pub fn assert_clean(&self) {
        let left = Leftovers::settle(self, |left| left.is_empty());
        assert!(left.is_empty(), "left behind:\n{left}");
    }

    /// For tests that kill processes of sbx: what is left when the test ends is ended silently.
    pub fn allow_leftovers(&mut self) {
        self.leftovers_allowed = true;
    }

    pub(super) fn mark(&self) -> u64 {
        self.mark
    }

    /// A command in this world: a clean environment, the work directory, and a process group of its own.
    pub(super) fn command(&self, program: &OsStr) -> Command {
        let mut command = marked(self.mark, program);
        command.env_clear().envs(&self.environment).current_dir(self.work());
        command
    }
}

impl Drop for Sbx {
    fn drop(&mut self) {
        let left = Leftovers::settle(self, |left| left.processes.is_empty() && left.mounts.is_empty());
        left.end();
        let removed = remove(&self.directory);
        if std::thread::panicking() {
            return;
        }
        if !self.leftovers_allowed {
            assert!(left.processes.is_empty() && left.mounts.is_empty(), "the test left behind:\n{left}");
        }
        removed.unwrap_or_else(|error| panic!("cannot remove {}: {error}", self.directory.display()));
    }
}

/// Files of subordinate IDs can be removed in a user namespace alone; unshare(1) is taken rather than
/// `sbx unshare`, so that a broken sbx still cleans up.
fn remove(directory: &Path) -> Result<(), String> {
    // It may be deeper than the stack of a test.
    let plain = Command::new("rm").args(["-rf", "--"]).arg(directory).output();
    if plain.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--map-auto", "rm", "-rf", "--"])
        .arg(directory)
        .output()
        .map_err(|error| format!("unshare: {error}"))?;
    if directory.exists() { Err(String::from_utf8_lossy(&output.stderr).into_owned()) } else { Ok(()) }
}

/// The mark is a soft limit on file locks, which no kernel since 2.4.25 looks at (getrlimit(2), RLIMIT_LOCKS):
/// it is inherited over fork, exec and every change of user, and anybody may read it in /proc/PID/limits.
pub(super) fn next_mark() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    (u64::from(std::process::id()) << 24) + NEXT.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_worlds_share_nothing() {
        let (one, other) = (sbx(), sbx());
        assert_ne!(one.directory(), other.directory());
        assert_ne!(one.mark(), other.mark());
    }

    #[test]
    fn the_environment_is_the_worlds_alone() {
        let world = sbx().env("ONLY", "this").env_remove("TERM");
        let output = world.program("env").expect_code(0).stdout();
        assert!(output.contains("ONLY=this\n"), "{output}");
        assert!(!output.contains("TERM=") && !output.contains("CARGO"), "{output}");
        assert!(output.contains(&format!("HOME={}\n", world.home().display())), "{output}");
    }

    #[test]
    fn a_world_goes_with_its_files() {
        let world = sbx();
        let directory = world.directory().to_owned();
        world.file("deep/below/file", "x");
        drop(world);
        assert!(!directory.exists());
    }

    #[test]
    fn files_of_subordinate_ids_are_removed() {
        let script = "mkdir -m 700 d && touch d/f && chown -R 7:7 d";
        let world = sbx();
        if nix::unistd::geteuid().is_root() {
            world.program("sh").args(["-c", script]).expect_code(0);
        } else {
            super::super::require("newuidmap");
            let argv = ["--user", "--map-root-user", "--map-auto", "sh", "-c", script];
            world.program("unshare").args(argv).expect_code(0);
            assert!(fs::read_dir(world.work().join("d")).is_err(), "the directory belongs to the caller");
        }
        let directory = world.directory().to_owned();
        drop(world);
        assert!(!directory.exists());
    }
}
