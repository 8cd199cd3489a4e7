//! `sbx rmi`, `image prune`, `system prune`

use std::process::Stdio;

use serde_json::json;

use crate::harness::{Running, Sbx, image, sbx};

fn small(world: &Sbx, name: &str) -> String {
    image().layer(|tar| tar.file("name", name)).load(world, name)
}

/// Orphans, by `system df`.
pub(super) fn orphans(world: &Sbx) -> String {
    let listed = world.sbx(["system", "df", "--format", "{{.Type}} {{.Total}}"]).succeed();
    listed.lines().find_map(|line| line.strip_prefix("Orphans ")).expect("a line for orphans").to_owned()
}

fn files(world: &Sbx, below: &str) -> usize {
    std::fs::read_dir(world.store().join(below)).into_iter().flatten().count()
}

/// A container of the image that runs until its input ends.
fn runs<'w>(world: &'w Sbx, name: &str, image: &str) -> Running<'w> {
    let name = format!("--name={name}");
    let words = ["run", "-i", &name, "--net=none", image, "sh", "-c", "echo up; cat; cat /etc/proof"];
    let mut running = world.sbx(words).stdin_from(Stdio::piped()).spawn();
    running.wait_for_stdout("up");
    running
}

#[test]
fn the_last_name_takes_the_image_along() {
    let world = sbx();
    let id = small(&world, "one:1");
    let other = small(&world, "two:1");
    world.sbx(["tag", "one:1", "one:2", "quay.io/x/one:3"]).succeed();
    assert_eq!(
        world.sbx(["rmi", "one:1", "quay.io/x/one:3"]).succeed(),
        "Untagged: one:1\nUntagged: quay.io/x/one:3"
    );
    let removed = world.sbx(["image", "rm", "one:2"]).succeed();
    let lines: Vec<&str> = removed.lines().collect();
    assert_eq!(lines[..2], ["Untagged: one:2", &format!("Deleted: sha256:{id}")]);
    assert!(lines.len() == 3 && lines[2].starts_with("Deleted: sha256:"), "its layer: {removed}");
    assert_eq!((files(&world, "oci/blobs/sha256"), files(&world, "trash")), (3, 0));
    assert_eq!(world.sbx(["images", "-q"]).succeed(), other[..12]);
    assert_eq!(orphans(&world), "0");
}

#[test]
fn an_id_takes_several_names_along_only_by_force() {
    let world = sbx();
    let id = small(&world, "a:1");
    world.sbx(["tag", "a:1", "b:1"]).succeed();
    world.sbx(["rmi", &id[..12]]).expect_code(125).stderr_has("a:1, b:1").stderr_has("-f");
    world.sbx(["rmi", "-f", &id[..12]]).expect_code(0).stdout_has("Untagged: a:1\nUntagged: b:1\nDeleted: ");
    assert_eq!(world.sbx(["images", "-q"]).succeed(), "");
}

#[test]
fn the_exit_code_tells_what_failed() {
    let world = sbx();
    world.sbx(["rmi", "nothing"]).expect_code(1).stderr_has("there is no image `nothing`");
    for option in ["--ignore", "--force"] {
        world.sbx(["rmi", option, "nothing"]).expect_code(0).stdout_is("").stderr_is("");
    }
    small(&world, "a");
    let removed = world.sbx(["rmi", "nothing", "a"]).expect_code(1).stdout_has("Untagged: a:latest");
    assert!(removed.stderr().contains("nothing"));
    image().runnable().load(&world, "used");
    world.sbx(["run", "--name=web", "--net=none", "used", "true"]).expect_code(0);
    world
        .sbx(["rmi", "used", "nothing"])
        .expect_code(2)
        .stderr_has("was made from it")
        .stderr_has("there is no image");
    world.sbx(["rmi", "used", "A B"]).expect_code(125).stderr_has("name of an image");
    world.sbx(["rmi"]).expect_code(125).stderr_has("IMAGE");
    world.sbx(["rm", "web"]).succeed();
    world.sbx(["rmi", "--all"]).expect_code(0);
    assert_eq!(world.sbx(["images", "-aq"]).succeed(), "");
}

