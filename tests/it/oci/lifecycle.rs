//! From `create` to `delete`, and what is in between when something is killed.

use std::fs;
use std::os::unix::fs::symlink;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{Bundle, behind, content_of, status, wait_for};
use crate::harness::{sbx, sbx_binary};

fn pid_of(world: &crate::harness::Sbx, id: &str) -> i32 {
    let state: Value = serde_json::from_str(&world.sbx(["oci", "state", id]).succeed()).expect("JSON");
    i32::try_from(state["pid"].as_i64().expect("a PID")).expect("a PID")
}

#[test]
fn a_container_waits_for_its_start_and_its_deletion() {
    let world = sbx();
    let out = world.work().join("out");
    let bundle = Bundle::new(&world, "echo started; exec sleep 999");
    let pid_file = world.work().join("pid");
    bundle.behind("create", "web").arg("--pid-file").arg(&pid_file).expect_code(0);
    let state: Value = serde_json::from_str(&world.sbx(["oci", "state", "web"]).succeed()).expect("JSON");
    assert_eq!(state["status"], "created");
    assert_eq!(state["ociVersion"], "1.2.0");
    assert_eq!(state["id"], "web");
    assert_eq!(state["bundle"], json!(bundle.directory));
    assert_eq!(fs::read_to_string(&pid_file).expect("a file"), state["pid"].to_string());
    assert_eq!(fs::read_to_string(&out).expect("a file"), "", "the command does not run yet");

    world.sbx(["oci", "start", "web"]).succeed();
    assert_eq!(content_of(&out), "started\n");
    assert_eq!(status(&world, "web"), "running");
    world.sbx(["oci", "start", "web"]).expect_code(1).stderr_has("already running");
    world.sbx(["oci", "delete", "web"]).expect_code(1).stderr_has("that is not stopped");
    world.sbx(["oci", "list", "--quiet"]).expect_code(0).stdout_is("web\n");
    let pids: Vec<i32> =
        serde_json::from_str(&world.sbx(["oci", "ps", "--format", "json", "web"]).succeed()).expect("JSON");
    assert_eq!(pids, [pid_of(&world, "web")]);

    world.sbx(["oci", "kill", "web", "KILL"]).succeed();
    wait_for(&world, "web", "stopped");
    world.sbx(["oci", "kill", "web"]).expect_code(1).stderr_has("container not running");
    world.sbx(["oci", "delete", "web"]).succeed();
    world.sbx(["oci", "state", "web"]).expect_code(1).stderr_has("does not exist");
    world.sbx(["oci", "delete", "web"]).expect_code(1).stderr_has("does not exist");
    world.sbx(["oci", "delete", "--force", "web"]).succeed();
    assert_eq!(fs::read_dir(world.runtime().join("sbx/oci")).expect("a directory").count(), 0);
}

#[test]
fn run_gives_the_exit_code_and_leaves_nothing() {
    let world = sbx();
    Bundle::new(&world, "cat; exit 7").run().stdin("hello").expect_code(7).stdout_is("hello");
    let mut shared = Bundle::new(&world, "kill -9 $$; exit 1")
        .set("/linux/namespaces", json!([{ "type": "user" }, { "type": "mount" }]))
        .set("/mounts", json!([]));
    shared.config.as_object_mut().expect("an object").remove("hostname");
    shared.write();
    shared.run().expect_code(137);
    world.sbx(["oci", "list", "--quiet"]).expect_code(0).stdout_is("");
    let bundle = Bundle::new(&world, "exit 3");
    bundle.run().arg("--keep").expect_code(3);
    assert_eq!(status(&world, "test"), "stopped");
    world.sbx(["oci", "delete", "test"]).succeed();
}

#[test]
fn run_forwards_signals() {
    let world = sbx();
    let bundle =
        Bundle::new(&world, "trap 'echo caught; exit 5' TERM; echo up; while :; do sleep 0.01; done");
    let mut running = bundle.run().spawn();
    running.wait_for_stdout("up\n");
    running.signal(Signal::SIGTERM);
    running.finish().code_is(5).stdout_is("up\ncaught\n");
}

