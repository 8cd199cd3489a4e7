//! What `buildah bud` makes of a case. It is slow, so what it made is kept beside the tests' other files, under a hash of the
//! case, the base images and its version: only the first run on a machine waits for it.

use std::cell::OnceCell;
use std::fs;
use std::path::Path;

use super::bases::Bases;
use super::case::Case;
use super::image;
use super::outcome::Outcome;
use crate::harness::{Run, Sbx, forget_stale, kept, require};

/// Where it is kept.
const CACHE: &str = "buildah";
/// To be raised when facts are told in another way.
const GENERATION: u32 = 2;

/// Mount points that its RUN leaves in an image without them.
const LEFT_BY_RUN: [(&str, &str); 4] = [
    ("/etc/hostname", "file 755 0:0 \"\""),
    ("/etc/hosts", "file 755 0:0 \"\""),
    ("/etc/resolv.conf", "file 755 0:0 \"\""),
    ("/run", "directory 755 0:0"),
];
pub struct Buildah<'w> {
    world: &'w Sbx,
    bases: &'w Bases,
    version: String,
    prepared: OnceCell<()>,
}

impl<'w> Buildah<'w> {
    pub fn new(world: &'w Sbx, bases: &'w Bases) -> Self {
        require("buildah");
        let version = world.program("buildah").arg("--version").succeed();
        forget_stale(CACHE);
        Self { world, bases, version, prepared: OnceCell::new() }
    }

    pub fn build(&self, case: &Case, context: &Path) -> Outcome {
        let recipe = format!("{GENERATION} {} {} {}", self.version, self.bases.key(), case.recipe());
        kept(CACHE, &recipe, || self.build_now(case, context))
    }

    fn build_now(&self, case: &Case, context: &Path) -> Outcome {
        self.prepared.get_or_init(|| self.prepare());
        let last =
            ["-t", "made"].map(str::to_owned).into_iter().chain(case.options.iter().cloned()).collect();
        for words in case.before.iter().cloned().chain([last]) {
            // With this isolation it takes no other network than the host's.
            let build = ["bud", "--isolation", "chroot", "--format", "docker", "--pull-never"];
            let finished = self.buildah(&build).directory(context).args(words).arg(".").finish();
            if finished.code() != 0 {
                return Outcome::Failed(finished.stderr());
            }
        }
        let directory = self.world.directory().join("pushed");
        let to = format!("dir:{}", directory.display());
        self.buildah(&["push", "--quiet", "made", &to]).expect_code(0);
        let mut facts = image::of_directory(&directory);
        for (path, left) in LEFT_BY_RUN {
            if facts.get(path).is_some_and(|found| found == left) {
                facts.remove(path);
            }
        }
        fs::remove_dir_all(&directory).expect("a directory");
        Outcome::Made(facts)
    }

    /// Its storage is in the home of this world.
    fn prepare(&self) {
        let settings = self.world.home().join(".config/containers");
        fs::create_dir_all(&settings).expect("a directory");
        fs::write(settings.join("storage.conf"), "[storage]\ndriver = \"overlay\"\n").expect("a file");
        for (name, image) in &self.bases.0 {
            let to = format!("containers-storage:docker.io/library/{name}:latest");
            let copy = self.world.program("skopeo").args(["copy", "--quiet"]).env_remove("XDG_DATA_HOME");
            copy.args([image.skopeo(), to]).expect_code(0);
        }
    }

    fn buildah(&self, args: &[&str]) -> Run<'w> {
        self.world.program("buildah").env_remove("XDG_DATA_HOME").args(args)
    }
}
