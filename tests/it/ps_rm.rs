//! `sbx ps` and `sbx rm`.

use std::path::PathBuf;
use std::process::Stdio;

use crate::harness::{Running, Sbx, rootfs, sbx};

fn words(options: &[&str], command: &[&str]) -> Vec<PathBuf> {
    let options = options.iter().map(PathBuf::from);
    let root = [PathBuf::from("--rootfs"), rootfs().to_owned()];
    options.chain(root).chain(command.iter().map(PathBuf::from)).collect()
}

/// A container that runs until its input ends.
fn runs<'w>(world: &'w Sbx, options: &[&str]) -> Running<'w> {
    let options: Vec<&str> = ["-i"].iter().chain(options).copied().collect();
    let run = world.run(words(&options, &["sh", "-c", "echo up; cat"]));
    let mut running = run.stdin_from(Stdio::piped()).spawn();
    running.wait_for_stdout("up");
    running
}

fn ended(world: &Sbx, name: &str, code: i32) {
    let name = format!("--name={name}");
    world.run(words(&["--net=none", &name], &["sh", "-c", &format!("exit {code}")])).expect_code(code);
}

#[test]
fn a_container_with_rm_is_gone_when_the_command_has_ended() {
    let world = sbx();
    for script in ["true", "true", "true", "echo written >/file"] {
        // The same name again and again, and at no moment anything to list.
        world
            .run(words(&["--rm", "--net=none", "--name=again"], &["sh", "-c", script]))
            .expect_code(0)
            .stderr_is("");
        assert_eq!(world.sbx(["ps", "-a", "--format", "{{.Names}} {{.State}}"]).succeed(), "");
    }
    world.run(words(&["--rm", "--net=none"], &["sh", "-c", "echo written >/file"])).expect_code(0);
    assert_eq!(std::fs::read_dir(world.store().join("containers")).expect("a store").count(), 0);
    // What the container wrote takes no room any more; the husk of an earlier one may be on its way out.
    let mut husks = std::fs::read_dir(world.store().join("removed")).expect("a store");
    assert!(husks.all(|husk| !husk.expect("an entry").path().join("upper/file").exists()));
    world.assert_clean();
}

#[test]
fn a_listing_has_the_columns_of_docker_the_newest_first() {
    let world = sbx();
    assert_eq!(
        world.sbx(["ps", "-a"]).succeed(),
        "CONTAINER ID   IMAGE   COMMAND   CREATED   STATUS   PORTS   NAMES"
    );
    assert!(!world.store().exists(), "looking makes nothing");
    ended(&world, "first", 3);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let mut running = runs(&world, &["--rm", "--name=second", "-p", "127.0.0.1:0:80"]);
    let all = world.sbx(["ps", "-a"]).succeed();
    let lines: Vec<&str> = all.lines().collect();
    assert_eq!(lines.len(), 3, "{all}");
    assert!(lines[1].ends_with("second") && lines[2].ends_with("first"), "{all}");
    assert!(lines[1].contains("Up ") && lines[1].contains("->80/tcp"), "{all}");
    assert!(lines[2].contains("Exited (3) ") && lines[2].contains(" ago"), "{all}");
    assert!(lines[1].contains(&rootfs().display().to_string()), "{all}");
    let shown = world.sbx(["ps"]).succeed();
    assert!(shown.contains("second") && !shown.contains("first"), "{shown}");
    let ids = world.sbx(["ps", "-aq", "--no-trunc"]).succeed();
    assert!(ids.lines().count() == 2 && ids.lines().all(|id| id.len() == 64), "{ids}");
    let short = world.sbx(["ps", "-q"]).succeed();
    assert_eq!(short, ids.lines().next().expect("one")[..12]);
    let json = world.sbx(["ps", "-a", "--format", "json"]).succeed();
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((json[1]["Names"][0].as_str(), json[1]["ExitCode"].as_i64()), (Some("first"), Some(3)));
    world.sbx(["ps", "--format", "{{.Nothing}}"]).expect_code(125).stderr_has("there is no field");
    running.close_stdin();
    running.finish().code_is(0);
    world.sbx(["rm", "first"]).succeed();
}

#[test]
fn a_command_is_shortened_unless_asked_for() {
    let world = sbx();
    world.run(words(&["--net=none"], &["echo", "漢字 and a command that is too long"])).expect_code(0);
    let format = ["ps", "-a", "--format", "{{.Command}}"];
    assert_eq!(world.sbx(format).succeed(), "echo 漢字 and a comma…");
    assert_eq!(world.sbx(format).arg("--no-trunc").succeed(), "echo 漢字 and a command that is too long");
    world.sbx(["rm", "-a"]).expect_code(0);
}

#[test]
fn what_is_removed_is_printed_as_it_was_typed() {
    let world = sbx();
    ended(&world, "by-name", 0);
    assert_eq!(world.sbx(["rm", "by-name"]).succeed(), "by-name");
    for length in [64, 12, 5] {
        ended(&world, "other", 0);
        let id = world.sbx(["ps", "-aq", "--no-trunc"]).succeed();
        let word = &id[..length];
        assert_eq!(world.sbx(["rm", word]).succeed(), word);
    }
    assert_eq!(world.sbx(["ps", "-aq"]).succeed(), "");
    world.assert_clean();
}

#[test]
fn a_running_container_is_removed_by_force_alone() {
    let world = sbx();
    for options in [&["--name=web"][..], &["--name=web", "--rm"], &["--name=web", "--pid=host", "--init"]] {
        let running = runs(&world, &[options, &["--net=none"]].concat());
        world.sbx(["rm", "web"]).expect_code(2).stdout_is("").stderr_has("it is running");
        world.sbx(["rm", "--all"]).expect_code(0).stdout_is("");
        assert_eq!(world.sbx(["ps", "--format", "{{.Names}}"]).succeed(), "web");
        assert_eq!(world.sbx(["rm", "-f", "web"]).succeed(), "web");
        running.finish().code_is(137);
        assert_eq!(world.sbx(["ps", "-aq"]).succeed(), "");
        world.assert_clean();
    }
}

#[test]
fn what_does_not_exist_is_an_error_but_with_force() {
    let world = sbx();
    ended(&world, "here", 0);
    world.sbx(["rm", "gone", "here"]).expect_code(1).stdout_is("here\n").stderr_has("`gone`");
    assert_eq!(world.sbx(["rm", "-f", "gone"]).succeed(), "");
    world.sbx(["rm"]).expect_code(125).stderr_has("CONTAINER");
    for word in ["", "..", "../x", "/", "a/b"] {
        world.sbx(["rm", word]).expect_code(1);
    }
}

#[test]
fn files_of_subordinate_ids_are_removed_with_their_container() {
    let world = sbx();
    let script = "mkdir -p /d/e; touch /d/e/f; chmod 700 /d/e; chown -R 33:33 /d; chmod 000 /d";
    for driver in ["overlay", "fuse-overlayfs"] {
        let driver = format!("--storage-driver={driver}");
        world.run(words(&["--net=none", "--name=full", &driver], &["sh", "-c", script])).succeed();
        assert_eq!(world.sbx(["rm", "full"]).succeed(), "full");
        world.assert_clean();
    }
}
