//! `--build-context`: more contexts, and others in place of images and stages.

use std::fs;

use super::archives::{file, tar};
use super::kitchen;
use crate::harness::{Message, Repository, Server, git_over_http, image};

#[test]
fn a_directory_gives_files_and_may_be_a_base() {
    let kitchen = kitchen();
    let other = kitchen.world.directory().join("other");
    fs::create_dir_all(other.join("d")).expect("a directory");
    for (name, text) in [("f", "x"), ("d/g", "y"), ("noise", "n"), (".dockerignore", "noise\n")] {
        fs::write(other.join(name), text).expect("a file");
    }
    let context = format!("Other={}", other.display());
    let options = ["-q", "-t", "made", "--build-context", &context];
    let dockerfile = "FROM other AS files\nFROM base\nCOPY --from=other . /c\nCOPY --from=files d/g /g\n\
                      RUN --mount=type=bind,from=other,target=/m ls /m >/seen\n";
    let cache = "FROM base\nRUN --mount=type=cache,from=other,source=d,target=/m cat /m/g >/got\n";
    kitchen.build(cache, &options).succeed();
    assert_eq!(kitchen.shell("cat /got"), "y");
    kitchen.build(dockerfile, &options).succeed();
    assert_eq!(kitchen.shell("ls /c; cat /g /seen"), "d\nf\nyd\nf");
    let missing = "FROM base\nCOPY --from=other noise /c\n";
    kitchen.build(missing, &options).expect_code(125).stderr_has("ignore file");
    let nothing = ["--build-context", "other=/nothing/there"];
    kitchen.build("FROM base\n", &nothing).expect_code(125).stderr_has("`other=/nothing/there`");
}

#[test]
fn an_image_takes_the_place_of_another_under_all_its_names() {
    let kitchen = kitchen();
    image().runnable().layer(|tar| tar.file("etc/mark", "instead")).load(&kitchen.world, "instead:1");
    let option = "docker.io/library/alpine=docker-image://instead:1";
    for name in ["alpine", "alpine:latest", "docker.io/library/alpine", "docker.io/alpine"] {
        let dockerfile = format!(
            "FROM {name} AS one\nFROM base\nCOPY --from={name} /etc/mark /a\nCOPY --from=one /etc/mark /b\n\
                     RUN --mount=from={name},target=/m cat /m/etc/mark >/c\n"
        );
        kitchen.build(&dockerfile, &["-q", "-t", "made", "--build-context", option]).succeed();
        assert_eq!(kitchen.shell("cat /a /b /c"), "insteadinsteadinstead", "{name}");
    }
    // Another tag is another image.
    let other = "FROM alpine:3\n";
    kitchen
        .build(other, &["--pull=never", "--build-context", option])
        .expect_code(125)
        .stderr_has("alpine:3");
    for (context, said) in
        [("x=docker-image://", "names no image"), ("x=ftp://y", "no such contexts"), ("x", "NAME=VALUE")]
    {
        kitchen.build("FROM base\n", &["--build-context", context]).expect_code(125).stderr_has(said);
    }
}

#[test]
fn a_context_takes_the_place_of_a_stage() {
    let kitchen = kitchen();
    let dockerfile = "FROM none:1 AS tools\nRUN false\nFROM base\nCOPY --from=tools /etc/passwd /p\n";
    kitchen
        .build(dockerfile, &["-q", "-t", "made", "--build-context", "tools=container-image://base"])
        .succeed();
    assert_eq!(kitchen.shell("cmp /p /etc/passwd && echo same"), "same");
    let files = kitchen.world.directory().join("etc");
    fs::create_dir(&files).expect("a directory");
    fs::write(files.join("passwd"), "other").expect("a file");
    let context = format!("tools={}", files.display());
    let dockerfile = dockerfile.replace("/etc/passwd", "/passwd");
    kitchen.build(&dockerfile, &["-q", "-t", "made", "--build-context", &context]).succeed();
    assert_eq!(kitchen.shell("cat /p"), "other");
}

