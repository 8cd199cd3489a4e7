//! Debian's rootless podman with a storage of the test's own and the image `busybox` in it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::PathBuf;

use super::command::Run;
use super::images::images;
use super::leftovers::Leftovers;
use super::prerequisites::{require, sbx_binary};
use super::pty::Pty;
use super::world::{Sbx, sbx};

pub struct Podman {
    pub world: Sbx,
    /// The image's ID.
    pub image: String,
    runtime: PathBuf,
}

impl Podman {
    /// With Debian's runc as its runtime.
    #[track_caller]
    pub fn new() -> Self {
        Self::with_runtime(require("runc"))
    }

    /// With sbx, as `--runtime` names it.
    #[track_caller]
    pub fn above_sbx() -> Self {
        Self::with_runtime(sbx_binary())
    }

    #[track_caller]
    pub fn with_runtime(runtime: PathBuf) -> Self {
        let mut world = sbx();
        // It keeps a process that holds its user namespace.
        world.allow_leftovers();
        let configuration = world.home().join(".config/containers");
        fs::create_dir_all(&configuration).expect("a directory");
        let storage = world.directory().join("podman");
        for (name, text) in [
            (
                "storage.conf",
                format!(
                    "[storage]\ndriver = \"vfs\"\ngraphroot = \"{0}/storage\"\nrunroot = \"{0}/run\"\n",
                    storage.display()
                ),
            ),
            ("policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#.to_owned()),
            // Locks in shared memory would be those of all tests.
            (
                "containers.conf",
                "[engine]\nevents_logger = \"file\"\ncgroup_manager = \"cgroupfs\"\nlock_type = \"file\"\n"
                    .to_owned(),
            ),
        ] {
            fs::write(configuration.join(name), text).expect("a file");
        }
        let mut podman = Self { world, image: String::new(), runtime };
        let pulled = podman.podman(["pull", "--quiet", &images().busybox().skopeo()]);
        podman.image = pulled.expect_code(0).stdout().trim().to_owned();
        podman
    }

    /// `podman --runtime … WORDS…`
    pub fn podman<A: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = A>) -> Run<'_> {
        self.world.program(require("podman")).arg("--runtime").arg(&self.runtime).args(words)
    }

    /// `podman run OPTIONS… IMAGE sh -ec SCRIPT` without a network.
    pub fn sh(&self, options: &[&str], script: &str) -> Run<'_> {
        let run = self.podman(["run", "--network", "none"]).args(options);
        run.arg(&self.image).args(["sh", "-ec", script])
    }

    /// The same in the background.
    #[track_caller]
    pub fn start(&self, options: &[&str], script: &str) {
        let options: Vec<&str> = ["--detach"].iter().chain(options).copied().collect();
        self.sh(&options, script).expect_code(0);
    }

    /// `podman … WORDS…` on a terminal.
    pub fn pty(&self, words: &[&str]) -> Pty<'_> {
        let mut argv: Vec<OsString> =
            vec![require("podman").into(), "--runtime".into(), self.runtime.clone().into()];
        argv.extend(words.iter().map(OsString::from));
        Pty::start(&self.world, &argv)
    }

    /// Fails if a container, a process or a state of sbx is there that podman does not keep for itself.
    #[track_caller]
    pub fn assert_clean(&self) {
        self.podman(["ps", "--all", "--quiet"]).expect_code(0).stdout_is("");
        let its_own = |command: &str| ["catatonit", "podman"].iter().any(|name| command.starts_with(name));
        let left = Leftovers::settle(&self.world, |left| {
            left.processes.iter().all(|process| its_own(&process.command))
        });
        let others: Vec<_> = left.processes.iter().filter(|process| !its_own(&process.command)).collect();
        assert!(others.is_empty(), "left behind:\n{left}");
        let states = fs::read_dir(self.world.runtime().join("sbx/oci"));
        assert_eq!(states.map_or(0, Iterator::count), 0, "states are left behind");
    }
}
