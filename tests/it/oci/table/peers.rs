//! What crun and runc make of a case, kept as long as the case, what it begins with, the runtime and the kernel are the same.

use std::cell::RefCell;

use super::case::Case;
use super::runner::{Outcome, Runner};
use super::view::View;
use crate::harness::{Sbx, forget, forget_stale, kept, require, rootfs};

/// Of Debian 12: the cases tell of these and no others.
const VERSIONS: [(&str, &str); 2] = [("crun", "1.8."), ("runc", "1.1.")];
/// To be raised when facts are told in another way.
const GENERATION: u32 = 2;
const CACHE: &str = "runtimes";

pub struct Peers<'w> {
    world: &'w Sbx,
    runner: &'w Runner<'w>,
    /// All but the case and the runtime.
    surroundings: String,
    versions: [String; 2],
    view: RefCell<Option<View<'w>>>,
}

impl<'w> Peers<'w> {
    pub fn new(world: &'w Sbx, runner: &'w Runner<'w>) -> Self {
        forget_stale(CACHE);
        let [crun, runc] = VERSIONS.map(|(name, expected)| {
            require(name);
            let told = world.program(name).arg("--version").succeed();
            let version =
                told.lines().next().and_then(|line| line.split(' ').next_back()).unwrap_or_default();
            assert!(
                version.starts_with(expected),
                "the cases are stated for {name} {expected}x, and this is {version}"
            );
            told
        });
        let kernel = nix::sys::utsname::uname().expect("a kernel").release().to_string_lossy().into_owned();
        let surroundings =
            format!("{GENERATION} {kernel} {} {:?} {}", Runner::base(), runner.ids, rootfs().display());
        Self { world, runner, surroundings, versions: [crun, runc], view: RefCell::new(None) }
    }

    pub fn runc(&self, case: &Case) -> Outcome {
        self.kept(case, &self.versions[1], || {
            let shell = |line: &str| self.world.program("sh").args(["-c", line]).finish().code();
            self.runner.carry_out(case, "runc", "runc", &shell)
        })
    }

    pub fn crun(&self, case: &Case) -> Outcome {
        self.kept(case, &self.versions[0], || {
            let shell = |line: &str| {
                let mut view = self.view.borrow_mut();
                view.get_or_insert_with(|| View::new(self.world)).run(line)
            };
            self.runner.carry_out(case, "crun", "crun --cgroup-manager=disabled", &shell)
        })
    }

    /// What is wrong may be so for once: a loaded machine, a killed test.
    pub fn forget(&self, case: &Case) {
        for version in &self.versions {
            forget(CACHE, &self.recipe(case, version));
        }
    }

    fn kept(&self, case: &Case, version: &str, make: impl FnOnce() -> Outcome) -> Outcome {
        kept(CACHE, &self.recipe(case, version), make)
    }

    fn recipe(&self, case: &Case, version: &str) -> String {
        format!("{} {version} {}", self.surroundings, case.recipe())
    }
}
