//! Resource limits, kernel settings, and what else a process inherits.

use std::fs;

use super::super::harness::{require, sbx, sbx_binary};
use super::{rootfs, run};

#[test]
fn limits_are_set() {
    let world = sbx();
    let flags = ["--ulimit", "nofile=100:200", "--ulimit", "core=0", "--ulimit", "msgqueue=4096"];
    assert_eq!(
        run(
            &world,
            &flags,
            "ulimit -Sn; ulimit -Hn; ulimit -c; grep -c 'msgqueue size *4096 *4096' /proc/self/limits"
        )
        .succeed(),
        "100\n200\n0\n1"
    );
}

#[test]
fn limits_of_the_caller_hold_where_none_is_asked_for() {
    require("prlimit");
    let world = sbx();
    let root = rootfs().to_str().expect("a plain name");
    let limited = |flags: &[&str]| {
        let run = world.program("prlimit").arg("--nofile=300:400").arg(sbx_binary());
        let run = run.args(["run", "--rm", "--net", "none", "--rootfs", root]);
        run.args(flags.iter().copied()).args(["sh", "-c", "ulimit -Sn; ulimit -Hn"])
    };
    assert_eq!(limited(&[]).succeed(), "300\n400");
    assert_eq!(limited(&["--ulimit", "host"]).succeed(), "300\n400");
    assert_eq!(limited(&["--ulimit", "nofile=400"]).succeed(), "400\n400");
    limited(&["--ulimit", "nofile=401"])
        .expect_code(125)
        .stderr_has("your own hard limit of `nofile` is 400, and 401 is more");
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    let world = sbx();
    for (limit, reason) in [
        ("nofile", "`=` is missing"),
        ("files=1", "is not a limit"),
        ("nofile=2:1", "above the hard limit"),
        ("nofile=many", "neither a number nor -1"),
    ] {
        run(&world, &["--ulimit", limit], "true").expect_code(125).stderr_has(reason);
    }
}

#[test]
fn settings_of_the_containers_namespaces_are_set_there_alone() {
    let world = sbx();
    let read = |name: &str| fs::read_to_string(format!("/proc/sys/{name}")).expect("a setting");
    let names = ["net/ipv4/ip_forward", "kernel/msgmax", "fs/mqueue/msg_max", "net/ipv4/conf/lo/rp_filter"];
    let before = names.map(read);
    let flags = [
        "--sysctl",
        "net.ipv4.ip_forward=1",
        "--sysctl",
        "kernel.msgmax=4097",
        "--sysctl",
        "fs.mqueue.msg_max=7",
        "--sysctl",
        "net/ipv4/conf/lo/rp_filter=2",
    ];
    let script =
        "cd /proc/sys && cat net/ipv4/ip_forward kernel/msgmax fs/mqueue/msg_max net/ipv4/conf/lo/rp_filter";
    assert_eq!(run(&world, &flags, script).succeed(), "1\n4097\n7\n2");
    assert_eq!(names.map(read), before);
}

#[test]
fn settings_of_the_machine_are_refused() {
    let world = sbx();
    for (flags, reason) in [
        (&["--sysctl", "kernel.panic=1"][..], "belongs to the whole machine"),
        (&["--sysctl", "vm.swappiness=1"], "belongs to the whole machine"),
        (&["--sysctl", "kernel.hostname=x"], "use `--hostname`"),
        (&["--net", "host", "--sysctl", "net.ipv4.ip_forward=1"], "not the container's own"),
        (&["--ipc", "host", "--sysctl", "kernel.msgmax=1"], "not the container's own"),
        (&["--sysctl", "net.no.such=1"], "no such setting"),
        (&["--sysctl", "net.ipv4.ip_forward=many"], "Invalid argument"),
        (&["--sysctl", "net.ipv4.ip_forward"], "`=` is missing"),
        (&["--sysctl", "net/../kernel/panic=1"], "`..` is no part of a name"),
    ] {
        let refused = run(&world, flags, "true").finish();
        assert_eq!(refused.code(), 125, "{flags:?}: {}", refused.stderr());
        assert!(refused.stderr().contains(reason), "{flags:?}: {}", refused.stderr());
    }
}

#[test]
fn the_score_for_the_oom_killer_can_be_raised() {
    let world = sbx();
    let script = "cat /proc/self/oom_score_adj";
    assert_eq!(run(&world, &["--oom-score-adj", "500"], script).succeed(), "500");
    let own = fs::read_to_string("/proc/self/oom_score_adj").expect("a score");
    assert_eq!(run(&world, &[], script).succeed(), own.trim_end());
    run(&world, &["--oom-score-adj", "-1000"], script)
        .expect_code(125)
        .stderr_has("without root it can only be raised");
    run(&world, &["--oom-score-adj", "1001"], script).expect_code(125).stderr_has("--oom-score-adj");
}

#[test]
fn the_umask_is_the_containers_own() {
    let world = sbx();
    assert_eq!(run(&world, &["--umask", "0077"], "umask").succeed(), "0077");
    let root = rootfs().to_str().expect("a plain name");
    let script = "umask 0; exec \"$0\" run --rm --net none --rootfs \"$1\" sh -c umask";
    let run_with = world.program("sh").args(["-c", script]).arg(sbx_binary()).arg(root);
    assert_eq!(run_with.succeed(), "0022");
    for mask in ["8", "01000", "rwx", ""] {
        run(&world, &["--umask", mask], "true").expect_code(125).stderr_has("octal");
    }
}
