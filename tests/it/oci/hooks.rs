//! Hooks: their moments, namespaces and failures.

use std::fs;

use serde_json::{Value, json};

use super::{Bundle, content_of, wait_for};
use crate::harness::sbx;

#[test]
fn all_six_run_in_order_with_the_state() {
    let world = sbx();
    let log = world.work().join("log");
    // Those inside write into what is bound there.
    let script =
        format!("#!/bin/sh\necho \"$MOMENT $1 $(readlink /proc/self/ns/mnt) $(cat)\" >> {}\n", log.display());
    let outside = world.script("outside", &script);
    let hook = |moment: &str| json!([{ "path": outside, "args": ["hook", "word"], "env": [format!("MOMENT={moment}"), "PATH=/bin:/usr/bin"] }]);
    let inside = "read x; echo \"startContainer word $(readlink /proc/self/ns/mnt) $x\" >> /mnt/log";
    let bundle = Bundle::new(&world, "echo 'command - - {}' >> /mnt/log")
        .set("/annotations", json!({ "a": "b" }))
        .mount(json!({ "destination": "/mnt", "source": world.work(), "options": ["rbind"] }))
        .set(
            "/hooks",
            json!({
                "prestart": hook("prestart"),
                "createRuntime": hook("createRuntime"),
                "createContainer": hook("createContainer"),
                "startContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", inside] }],
                "poststart": hook("poststart"),
                "poststop": hook("poststop"),
            }),
        );
    bundle.behind("create", "a").expect_code(0);
    let pid = {
        let state: Value = serde_json::from_str(&world.sbx(["oci", "state", "a"]).succeed()).expect("JSON");
        state["pid"].clone()
    };
    world.sbx(["oci", "start", "a"]).succeed();
    wait_for(&world, "a", "stopped");
    world.sbx(["oci", "delete", "a"]).succeed();
    let text = fs::read_to_string(&log).expect("a log");
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.splitn(4, ' ').collect()).collect();
    let mut moments: Vec<&str> = lines.iter().map(|line| line[0]).collect();
    // The command runs beside what comes after its start.
    moments.retain(|moment| *moment != "command");
    assert_eq!(
        moments,
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
    );
    let own = fs::read_link("/proc/self/ns/mnt").expect("a link");
    for line in lines.iter().filter(|line| line[0] != "command") {
        let state: Value = serde_json::from_str(line[3]).expect("JSON");
        let expected = match line[0] {
            "startContainer" => "created",
            "poststart" => "running",
            "poststop" => "stopped",
            _ => "creating",
        };
        assert_eq!(state["status"], expected, "{text}");
        assert_eq!(state["id"], "a");
        assert_eq!(state["annotations"]["a"], "b");
        assert_eq!(state["bundle"], json!(bundle.directory));
        let is_outside = !matches!(line[0], "createContainer" | "startContainer");
        assert_eq!(line[2] == own.to_str().expect("UTF-8"), is_outside, "{text}");
        if matches!(line[0], "prestart" | "createRuntime" | "poststart") {
            assert_eq!(state["pid"], pid, "{text}");
        }
        assert_eq!(line[1], "word", "{text}");
    }
}

#[test]
fn a_hook_that_fails_fails_the_command_and_leaves_nothing() {
    let world = sbx();
    let stopped = world.work().join("stopped");
    for moment in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"] {
        let bundle = Bundle::new(&world, "exec sleep 999").set("/hooks", json!({
            moment: [{ "path": "/bin/sh", "args": ["sh", "-c", "echo it hurts >&2; exit 3"] }],
            "poststop": [{ "path": "/bin/sh", "args": ["sh", "-c", format!("echo {moment} > {}", stopped.display())] }],
        }));
        let error = format!("the {moment} hook number 1 failed");
        let run = bundle.run().expect_code(1);
        run.stderr_has(&error).stderr_has("exit code 3").stderr_has("it hurts");
        assert_eq!(content_of(&stopped), format!("{moment}\n"));
        fs::remove_file(&stopped).expect("removed");
        assert_eq!(world.sbx(["oci", "list", "--quiet"]).succeed(), "");
    }
    for moment in ["startContainer", "poststart"] {
        let bundle = Bundle::new(&world, "exec sleep 999")
            .set("/hooks", json!({ moment: [{ "path": "/bin/false" }] }));
        bundle.behind("create", "a").expect_code(0);
        world.sbx(["oci", "start", "a"]).expect_code(1).stderr_has(&format!("the {moment} hook"));
        wait_for(&world, "a", "stopped");
        world.sbx(["oci", "delete", "a"]).succeed();
    }
}

#[test]
fn a_hook_that_takes_too_long_is_killed_and_one_after_the_end_is_told_of() {
    let world = sbx();
    let slow = json!([{ "path": "/bin/sleep", "args": ["sleep", "999"], "timeout": 1 }]);
    let bundle = Bundle::new(&world, "true").set("/hooks", json!({ "createRuntime": slow }));
    bundle.run().expect_code(1).stderr_has("timeout of 1 s");
    let bundle = Bundle::new(&world, "true").set("/hooks", json!({ "poststop": [{ "path": "/bin/false" }] }));
    bundle.run().expect_code(0).stderr_has("the poststop hook number 1 failed");
    let bundle = Bundle::new(&world, "exec sleep 999")
        .set("/hooks", json!({ "createRuntime": [{ "path": "/no/such/hook" }] }));
    bundle.verb("create", "a").expect_code(1).stderr_has("/no/such/hook");
    world.sbx(["oci", "state", "a"]).expect_code(1);
}

#[test]
fn those_outside_begin_in_the_bundle_wherever_they_are_called_from() {
    let world = sbx();
    let log = world.work().join("log");
    let hook = |moment: &str| {
        let script = format!("echo {moment} $(pwd) >> {}", log.display());
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }])
    };
    let moments = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
    let hooks: serde_json::Map<String, Value> =
        moments.iter().map(|moment| ((*moment).to_owned(), hook(moment))).collect();
    let bundle = Bundle::new(&world, "true").set("/hooks", json!(hooks));
    bundle.run().expect_code(0);
    let wanted: String =
        moments.iter().map(|moment| format!("{moment} {}\n", bundle.directory.display())).collect();
    assert_eq!(fs::read_to_string(&log).expect("a log"), wanted);
    // A bundle that is gone holds no deletion up.
    bundle.behind("create", "a").expect_code(0);
    fs::rename(&bundle.directory, world.work().join("elsewhere")).expect("renamed");
    world.sbx(["oci", "delete", "a"]).expect_code(0).stderr_is("");
    let text = fs::read_to_string(&log).expect("a log");
    assert!(text.ends_with(&format!("poststop {}\n", world.work().display())), "{text}");
}
