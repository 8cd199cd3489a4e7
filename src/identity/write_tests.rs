//! On the real kernel, as whoever runs the tests: an unprivileged user with a range, or root.

use std::process::{ChildStdin, ChildStdout};
use std::time::{Duration, Instant};

use super::super::{Caller, Host, Request, Tier, plan};
use super::*;

/// A process in a new user namespace of its own that waits until it is dropped, or runs what it is sent.
struct Sleeper {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
}

impl Sleeper {
    fn new() -> Self {
        Self::of(Command::new("unshare").args([
            "--user",
            "sh",
            "-c",
            "echo ready; read line; exec sh -c \"$line\"",
        ]))
    }

    fn of(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test needs unshare (package util-linux)");
        let (stdin, mut stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        let mut ready = [0; 6];
        std::io::Read::read_exact(&mut stdout, &mut ready).expect("this test needs user namespaces");
        Self { child, stdin, stdout }
    }

    fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    fn file(&self, name: &str) -> String {
        let text = std::fs::read_to_string(format!("/proc/{}/{name}", self.pid())).unwrap();
        text.lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn run(mut self, line: &str) -> String {
        writeln!(self.stdin.take().unwrap(), "{line}").unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut self.stdout, &mut text).unwrap();
        text
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn identity(tier: Option<Tier>, words: &str) -> Identity {
    let request = Request { tier, userns: Some(words.parse().unwrap()), ..Request::default() };
    plan(&request, &Caller::current(&Host::system()).unwrap()).unwrap()
}

/// The tier with many IDs: that of the range for a user, which the test user must have, or root's.
fn wide() -> Identity {
    let identity = identity(None, "host");
    assert_ne!(
        identity.tier,
        Tier::Single,
        "this test needs a user with subordinate IDs and newuidmap: {:?}",
        identity.notes
    );
    identity
}

#[test]
fn the_best_tier_is_written_as_planned() {
    let (sleeper, identity) = (Sleeper::new(), wide());
    start_write(&identity, sleeper.pid()).unwrap().wait().unwrap();
    assert_eq!(sleeper.file("uid_map"), identity.uid_map.to_string());
    assert_eq!(sleeper.file("gid_map"), identity.gid_map.to_string());
    assert_eq!(sleeper.file("setgroups"), "allow");
    let ids = sleeper.run("setpriv --reuid 7 --regid 8 --groups 9 sh -c 'id -u; id -G'");
    assert_eq!(ids, "7\n8 9\n", "the mapped IDs can be taken");
}

#[test]
fn the_single_tier_is_written_by_the_caller_alone() {
    for (words, inside) in [("host", 0), ("keep-id:uid=77,gid=77", 77)] {
        let (sleeper, identity) = (Sleeper::new(), identity(Some(Tier::Single), words));
        start_write(&identity, sleeper.pid()).unwrap().wait().unwrap();
        assert_eq!(sleeper.file("uid_map"), format!("{inside} {} 1", rustix::process::getuid()));
        assert_eq!(sleeper.file("gid_map"), format!("{inside} {} 1", rustix::process::getgid()));
        assert_eq!(sleeper.file("setgroups"), if identity.deny_setgroups { "deny" } else { "allow" });
        assert_eq!(sleeper.run("id -u; id -g"), format!("{inside}\n{inside}\n"));
    }
}

#[test]
fn a_second_write_is_refused() {
    let (sleeper, identity) = (Sleeper::new(), identity(Some(Tier::Single), "host"));
    start_write(&identity, sleeper.pid()).unwrap().wait().unwrap();
    let before = sleeper.file("uid_map");
    let again = Identity { deny_setgroups: false, ..identity };
    let error = start_write(&again, sleeper.pid()).unwrap_err();
    assert!(
        error.to_string().ends_with("it is written already, and the kernel takes a map only once"),
        "{error}"
    );
    assert_eq!(sleeper.file("uid_map"), before);
}

#[test]
fn a_second_write_through_the_helpers_is_refused() {
    let (sleeper, mut identity) = (Sleeper::new(), wide());
    start_write(&identity, sleeper.pid()).unwrap().wait().unwrap();
    if identity.writer == MapWriter::Direct {
        let error = start_write(&identity, sleeper.pid()).unwrap_err();
        assert!(error.to_string().contains("written already"), "{error}");
        return;
    }
    let error = start_write(&identity, sleeper.pid()).unwrap().wait().unwrap_err();
    assert!(error.to_string().contains("not permitted"), "{error}");
    assert!(!error.hints().is_empty());
    identity.writer = MapWriter::Direct;
    assert!(start_write(&identity, sleeper.pid()).is_err());
}

#[test]
fn a_nested_map_is_written_from_within_the_canonical_namespace() {
    let identity = Identity { ..keep_id() };
    let nested = identity.nested.as_ref().unwrap();
    let mut outer = Command::new("unshare");
    // The outer process stays in the canonical namespace, its child nests another; both tell their IDs.
    outer.args([
        "--user",
        "sh",
        "-c",
        "echo ready; read go; unshare --user sh -c 'echo $$ > \"$1\"; read go' sh \"$0\"",
    ]);
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let mut sleeper = Sleeper::of(outer.arg(&pid_file));
    start_write(&identity, sleeper.pid()).unwrap().wait().unwrap();
    writeln!(sleeper.stdin.as_ref().unwrap(), "go").unwrap();
    let inner = wait_for_pid(&pid_file);

    let refused = write_nested(open_process(inner).unwrap(), nested).unwrap_err();
    assert!(refused.to_string().contains("not permitted"), "from outside it can't be written: {refused}");

    // This very binary, entered into the canonical namespace, writes the map with write_nested.
    let writer = Command::new("nsenter")
        .args(["--user", "--preserve-credentials", "--target", &sleeper.pid().to_string()])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "identity::write::tests::writes_a_nested_map_when_told_to"])
        .env("SBX_TEST_NESTED", format!("{inner} {}", serde_json::to_string(nested).unwrap()))
        .output()
        .unwrap();
    assert!(writer.status.success(), "{writer:?}");
    assert!(String::from_utf8_lossy(&writer.stdout).contains("1 passed"), "{writer:?}");
    let map = std::fs::read_to_string(format!("/proc/{inner}/uid_map")).unwrap();
    let host: Vec<String> =
        map.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(host.join("\n"), identity.host_uid_map().to_string(), "as the kernel shows it to the host");
    drop(sleeper.stdin.take());
}

/// keep-id with a user that is not root, so that something is nested also when root runs the tests.
fn keep_id() -> Identity {
    assert_ne!(wide().tier, Tier::Single);
    identity(None, "keep-id:uid=1234,gid=1234")
}

fn wait_for_pid(file: &Path) -> i32 {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(pid) = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()) {
            return pid;
        }
        assert!(Instant::now() < deadline, "the nested process did not start");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The half of the test above that runs inside the canonical namespace.
#[test]
#[ignore = "no test by itself: the one above starts it"]
fn writes_a_nested_map_when_told_to() {
    let order = std::env::var("SBX_TEST_NESTED").expect("started by the test above");
    let (pid, maps) = order.split_once(' ').unwrap();
    let maps: NestedMaps = serde_json::from_str(maps).unwrap();
    write_nested(open_process(pid.parse().unwrap()).unwrap(), &maps).unwrap();
}

#[test]
fn a_range_of_another_user_is_refused_with_the_helpers_own_words() {
    let path =
        |name: &str| Host::system().find_program(name).expect("this test needs newuidmap (package uidmap)");
    let mut identity = identity(Some(Tier::Single), "host");
    identity.writer = MapWriter::TwoHelpers { newuidmap: path("newuidmap"), newgidmap: path("newgidmap") };
    let foreign = super::super::MapLine::new(1, 4_000_000_000, 65536);
    identity.uid_map.0.push(foreign);
    identity.gid_map.0.push(foreign);
    let sleeper = Sleeper::new();
    let error = start_write(&identity, sleeper.pid()).unwrap().wait().unwrap_err();
    let text = error.report();
    assert!(text.contains("newuidmap: ") && text.contains("newgidmap: "), "{text}");
    assert!(text.contains("not allowed") && text.contains("Hint: the helper does not grant"), "{text}");
}

#[test]
fn a_helper_that_is_gone_or_silent_is_an_error_of_its_own() {
    let mut identity = identity(Some(Tier::Single), "host");
    identity.writer = MapWriter::Shim("/nonexistent/newuidmap-shim".into());
    let error = start_write(&identity, 1).unwrap_err();
    assert!(
        error.to_string().starts_with("cannot start `/nonexistent/newuidmap-shim`: No such file"),
        "{error}"
    );
    identity.writer = MapWriter::Shim("/bin/false".into());
    let error = start_write(&identity, 1).unwrap().wait().unwrap_err();
    assert!(error.to_string().contains("newuidmap-shim: exit status: 1"), "{error}");
}

#[test]
fn both_maps_stand_in_the_arguments_of_the_shim() {
    let mut identity = identity(Some(Tier::Single), "host");
    identity.uid_map =
        IdMap::new(vec![super::super::MapLine::new(0, 5, 1), super::super::MapLine::new(1, 9, 3)]).unwrap();
    identity.gid_map = IdMap::single(7, 8);
    let dir = tempfile::tempdir().unwrap();
    let shim = dir.path().join("shim");
    let made = Command::new("sh")
        .args(["-c", "printf '#!/bin/sh\\necho \"$@\" >&2; exit 3\\n' > \"$0\" && chmod 755 \"$0\""])
        .arg(&shim)
        .status();
    assert!(made.unwrap().success());
    identity.writer = MapWriter::Shim(shim);
    let error = start_write(&identity, 42).unwrap().wait().unwrap_err();
    assert_eq!(error.causes(), ["newuidmap-shim: 42 0 5 1 1 9 3 -- 7 8 1"]);
}

#[test]
fn a_process_that_is_gone_is_named() {
    let error = start_write(&identity(Some(Tier::Single), "host"), i32::MAX).unwrap_err();
    assert_eq!(error.to_string(), "cannot open `/proc/2147483647`: No such file or directory");
}