#[test]
fn what_a_container_stands_on_stays_until_the_container_is_gone() {
    let world = sbx();
    let proof = || image().runnable().layer(|tar| tar.file("etc/proof", "still there\n"));
    proof().load(&world, "used:1");
    let mut running = runs(&world, "web", "used:1");
    for words in [&["rmi", "used:1"][..], &["rmi", "-f", "used:1"], &["rmi", "-a"]] {
        world.sbx(words).expect_code(2).stderr_has("runs on it");
    }
    world.sbx(["system", "prune", "-af"]).expect_code(0).stdout_is("Total reclaimed space: 0B\n");
    running.close_stdin();
    running.finish().code_is(0).stdout_is("up\nstill there\n");
    world.sbx(["rmi", "used:1"]).expect_code(2).stderr_has("was made from it").stderr_has("sbx rm web");
    world.sbx(["rmi", "-f", "used:1"]).expect_code(0).stdout_has("Deleted: ");
    assert_eq!(files(&world, "oci/blobs/sha256"), 0, "a container needs the layers, not the blobs");
    let key =
        std::fs::read_dir(world.store().join("layers")).expect("layers").flatten().next().expect("a key");
    let layers = || std::fs::read_dir(key.path()).into_iter().flatten().count();
    assert_eq!(layers(), 2);
    world.sbx(["rm", "web"]).succeed();
    world.sbx(["image", "prune", "-f"]).expect_code(0);
    assert_eq!(layers(), 0);
    world.assert_clean();
}

#[test]
fn prune_asks_and_takes_what_has_no_name() {
    let world = sbx();
    small(&world, "kept");
    small(&world, "moved");
    image().layer(|tar| tar.file("x", "2")).load(&world, "moved");
    let asked = world.sbx(["image", "prune"]).stdin("n\n").expect_code(0).stdout_is("");
    assert!(
        asked.stderr().contains("all dangling images") && asked.stderr().ends_with("[y/N] "),
        "{}",
        asked.stderr()
    );
    world.sbx(["image", "prune"]).expect_code(0).stdout_is("");
    let pruned = world.sbx(["image", "prune"]).stdin("y\n").expect_code(0);
    assert!(pruned.stdout().starts_with("Deleted Images:\ndeleted: sha256:"), "{}", pruned.stdout());
    assert!(pruned.stdout().contains("\n\nTotal reclaimed space: "), "{}", pruned.stdout());
    assert_eq!(
        world.sbx(["images", "--sort=repository", "--format", "{{.Repository}}"]).succeed(),
        "kept\nmoved"
    );
    world
        .sbx(["image", "prune", "-af", "--filter", "label=x"])
        .expect_code(0)
        .stdout_is("Total reclaimed space: 0B\n");
    world
        .sbx(["image", "prune", "-af", "--filter", "until=2024-01-01"])
        .expect_code(0)
        .stdout_is("Total reclaimed space: 0B\n");
    world.sbx(["image", "prune", "-f", "--filter", "reference=x"]).expect_code(125).stderr_has("until");
    world.sbx(["image", "prune", "-af"]).expect_code(0).stdout_has("untagged: kept:latest\n");
    assert_eq!((world.sbx(["images", "-aq"]).succeed().as_str(), files(&world, "oci/blobs/sha256")), ("", 0));
}

#[test]
fn system_prune_takes_containers_that_ended_and_their_images() {
    let world = sbx();
    image().runnable().with("Labels", json!({"a": "b"})).load(&world, "used");
    world
        .sbx(["run", "--name=web", "--net=none", "--label=keep", "used", "sh", "-c", "echo 1 >/f"])
        .expect_code(0);
    world
        .sbx(["system", "prune", "-af", "--filter", "label!=keep"])
        .expect_code(0)
        .stdout_has_not("Deleted Containers");
    let asked = world.sbx(["system", "prune", "-a", "--volumes"]).stdin("no").expect_code(0);
    assert!(
        asked.stderr().contains("all stopped containers") && asked.stderr().contains("volumes"),
        "{}",
        asked.stderr()
    );
    let id = world.sbx(["ps", "-aq", "--no-trunc"]).succeed();
    let pruned = world.sbx(["system", "prune", "-af"]).expect_code(0).stdout();
    assert!(
        pruned.starts_with(&format!("Deleted Containers:\n{id}\n\nDeleted Images:\nuntagged: used:latest\n")),
        "{pruned}"
    );
    assert!(pruned.contains("MB\n"), "{pruned}");
    world.assert_clean();
    assert_eq!(orphans(&world), "0");
}

#[test]
fn files_left_for_the_next_prune_are_orphans() {
    let world = sbx();
    small(&world, "a");
    world.sbx(["rmi", "--no-prune", "a"]).expect_code(0);
    assert_eq!(orphans(&world), "4", "three blobs and a layer");
    world.sbx(["image", "prune", "-f"]).expect_code(0).stdout_has("deleted: sha256:");
    assert_eq!(orphans(&world), "0");
}
