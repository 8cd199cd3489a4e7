//! Volumes: what outlives containers, what goes with them, and what is never removed while somebody has it.

mod archives;
mod damage;
mod life;
mod mounts;
mod races;
mod verbs;

use std::fs;
use std::path::PathBuf;

use crate::harness::{Run, Sbx, TestImage, images, rootfs};

/// `sbx run --net none FLAGS… --rootfs ROOT sh -c SCRIPT`
fn keep<'w>(world: &'w Sbx, flags: &[&str], script: &str) -> Run<'w> {
    let run = world.run(["--net", "none"]).args(flags);
    run.arg("--rootfs").arg(rootfs()).args(["sh", "-c", script])
}

/// The same with `--rm`.
fn shell<'w>(world: &'w Sbx, flags: &[&str], script: &str) -> Run<'w> {
    keep(world, &[&["--rm"], flags].concat(), script)
}

/// `sbx run --rm --quiet --net none FLAGS… image sh -c SCRIPT`
fn in_image<'w>(world: &'w Sbx, flags: &[&str], script: &str) -> Run<'w> {
    world.run(["--rm", "--quiet", "--net", "none"]).args(flags).args(["image", "sh", "-c", script])
}

/// A world with an image of the name `image`.
fn with_image(image: &TestImage) -> Sbx {
    let world = crate::harness::sbx();
    world.put_image(image, "docker.io/library/image:latest");
    world
}

fn odd() -> Sbx {
    with_image(&images().busybox_of("odd"))
}

fn names(world: &Sbx) -> Vec<String> {
    world.sbx(["volume", "ls", "-q"]).succeed().lines().map(str::to_owned).collect()
}

/// The directory of a volume.
fn directory(world: &Sbx, name: &str) -> PathBuf {
    world.store().join("volumes").join(name)
}

/// What is half-made or half-removed.
fn parts(world: &Sbx) -> usize {
    fs::read_dir(world.store().join("volumes/.part")).into_iter().flatten().count()
}
