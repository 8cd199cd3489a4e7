//! Whole images on their way: between registries, archives and the store.

mod archives;
mod crashes;
mod exports;
mod imports;
mod pulls;
mod pushes;

use std::path::{Path, PathBuf};

use crate::harness::{Registry, Sbx, TestImage, require};

/// A registry that has these images under these names (`test/busybox:1`).
fn registry_of(world: &Sbx, images: &[(TestImage, &str)]) -> Registry {
    let registry = Registry::start();
    for (image, name) in images {
        let target = format!("docker://{}/{name}", registry.address());
        let copy = world.program(require("skopeo"));
        let options = ["--insecure-policy", "copy", "--quiet", "--all", "--dest-tls-verify=false"];
        copy.args(options).arg(image.skopeo()).arg(target).expect_code(0);
    }
    registry
}

/// What `skopeo inspect` says of a place, by a template.
fn inspected(world: &Sbx, place: &str, template: &str) -> String {
    let options = ["--insecure-policy", "inspect", "--tls-verify=false", "--format", template];
    let said = world.program(require("skopeo")).args(options).arg(place).expect_code(0).stdout();
    said.trim().to_owned()
}

/// The names of the files below a directory of the store.
fn files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The directories of unpacked layers of a world's one tier, visible ones and others.
fn layers(world: &Sbx) -> Vec<String> {
    let tiers = files(&world.store().join("layers"));
    assert!(tiers.len() <= 1, "more than one tier: {tiers:?}");
    tiers.first().map(|tier| files(&world.store().join("layers").join(tier))).unwrap_or_default()
}

fn partial(world: &Sbx) -> Vec<String> {
    files(&world.store().join("oci/partial"))
}

/// The root of the lowest layer of a pulled image of busybox has its shell.
fn has_shell(world: &Sbx) -> bool {
    let store = world.store().join("layers");
    let tier = store.join(files(&store).first().expect("a tier"));
    layers(world).iter().any(|layer| {
        let shell: PathBuf = tier.join(layer).join("fs/bin/sh");
        shell.symlink_metadata().is_ok()
    })
}
