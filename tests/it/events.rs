//! `sbx events`

use std::fs;

use serde_json::Value;

use crate::harness::{Registry, Sbx, image, sbx};

/// What was recorded so far, as the template has it.
fn past(world: &Sbx, options: &[&str]) -> String {
    world.sbx(["events", "--stream=false"]).args(options).succeed()
}

fn file_of_events(world: &Sbx) -> std::path::PathBuf {
    let entries = fs::read_dir(world.runtime().join("sbx")).expect("the runtime directory");
    let mut files = entries.map(|entry| entry.expect("an entry").path());
    let is_ours = |path: &std::path::PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("events-"))
    };
    files.find(is_ours).expect("a file of events")
}

#[test]
fn images_are_told_of_from_the_load_to_the_removal() {
    let world = sbx();
    assert_eq!(past(&world, &[]), "", "nothing has happened");
    let id = image().layer(|tar| tar.file("a", "x")).load(&world, "a:1");
    world.sbx(["tag", "a:1", "b:2"]).succeed();
    world.sbx(["untag", "a:1", "a:1"]).succeed();
    world.sbx(["save", "-q", "-o", "saved.tar", "b:2"]).succeed();
    world.sbx(["rmi", "b:2"]).succeed();
    let format = ["--format", "{{.Type}} {{.Status}} {{.Action}} {{.Name}}"];
    assert_eq!(
        past(&world, &format),
        "image loadfromarchive load docker.io/library/a:1\n\
         image tag tag docker.io/library/b:2\n\
         image untag untag docker.io/library/a:1\n\
         image save save docker.io/library/b:2\n\
         image untag untag docker.io/library/b:2\n\
         image remove delete "
    );
    let whole = format!("sha256:{id}");
    assert_eq!(
        past(&world, &["--filter", "event=untag", "--format", "{{.ID}}"]),
        format!("{whole}\n{whole}")
    );
    assert_eq!(past(&world, &["--filter", "event=remove", "--format", "{{.ID}}"]), whole);
    assert_eq!(past(&world, &["--filter", "event=delete", "--format", "{{.Actor.ID}}"]), whole);
    let line = past(&world, &["--filter", "event=tag", "--no-trunc=false"]);
    assert!(line.ends_with(&format!(" +0000 UTC image tag {} docker.io/library/b:2", &id[..12])), "{line}");
    assert_eq!(world.sbx(["system", "events", "--stream=false"]).succeed(), past(&world, &[]));
}

#[test]
fn a_line_of_json_is_one_event_in_both_dialects() {
    let world = sbx();
    let id = image().layer(|tar| tar.file("a", "x")).load(&world, "a:1");
    world.sbx(["tag", "a:1", "b:2"]).succeed();
    for format in ["json", "{{json .}}"] {
        let printed = past(&world, &["--format", format]);
        let events: Vec<Value> =
            printed.lines().map(|line| serde_json::from_str(line).expect("JSON in each line")).collect();
        assert_eq!(events.len(), 2, "{printed}");
        for (field, value) in [
            ("/ID", format!("sha256:{id}")),
            ("/id", format!("sha256:{id}")),
            ("/Actor/ID", format!("sha256:{id}")),
            ("/Status", "tag".to_owned()),
            ("/status", "tag".to_owned()),
            ("/Action", "tag".to_owned()),
            ("/Type", "image".to_owned()),
            ("/Name", "docker.io/library/b:2".to_owned()),
            ("/Actor/Attributes/name", "docker.io/library/b:2".to_owned()),
        ] {
            assert_eq!(events[1].pointer(field).and_then(Value::as_str), Some(&*value), "{field}");
        }
        let nanoseconds = events[1]["timeNano"].as_i64().expect("a number");
        assert_eq!(events[1]["time"].as_i64(), Some(nanoseconds / 1_000_000_000));
        assert!(events[0]["timeNano"].as_i64().expect("a number") < nanoseconds);
    }
}

#[test]
fn times_and_filters_choose() {
    let world = sbx();
    image().layer(|tar| tar.file("a", "x")).load(&world, "a:1");
    world.sbx(["tag", "a:1", "b:2"]).succeed();
    let time = past(&world, &["--filter", "event=tag", "--format", "{{.Time}}"]);
    let format = ["--format", "{{.Status}}"];
    let with = |options: &[&str]| past(&world, &[&format, options].concat());
    assert_eq!(with(&["--since", &time]), "tag");
    assert_eq!(with(&["--until", &time]), "loadfromarchive\ntag");
    assert_eq!(with(&["--since", "1h", "--until", "0s"]), "loadfromarchive\ntag");
    assert_eq!(with(&["--until", "1h"]), "");
    assert_eq!(with(&["--since", "2999-01-01"]), "");
    assert_eq!(with(&["--filter", "image=b"]), "tag");
    assert_eq!(with(&["--filter", "type=image", "--filter", "event=load"]), "loadfromarchive");
    assert_eq!(with(&["--filter", "type=container"]), "");
    for (bad, told) in [
        (["--filter", "event=explode"], "no event `explode`"),
        (["--filter", "colour=red"], "container, event, image"),
        (["--since", "soon"], "neither a time nor a span"),
        (["--format", "table {{.ID}}"], "no table"),
        (["--format", "{{.Nothing}}"], "no field `Nothing`"),
    ] {
        world.sbx(["events", "--stream=false"]).args(bad).expect_code(125).stderr_has(told);
    }
}

