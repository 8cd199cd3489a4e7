//! `sbx images`, `tag`, `untag`, `image exists`

use serde_json::{Value, json};

use crate::harness::{Sbx, image, sbx};

/// The second column of interest of each row.
fn names(world: &Sbx, options: &[&str]) -> Vec<String> {
    let format = ["images", "--format", "{{.Repository}}:{{.Tag}}"];
    let listed = world.sbx(format).args(options).succeed();
    listed.lines().map(str::to_owned).collect()
}

#[test]
fn a_listing_has_the_columns_of_docker_the_newest_first() {
    let world = sbx();
    assert_eq!(world.sbx(["images"]).succeed(), "REPOSITORY   TAG   IMAGE ID   CREATED   SIZE");
    assert!(!world.store().exists(), "looking makes nothing");
    let old = image()
        .layer(|tar| tar.file("a", "x".repeat(1500)))
        .created("2020-01-01T00:00:00Z")
        .load(&world, "old:1");
    let new = image().layer(|tar| tar.file("b", "y")).load(&world, "quay.io/team/new");
    let listed = world.sbx(["images"]).succeed();
    let rows: Vec<Vec<&str>> = listed
        .lines()
        .map(|line| line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    assert_eq!(rows[0], ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
    assert_eq!(rows[1][..3], ["quay.io/team/new", "latest", &new[..12]]);
    assert_eq!(rows[2][..3], ["old", "1", &old[..12]]);
    assert_eq!(rows[2][4], "1.5kB");
    assert!(rows[1][3].ends_with("ago") && rows[2][3].ends_with("years ago"), "{listed}");
    assert_eq!(world.sbx(["image", "ls"]).succeed(), listed);
    assert_eq!(world.sbx(["image", "list", "--noheading"]).succeed().lines().count(), 2);
}

#[test]
fn whole_ids_digests_and_ids_alone() {
    let world = sbx();
    let id = image().layer(|tar| tar.file("a", "x")).load(&world, "a:1");
    world.sbx(["tag", "a:1", "a:2"]).succeed();
    assert!(world.sbx(["images", "--no-trunc"]).succeed().contains(&format!("sha256:{id}")));
    assert_eq!(world.sbx(["images", "-q"]).succeed(), id[..12], "an image with two names once");
    assert_eq!(world.sbx(["images", "-aq", "--no-trunc"]).succeed(), format!("sha256:{id}"));
    let listed = world.sbx(["images", "--digests"]).succeed();
    assert!(listed.lines().next().is_some_and(|head| head.contains("DIGEST")), "{listed}");
    let digest = world.sbx(["image", "inspect", "-f", "{{.Digest}}", "a:1"]).succeed();
    assert!(listed.contains(&digest), "{listed}");
}

#[test]
fn arguments_and_filters_choose() {
    let world = sbx();
    let with = |name: &str, time: &str, labels: Value| {
        image().layer(|tar| tar.file("name", name)).created(time).with("Labels", labels).load(&world, name)
    };
    with("debian:11", "2021-01-01T00:00:00Z", json!({"kind": "system"}));
    let twelve = with("debian:12", "2023-01-01T00:00:00Z", json!({"kind": "system", "lts": ""}));
    with("localhost:5000/team/tool:v1", "2024-01-01T00:00:00Z", json!({"kind": "tool"}));
    let gone = with("gone", "2019-01-01T00:00:00Z", json!({}));
    world.sbx(["untag", "gone"]).succeed();
    assert_eq!(names(&world, &["debian"]), ["debian:12", "debian:11"]);
    assert_eq!(names(&world, &["debian:11"]), ["debian:11"]);
    assert_eq!(names(&world, &["debi*:1?", "localhost:5000/*/tool"]).len(), 3);
    assert_eq!(names(&world, &["debia"]), [] as [&str; 0]);
    assert_eq!(names(&world, &[&twelve[..12]]), ["debian:12"]);
    for (filters, expected) in [
        (&["dangling=true"][..], &["<none>:<none>"][..]),
        (&["dangling=false"], &["localhost:5000/team/tool:v1", "debian:12", "debian:11"]),
        (&["reference=debian*"], &["debian:12", "debian:11"]),
        (
            &["reference=*:11", "reference=localhost:5000/team/*"],
            &["localhost:5000/team/tool:v1", "debian:11"],
        ),
        (&["label=kind=system"], &["debian:12", "debian:11"]),
        (&["label=kind=system", "label=lts"], &["debian:12"]),
        (&["label!=kind"], &["<none>:<none>"]),
        (&["before=debian:12"], &["debian:11", "<none>:<none>"]),
        (&["since=debian:11"], &["localhost:5000/team/tool:v1", "debian:12"]),
        (&["since=debian:11", "reference=debian"], &["debian:12"]),
        (&["until=2022-01-01"], &["debian:11", "<none>:<none>"]),
        (&["containers=true"], &[]),
    ] {
        let options: Vec<&str> = filters.iter().flat_map(|filter| ["--filter", filter]).collect();
        assert_eq!(names(&world, &options), expected, "{filters:?}");
    }
    assert_eq!(names(&world, &["-f", &format!("id={}", &gone[..8])]), ["<none>:<none>"]);
    assert_eq!(
        names(&world, &["--sort", "repository"]),
        ["<none>:<none>", "debian:11", "debian:12", "localhost:5000/team/tool:v1"]
    );
    assert_eq!(names(&world, &["--sort", "tag"])[3], "localhost:5000/team/tool:v1");
    world.sbx(["images", "-f", "colour=red"]).expect_code(125).stderr_has("dangling, reference");
    world.sbx(["images", "-f", "before=nothing"]).expect_code(125).stderr_has("there is no such image");
}

#[test]
fn templates_take_the_fields_of_docker_and_podman() {
    let world = sbx();
    let id = image()
        .layer(|tar| tar.file("a", "x".repeat(2000)))
        .with("Labels", json!({"a": "b"}))
        .load(&world, "tool:1");
    let format = "{{.ID}} {{.Id}} {{.Repository}} {{.Tag}} {{.Size}} {{.CreatedAt}} {{.Containers}} {{.Labels.a}} {{.Names}} {{.ReadOnly}}";
    let short = &id[..12];
    assert_eq!(
        world.sbx(["images", "--format", format]).succeed(),
        format!("{short} {short} tool 1 2kB 2024-02-03 04:05:06 +0000 UTC 0 b [tool:1] false")
    );
    let table = world.sbx(["images", "--format", "table {{.Repository}}\t{{.ID}}"]).succeed();
    assert_eq!(table, format!("REPOSITORY   IMAGE ID\ntool         {short}"));
    world
        .sbx(["images", "--format", "{{.Nothing}}"])
        .expect_code(125)
        .stderr_has("there is no field `Nothing`");
    world.sbx(["tag", "tool:1", "tool:2"]).succeed();
    let listed: Value =
        serde_json::from_str(&world.sbx(["images", "--format", "json"]).succeed()).expect("JSON");
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "an image once");
    assert_eq!(
        (&listed[0]["Id"], &listed[0]["Size"], &listed[0]["Created"]),
        (&json!(id), &json!(2000), &json!(1_706_933_106))
    );
    assert_eq!(listed[0]["RepoTags"], json!(["tool:1", "tool:2"]));
}

#[test]
fn a_name_belongs_to_one_image_and_moves() {
    let world = sbx();
    let one = image().layer(|tar| tar.file("a", "1")).load(&world, "one");
    let two = image().layer(|tar| tar.file("a", "2")).load(&world, "two");
    world.sbx(["tag", "one", "x:1", "quay.io/a/b"]).succeed();
    world.sbx(["tag", &two[..10], "x:1"]).succeed();
    assert_eq!(world.sbx(["images", "-q", "x"]).succeed(), two[..12]);
    assert_eq!(world.sbx(["images", "-q", "quay.io/a/b:latest"]).succeed(), one[..12]);
    world.sbx(["untag", "one"]).succeed();
    assert_eq!(names(&world, &["-f", &format!("id={one}")]), ["<none>:<none>"]);
    world.sbx(["tag", "nothing", "y"]).expect_code(125).stderr_has("there is no image `nothing`");
    world.sbx(["tag", "two", "Upper"]).expect_code(125).stderr_has("lower-case");
    world.sbx(["tag", "two", &format!("y@sha256:{one}")]).expect_code(125).stderr_has("digest");
    world.sbx(["untag", "two", "x:2"]).expect_code(125).stderr_has("no such name");
    world.sbx(["untag", "two", "x:1"]).succeed();
    assert_eq!(names(&world, &["-f", "dangling=false"]), ["two:latest"]);
}

#[test]
fn existence_is_told_by_the_exit_code() {
    let world = sbx();
    world.sbx(["image", "exists", "a"]).expect_code(1).stderr_is("");
    let id = image().layer(|tar| tar.file("a", "1")).load(&world, "a");
    world.sbx(["image", "exists", "a"]).expect_code(0).stdout_is("");
    world.sbx(["image", "exists", &id[..3]]).expect_code(0);
    world.sbx(["image", "exists", "a:2"]).expect_code(1);
    world.sbx(["image", "exists", "A"]).expect_code(125).stderr_has("lower-case");
}

#[test]
fn two_hundred_images_are_listed_from_one_file() {
    crate::harness::require("strace");
    let world = sbx();
    image().layer(|tar| tar.file("a", "1")).load(&world, "a:0");
    let names: Vec<String> = (1..200).map(|at| format!("registry.example/team{at}/a:{at}")).collect();
    world.sbx(["tag", "a:0"]).args(&names).succeed();
    let trace = world.work().join("trace");
    let listed = world.program("strace").args(["-f", "-e", "trace=open,openat", "-o"]).arg(&trace);
    let listed = listed.arg(crate::harness::sbx_binary()).arg("images").succeed();
    assert_eq!(listed.lines().count(), 201);
    let opened = std::fs::read_to_string(&trace).expect("a trace");
    let store = world.store().display().to_string();
    let opened: Vec<&str> = opened.lines().filter(|line| line.contains(&store)).collect();
    assert!(opened.len() == 1 && opened[0].contains("index.json"), "{opened:#?}");
}
