//! Limits of what a container takes: in a scope of the user's systemd, and in a subtree that it may write.

mod changes;
mod on_qemu;
mod on_uml;
mod out_of_memory;
mod places;
mod together;

use std::fs;

use super::world;
use crate::harness::{Background, Sbx, rootfs};

/// Files of the container's own control group, as it sees them, one after the other.
fn files(names: &str) -> String {
    format!("cd /sys/fs/cgroup; cat {names}")
}

/// `sbx run --rm OPTIONS… sh -c SCRIPT` without a network.
fn said(world: &Sbx, options: &[&str], script: &str) -> String {
    let run = world.run(["--rm", "--net", "none"]).args(options).arg("--rootfs").arg(rootfs());
    run.args(["sh", "-c", script]).succeed()
}

/// The path of a process's control group.
fn group_of(pid: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("a process");
    text.trim().trim_start_matches("0::").to_owned()
}

/// The container's monitor, which is the parent of its first process.
fn monitor(container: &Background<'_>) -> String {
    let pid = container.inspect("{{.State.Pid}}");
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).expect("a process");
    let after_name = stat.rsplit_once(") ").expect("a name").1;
    after_name.split(' ').nth(1).expect("a parent").to_owned()
}

/// Starts a second process, and says its number in another way than that does.
const LEAVES: &str = "time=888; sleep $time & ";

/// How many of those are among the processes of a container.
fn left_by_guests(inn: &Background<'_>) -> usize {
    inn.sh(&[], "ps | grep '[s]leep 888'").finish().stdout().lines().count()
}

fn kill_monitor(container: &Background<'_>) {
    let monitor: i32 = monitor(container).parse().expect("a PID");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(monitor), nix::sys::signal::Signal::SIGKILL)
        .expect("a monitor");
}
