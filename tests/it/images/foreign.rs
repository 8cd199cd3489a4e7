//! The store under the hands of other tools, and of strangers.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::harness::{Sbx, image, require, sbx};

fn skopeo(world: &Sbx, from: &str, to: &str) {
    require("skopeo");
    world
        .program("skopeo")
        .args(["copy", "--insecure-policy", "--preserve-digests", "-q", from, to])
        .expect_code(0);
}

fn ours(world: &Sbx, name: &str) -> String {
    format!("oci:{}:{name}", world.store().join("oci").display())
}

fn manifest_of(layout: &Path, name: &str) -> String {
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(layout.join("index.json")).expect("an index")).expect("JSON");
    let manifests = index["manifests"].as_array().expect("descriptors");
    let named =
        |entry: &&serde_json::Value| entry["annotations"]["org.opencontainers.image.ref.name"] == name;
    manifests.iter().find(named).expect("the name")["digest"].as_str().expect("a digest").to_owned()
}

#[test]
fn skopeo_reads_what_is_in_the_store() {
    let world = sbx();
    image().runnable().load(&world, "tool:1");
    let target = world.work().join("copy");
    skopeo(&world, &ours(&world, "docker.io/library/tool:1"), &format!("oci:{}:x", target.display()));
    let digest = world.sbx(["image", "inspect", "-f", "{{.Digest}}", "tool:1"]).succeed();
    assert_eq!(manifest_of(&target, "x"), digest, "byte by byte");
}

#[test]
fn what_skopeo_writes_into_the_store_is_an_image_like_any_other() {
    let world = sbx();
    image().layer(|tar| tar.file("a", "1")).load(&world, "first");
    let layout = world.work().join("layout");
    let id = image().runnable().write(&layout, "x");
    for name in ["quay.io/team/tool:2", "short"] {
        skopeo(&world, &format!("oci:{}:x", layout.display()), &ours(&world, name));
    }
    let format = "{{.Repository}}:{{.Tag}} {{.ID}}";
    let listed = world.sbx(["images", "--sort=repository", "--format", format]).succeed();
    let short = &id[..12];
    assert!(listed.ends_with(&format!("quay.io/team/tool:2 {short}\nshort:latest {short}")), "{listed}");
    let run = ["run", "--rm", "--net=none", "quay.io/team/tool:2", "echo", "runs"];
    world.sbx(run).expect_code(0).stdout_is("runs\n");
    world.sbx(["tag", "short", "third"]).succeed();
    world.sbx(["system", "prune", "-f"]).expect_code(0);
    assert_eq!(world.sbx(["images", "-q"]).succeed().lines().count(), 2, "nothing is lost");
    assert_eq!(world.sbx(["run", "--rm", "--net=none", "third", "echo", "runs"]).succeed(), "runs");
    skopeo(&world, &ours(&world, "quay.io/team/tool:2"), &format!("oci:{}:y", layout.display()));
    world.sbx(["rmi", "-f", short]).expect_code(0).stdout_has("Untagged: short:latest");
    world.assert_clean();
}

#[test]
fn an_index_of_several_platforms_is_that_of_this_machine() {
    require("skopeo");
    let world = sbx();
    let layout = world.work().join("layout");
    let id = image().runnable().write(&layout, "x");
    let manifest = manifest_of(&layout, "x");
    let size = fs::metadata(layout.join("blobs/sha256").join(&manifest[7..])).expect("a blob").len();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let entry = |architecture: &str, digest: &str| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":{size},"platform":{{"os":"linux","architecture":"{architecture}"}}}}"#
        )
    };
    let foreign = format!("sha256:{}", "0".repeat(64));
    let inner = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{},{}]}}"#,
        entry("riscv64", &foreign),
        entry(architecture, &manifest)
    );
    // `sbx tag` makes the layout whole; the index comes as another tool would put it there.
    image().layer(|tar| tar.file("a", "1")).load(&world, "first");
    let store = world.store().join("oci");
    for blob in fs::read_dir(layout.join("blobs/sha256")).expect("blobs").flatten() {
        fs::copy(blob.path(), store.join("blobs/sha256").join(blob.file_name())).expect("copied");
    }
    use sha2::Digest as _;
    let digest: String = sha2::Sha256::digest(&inner).iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(store.join("blobs/sha256").join(&digest), &inner).expect("written");
    let mut index: serde_json::Value =
        serde_json::from_slice(&fs::read(store.join("index.json")).expect("an index")).expect("JSON");
    index["manifests"].as_array_mut().expect("descriptors").push(serde_json::json!({
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": format!("sha256:{digest}"),
        "size": inner.len(),
        "annotations": {"org.opencontainers.image.ref.name": "many:1"},
    }));
    fs::write(store.join("index.json"), index.to_string()).expect("written");
    assert_eq!(world.sbx(["images", "-q", "many"]).succeed(), id[..12]);
    world.sbx(["run", "--rm", "--net=none", "many:1", "echo", "runs"]).expect_code(0).stdout_is("runs\n");
    world.sbx(["system", "prune", "-f"]).expect_code(0);
    world.sbx(["run", "--rm", "--net=none", "many:1", "echo", "runs"]).expect_code(0).stdout_is("runs\n");
    world.sbx(["rmi", "many:1"]).expect_code(0).stdout_has(&format!("Deleted: sha256:{id}"));
}

