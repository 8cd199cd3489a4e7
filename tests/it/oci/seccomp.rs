//! `linux.seccomp`.

use std::os::unix::net::UnixListener;

use serde_json::{Value, json};

use super::Bundle;
use super::console::receive;
use crate::harness::sbx;

#[test]
fn calls_get_the_action_that_is_listed() {
    let world = sbx();
    for privileged in [false, true] {
        let bundle = Bundle::new(&world, "mkdir /tmp/x; chmod 700 /tmp; echo on")
            .set("/process/noNewPrivileges", json!(!privileged))
            .mount(json!({ "destination": "/tmp", "type": "tmpfs" }))
            .set(
                "/linux/seccomp",
                json!({
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
                    "flags": ["SECCOMP_FILTER_FLAG_LOG"],
                    "syscalls": [
                        { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 },
                        { "names": ["chmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO" },
                    ],
                }),
            );
        let run = bundle.run().expect_code(0).stdout_is("on\n");
        run.stderr_has("not supported").stderr_has("Operation not permitted");
    }
}

#[test]
fn calls_are_handed_to_who_listens() {
    let world = sbx();
    let socket = world.work().join("calls");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let filter = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": socket,
        "listenerMetadata": "whose it is",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }],
    });
    let bundle = Bundle::new(&world, "mkdir /tmp/x")
        .mount(json!({ "destination": "/tmp", "type": "tmpfs" }))
        .set("/linux/seccomp", filter);
    let run = bundle.run().spawn();
    let (text, calls) = receive(&listener);
    let state: Value = serde_json::from_slice(&text).expect("JSON");
    assert_eq!(state["fds"], json!(["seccompFd"]));
    assert_eq!(state["metadata"], "whose it is");
    assert_eq!(state["state"]["status"], "creating");
    assert_eq!(state["state"]["pid"], state["pid"]);
    // Nobody answers any more: the call is not there (seccomp_unotify(2)).
    drop(calls.expect("a descriptor"));
    run.finish().code_is(1).stderr_has("Function not implemented");
    let nobody = Bundle::new(&world, "true").set("/linux/seccomp", json!({
        "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }],
    }));
    nobody.run().expect_code(1).stderr_has("no `listenerPath`");
}

#[test]
fn calls_that_sbx_makes_itself_may_be_handed_over_too() {
    let world = sbx();
    let socket = world.work().join("calls");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let bundle = Bundle::new(&world, "echo runs").set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": socket,
            "flags": ["SECCOMP_FILTER_FLAG_TSYNC"],
            "syscalls": [{ "names": ["sendmsg"], "action": "SCMP_ACT_NOTIFY" }],
        }),
    );
    let run = bundle.run().spawn();
    let (_, calls) = receive(&listener);
    drop(calls);
    // Nobody answers, and without sendmsg the process cannot say that it is ready.
    run.finish().code_is(1).stderr_has("ended before it was set up");
    world.sbx(["oci", "list", "--quiet"]).expect_code(0).stdout_is("");
}
