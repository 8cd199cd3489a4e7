//! `sbx push`

use super::{inspected, registry_of};
use crate::harness::{Fault, Faulty, Sbx, images, require, sbx};

/// The type of the first layer of an image in a registry.
fn layer_type(world: &Sbx, name: &str) -> String {
    let options = ["--insecure-policy", "inspect", "--tls-verify=false", "--raw"];
    let raw = world.program(require("skopeo")).args(options).arg(format!("docker://{name}")).expect_code(0);
    let manifest: serde_json::Value = serde_json::from_str(&raw.stdout()).expect("a manifest");
    manifest["layers"][0]["mediaType"].as_str().expect("a type").to_owned()
}

#[test]
fn a_pulled_image_arrives_byte_for_byte() {
    let world = sbx();
    let registry = registry_of(&world, &[(images().busybox_of("odd"), "test/odd:1")]);
    let other = registry_of(&world, &[]);
    let (from, to) =
        (format!("{}/test/odd:1", registry.address()), format!("{}/deep/er/odd:2", other.address()));
    world.sbx(["pull", "-q", &from]).expect_code(0);
    let digestfile = world.work().join("digest");
    let file = digestfile.display().to_string();
    let pushed = world.sbx(["push", "--digestfile", &file, &from, &to]).expect_code(0).stdout();
    let digest = inspected(&world, &format!("docker://{from}"), "{{.Digest}}");
    assert_eq!(inspected(&world, &format!("docker://{to}"), "{{.Digest}}"), digest);
    assert!(pushed.starts_with(&format!("2: digest: {digest} size: ")), "{pushed}");
    assert_eq!(std::fs::read_to_string(digestfile).unwrap(), digest);
}

#[test]
fn what_the_registry_has_is_not_sent() {
    let world = sbx();
    let registry = registry_of(&world, &[(images().busybox(), "test/busybox:1")]);
    let proxy = Faulty::before(registry.address(), |_, _| Fault::None);
    let name = format!("{}/test/busybox:1", proxy.address());
    world.sbx(["pull", "-q", &name]).expect_code(0);
    let again = world.sbx(["push", &name]).expect_code(0);
    assert!(again.stderr().contains("Already exists"), "{}", again.stderr());
    assert_eq!(proxy.count("POST"), 0);
    // Another repository of the same registry takes the blobs over.
    let other = format!("{}/test/other:1", proxy.address());
    let mounted = world.sbx(["push", &name, &other]).expect_code(0);
    assert!(mounted.stderr().contains("Mounted from another repository"), "{}", mounted.stderr());
    assert_eq!(proxy.requests().iter().filter(|line| line.starts_with("PATCH")).count(), 0);
    inspected(&world, &format!("docker://{other}"), "{{.Digest}}");
}

#[test]
fn an_unpacked_layer_is_packed_once() {
    let world = sbx();
    let registry = registry_of(&world, &[]);
    let tree = world.file("tree/file", "content ".repeat(10_000));
    let tar = world.work().join("tree.tar");
    let tree = tree.parent().unwrap().to_owned();
    world.program("tar").arg("-C").arg(&tree).arg("-cf").arg(&tar).arg(".").expect_code(0);
    let name = format!("{}/test/imported:1", registry.address());
    let tar = tar.display().to_string();
    let id = world.sbx(["import", "-q", &tar, &name]).succeed();
    let first = world.sbx(["push", &name]).expect_code(0);
    assert!(first.stderr().contains("Packed"), "{}", first.stderr());
    assert_eq!(layer_type(&world, &name), "application/vnd.oci.image.layer.v1.tar+gzip");
    // What was not packed is of no use any more.
    let kept = world.sbx(["system", "df", "--format", "{{.Type}} {{.Total}}"]).succeed();
    assert!(kept.contains("Orphans 0"), "{kept}");
    let second = world.sbx(["push", &name]).expect_code(0);
    assert!(!second.stderr().contains("Packed"), "{}", second.stderr());
    assert_eq!(first.stdout(), second.stdout());
    // It is the same image, and what came is what was pushed.
    assert_eq!(world.sbx(["image", "inspect", "--format", "{{.Id}}", &name]).succeed(), id);
    world.sbx(["rmi", "-f", &name]).expect_code(0);
    world.sbx(["pull", "-q", &name]).expect_code(0);
    assert_eq!(world.sbx(["image", "inspect", "--format", "{{.Id}}", &name]).succeed(), id);
}

#[test]
fn layers_and_manifest_are_converted_where_that_is_asked() {
    let world = sbx();
    let registry = registry_of(&world, &[(images().busybox(), "test/busybox:1")]);
    let name = format!("{}/test/busybox:1", registry.address());
    world.sbx(["pull", "-q", &name]).expect_code(0);
    for (options, tag, wanted) in [
        (
            vec!["--compression-format", "zstd", "--compression-level", "5"],
            "zstd",
            "application/vnd.oci.image.layer.v1.tar+zstd",
        ),
        (vec!["--format", "v2s2"], "docker", "application/vnd.docker.image.rootfs.diff.tar.gzip"),
    ] {
        let to = format!("{}/test/busybox:{tag}", registry.address());
        world
            .sbx(["push", "-q"])
            .args(options)
            .args([&name, &to])
            .expect_code(0)
            .stdout_is(&format!("{to}\n"));
        assert_eq!(layer_type(&world, &to), wanted);
        world.sbx(["pull", "-q", &to]).expect_code(0);
    }
    world
        .sbx(["push", "--format", "v2s2", "--compression-format", "zstd", &name])
        .expect_code(125)
        .stderr_has("which that schema does not have");
    world.sbx(["push", "--compression-level", "12", &name]).expect_code(125).stderr_has("above 9");
}

#[test]
fn every_tag_is_pushed() {
    let world = sbx();
    let registry = registry_of(&world, &[(images().busybox(), "test/busybox:1")]);
    let other = registry_of(&world, &[]);
    let name = format!("{}/test/busybox:1", registry.address());
    world.sbx(["pull", "-q", &name]).expect_code(0);
    let repository = format!("{}/all/busybox", other.address());
    world.sbx(["tag", &name, &format!("{repository}:a"), &format!("{repository}:b")]).expect_code(0);
    let pushed = world.sbx(["push", "-a", &repository]).expect_code(0).stdout();
    assert!(pushed.contains("a: digest: sha256:") && pushed.contains("b: digest: sha256:"), "{pushed}");
    inspected(&world, &format!("docker://{repository}:b"), "{{.Digest}}");
}

#[test]
fn what_cannot_be_pushed_is_explained() {
    let world = sbx();
    let registry = registry_of(&world, &[(images().busybox(), "test/busybox:1")]);
    let name = format!("{}/test/busybox:1", registry.address());
    world.sbx(["pull", "-q", &name]).expect_code(0);
    world.sbx(["push", "nothing"]).expect_code(125).stderr_has("there is no image `nothing`");
    let id = world.sbx(["images", "-q"]).succeed();
    world.sbx(["push", &id]).expect_code(125).stderr_has("cannot tell where to push");
    world
        .sbx(["push", "--retry", "0", &name, "127.0.0.1:1/x:1"])
        .expect_code(125)
        .stderr_has("cannot push to");
}
