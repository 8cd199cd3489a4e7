//! From `create` to `delete`, and what is in between when something is killed.

use std::fs;
use std::os::unix::fs::symlink;

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{Bundle, behind, content_of, status, wait_for};
use crate::harness::{require, sbx, sbx_binary};

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
fn a_create_that_is_killed_in_a_hook_of_the_container_leaves_no_process() {
    let world = sbx();
    let reached = world.work().join("reached");
    let script = format!("echo reached > {}; sleep 77; true", reached.display());
    let hooks = json!({ "createContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", script] }] });
    let separate = Bundle::new(&world, "true").set("/hooks", hooks);
    // Nothing of its set-up ends there with the first process but the hook itself.
    let script = format!("echo reached > {}; exec sleep 77", reached.display());
    let hooks = json!({ "createContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", script] }] });
    let mut shared = Bundle::new(&world, "true")
        .set("/hooks", hooks)
        .set("/linux/namespaces", json!([{ "type": "user" }, { "type": "mount" }]))
        .set("/mounts", json!([]));
    shared.config.as_object_mut().expect("an object").remove("hostname");
    shared.write();
    for bundle in [separate, shared] {
        for options in [&[][..], &["--force"]] {
            let running = bundle.verb("create", "a").stdin("").spawn();
            content_of(&reached);
            running.signal(Signal::SIGKILL);
            running.finish().code_is(137);
            assert_eq!(status(&world, "a"), "stopped");
            let began = Instant::now();
            world.sbx(["oci", "delete"]).args(options).arg("a").succeed();
            assert!(began.elapsed() < Duration::from_secs(20), "it waits for the hook");
            fs::remove_file(&reached).expect("removed");
        }
    }
}

#[test]
fn a_forced_delete_waits_for_no_hook() {
    let world = sbx();
    let reached = world.work().join("reached");
    for moment in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"] {
        let file = if moment == "startContainer" { "/mnt/reached".into() } else { reached.clone() };
        let script = format!("echo $$ > {}; exec sleep 40", file.display());
        let bundle = Bundle::new(&world, "exec sleep 999")
            .mount(json!({ "destination": "/mnt", "source": world.work(), "options": ["rbind"] }))
            .set("/hooks", json!({ moment: [{ "path": "/bin/sh", "args": ["sh", "-c", script] }] }));
        let is_of_start = moment.contains("start") && moment != "prestart";
        let running = if is_of_start {
            bundle.behind("create", "a").expect_code(0);
            world.sbx(["oci", "start", "a"]).spawn()
        } else {
            bundle.verb("create", "a").stdin("").spawn()
        };
        let hook = content_of(&reached);
        let began = Instant::now();
        world.sbx(["oci", "delete", "--force", "a"]).succeed();
        assert!(began.elapsed() < Duration::from_secs(15), "it waits for the {moment} hook");
        world.sbx(["oci", "state", "a"]).expect_code(1).stderr_has("does not exist");
        if moment == "poststart" {
            // It is the host's, and no process of the container.
            kill(Pid::from_raw(hook.trim().parse().expect("a PID")), Signal::SIGKILL).expect("a signal");
        }
        let finished = running.finish();
        assert!(began.elapsed() < Duration::from_secs(15), "the {moment} hook goes on");
        if moment != "startContainer" {
            finished.code_is(1);
        }
        fs::remove_file(&reached).expect("removed");
    }
}

#[test]
fn it_counts_as_created_until_the_command_is_executed() {
    let world = sbx();
    let (reached, go) = (world.work().join("reached"), world.work().join("go"));
    let script = "echo reached > /mnt/reached; while [ ! -e /mnt/go ]; do sleep 0.01; done";
    let bundle = Bundle::new(&world, "exec sleep 999")
        .mount(json!({ "destination": "/mnt", "source": world.work(), "options": ["rbind"] }))
        .set("/hooks", json!({ "startContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", script] }] }));
    for is_killed in [false, true] {
        bundle.behind("create", "a").expect_code(0);
        let start = world.sbx(["oci", "start", "a"]).spawn();
        content_of(&reached);
        assert_eq!(status(&world, "a"), "created");
        if is_killed {
            start.signal(Signal::SIGKILL);
            start.finish().code_is(137);
            assert_eq!(status(&world, "a"), "created");
            fs::write(&go, "").expect("a file");
            wait_for(&world, "a", "running");
        } else {
            fs::write(&go, "").expect("a file");
            start.finish().code_is(0);
        }
        assert_eq!(status(&world, "a"), "running");
        world.sbx(["oci", "start", "a"]).expect_code(1).stderr_has("already running");
        world.sbx(["oci", "delete", "--force", "a"]).succeed();
        fs::remove_file(&reached).and_then(|()| fs::remove_file(&go)).expect("removed");
    }
    let run = bundle.verb("run", "a").stdin("").spawn();
    content_of(&reached);
    assert_eq!(status(&world, "a"), "created");
    fs::write(&go, "").expect("a file");
    wait_for(&world, "a", "running");
    world.sbx(["oci", "kill", "a", "KILL"]).succeed();
    run.finish().code_is(137);
}

