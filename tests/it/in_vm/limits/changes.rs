//! `sbx update`, `inspect`, `pause` and `stats` of containers with limits.

use serde_json::Value;

use super::{files, world};
use crate::harness::Background;

#[test]
fn limits_of_a_container_that_runs_are_changed_and_stay_changed() {
    let world = world();
    let web = Background::start(&world, &["--memory=64m"], "sleep 999");
    let now = || web.sh(&[], &files("memory.max memory.swap.max pids.max cpu.max")).succeed();
    world.sbx(["update", "-m", "32m", "--pids-limit", "20", "--cpus", "1.5"]).arg(&web.id).succeed();
    assert_eq!(now(), "33554432\n33554432\n20\n150000 100000");
    assert_eq!(
        web.inspect("{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.NanoCpus}}").trim(),
        "33554432 20 1500000000"
    );
    // What cannot be changes nothing.
    let wrong = world.sbx(["update", "--pids-limit=30", "--cgroup-parent=x"]).arg(&web.id).finish();
    assert_eq!(wrong.code(), 125);
    world
        .sbx(["update", "--pids-limit=30", "--memory-swap=16m"])
        .arg(&web.id)
        .expect_code(125)
        .stderr_has("--memory-swap 16MiB");
    world
        .sbx(["update", "--pids-limit=30", "--hugetlb=2M=1m"])
        .arg(&web.id)
        .expect_code(125)
        .stderr_has("hugetlb");
    assert_eq!(now(), "33554432\n33554432\n20\n150000 100000");
    // 0 and -1 lift.
    world.sbx(["update", "--memory=0", "--pids-limit=-1", "--cpus=0"]).arg(&web.id).succeed();
    assert_eq!(now(), "max\nmax\nmax\nmax 100000");
    // With memory goes what counts it, too.
    world.sbx(["update", "--memory=48m", "--memory-swap=-1"]).arg(&web.id).succeed();
    world.sbx(["update", "--memory=0"]).arg(&web.id).succeed();
    assert_eq!(now(), "max\nmax\nmax\nmax 100000");
    world.sbx(["update", "--memory=48m", "--restart=always"]).arg(&web.id).succeed();
    world.sbx(["restart", "-t", "0"]).arg(&web.id).succeed();
    assert_eq!(web.sh(&[], &files("memory.max pids.max")).succeed(), "50331648\nmax");
    world.sbx(["stop", "-t", "0"]).arg(&web.id).succeed();
    world.sbx(["update", "--pids-limit=33"]).arg(&web.id).succeed();
    world.sbx(["start"]).arg(&web.id).succeed();
    assert_eq!(web.sh(&[], &files("memory.max pids.max")).succeed(), "50331648\n33");
}

#[test]
fn each_limit_is_changed_alone() {
    let world = world();
    let web = Background::start(&world, &["--memory=64m"], "sleep 999");
    for (option, file, value) in [
        ("--memory=96m", "memory.max", "100663296"),
        ("--memory-swap=128m", "memory.swap.max", "33554432"),
        ("--memory-swap=-1", "memory.swap.max", "max"),
        ("--memory-reservation=32m", "memory.low", "33554432"),
        ("--memory-high=60m", "memory.high", "62914560"),
        ("--cpus=0.25", "cpu.max", "25000 100000"),
        ("--cpu-quota=30000", "cpu.max", "30000 100000"),
        ("--cpu-period=50000", "cpu.max", "30000 50000"),
        ("--cpu-shares=512", "cpu.weight", "59"),
        ("--cpu-weight=77", "cpu.weight", "77"),
        ("--pids-limit=44", "pids.max", "44"),
    ] {
        world.sbx(["update", option]).arg(&web.id).succeed();
        assert_eq!(web.sh(&[], &files(file)).succeed(), value, "{option}");
    }
    let all = "memory.max memory.swap.max memory.low memory.high cpu.max cpu.weight pids.max";
    let expected = ["100663296", "max", "33554432", "62914560", "30000 50000", "77", "44"];
    assert_eq!(web.sh(&[], &files(all)).succeed().lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_container_without_limits_gets_them_with_its_next_life() {
    let world = world();
    let web = Background::start(&world, &[], "sleep 999");
    let refused = world.sbx(["update", "-m64m"]).arg(&web.id).expect_code(125);
    refused.stderr_has("stop it, update it, and start it again");
    world.sbx(["stop", "-t", "0"]).arg(&web.id).succeed();
    world.sbx(["update", "-m64m"]).arg(&web.id).succeed();
    world.sbx(["start"]).arg(&web.id).succeed();
    assert_eq!(web.sh(&[], &files("memory.max")).succeed(), "67108864");
}

#[test]
fn what_is_limited_is_counted_and_paused() {
    let world = world();
    let web = Background::start(
        &world,
        &["--memory=64m"],
        "dd if=/dev/zero of=/dev/shm/x bs=1M count=10 2>/dev/null; sleep 999",
    );
    let sample = || {
        let json = world.sbx(["stats", "--no-stream", "--format", "json"]).arg(&web.id).succeed();
        let sample: Value = serde_json::from_str(&json).expect("JSON");
        sample[0].clone()
    };
    let shows = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        let usage = sample()["mem_usage"].as_str().expect("a text").to_owned();
        let (used, limit) = usage.split_once(" / ").expect("two sizes");
        limit == "64MiB"
            && used
                .strip_suffix("MiB")
                .and_then(|used| used.parse::<f64>().ok())
                .is_some_and(|used| used > 10.0 && used < 30.0)
    });
    assert!(shows, "{:#}", sample());
    assert_eq!(sample()["pids"], "1");
    world.sbx(["pause"]).arg(&web.id).succeed();
    assert_eq!(web.inspect("{{.State.Status}}").trim(), "paused");
    world.sbx(["rm", "-f", "-t", "0"]).arg(&web.id).succeed();
    world.assert_clean();
}

#[test]
fn the_limits_of_a_build_hold_in_its_steps() {
    let world = world();
    world.put_image(&crate::harness::images().busybox(), "docker.io/library/base:latest");
    world.file(
        "Dockerfile",
        "FROM base\nRUN cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.weight >/limits\n",
    );
    world.sbx(["build", "--quiet", "-m", "64m", "--cpu-shares=512", "-t", "made", "."]).expect_code(0);
    assert_eq!(world.run(["--rm", "--net=none", "made", "cat", "/limits"]).succeed(), "67108864\n59");
}
