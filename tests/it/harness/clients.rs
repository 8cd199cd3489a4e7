//! The programs that drive podman or docker, as `scripts/test-clients` installs them, and sbx under those names.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::command::Run;
use super::prerequisites::sbx_binary;
use super::world::{Sbx, sbx};

/// A world in which `podman`, `docker` and `sbx` are the sbx under test, and the first on the PATH.
pub fn sbx_by_all_names() -> Sbx {
    let world = sbx();
    for name in ["sbx", "podman", "docker"] {
        world.name(name);
    }
    let path = format!(
        "{}:{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        world.directory().join("names").display(),
        directory().join("bin").display()
    );
    world.env("PATH", path)
}

impl Sbx {
    /// sbx as it is called by another name: `podman` or `docker`.
    pub fn called<'w>(&'w self, name: &str, args: &[&str]) -> Run<'w> {
        self.program(self.name(name)).args(args)
    }

    /// sbx by another name.
    fn name(&self, name: &str) -> PathBuf {
        let names = self.directory().join("names");
        std::fs::create_dir_all(&names).expect("a directory");
        let link = names.join(name);
        if !link.exists() {
            symlink(sbx_binary(), &link).expect("a symlink");
        }
        link
    }

    /// A client: podman-compose, devcontainer, python (with cibuildwheel).
    #[track_caller]
    pub fn client(&self, name: &str) -> Run<'_> {
        self.program(program(name))
    }
}

#[track_caller]
pub fn program(name: &str) -> PathBuf {
    let program = directory().join("bin").join(name);
    assert!(program.exists(), "{} is missing: run `scripts/test-clients`", program.display());
    program
}

/// `SBX_TEST_CLIENTS`, else the newest that root has installed.
#[track_caller]
fn directory() -> &'static Path {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = FOUND.get_or_init(|| match std::env::var_os("SBX_TEST_CLIENTS") {
        Some(path) => Some(path.into()),
        None => super::newest_below(Path::new("/var/cache/sbx-test-clients"), "bin/devcontainer"),
    });
    match found.as_ref().filter(|path| path.join("bin/devcontainer").exists()) {
        Some(directory) => directory,
        None => panic!(
            "the clients for the tests are missing: run `scripts/test-clients` and set SBX_TEST_CLIENTS to what it prints"
        ),
    }
}
