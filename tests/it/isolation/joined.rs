//! Namespaces shared between containers, or joined by the path of their file.

use std::process::Stdio;

use super::super::harness::{Running, Sbx, require, sbx};
use super::{own_namespace, run};

const SHOW: &str = "cd /proc/self/ns && for kind in user pid uts ipc net cgroup; do readlink $kind; done";

/// A container that runs until its standard input is closed, and what it printed first.
fn target<'w>(world: &'w Sbx, flags: &[&str], script: &str) -> (Running<'w>, String) {
    let script = format!("{script}; echo ready; read line; true");
    let flags = [&["-i"], flags].concat();
    let mut running = run(world, &flags, &script).stdin_from(Stdio::piped()).spawn();
    running.wait_for_stdout("ready\n");
    let printed = running.stdout_now().replace("ready\n", "");
    (running, printed)
}

fn end(mut target: Running<'_>) {
    target.close_stdin();
    let _ = target.finish();
}

#[test]
fn a_namespace_of_another_container_comes_with_its_user_namespace() {
    let world = sbx();
    let (web, theirs) = target(&world, &["--name", "web"], SHOW);
    let theirs: Vec<&str> = theirs.lines().collect();
    for (at, flag) in [(1, "--pid"), (2, "--uts"), (3, "--ipc"), (4, "--net"), (5, "--cgroupns")] {
        let ours = run(&world, &[flag, "container:web"], SHOW).succeed();
        let ours: Vec<&str> = ours.lines().collect();
        for other in 0..theirs.len() {
            let same = other == 0 || other == at;
            assert_eq!(ours[other] == theirs[other], same, "{flag}: {ours:?} {theirs:?}");
        }
    }
    end(web);
}

#[test]
fn all_namespaces_of_a_container_can_be_joined_at_once() {
    let world = sbx();
    let (web, theirs) = target(&world, &["--name", "web", "--hostname", "webhost"], SHOW);
    let flags =
        ["--pid", "--uts", "--ipc", "--net", "--cgroupns"].map(|flag| format!("{flag}=container:web"));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let ours = run(&world, &flags, &format!("hostname; {SHOW}")).succeed();
    assert_eq!(ours.trim_end(), format!("webhost\n{theirs}").trim_end());
    end(web);
}

#[test]
fn processes_are_seen_by_those_who_share_them_alone() {
    let world = sbx();
    let (web, _) = target(&world, &["--name", "web"], "true");
    let joined =
        run(&world, &["--pid", "container:web"], "tr '\\0' ' ' </proc/1/cmdline; test $$ != 1").succeed();
    assert!(joined.contains("echo ready"), "{joined}");
    assert_eq!(run(&world, &[], "echo /proc/[0-9]*").succeed(), "/proc/1");
    end(web);
}

#[test]
fn the_end_of_the_first_process_ends_those_who_joined() {
    let world = sbx();
    let (web, _) = target(&world, &["--name", "web"], "true");
    let mut guest = run(&world, &["--pid", "container:web"], "echo here; sleep 100").spawn();
    guest.wait_for_stdout("here\n");
    end(web);
    let _ = guest.finish().code_is(137);
}

#[test]
fn a_guest_leaves_the_container_that_it_joined_alone() {
    let world = sbx();
    let (mut web, _) = target(&world, &["--name", "web"], "true");
    run(&world, &["--pid", "container:web", "--net", "container:web"], "true").succeed();
    assert!(web.is_running());
    web.close_stdin();
    web.finish().code_is(0);
}

#[test]
fn a_path_joins_what_belongs_to_the_user_namespace_beside_it() {
    let world = sbx();
    let (web, printed) = target(&world, &["--pid", "host"], &format!("echo $$; {SHOW}"));
    let mut lines = printed.lines();
    let pid = lines.next().expect("a PID");
    let theirs: Vec<&str> = lines.collect();
    let user = format!("ns:/proc/{pid}/ns/user");
    let net = format!("ns:/proc/{pid}/ns/net");
    let uts = format!("ns:/proc/{pid}/ns/uts");
    let flags = ["--userns", &user, "--net", &net, "--uts", &uts];
    let ours = run(&world, &flags, SHOW).succeed();
    let ours: Vec<&str> = ours.lines().collect();
    assert_eq!((ours[0], ours[2], ours[4]), (theirs[0], theirs[2], theirs[4]));
    assert_ne!(ours[1], theirs[1]);
    assert_ne!(ours[3], theirs[3]);
    run(&world, &["--uts", &uts], "true")
        .expect_code(125)
        .stderr_has("cannot join the uts namespace")
        .stderr_has("--userns ns:PATH");
    end(web);
}

#[test]
fn a_namespace_made_by_another_program_can_be_joined() {
    require("unshare");
    let world = sbx();
    let script = "echo $$; echo ready; read line";
    let argv = ["--user", "--map-root-user", "--net", "--ipc", "sh", "-c", script];
    let mut other = world.program("unshare").args(argv).stdin_from(Stdio::piped()).spawn();
    other.wait_for_stdout("ready\n");
    let pid = other.stdout_now().lines().next().expect("a PID").to_owned();
    let theirs = std::fs::read_link(format!("/proc/{pid}/ns/ipc")).expect("a namespace");
    let user = format!("ns:/proc/{pid}/ns/user");
    let ipc = format!("ns:/proc/{pid}/ns/ipc");
    let ours = run(&world, &["--userns", &user, "--ipc", &ipc], "readlink /proc/self/ns/ipc").succeed();
    assert_eq!(ours, theirs.to_str().expect("a plain name"));
    assert_ne!(ours, own_namespace("ipc"));
    other.close_stdin();
    let _ = other.finish();
}

#[test]
fn what_cannot_be_joined_is_refused_with_the_reason() {
    let world = sbx();
    let (web, _) = target(&world, &["--name", "web"], "true");
    let (db, _) = target(&world, &["--name", "db"], "true");
    for (flags, reason) in [
        (&["--pid", "container:none"][..], "no container with the name or ID `none`"),
        (&["--net", "container:none"], "no container with the name or ID `none`"),
        (&["--pid", "ns:/etc/passwd"], "not a namespace"),
        (&["--ipc", "ns:/proc/self/ns/net"], "another kind"),
        (&["--uts", "ns:/no/such/file"], "No such file"),
        (&["--pid", "container:web", "--userns", "keep-id"], "belong to its user namespace"),
        (&["--pid", "container:web", "--uidmap", "0:0:1"], "belong to its user namespace"),
        (&["--pid", "container:web", "--ipc", "container:db"], "namespaces of two containers"),
        (&["--uts", "container:web", "--hostname", "x"], "not the container's own"),
        (&["--net", "container:web", "--sysctl", "net.ipv4.ip_forward=1"], "network namespace"),
        (&["--ipc", "container:web", "--sysctl", "kernel.msgmax=1"], "IPC namespace"),
    ] {
        let refused = run(&world, flags, "true").finish();
        assert_eq!(refused.code(), 125, "{flags:?}: {}", refused.stderr());
        assert!(refused.stderr().contains(reason), "{flags:?}: {}", refused.stderr());
    }
    end(web);
    end(db);
}