#[test]
fn list_says_nothing_of_what_is_being_made_or_deleted() {
    let world = sbx();
    let bundle = Bundle::new(&world, "true");
    bundle.behind("create", "a").expect_code(0);
    // As it is for a moment before and after there is a record.
    let half = world.runtime().join("sbx/oci/half");
    fs::create_dir(&half).expect("a directory");
    world.sbx(["oci", "list", "--quiet"]).expect_code(0).stdout_is("a\n").stderr_is("");
    fs::write(half.join("state.json"), "{").expect("a file");
    world.sbx(["oci", "list", "--quiet"]).expect_code(0).stderr_has("cannot read the state");
    for id in ["a", "half"] {
        world.sbx(["oci", "delete", "--force", id]).succeed();
    }
}

#[test]
fn a_process_id_is_written_where_nobody_can_be_waiting() {
    let world = sbx();
    let bundle = Bundle::new(&world, "exec sleep 999");
    let (victim, pid_file) = (world.file("victim", "kept"), world.work().join("a.pid"));
    for name in [".a.pid", "a.pid"] {
        symlink(&victim, world.work().join(name)).expect("a symlink");
    }
    bundle.behind("create", "a").arg("--pid-file").arg(&pid_file).expect_code(0);
    assert_eq!(fs::read_to_string(&pid_file).expect("a file"), pid_of(&world, "a").to_string());
    assert!(!pid_file.is_symlink());
    world.sbx(["oci", "start", "a"]).succeed();
    let exec = behind(&world).args(["oci", "exec", "--detach", "--pid-file"]).arg(&pid_file);
    exec.args(["a", "sleep", "998"]).expect_code(0);
    assert_ne!(fs::read_to_string(&pid_file).expect("a file"), pid_of(&world, "a").to_string());
    assert_eq!(fs::read_to_string(&victim).expect("a file"), "kept");
    let left = fs::read_dir(world.work()).expect("a directory").flatten();
    let left = left.filter(|entry| entry.file_name().to_string_lossy().starts_with(".a.pid")).count();
    assert_eq!(left, 1, "the symlink alone");
    world.sbx(["oci", "delete", "--force", "a"]).succeed();
}

#[test]
fn sockets_that_the_runtime_was_started_with_are_the_containers() {
    let world = sbx();
    let bundle = Bundle::new(&world, "echo $LISTEN_FDS $LISTEN_PID; cat <&3; cat <&4")
        .set("/process/env", json!(["PATH=/bin", "LISTEN_FDS=7"]));
    for name in ["three", "four"] {
        world.file(name, name);
    }
    let run = |whose: &str, runtime: &str| {
        let script = format!(
            "export LISTEN_FDS=1 LISTEN_PID={whose}; cd {}; exec {runtime} run --preserve-fds 1 --bundle {} a 3<three 4<four",
            world.work().display(),
            bundle.directory.display()
        );
        world.program("sh").args(["-c", &script]).expect_code(0).stdout()
    };
    let sbx = format!("{} oci", sbx_binary().display());
    let runc = format!("runc --root {}", world.work().join("runc").display());
    require("runc");
    for runtime in [sbx, runc] {
        assert_eq!(run("$$", &runtime), "1 1\nthreefour", "{runtime}");
    }
    // Of somebody else's nothing is told, and descriptors are handed on that were asked for.
    let bundle = Bundle::new(&world, "echo $LISTEN_FDS. $(cat <&3)");
    let script = "LISTEN_FDS=1 LISTEN_PID=1 exec \"$@\" 3<three";
    let run =
        world.program("sh").args(["-c", script, "sh"]).arg(sbx_binary()).args(["oci", "run", "--bundle"]);
    run.arg(&bundle.directory).args(["--preserve-fds", "1", "a"]).expect_code(0).stdout_is(". three\n");
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
        let usage = format!("Usage: {name} ");
        world.program(&link).expect_code(0).stdout_has(&usage).stdout_has("features");
        world.program(&link).args(["create", "--help"]).expect_code(0).stdout_has(&format!("{name} create"));
        let hint = format!("Hint: `{name} create --help`");
        world.program(&link).args(["create", "--no-such-option"]).expect_code(125).stderr_has(&hint);
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
