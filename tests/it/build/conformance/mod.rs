//! Small Dockerfiles, one case a file in `tests/dockerfiles/GROUP/`: what sbx makes of each is what buildah makes of it, or
//! what the quoted sentence of the Dockerfile reference says.
//!
//! `SBX_TEST_CASE=WORD` narrows a group to the cases with this in their names, and prints what both make of them.

mod bases;
mod case;
mod image;
mod outcome;
mod reference;

use bases::Bases;
use case::Case;
use outcome::Outcome;
use reference::Buildah;

use crate::harness::cases::{self, groups};
use crate::harness::{Sbx, images, sbx};

groups! {
    "tests/dockerfiles":
    arguments configuration env_and_labels expansion forms heredocs ignore onbuild parser stages
    copy_destinations copy_from copy_ownership copy_patterns copy_symlinks run_layers
}

/// Builds all cases of a group with both, and fails with everything that is wrong.
fn check(group: &str) {
    let wanted = cases::wanted();
    let world = sbx();
    let bases = Bases::new(&world);
    for (name, image) in &bases.0 {
        world.put_image(image, &format!("docker.io/library/{name}:latest"));
    }
    let base = image::of_layout(&images().busybox().layout, "latest");
    let buildah = Buildah::new(&world, &bases);
    let mut wrong = Vec::new();
    for path in cases::files("tests/dockerfiles", group) {
        let case = Case::read(&path);
        let context = case.lay_out(&world);
        let ours = build(&world, &case, &context);
        let theirs = buildah.build(&case, &context);
        if wanted.is_some() {
            let (ours, theirs) = (ours.shown(&base), theirs.shown(&base));
            eprintln!("--- {group}/{}: sbx\n{ours}\n--- buildah\n{theirs}", case.name);
        }
        let problems = case.judge(&ours, &theirs, &base);
        if !problems.is_empty() {
            wrong.push(format!("{group}/{}: {}", case.name, problems.join("\n    ")));
        }
    }
    cases::none_is_wrong(&wrong);
}

/// What sbx makes of a case.
fn build(world: &Sbx, case: &Case, context: &std::path::Path) -> Outcome {
    let tag = format!("made-{}", case.name);
    let last = ["-t".to_owned(), tag.clone()].into_iter().chain(case.options.iter().cloned()).collect();
    for words in case.before.iter().cloned().chain([last]) {
        let command = world.sbx(["build", "-q", "--network", "none", "--format", "docker"]);
        let finished = command.directory(context).args(words).arg(".").finish();
        match finished.code() {
            0 => {}
            // That of a command, or 125.
            1..=127 => return Outcome::Failed(finished.stderr()),
            code => panic!("{}: sbx ended with {code}: {}", case.name, finished.stderr()),
        }
    }
    Outcome::Made(image::of_layout(&world.store().join("oci"), &format!("/{tag}:latest")))
}
