//! A container's life: made, started, stopped, started again, renamed, removed.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::harness::{Sbx, rootfs, sbx};

/// `sbx VERB OPTIONS --net none --rootfs ROOT COMMAND…`, which succeeds; what it prints.
fn make(world: &Sbx, verb: &[&str], options: &[&str], command: &[&str]) -> String {
    let words =
        [verb, options, &["--net", "none", "--rootfs", rootfs().to_str().expect("text")], command].concat();
    world.sbx(words).succeed()
}

fn state(world: &Sbx, name: &str) -> String {
    world.sbx(["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name]).succeed()
}

/// Waits until the text is there, or the time is over.
fn becomes(world: &Sbx, name: &str, wanted: &str) {
    let until = Instant::now() + Duration::from_secs(10);
    while state(world, name) != wanted {
        assert!(Instant::now() < until, "{name} is {}, not {wanted}", state(world, name));
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn remove(world: &Sbx, name: &str) {
    world.sbx(["rm", "-f", "-v", name]).succeed();
    world.assert_clean();
}

#[test]
fn a_container_is_made_and_started_later() {
    let world = sbx();
    let id = make(&world, &["create"], &["--name", "one"], &["sh", "-c", "exit 3"]);
    assert_eq!((id.len(), state(&world, "one").as_str()), (64, "created 0"));
    assert_eq!(world.sbx(["ps", "-q"]).succeed(), "", "it does not run");
    assert_eq!(world.sbx(["start", "one"]).succeed(), "one", "it is printed as it was typed");
    assert_eq!(world.sbx(["wait", &id[..7]]).succeed(), "3");
    assert_eq!(state(&world, "one"), "exited 3");
    world.sbx(["start", "--attach", "one"]).expect_code(3);
    remove(&world, "one");
}

#[test]
fn what_it_changed_is_there_when_it_starts_again() {
    let world = sbx();
    let script = "echo life >> /tmp/lives; wc -l < /tmp/lives";
    make(&world, &["create"], &["--name", "again"], &["sh", "-c", script]);
    for life in ["1", "2", "3"] {
        assert_eq!(world.sbx(["start", "-a", "again"]).succeed(), life);
    }
    remove(&world, "again");
}

#[test]
fn in_the_background_it_outlives_its_caller_and_holds_nothing_of_it() {
    let world = sbx();
    let store = world.store();
    let script = format!(
        "exec 7<>fifo 8</etc/passwd; '{}' run -d --name bg --net none --rootfs '{}' sleep 1000",
        crate::harness::sbx_binary().display(),
        rootfs().display()
    );
    world.program("mkfifo").args(["fifo"]).succeed();
    // A caller that waits for the end of its output would wait for the container, did that hold it open.
    world.program("sh").args(["-c", &script]).succeed();
    assert_eq!(state(&world, "bg"), "running 0");
    let record =
        fs::read_dir(store.join("running")).expect("a store").next().expect("one").expect("an entry").path();
    let record: serde_json::Value =
        serde_json::from_slice(&fs::read(record).expect("a record")).expect("JSON");
    for process in ["monitor", "guard"] {
        let pid = &record[process]["pid"];
        let open = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors");
        let open: Vec<PathBuf> = open.flatten().filter_map(|fd| fs::read_link(fd.path()).ok()).collect();
        let callers = |path: &&PathBuf| path.ends_with("fifo") || path.ends_with("passwd");
        assert_eq!(open.iter().filter(callers).count(), 0, "{process}: {open:?}");
        assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).expect("a directory"), PathBuf::from("/"));
    }
    remove(&world, "bg");
}

#[test]
fn a_start_that_fails_says_why_and_leaves_it_as_it_was() {
    let world = sbx();
    make(&world, &["create"], &["--name", "bad"], &["/no/such"]);
    world.sbx(["start", "bad"]).expect_code(127).stderr_has("no such file in the container");
    assert_eq!(state(&world, "bad"), "created 127");
    remove(&world, "bad");
    // One that ran before keeps the code that it ended with.
    let source = world.work().join("source");
    fs::create_dir(&source).expect("a directory");
    let bind = format!("{}:/mnt", source.display());
    make(&world, &["run"], &["--name", "ran", "-v", &bind], &["true"]);
    fs::remove_dir(&source).expect("an empty directory");
    world.sbx(["start", "ran"]).expect_code(125).stderr_has("No such file or directory");
    assert_eq!(state(&world, "ran"), "exited 0");
    remove(&world, "ran");
    let words =
        ["run", "-d", "--rm", "--net", "none", "--rootfs", rootfs().to_str().expect("text"), "/no/such"];
    world.sbx(words).expect_code(127).stdout_is("");
    world.assert_clean();
}

#[test]
fn stop_sends_the_signal_and_then_kills() {
    let world = sbx();
    let patient = "trap 'exit 5' USR1; while :; do sleep 0.02; done";
    make(&world, &["run", "-d"], &["--name", "polite", "--stop-signal", "USR1"], &["sh", "-c", patient]);
    make(
        &world,
        &["run", "-d"],
        &["--name", "stubborn", "--stop-timeout", "1"],
        &["sh", "-c", "trap '' TERM; sleep 1000"],
    );
    let begun = Instant::now();
    let stopped = world.sbx(["stop", "polite", "stubborn", "polite"]).succeed();
    assert_eq!(stopped, "polite\nstubborn\npolite", "one that is down is no error");
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(
        (state(&world, "polite").as_str(), state(&world, "stubborn").as_str()),
        ("exited 5", "exited 137")
    );
    world.sbx(["start", "stubborn"]).succeed();
    let begun = Instant::now();
    world.sbx(["stop", "-t", "0", "stubborn"]).succeed();
    assert!(begun.elapsed() < Duration::from_secs(1), "no time is no time");
    world.sbx(["stop", "nobody"]).expect_code(125).stderr_has("no container with the name or ID `nobody`");
    world.sbx(["rm", "polite", "stubborn"]).succeed();
    world.assert_clean();
}

#[test]
fn kill_sends_any_signal_and_only_to_what_runs() {
    let world = sbx();
    let script = "trap 'echo one >> /tmp/seen' USR1; echo up; while :; do sleep 0.02; done";
    make(&world, &["run", "-d"], &["--name", "target"], &["sh", "-c", script]);
    world.sbx(["kill", "-s", "USR1", "target"]).succeed();
    assert_eq!(state(&world, "target"), "running 0");
    world.sbx(["kill", "target"]).succeed();
    becomes(&world, "target", "exited 137");
    world.sbx(["kill", "target"]).expect_code(125).stderr_has("is not running");
    world.sbx(["kill", "-s", "NONSENSE", "target"]).expect_code(125).stderr_has("there is no such signal");
    remove(&world, "target");
}

#[test]
fn restart_ends_one_life_and_begins_another() {
    let world = sbx();
    let script = "echo life >> /tmp/lives; exec sleep 1000";
    make(&world, &["create"], &["--name", "twice"], &["sh", "-c", script]);
    let pid = || world.sbx(["inspect", "-f", "{{.State.Pid}}", "twice"]).succeed();
    assert_eq!(world.sbx(["restart", "twice"]).succeed(), "twice", "one that is down is started");
    let first = pid();
    world.sbx(["restart", "-t", "0", "twice"]).succeed();
    assert_ne!(pid(), first);
    assert_eq!(world.sbx(["exec", "twice", "cat", "/tmp/lives"]).succeed(), "life\nlife");
    assert_eq!(world.sbx(["inspect", "-f", "{{.RestartCount}}", "twice"]).succeed(), "0", "a command did it");
    remove(&world, "twice");
}

#[test]
fn a_policy_starts_it_again_as_often_as_it_says() {
    let world = sbx();
    let script = "echo life >> /tmp/lives; exit 4";
    make(&world, &["run", "-d"], &["--name", "failing", "--restart", "on-failure:2"], &["sh", "-c", script]);
    becomes(&world, "failing", "exited 4");
    assert_eq!(world.sbx(["inspect", "-f", "{{.RestartCount}}", "failing"]).succeed(), "2");
    assert_eq!(world.sbx(["cp", "failing:/tmp/lives", "-"]).finish().stdout().matches("life").count(), 3);
    remove(&world, "failing");
    make(&world, &["run", "-d"], &["--name", "fine", "--restart", "on-failure"], &["true"]);
    becomes(&world, "fine", "exited 0");
    remove(&world, "fine");
}

#[test]
fn what_a_command_ended_stays_down_whatever_its_policy() {
    let world = sbx();
    for (command, code) in [(&["stop", "-t", "0"][..], 137), (&["kill"], 137), (&["kill", "-s", "TERM"], 9)] {
        let script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.02; done";
        make(&world, &["run", "-d"], &["--name", "kept", "--restart", "always"], &["sh", "-c", script]);
        let until = Instant::now() + Duration::from_secs(10);
        while world.sbx(["logs", "kept"]).succeed() != "ready" {
            assert!(Instant::now() < until, "the trap was never set");
        }
        world.sbx([command, &["kept"]].concat()).succeed();
        becomes(&world, "kept", &format!("exited {code}"));
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(state(&world, "kept"), format!("exited {code}"), "{command:?}");
        remove(&world, "kept");
    }
}

#[test]
fn between_two_lives_it_is_restarting_and_can_be_stopped() {
    let world = sbx();
    make(&world, &["run", "-d"], &["--name", "flapping", "--restart", "always"], &["sh", "-c", "exit 6"]);
    let until = Instant::now() + Duration::from_secs(10);
    while world.sbx(["ps", "--format", "{{.State}}"]).succeed() != "restarting" {
        assert!(Instant::now() < until, "it was never seen restarting");
    }
    world.sbx(["stop", "flapping"]).succeed();
    assert_eq!(state(&world, "flapping"), "exited 6");
    world.sbx(["update", "--restart", "no", "flapping"]).succeed();
    world.sbx(["start", "flapping"]).succeed();
    becomes(&world, "flapping", "exited 6");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(state(&world, "flapping"), "exited 6", "the new policy holds");
    remove(&world, "flapping");
}

#[test]
fn a_policy_and_rm_exclude_each_other() {
    let world = sbx();
    world
        .run(["--rm", "--restart=always", "host", "true"])
        .expect_code(125)
        .stderr_has("`--rm` with `--restart always`");
    world.run(["--restart=now", "host", "true"]).expect_code(125).stderr_has("unless-stopped");
}

#[test]
fn wait_tells_the_exit_codes_and_waits_for_states() {
    let world = sbx();
    make(&world, &["run", "-d"], &["--name", "five"], &["sh", "-c", "sleep 0.2; exit 5"]);
    make(&world, &["run", "-d", "--rm"], &["--name", "gone"], &["sh", "-c", "sleep 0.2; exit 6"]);
    assert_eq!(world.sbx(["wait", "five", "gone"]).finish().stdout().lines().next(), Some("5"));
    assert_eq!(world.sbx(["wait", "--condition", "exited", "--interval", "10ms", "five"]).succeed(), "5");
    make(&world, &["create"], &["--name", "later"], &["sleep", "1000"]);
    let waiting = world.sbx(["wait", "--condition", "running", "--interval", "10ms", "later"]).spawn();
    world.sbx(["start", "later"]).succeed();
    waiting.finish().code_is(0).stdout_is("-1\n");
    world.sbx(["wait", "--condition", "bliss", "later"]).expect_code(125).stderr_has("there are: created");
    assert_eq!(world.sbx(["wait", "--ignore", "nobody"]).succeed(), "-1");
    world.sbx(["rm", "-f", "five", "later"]).succeed();
    world.assert_clean();
}

#[test]
fn a_new_name_holds_for_everything_and_frees_the_old_one() {
    let world = sbx();
    make(&world, &["run", "-d"], &["--name", "old"], &["sleep", "1000"]);
    make(&world, &["create"], &["--name", "taken"], &["true"]);
    world.sbx(["rename", "old", "taken"]).expect_code(125).stderr_has("already in use");
    world.sbx(["rename", "old", "new"]).succeed();
    assert_eq!(state(&world, "new"), "running 0");
    world.sbx(["inspect", "old"]).expect_code(125);
    make(&world, &["create"], &["--name", "old"], &["true"]);
    world.sbx(["stop", "-t", "0", "new"]).succeed();
    world.sbx(["rm", "old", "new", "taken"]).succeed();
    world.assert_clean();
}

#[test]
fn removal_refuses_what_runs_and_takes_what_fits() {
    let world = sbx();
    for name in ["aa", "bb", "cc"] {
        make(
            &world,
            &["run", "-d"],
            &["--name", name, "--label", &format!("which={name}")],
            &["sleep", "1000"],
        );
    }
    world.sbx(["rm", "aa"]).expect_code(2).stderr_has("it is running");
    world.sbx(["rm", "nobody"]).expect_code(1);
    world.sbx(["rm", "--ignore", "nobody"]).expect_code(0);
    let removed = world.sbx(["rm", "-f", "--filter", "label=which=bb"]).succeed();
    assert_eq!(removed.len(), 64);
    assert_eq!(world.sbx(["ps", "--format", "{{.Names}}"]).succeed(), "cc\naa");
    world.sbx(["stop", "-t", "0", "--all"]).succeed();
    let pruned = world.sbx(["container", "prune", "-f"]).succeed();
    assert!(
        pruned.starts_with("Deleted Containers:\n") && pruned.contains("Total reclaimed space: "),
        "{pruned}"
    );
    world.assert_clean();
}

#[test]
fn existence_is_told_by_the_exit_code() {
    let world = sbx();
    make(&world, &["create"], &["--name", "here"], &["true"]);
    world.sbx(["container", "exists", "here"]).expect_code(0);
    world.sbx(["container", "exists", "there"]).expect_code(1);
    remove(&world, "here");
}

#[test]
fn after_a_boot_what_ran_is_exited_and_starts_again() {
    let world = sbx();
    make(&world, &["run", "-d"], &["--name", "server", "--restart", "always"], &["sleep", "1000"]);
    make(&world, &["create"], &["--name", "other"], &["true"]);
    let record = fs::read_dir(world.store().join("running"))
        .expect("a store")
        .next()
        .expect("one")
        .expect("it")
        .path();
    let text = fs::read_to_string(&record).expect("a record");
    // Nothing runs any more, the lock is free, and the record is of a boot that is over.
    world.sbx(["kill", "server"]).succeed();
    becomes(&world, "server", "exited 137");
    let boot: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let old = text.replace(boot["boot_id"].as_str().expect("text"), "00000000-0000-0000-0000-000000000000");
    fs::write(&record, old).expect("a record");
    fs::remove_dir_all(world.runtime().join("sbx")).expect("the runtime directory");
    let shown = world.sbx(["ps", "-a", "--format", "{{.Names}} {{.State}}"]).expect_code(0).stderr_is("");
    assert_eq!(shown.stdout(), "other created\nserver exited\n");
    let started = world.sbx(["start", "--all", "--filter", "restart-policy=always"]).succeed();
    assert_eq!(started.len(), 64);
    assert_eq!(state(&world, "server"), "running 0");
    world.sbx(["rm", "-f", "server", "other"]).succeed();
    world.assert_clean();
}

#[test]
fn a_store_that_was_moved_still_works() {
    let world = sbx();
    make(
        &world,
        &["create"],
        &["--name", "mover", "-v", "data:/data"],
        &["sh", "-c", "echo here > /data/f; cat /data/f"],
    );
    let moved = world.directory().join("moved");
    fs::rename(world.store(), &moved).expect("a move");
    let moved = moved.to_str().expect("text");
    assert_eq!(world.sbx(["--root", moved, "start", "-a", "mover"]).succeed(), "here");
    world.sbx(["--root", moved, "rm", "mover"]).succeed();
    world.sbx(["--root", moved, "volume", "rm", "data"]).succeed();
}

#[test]
fn without_its_control_socket_it_can_be_stopped_and_killed() {
    let world = sbx();
    for command in [&["stop", "-t", "1"][..], &["kill"]] {
        make(&world, &["run", "-d"], &["--name", "alone"], &["sleep", "1000"]);
        let sockets = fs::read_dir(world.runtime().join("sbx")).expect("a directory").flatten();
        for socket in sockets.filter(|entry| entry.path().extension().is_some_and(|end| end == "control")) {
            fs::remove_file(socket.path()).expect("a socket");
        }
        world.sbx(["exec", "alone", "true"]).finish().stderr_has("control socket");
        world.sbx([command, &["alone"]].concat()).succeed();
        becomes(&world, "alone", "exited 137");
        remove(&world, "alone");
    }
}

#[test]
fn hundreds_of_containers_get_names_of_their_own() {
    let world = sbx();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..75).for_each(|_| drop(make(&world, &["create"], &[], &["true"]))));
        }
    });
    let names = world.sbx(["ps", "-a", "--format", "{{.Names}}"]).succeed();
    let distinct: std::collections::BTreeSet<&str> = names.lines().collect();
    assert_eq!((names.lines().count(), distinct.len()), (300, 300));
    world.sbx(["rm", "--all"]).succeed();
    world.assert_clean();
}