#[test]
fn a_detached_one_goes_on() {
    let world = sbx();
    let bundle = Bundle::new(&world, "exec sleep 999");
    bundle.behind("run", "test").arg("--detach").expect_code(0);
    assert_eq!(status(&world, "test"), "running");
    world.sbx(["oci", "delete", "--force", "test"]).succeed();
}

#[test]
fn ids_are_taken_once_and_lead_nowhere() {
    let world = sbx();
    let bundle = Bundle::new(&world, "true");
    bundle.behind("create", "a").expect_code(0);
    bundle.verb("create", "a").expect_code(1).stderr_has("container with given ID already exists");
    bundle.verb("run", "a").expect_code(1).stderr_has("container with given ID already exists");
    assert_eq!(status(&world, "a"), "created");
    world.sbx(["oci", "delete", "a"]).succeed();
    for id in ["../a", "a/b", "..", ".", "", "a b"] {
        bundle.verb("create", id).expect_code(1).stderr_has("invalid container ID format");
        world.sbx(["oci", "delete", "--force", id]).expect_code(1).stderr_has("invalid container ID format");
    }
}

#[test]
fn what_is_killed_before_its_start_is_stopped_and_can_be_deleted() {
    let world = sbx();
    let bundle = Bundle::new(&world, "true");
    bundle.behind("create", "a").expect_code(0);
    kill(Pid::from_raw(pid_of(&world, "a")), Signal::SIGKILL).expect("a signal");
    wait_for(&world, "a", "stopped");
    world.sbx(["oci", "start", "a"]).expect_code(1).stderr_has("has stopped");
    world.sbx(["oci", "delete", "a"]).succeed();
}

#[test]
fn a_killed_create_leaves_what_can_be_deleted() {
    let world = sbx();
    // The hook holds the set-up up until somebody writes.
    let reached = world.work().join("reached");
    let fifo = world.work().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let script = format!("#!/bin/sh\necho reached > {}\nread x < {}\n", reached.display(), fifo.display());
    let hook = world.script("hook", &script);
    let bundle = Bundle::new(&world, "true").set("/hooks", json!({ "createRuntime": [{ "path": hook }] }));
    let running = bundle.verb("create", "a").stdin("").spawn();
    content_of(&reached);
    assert_eq!(status(&world, "a"), "creating");
    running.signal(Signal::SIGKILL);
    running.finish().code_is(137);
    wait_for(&world, "a", "stopped");
    world.sbx(["oci", "delete", "--force", "a"]).succeed();
    world.sbx(["oci", "list", "--quiet"]).expect_code(0).stdout_is("");
    fs::write(&fifo, "on\n").expect("the hook reads");
}

#[test]
fn a_command_that_is_missing_shows_at_the_creation_in_the_words_of_engines() {
    let world = sbx();
    let log = world.work().join("log");
    let bundle = Bundle::new(&world, "").set("/process/args", json!(["no-such-command"]));
    for verb in ["create", "run"] {
        bundle.verb(verb, "a").expect_code(1).stderr_has("executable file not found in $PATH");
    }
    let run = world.sbx(["oci", "--log-format", "json", "--log"]).arg(&log);
    run.args(["create", "--bundle"]).arg(&bundle.directory).arg("a").expect_code(1);
    let line: Value = serde_json::from_str(&fs::read_to_string(&log).expect("a log")).expect("JSON");
    assert_eq!(line["level"], "error");
    assert!(line["msg"].as_str().expect("a text").contains("executable file not found in $PATH"), "{line}");
    assert!(line["time"].as_str().expect("a time").ends_with('Z'), "{line}");
    let bundle = bundle.set("/process/args", json!(["/etc/passwd"]));
    bundle.run().expect_code(1).stderr_has("Permission denied");
    world.sbx(["oci", "list", "--quiet"]).expect_code(0).stdout_is("");
}