#[test]
fn a_damaged_list_is_told_and_mended_as_the_hint_says() {
    let world = sbx();
    let made = image().runnable();
    made.load(&world, "a");
    let index = world.store().join("oci/index.json");
    fs::write(&index, "{\"schemaVersion\":2,").expect("written");
    for words in
        [&["images"][..], &["rmi", "a"], &["tag", "a", "b"], &["image", "prune", "-f"], &["inspect", "a"]]
    {
        let failed = world.sbx(words).expect_code(125).stderr_has("index.json");
        assert!(
            failed.stderr().contains(&format!("mv {0} {0}.damaged", index.display())),
            "{}",
            failed.stderr()
        );
    }
    fs::rename(&index, index.with_extension("json.damaged")).expect("moved");
    assert_eq!(world.sbx(["images", "-q"]).succeed(), "");
    made.load(&world, "a");
    assert_eq!(world.sbx(["run", "--rm", "--net=none", "a", "echo", "runs"]).succeed(), "runs");
}

#[test]
fn hostile_files_in_the_store_are_refused() {
    let world = sbx();
    let id = image().runnable().load(&world, "a");
    let index = world.store().join("oci/index.json");
    let sound = fs::read(&index).expect("an index");
    let refused = |why: &str| world.sbx(["images"]).expect_code(125).stderr_has(why);
    fs::remove_file(&index).expect("removed");
    symlink("/etc/passwd", &index).expect("a symlink");
    refused("it is a symlink");
    fs::remove_file(&index).expect("removed");
    nix::unistd::mkfifo(&index, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    refused("it is not a file");
    fs::remove_file(&index).expect("removed");
    fs::File::create(&index).expect("a file").set_len(1 << 40).expect("sparse");
    refused("larger than");
    fs::write(&index, "[".repeat(100_000)).expect("written");
    refused("index.json");
    fs::write(&index, &sound).expect("written");
    let config = world.store().join("oci/blobs/sha256").join(&id);
    fs::remove_file(&config).expect("removed");
    symlink("/etc/passwd", &config).expect("a symlink");
    world.sbx(["inspect", "a"]).expect_code(125).stderr_has(&format!("rm {}", config.display()));
    world.sbx(["run", "--rm", "--pull=never", "a", "true"]).expect_code(125).stderr_has("it is a symlink");
    assert_eq!(world.sbx(["images", "-q"]).succeed(), id[..12], "what is listed is in the list");
    world.sbx(["rmi", "a"]).expect_code(0);
    assert!(fs::metadata("/etc/passwd").is_ok());
}

#[test]
fn a_store_works_under_another_name_and_after_a_move() {
    let world = sbx();
    image().runnable().load(&world, "a");
    let alias = world.work().join("alias");
    symlink(world.store(), &alias).expect("a symlink");
    let run = |root: &Path| {
        let words = ["run", "--rm", "--net=none", "a", "echo", "runs"];
        assert_eq!(world.sbx(["--root"]).arg(root).args(words).succeed(), "runs");
    };
    run(&alias);
    let moved = world.work().join("moved");
    fs::rename(world.store(), &moved).expect("moved");
    run(&moved);
    assert_eq!(world.sbx(["--root"]).arg(&moved).args(["rmi", "a"]).expect_code(0).code(), 0);
}
