//! What the kernel kills for want of memory is told.

use super::world;
use crate::harness::{Background, rootfs};

/// Takes more than the container may, in one piece.
const TAKE: &str = "dd if=/dev/zero of=/dev/null bs=80M count=1";

#[test]
fn a_container_that_takes_too_much_is_killed_and_that_is_told() {
    let world = world();
    let run =
        world.run(["--name=greedy", "--net=none", "-m16m", "--memory-swap=16m", "--rootfs"]).arg(rootfs());
    let killed = run.args(["sh", "-c", &format!("exec {TAKE}")]).expect_code(137);
    killed.stderr_has("killed for want of memory: the limit is 16MiB (`--memory`)");
    let state = "{{.State.OOMKilled}} {{.State.ExitCode}} {{.State.Error}}";
    let told = world.sbx(["inspect", "--format", state, "greedy"]).succeed();
    assert!(told.starts_with("true 137 it was killed for want of memory"), "{told}");
    let events = world.sbx(["events", "--since=5m", "--until=0s", "--format={{.Status}}"]).succeed();
    assert_eq!(events.lines().collect::<Vec<_>>(), ["create", "start", "oom", "died"]);
}

#[test]
fn a_killed_process_does_not_end_the_container_and_is_told_while_it_runs() {
    let world = world();
    let web = Background::start(&world, &["-m16m", "--memory-swap=16m"], "sleep 999");
    assert_eq!(web.inspect("{{.State.OOMKilled}}").trim(), "false");
    web.sh(&[], TAKE).expect_code(137);
    assert_eq!(web.inspect("{{.State.OOMKilled}} {{.State.Running}}").trim(), "true true");
    let told = || {
        let events = world.sbx(["events", "--since=5m", "--until=0s", "--format={{.Status}}"]).succeed();
        events.lines().any(|event| event == "oom")
    };
    let told = (0..50).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        told()
    });
    assert!(told);
    world.sbx(["stop", "-t", "0"]).arg(&web.id).succeed();
    let state = web.inspect("{{.State.OOMKilled}} {{.State.Error}}");
    assert_eq!(state.trim(), "true");
}