#[test]
fn who_waits_is_told_of_what_comes_alone() {
    let world = sbx();
    image().layer(|tar| tar.file("a", "x")).load(&world, "a:1");
    // With the past, so that it is known when it has begun.
    let format = "{{.Status}} {{.Name}}";
    let mut all = world.sbx(["events", "--since", "1h", "--format", format]).spawn();
    all.wait_for_stdout("loadfromarchive");
    let mut new = world.sbx(["events", "--format", format, "-f", "event=tag"]).spawn();
    let mut number = 0;
    while !new.stdout_now().contains("tag") {
        number += 1;
        world.sbx(["tag", "a:1", &format!("b:{number}")]).succeed();
        assert!(number < 100, "nothing is told");
    }
    world.sbx(["tag", "a:1", "last:1"]).succeed();
    for running in [&mut all, &mut new] {
        running.wait_for_stdout("tag docker.io/library/last:1");
    }
    assert!(!new.stdout_now().contains("loadfromarchive"), "the past was not asked for");
    for running in [all, new] {
        running.signal(nix::sys::signal::Signal::SIGINT);
        running.finish().code_is(130);
    }
}

#[test]
fn the_stream_ends_with_its_time_or_its_reader() {
    let world = sbx();
    image().layer(|tar| tar.file("a", "x")).load(&world, "a:1");
    let soon = jiff_seconds_from_now(2);
    let mut waiting = world.sbx(["events", "--until", &soon, "--format", "{{.Status}}"]).spawn();
    waiting.wait_for_stdout("loadfromarchive");
    world.sbx(["tag", "a:1", "b:1"]).succeed();
    waiting.finish().code_is(0).stdout_is("loadfromarchive\ntag\n");
    let script = "\"$0\" events --since 1h | head -n 1";
    let sbx = crate::harness::sbx_binary();
    world.program("sh").args(["-c", script]).arg(sbx).expect_code(0).stdout_has("loadfromarchive");
}

fn jiff_seconds_from_now(seconds: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    (now.as_secs() + seconds).to_string()
}

#[test]
fn what_is_no_event_is_passed_over_and_a_directory_that_is_emptied_is_made_again() {
    let world = sbx();
    image().layer(|tar| tar.file("a", "x")).load(&world, "a:1");
    let file = file_of_events(&world);
    let mut text = fs::read(&file).expect("the events");
    text.extend_from_slice(b"\xff\x00{\n{\"time\":9e99,\"kind\":\"image\"}\n[[[[\n");
    fs::write(&file, text).expect("a file");
    world.sbx(["tag", "a:1", "b:1"]).succeed();
    assert_eq!(past(&world, &["--format", "{{.Status}}"]), "loadfromarchive\ntag");
    let mut following = world.sbx(["events", "--since", "1h", "--format", "{{.Status}} {{.Name}}"]).spawn();
    following.wait_for_stdout("tag");
    fs::remove_dir_all(world.runtime().join("sbx")).expect("the runtime directory");
    world.sbx(["tag", "a:1", "c:1"]).succeed();
    following.wait_for_stdout("tag docker.io/library/c:1");
    following.signal(nix::sys::signal::Signal::SIGTERM);
    following.finish().code_is(143);
    // Somebody has put a directory there: nothing is recorded, and nothing fails for it.
    let file = file_of_events(&world);
    fs::remove_file(&file).expect("the events");
    fs::create_dir(&file).expect("a directory");
    world.sbx(["tag", "a:1", "d:1"]).expect_code(0).stderr_is("");
    assert_eq!(past(&world, &[]), "");
}

#[test]
fn what_goes_to_registries_and_comes_from_them_is_told() {
    let world = sbx();
    let registry = Registry::start();
    let (from, to) = (format!("{}/a:1", registry.address()), format!("{}/b:1", registry.address()));
    registry.put_image("a", "1");
    world.sbx(["pull", "-q", "--tls-verify=false", &from]).succeed();
    world.sbx(["push", "-q", "--tls-verify=false", &from, &to]).succeed();
    assert_eq!(
        past(&world, &["--filter", "type=image", "--format", "{{.Status}} {{.Name}}"]),
        format!("pull {from}\npush {to}")
    );
}