#[test]
fn a_layout_is_an_image_by_tag_or_digest() {
    let kitchen = kitchen();
    let layout = kitchen.world.directory().join("layout");
    image().runnable().layer(|tar| tar.file("etc/mark", "one")).write(&layout, "v1");
    image().runnable().layer(|tar| tar.file("etc/mark", "two")).write(&layout, "v2");
    let index = fs::read_to_string(layout.join("index.json")).expect("an index");
    let index: serde_json::Value = serde_json::from_str(&index).expect("JSON");
    let digest = index["manifests"][1]["digest"].as_str().expect("a digest");
    let place = format!("oci-layout://{}", layout.display());
    let before = kitchen.world.sbx(["images", "-aq"]).succeed();
    for (reference, mark) in [(":v1", "one"), (":v2", "two"), (&format!("@{digest}"), "two")] {
        let context = format!("app={place}{reference}");
        let dockerfile = "FROM app\nCOPY --from=app /etc/mark /copy\nRUN cat /etc/mark >>/copy\n";
        kitchen.build(dockerfile, &["-q", "-t", "made", "--build-context", &context]).succeed();
        assert_eq!(kitchen.shell("cat /copy"), format!("{mark}{mark}"), "{reference}");
    }
    kitchen.world.sbx(["rmi", "-f", "made"]).expect_code(0);
    kitchen.world.sbx(["image", "prune", "-f"]).expect_code(0);
    assert_eq!(kitchen.world.sbx(["images", "-aq"]).succeed(), before);
    let build = |context: &str| kitchen.build("FROM app\n", &["--build-context", context]).expect_code(125);
    build(&format!("app={place}:v3")).stderr_has("there are: v1, v2");
    build(&format!("app={place}")).stderr_has("latest");
    build("app=oci-layout:///nothing").stderr_has("/nothing");
    // A Dockerfile does not reach into directories so.
    kitchen.build(&format!("FROM {place}:v1\n"), &["--pull=never"]).expect_code(125);
    let blob = fs::read_dir(layout.join("blobs/sha256")).expect("blobs").flatten();
    blob.for_each(|blob| fs::write(blob.path(), "damaged").expect("a file"));
    kitchen.world.sbx(["builder", "prune", "-f"]).expect_code(0);
    build(&format!("app={place}:v1")).stderr_has("another digest");
}

#[test]
fn repositories_and_archives_are_fetched_where_they_are_used() {
    let kitchen = kitchen();
    Repository::new(&kitchen.world, "one")
        .file("d/f", "from git")
        .file("d/.dockerignore", "x\n")
        .file("d/x", "x")
        .commit();
    let git = git_over_http(&kitchen.world.directory().join("git"));
    let archive = tar(&[file("g", "from a tar")]);
    let server = Server::answering(move |request| match request.target() {
        "/a.tar" => Message::answer(200, archive.clone()),
        _ => Message::answer(200, "text"),
    });
    let contexts = [
        format!("repository=http://{}/one/.git#main:d", git.address()),
        format!("archive=http://{}/a.tar", server.address()),
        format!("text=http://{}/text", server.address()),
        "unused=http://127.0.0.1:1/x.git".to_owned(),
    ];
    let mut options = vec!["-q", "-t", "made"];
    options.extend(contexts.iter().flat_map(|context| ["--build-context", context]));
    let dockerfile = "FROM archive AS a\nFROM base\nCOPY --from=repository . /r\nCOPY --from=a g /g\n";
    kitchen.build(dockerfile, &options).succeed();
    assert_eq!(kitchen.shell("ls -A /r; cat /r/f /g"), ".dockerignore\nf\nfrom gitfrom a tar");
    let dockerfile = "FROM base\nCOPY --from=text . /r\n";
    kitchen.build(dockerfile, &options).expect_code(125).stderr_has("no archive");
    let dockerfile = "FROM base\nCOPY --from=unused . /r\n";
    kitchen.build(dockerfile, &options).expect_code(125).stderr_has("cannot use the context `unused`");
}
