//! What becomes of volumes with their containers.

use nix::sys::signal::{Signal, kill};

use super::{directory, keep, names, odd, shell};
use crate::harness::{Sbx, rootfs, sbx};

#[test]
fn anonymous_volumes_go_when_they_are_asked_to_and_named_ones_never() {
    let world = sbx();
    keep(&world, &["--name=aa", "-v=/x", "-v=named:/n"], "chown 33:33 /x; mkdir -m 700 /x/d; chown 7:7 /x/d")
        .succeed();
    world.sbx(["rm", "aa"]).succeed();
    assert_eq!(names(&world).len(), 2, "rm alone keeps them");
    keep(&world, &["--name=bb", "-v=/x", "-v=named:/n"], "true").succeed();
    world.sbx(["rm", "--volumes", "bb"]).succeed();
    assert_eq!(names(&world).len(), 2);
    shell(&world, &["-v=/x", "-v=named:/n"], "mkdir -m 700 /x/d; echo 1 >/x/d/f; chown -R 7:7 /x/d")
        .succeed();
    assert_eq!(names(&world).len(), 2);
    shell(&world, &["--userns=keep-id", "-v=/x"], "true").succeed();
    shell(&world, &["--userns=auto", "-v=/x"], "echo 1 >/x/f").succeed();
    assert_eq!(names(&world).len(), 2);
    world.sbx(["volume", "prune", "-f"]).succeed();
    assert_eq!(names(&world), ["named"]);
}

#[test]
fn a_container_that_never_comes_to_be_leaves_no_volume() {
    let world = sbx();
    keep(&world, &["--name=taken"], "true").succeed();
    let _ = keep(&world, &["--name=taken", "-v=new:/n", "-v=/a"], "true").expect_code(125);
    assert!(names(&world).is_empty(), "{:?}", names(&world));
    world.sbx(["rm", "taken"]).succeed();
}

/// Kills everything of sbx that looks after a container.
fn kill_keepers(world: &Sbx) {
    for process in world.leftovers().processes {
        let name = std::fs::read_to_string(format!("/proc/{}/comm", process.pid)).unwrap_or_default();
        if ["sbx-guard\n", "sbx-monitor\n"].contains(&name.as_str()) {
            let _ = kill(process.pid, Signal::SIGKILL);
        }
    }
}

#[test]
fn those_of_a_lost_container_go_with_the_next_command() {
    let world = sbx();
    let mut running = shell(&world, &["-v=/x", "-v=named:/n"], "echo 1 >/x/f; echo up; sleep 1000").spawn();
    running.wait_for_stdout("up");
    assert_eq!(names(&world).len(), 2);
    kill_keepers(&world);
    let _ = running.finish();
    shell(&world, &[], "true").succeed();
    assert_eq!(names(&world), ["named"]);
    world.sbx(["volume", "rm", "named"]).succeed();
    world.assert_clean();
}

#[test]
fn a_volume_of_a_running_container_stays() {
    let world = sbx();
    let run = world.run(["--rm", "--net=none", "-i", "-v=v:/v", "--rootfs"]).arg(rootfs());
    let mut running =
        run.args(["sh", "-c", "echo up; cat >/v/said"]).stdin_from(std::process::Stdio::piped()).spawn();
    running.wait_for_stdout("up");
    for words in [&["rm", "v"][..], &["rm", "-f", "v"], &["rm", "--all"]] {
        let _ = world.sbx(["volume"]).args(words).expect_code(2).stdout_is("").stderr_has("volume is in use");
    }
    world.sbx(["volume", "prune", "-af"]).expect_code(0).stdout_is("Total reclaimed space: 0B\n");
    running.close_stdin();
    running.finish().code_is(0);
    assert_eq!(names(&world), ["v"]);
    world.sbx(["volume", "rm", "v"]).succeed();
}

#[test]
fn records_hold_no_path_of_the_store() {
    let mut world = sbx();
    keep(&world, &["--name=cc", "-v=named:/n", "-v=/a"], "echo 1 >/n/f").succeed();
    let moved = world.directory().join("moved");
    std::fs::rename(world.store(), &moved).expect("it moves");
    let at = |words: &[&str]| world.sbx(["--root"]).arg(&moved).args(words).succeed();
    let sources = at(&["inspect", "-f", "{{range .Mounts}}{{.Source}} {{end}}", "cc"]);
    assert!(
        sources.split_whitespace().all(|source| source.starts_with(moved.to_str().expect("text"))),
        "{sources}"
    );
    let root = rootfs().to_str().expect("text");
    assert_eq!(at(&["run", "--rm", "--net=none", "--volumes-from=cc", "--rootfs", root, "cat", "/n/f"]), "1");
    at(&["rm", "-v", "cc"]);
    assert_eq!(at(&["volume", "ls", "-q"]), "named");
    world.allow_leftovers();
}

#[test]
fn a_container_that_was_made_and_never_started_has_its_volumes() {
    let world = odd();
    let words =
        ["create", "--quiet", "--name=cc", "--net=none", "-v=new:/odd", "-v=/anon", "image", "ls", "/odd"];
    world.sbx(words).succeed();
    assert_eq!(names(&world).len(), 2);
    let _ = world.sbx(["volume", "rm", "new"]).expect_code(2).stderr_has("volume is in use");
    world.sbx(["volume", "prune", "-af"]).expect_code(0).stdout_is("Total reclaimed space: 0B\n");
    assert_eq!(world.sbx(["start", "-a", "cc"]).succeed().lines().count(), 11);
    // A second life finds it as the first left it.
    assert_eq!(world.sbx(["start", "-a", "cc"]).succeed().lines().count(), 11);
    assert_eq!(world.sbx(["ps", "-aq", "--filter", "volume=new"]).succeed().lines().count(), 1);
    world.sbx(["rm", "-v", "cc"]).succeed();
    assert_eq!(names(&world), ["new"]);
}

#[test]
fn a_volume_that_was_taken_away_by_hand_stops_the_start() {
    let world = sbx();
    keep(&world, &["--name=cc", "-v=v:/v"], "true").succeed();
    std::fs::remove_dir_all(directory(&world, "v")).expect("it goes");
    let failed = world.sbx(["start", "-a", "cc"]).expect_code(125).stderr_has("cannot use the volume `v`");
    assert!(failed.stderr().contains("sbx volume create v"), "{}", failed.stderr());
    world.sbx(["volume", "create", "v"]).succeed();
    world.sbx(["start", "-a", "cc"]).expect_code(0);
}

#[test]
fn those_of_a_container_that_is_removed_by_force_go_with_it() {
    let world = odd();
    for flags in [&[][..], &["--userns=keep-id"], &["--storage-driver=fuse-overlayfs"]] {
        let made = world.sbx([
            "run",
            "-d",
            "--quiet",
            "--name=cc",
            "--net=none",
            "-v=/odd",
            "-v=named:/odd/directory",
        ]);
        made.args(flags).args(["image", "sleep", "1000"]).succeed();
        assert_eq!(names(&world).len(), 2);
        // While it runs, and was the first to have it, nobody is kept waiting.
        let look = ["--volumes-from=cc", "-u=0", "image", "sh", "-c", "ls /odd | wc -l"];
        assert_eq!(
            world.run(["--rm", "--quiet", "--net=none"]).args(flags).args(look).succeed(),
            "11",
            "{flags:?}"
        );
        world.sbx(["rm", "-fv", "-t", "0", "cc"]).expect_code(0);
        assert_eq!(names(&world), ["named"], "{flags:?}");
        world.sbx(["volume", "rm", "named"]).succeed();
    }
}