#[test]
fn called_as_runc_or_crun_it_takes_their_form() {
    let world = sbx();
    let bundle = Bundle::new(&world, "echo $0");
    for name in ["runc", "crun", "sbx-oci"] {
        let link = world.work().join(name);
        symlink(sbx_binary(), &link).expect("a link");
        let state = world.work().join(format!("state-{name}"));
        let run =
            world.program(&link).arg("--root").arg(&state).args(["run", "--bundle"]).arg(&bundle.directory);
        run.arg("a").expect_code(0).stdout_is("sh\n");
        assert!(state.is_dir());
        world.program(&link).arg("--version").expect_code(0).stdout_has("spec: 1.2.0");
        world.program(&link).args(["state", "a"]).expect_code(1).stderr_has("does not exist");
    }
}

#[test]
fn features_are_told_as_json() {
    let world = sbx();
    let features: Value = serde_json::from_str(&world.sbx(["oci", "features"]).succeed()).expect("JSON");
    assert_eq!(features["ociVersionMax"], "1.2.0");
    let options = features["mountOptions"].as_array().expect("options");
    // config-linux.md, Mount options of Linux: those that MUST and SHOULD be there.
    let listed = "async atime bind defaults dev diratime dirsync exec iversion lazytime loud noatime nodev nodiratime \
        noexec noiversion nolazytime norelatime nostrictatime nosuid nosymfollow private ratime rbind rdev rdiratime \
        relatime remount rexec rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro \
        rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow runbindable rw shared silent slave \
        strictatime suid symfollow sync tmpcopyup unbindable idmap ridmap";
    for option in listed.split_whitespace() {
        assert!(options.contains(&json!(option)), "{option}");
    }
    let ignored = &features["annotations"]["dev.sbx.ignored-in-user-namespaces"];
    assert_eq!(ignored, "linux.resources.devices", "the case devices/rules_of_control_groups states it");
}

#[test]
fn what_needs_a_control_group_says_why_there_is_none() {
    let world = sbx();
    let bundle = Bundle::new(&world, "exec sleep 999");
    let create = behind(&world).args(["oci", "--cgroup-manager", "disabled", "create", "--bundle"]);
    create.arg(&bundle.directory).arg("a").expect_code(0);
    let why = "has no control group of its own";
    for words in [&["pause", "a"][..], &["events", "--stats", "a"], &["update", "--memory", "64m", "a"]] {
        world.sbx(["oci"]).args(words).expect_code(1).stderr_has(why).stderr_has("Hint: ");
    }
    world.sbx(["oci", "resume", "a"]).expect_code(1).stderr_has("not paused");
    world.sbx(["oci", "delete", "a"]).succeed();
    let limited =
        Bundle::new(&world, "true").set("/linux/resources", json!({ "memory": { "limit": 67108864 } }));
    let run = world.sbx(["oci", "--cgroup-manager", "disabled", "run", "--bundle"]).arg(&limited.directory);
    run.arg("a").expect_code(1).stderr_has("memory.max");
}

#[test]
fn its_version_and_owners_are_told_as_by_other_runtimes() {
    let world = sbx();
    let link = world.work().join("runc");
    symlink(sbx_binary(), &link).expect("a symlink");
    let version = world.program(&link).arg("--version").succeed();
    assert!(version.ends_with("\nspec: 1.2.0"), "{version}");
    for option in ["--version", "-v"] {
        assert_eq!(world.sbx(["oci", option]).succeed(), version);
    }
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).expect("the user database");
    let user = user.expect("an entry").name;
    Bundle::new(&world, "true").behind("create", "web").expect_code(0);
    let state: Value = serde_json::from_str(&world.sbx(["oci", "state", "web"]).succeed()).expect("JSON");
    assert_eq!(state["owner"], json!(user));
    let table = world.sbx(["oci", "list"]).succeed();
    let (names, row) = table.split_once('\n').expect("a table");
    assert!(names.ends_with("   OWNER") && row.ends_with(&format!("   {user}")), "{table}");
    world.sbx(["oci", "delete", "web"]).succeed();
}