#[test]
fn a_hundred_start_at_once() {
    let world = sbx();
    let words = ["run", "-d", "--net", "none", "--rootfs", rootfs().to_str().expect("text"), "sleep", "1000"];
    let all: Vec<_> = (0..100).map(|_| world.sbx(words).spawn()).collect();
    for one in all {
        one.finish().code_is(0);
    }
    assert_eq!(world.sbx(["ps", "-q"]).succeed().lines().count(), 100);
    world.sbx(["rm", "--force", "--all"]).succeed();
    world.assert_clean();
}

#[test]
fn a_container_that_ends_by_itself_is_down_when_stop_says_so() {
    let world = sbx();
    for round in 0..40_u32 {
        let ends = format!("sleep 0.0{}; exit 7", 1 + round % 8);
        make(&world, &["run", "-d"], &["--name", "short"], &["sh", "-c", &ends]);
        let waiting = world.sbx(["wait", "short"]).spawn();
        std::thread::sleep(Duration::from_millis(u64::from(round % 10) * 10));
        world.sbx(["stop", "short"]).succeed();
        let shown = state(&world, "short");
        assert!(["exited 7", "exited 137"].contains(&shown.as_str()), "{shown}");
        world.sbx(["rm", "short"]).succeed();
        let code = waiting.finish().code_is(0).stdout();
        assert_eq!(format!("exited {}", code.trim()), shown);
    }
    world.assert_clean();
}

#[test]
fn a_rename_that_was_killed_can_be_made_again() {
    let world = sbx();
    let id = make(&world, &["create"], &["--name", "old"], &["true"]);
    let names = world.store().join("names");
    std::os::unix::fs::symlink(&id, names.join("new")).expect("a name");
    world.sbx(["rename", "old", "new"]).succeed();
    assert_eq!(world.sbx(["ps", "-a", "--format", "{{.Names}}"]).succeed(), "new");
    std::os::unix::fs::symlink(&id, names.join("third")).expect("a name");
    world.sbx(["rm", "new"]).succeed();
    assert_eq!(fs::read_dir(&names).expect("names").count(), 0);
    world.assert_clean();
}
