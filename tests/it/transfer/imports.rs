//! `sbx import`

use std::fs;
use std::path::PathBuf;

use super::layers;
use crate::harness::{Message, Sbx, Server, require, sbx};

fn tar(world: &Sbx) -> PathBuf {
    world.file("tree/etc/motd", "hello\n");
    let tar = world.work().join("tree.tar");
    let tree = world.work().join("tree");
    world.program("tar").arg("-C").arg(tree).arg("-cf").arg(&tar).arg(".").expect_code(0);
    tar
}

#[test]
fn a_tar_becomes_an_image_of_one_layer() {
    let world = sbx();
    let tar = tar(&world);
    let options = ["-m", "from a test", "-c", "CMD [\"/bin/sh\"]", "-c", "ENV A=b", "-c", "LABEL x=\"y z\""];
    let id = world.sbx(["import", "-q"]).args(options).arg(&tar).arg("tool:2").succeed();
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    let format = "{{.Id}} {{json .Config.Cmd}} {{json .Config.Env}} {{index .Config.Labels \"x\"}}";
    let shown = world.sbx(["image", "inspect", "--format", format, "tool:2"]).succeed();
    assert_eq!(shown, format!("{id} [\"/bin/sh\"] [\"A=b\"] y z"));
    world.sbx(["history", "tool:2"]).expect_code(0).stdout_has("from a test");
    assert_eq!(layers(&world).len(), 1);
}

#[test]
fn nothing_is_no_image() {
    let world = sbx();
    let said = world.sbx(["import", "-", "empty"]).stdin("").expect_code(125).stderr();
    assert!(said.contains("there is nothing in it") && said.contains("pipe"), "{said}");
    assert_eq!(world.sbx(["images", "-q"]).succeed(), "");
}

#[test]
fn packed_tars_are_recognised_and_make_the_same_layer() {
    let world = sbx();
    let tar = tar(&world);
    for packer in ["gzip", "zstd", "xz", "bzip2"] {
        let packed = world.work().join(packer);
        let out = fs::File::create(&packed).unwrap();
        world.program(require(packer)).arg("-c").arg(&tar).stdout_to(out).expect_code(0);
        world.sbx(["import", "-q"]).arg(&packed).succeed();
        let stdin = fs::File::open(&packed).unwrap();
        world.sbx(["import", "-q", "-", packer]).stdin_from(stdin).succeed();
    }
    assert_eq!(layers(&world).len(), 1, "one layer, however it was packed");
}

#[test]
fn urls_are_fetched() {
    let world = sbx();
    let bytes = fs::read(tar(&world)).unwrap();
    let server = Server::answering(move |request| match request.target() {
        "/tree.tar" => Message::answer(200, bytes.clone()),
        "/moved" => Message::answer(302, "").header("Location", "/tree.tar"),
        _ => Message::answer(404, "no"),
    });
    let url = format!("http://{}/moved", server.address());
    world.sbx(["import", "-q", &url, "tool"]).succeed();
    world.sbx(["image", "exists", "tool"]).expect_code(0);
    let url = format!("http://{}/nothing", server.address());
    world.sbx(["import", "-q", &url]).expect_code(125).stderr_has("404");
}

#[test]
fn what_is_no_tar_or_no_change_is_refused() {
    let world = sbx();
    let tar = tar(&world);
    world
        .sbx(["import", "-c", "RUN x"])
        .arg(&tar)
        .expect_code(125)
        .stderr_has("there is no such instruction");
    let text = world.file("text", "this is no archive, but long enough to be one: ".repeat(100));
    world.sbx(["import"]).arg(&text).expect_code(125).stderr_has("cannot import");
    world.sbx(["import"]).arg(world.work()).expect_code(125).stderr_has("it is a directory");
    world.sbx(["import", "nothing.tar"]).expect_code(125).stderr_has("cannot open `nothing.tar`");
    assert_eq!(layers(&world), Vec::<String>::new());
    world.sbx(["images", "-aq"]).expect_code(0).stdout_is("");
}
