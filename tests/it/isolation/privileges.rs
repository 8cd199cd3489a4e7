//! Capabilities, users and setuid files.

use super::super::harness::{Sbx, sbx};
use super::{own_namespace, run, run_on_host_image};

const DEFAULT: u64 = 0xa804_25fb;
const NET_ADMIN: u64 = 1 << 12;
const CHOWN: u64 = 1;

/// The sets of the command: inheritable, permitted, effective, bounding, ambient.
fn sets(world: &Sbx, flags: &[&str]) -> [u64; 5] {
    let shown = run(world, flags, "sed -n 's/^Cap...:.//p' /proc/self/status").succeed();
    let sets: Vec<u64> = shown.lines().map(|set| u64::from_str_radix(set, 16).expect("a set")).collect();
    sets.try_into().expect("five sets")
}

/// What the kernel knows.
fn all() -> u64 {
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").expect("the last capability");
    u64::MAX >> (63 - last.trim_end().parse::<u32>().expect("a number"))
}

#[test]
fn root_has_what_the_flags_say() {
    let world = sbx();
    for (flags, expected) in [
        (&[][..], DEFAULT),
        (&["--cap-add", "NET_ADMIN"], DEFAULT | NET_ADMIN),
        (&["--cap-add", "cap_net_admin,chown"], DEFAULT | NET_ADMIN),
        (&["--cap-drop", "CHOWN"], DEFAULT & !CHOWN),
        (&["--cap-drop", "ALL"], 0),
        (&["--cap-drop", "all", "--cap-add", "NET_ADMIN"], NET_ADMIN),
        (&["--cap-add", "ALL"], all()),
        (&["--cap-add", "ALL", "--cap-drop", "CHOWN"], all() & !CHOWN),
        (&["--privileged"], all()),
    ] {
        assert_eq!(sets(&world, flags), [0, expected, expected, expected, 0], "{flags:?}");
    }
}

#[test]
fn other_users_have_none_until_they_execute_what_gives_them_some() {
    let world = sbx();
    for (flags, bounding) in [
        (&["--user", "1000"][..], DEFAULT),
        (&["--user", "user:33"], DEFAULT),
        (&["--user", "1000", "--cap-add", "NET_ADMIN"], DEFAULT | NET_ADMIN),
        (&["--user", "1000", "--cap-drop", "ALL"], 0),
        (&["--user", "1000", "--privileged"], all()),
        (&["--user", "1000", "--security-opt", "no-new-privileges"], DEFAULT),
        (&["--user", "1000", "--security-opt", "seccomp=unconfined"], DEFAULT),
    ] {
        assert_eq!(sets(&world, flags), [0, 0, 0, bounding, 0], "{flags:?}");
    }
}

#[test]
fn init_has_no_more_than_the_command() {
    let world = sbx();
    for (flags, expected) in [
        (&["--init"][..], DEFAULT),
        (&["--init", "--cap-drop", "ALL"], 0),
        (&["--init", "--user", "1000"], 0),
    ] {
        let shown = run(&world, flags, "sed -n 's/^Cap[EP]..:.//p' /proc/1/status").succeed();
        for set in shown.lines() {
            assert_eq!(u64::from_str_radix(set, 16).expect("a set"), expected, "{flags:?}");
        }
    }
}

#[test]
fn a_capability_is_what_decides() {
    let world = sbx();
    let chown = "touch /tmp/file && chown 1 /tmp/file";
    run(&world, &[], chown).succeed();
    run(&world, &["--cap-drop", "CHOWN"], chown).expect_code(1).stderr_has("not permitted");
    let mount = "mount -t tmpfs none /mnt";
    run(&world, &[], mount).expect_code(1).stderr_has("permi");
    run(&world, &["--cap-add", "SYS_ADMIN"], mount).succeed();
}

#[test]
fn wrong_capabilities_are_refused() {
    let world = sbx();
    for (flags, reason) in [
        (&["--cap-add", "NET_ADMIM"][..], "did you mean `CAP_NET_ADMIN`?"),
        (&["--cap-drop", "EVERYTHING"], "unknown capability"),
        (&["--cap-add", "CHOWN", "--cap-drop", "CHOWN"], "CAP_CHOWN"),
        (&["--cap-add", "ALL", "--cap-drop", "ALL"], "exclude each other"),
    ] {
        run(&world, flags, "true").expect_code(125).stderr_has(reason);
    }
}

#[test]
fn privileged_is_still_inside_a_user_namespace() {
    let world = sbx();
    let script = "readlink /proc/self/ns/user; grep '^Seccomp:' /proc/self/status; mount | grep -c ' on /proc/';
                  mknod /tmp/disk b 8 0; true >> /proc/sys/kernel/panic; true >> /proc/sys/vm/drop_caches; true";
    let finished = run(&world, &["--privileged"], script).expect_code(0);
    let shown = finished.stdout();
    let lines: Vec<&str> = shown.lines().collect();
    assert_ne!(lines[0], own_namespace("user"));
    assert_eq!(lines[1..], ["Seccomp:\t0", "0"]);
    let refusals = finished.stderr();
    assert!(refusals.contains("mknod: /tmp/disk: Operation not permitted"), "{refusals}");
    for path in ["/proc/sys/kernel/panic", "/proc/sys/vm/drop_caches"] {
        assert!(refusals.contains(&format!("can't create {path}: Permission denied")), "{refusals}");
    }
}

/// A setuid root copy of id(1), executed by somebody else.
const SETUID: &str = "cp /usr/bin/id /opt/id && chmod 4755 /opt/id && grep NoNewPrivs /proc/self/status \
                      && exec setpriv --reuid=1000 --regid=1000 --clear-groups /opt/id -u";

#[test]
fn a_setuid_file_gives_its_owner() {
    let finished = run_on_host_image(&sbx(), &[], &["sh", "-c", SETUID]).expect_code(0);
    finished.stdout_is("NoNewPrivs:\t0\n0\n");
}

#[test]
fn with_no_new_privileges_a_setuid_file_gives_nothing() {
    let world = sbx();
    let flags = ["--security-opt", "no-new-privileges"];
    let finished = run_on_host_image(&world, &flags, &["sh", "-c", SETUID]).expect_code(0);
    finished.stdout_is("NoNewPrivs:\t1\n1000\n");
    for (option, expected) in [("no-new-privileges:true", "1"), ("no-new-privileges=false", "0")] {
        let script = "sed -n 's/^NoNewPrivs:.//p; s/^Seccomp:.//p' /proc/self/status";
        assert_eq!(run(&world, &["--security-opt", option], script).succeed(), format!("{expected}\n2"));
    }
}

#[test]
fn security_options_that_sbx_does_not_know_are_refused() {
    let world = sbx();
    for option in ["nnp", "seccomp=", "apparmor=docker-default", "label=type:x_t", "mask=relative"] {
        run(&world, &["--security-opt", option], "true").expect_code(125).stderr_has("--security-opt");
    }
}
