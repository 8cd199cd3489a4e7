//! Limits of containers with containers in them, and with processes that outlive the first.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::{LEAVES, left_by_guests, world};
use crate::harness::{Background, sbx_binary};

/// Each level divides what it was given; none gets more than the level above it.
#[test]
fn limits_hold_three_levels_deep() {
    let world = world();
    let mut volume = OsString::from("--volume=");
    volume.push(sbx_binary());
    volume.push(":/usr/local/bin/sbx:ro");
    let own = "cat /sys/fs/cgroup/memory.max; cut -d: -f3 /proc/self/cgroup";
    let inner = "sbx run --rm --quiet --net none";
    let script = format!(
        "{own}; sbx info --format '{{{{.host.cgroupManager}}}}'
        {inner} --privileged -v /usr/local/bin/sbx:/usr/local/bin/sbx -m 96m host sh -ec '
            {own}
            {inner} -m 32m --pids-limit 9 host sh -c \"{own}; cat /sys/fs/cgroup/pids.max\"
            {inner} -m 999m host dd if=/dev/zero of=/dev/null bs=200M count=1 || echo ended with $?'"
    );
    let run = world.run(["--rm", "--net=none", "--privileged", "-m128m", "--memory-swap=128m"]).arg(volume);
    run.args(["host", "sh", "-ec", &script])
        .timeout(Duration::from_secs(180))
        .expect_code(0)
        .stdout_is("134217728\n/\ncgroupfs\n100663296\n/\n33554432\n/\n9\nended with 137\n");
    world.assert_clean();
}

/// They fork faster than one could kill them one by one.
#[test]
fn what_a_container_leaves_running_goes_with_its_control_group() {
    let world = world();
    let chains = "while [ ! -e /go ]; do sleep 0.1; done
        next() { (next) & }; for chain in 1 2 3 4 5 6 7 8; do (next) & done; sleep 1; exit 5";
    for options in [&["--pid=host", "--pids-limit=200"][..], &["--pid=host"]] {
        let web = Background::start(&world, options, chains);
        let group = web.inspect("{{.State.CgroupPath}}");
        let group = Path::new("/sys/fs/cgroup").join(group.trim().trim_start_matches('/'));
        assert!(
            group.ends_with("container") || group.ends_with(format!("sbx-{}", web.id)),
            "{}",
            group.display()
        );
        web.sh(&[], "touch /go").expect_code(0);
        world.sbx(["wait"]).arg(&web.id).expect_code(0).stdout_is("5\n");
        assert!(!fs::exists(&group).expect("the cgroup file system"), "{}", group.display());
    }
    // The world looks for processes that have outlived it.
}

#[test]
fn a_guest_among_the_processes_of_another_leaves_nobody_there() {
    let world = world();
    let inn = Background::start(&world, &["--name=inn"], "sleep 999");
    let script = format!("{LEAVES}while [ ! -e /go ]; do sleep 0.1; done; exit 3");
    let guest = Background::start(&world, &["--name=guest", "--pid=container:inn"], &script);
    assert!((0..100).any(|_| left_by_guests(&inn) == 1));
    guest.sh(&[], "touch /go").expect_code(0);
    world.sbx(["wait", "guest"]).expect_code(0).stdout_is("3\n");
    assert_eq!(left_by_guests(&inn), 0);
}
