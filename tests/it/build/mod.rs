//! `sbx build`: what a Dockerfile and a context become.

mod archives;
mod blobs;
mod cache;
mod cache_elsewhere;
mod canaries;
mod configuration;
mod conformance;
mod contexts;
mod copy;
mod copy_rules;
mod downloads;
mod failures;
mod hostile;
mod interruptions;
mod layers;
mod mounts;
mod named_contexts;
mod outputs;
mod progress;
mod projects;
mod repositories;
mod reproducible;
mod run;
mod stages;

use std::fs;
use std::path::PathBuf;

use crate::harness::{Run, Sbx, images, sbx};

/// A test's own directory as context, and the image `base`.
struct Kitchen {
    world: Sbx,
}

fn kitchen() -> Kitchen {
    let world = sbx();
    world.put_image(&images().busybox(), "docker.io/library/base:latest");
    Kitchen { world }
}

impl Kitchen {
    fn context(&self) -> PathBuf {
        self.world.directory().join("work")
    }

    fn file(&self, name: &str, content: &str) -> &Self {
        let path = self.context().join(name);
        fs::create_dir_all(path.parent().expect("a file is in a directory"))
            .expect("cannot make a directory");
        // Another build may be reading it.
        if fs::read_to_string(&path).ok().as_deref() != Some(content) {
            fs::write(path, content).expect("cannot write a file");
        }
        self
    }

    /// `sbx build --network none OPTIONS CONTEXT`
    fn build(&self, dockerfile: &str, options: &[&str]) -> Run<'_> {
        self.file("Dockerfile", dockerfile);
        self.world.sbx(["build", "--network", "none"]).args(options).arg(self.context())
    }

    /// Builds the image `made`, and gives its ID.
    fn made(&self, dockerfile: &str) -> String {
        self.build(dockerfile, &["-q", "-t", "made"]).succeed()
    }

    /// What a shell in the image `made` says, without the last line end.
    fn shell(&self, script: &str) -> String {
        let script = &format!("{script}; true");
        self.world.run(["--rm", "--net", "none", "--entrypoint", "sh", "made", "-c", script]).succeed()
    }

    fn inspect(&self, image: &str, template: &str) -> String {
        self.world.sbx(["image", "inspect", "--format", template, image]).succeed()
    }

    fn layers(&self, image: &str) -> usize {
        self.inspect(image, "{{len .RootFS.Layers}}").trim().parse().expect("a number")
    }
}
