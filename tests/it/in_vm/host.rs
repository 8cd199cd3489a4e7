//! The first things that a user does, on a host that has everything.

use std::fs;

use serde_json::Value;

use super::{Account, vm, world};
use crate::harness::{Background, images, rootfs};

#[test]
fn the_host_is_as_users_have_it() {
    let world = world();
    assert_eq!(fs::read_to_string("/proc/1/comm").expect("PID 1").trim(), "systemd");
    assert!(fs::metadata("/sys/fs/cgroup/cgroup.controllers").is_ok(), "control groups version 2");
    let status = fs::read_to_string("/proc/self/status").expect("the status of this process");
    assert!(status.contains("\nUid:\t1000\t1000\t1000\t1000\n"), "{status}");
    assert!(status.contains("\nCapEff:\t0000000000000000\n"), "{status}");
    let account = Account::own();
    account.sh(&world, "systemctl --user is-system-running --wait").expect_code(0).stdout_is("running\n");
    account
        .sh(&world, "loginctl show-user $(id -un) --property=Linger")
        .expect_code(0)
        .stdout_is("Linger=yes\n");
    // What udev does for these two, nobody has to do by hand.
    for device in ["/dev/fuse", "/dev/net/tun"] {
        fs::File::options().read(true).write(true).open(device).expect(device);
    }
    let profiles = fs::metadata("/sys/kernel/security/apparmor/profiles").is_ok();
    assert_eq!(profiles, vm() == "qemu", "AppArmor");
}

#[test]
fn nothing_is_missing() {
    let world = world();
    let checks = Account::own().sh(&world, "sbx doctor --format json").finish();
    let found: Value = serde_json::from_str(&checks.stdout()).expect("JSON");
    let list = found.as_array().or_else(|| found["checks"].as_array()).expect("a list of checks");
    let lacking: Vec<&Value> = list.iter().filter(|check| check["status"] != "ok").collect();
    assert!(lacking.is_empty(), "{lacking:#?}");
    checks.code_is(0);
}

#[test]
fn what_was_delegated_is_told() {
    let world = world();
    let info = Account::own().sh(&world, "sbx info --format json").expect_code(0).stdout();
    let info: Value = serde_json::from_str(&info).expect("JSON");
    let host = &info["host"];
    assert_eq!(
        (&host["cgroupVersion"], &host["cgroupManager"]),
        (&"v2".into(), &"systemd".into()),
        "{info:#}"
    );
    let controllers = host["cgroupControllers"].to_string();
    // Debian's systemd delegates no others; in qemu an administrator has written a drop-in.
    let wanted: &[&str] =
        if vm() == "qemu" { &["cpu", "cpuset", "io", "memory", "pids"] } else { &["cpu", "memory", "pids"] };
    for controller in wanted {
        assert!(controllers.contains(&format!("\"{controller}\"")), "{controllers}");
    }
}

#[test]
fn a_container_is_run_paused_counted_and_worked_in() {
    let world = world();
    let web = Background::start(&world, &["--name=web"], "while :; do echo >>/n; sleep 0.2; done");
    let count = || web.sh(&[], "wc -l </n").succeed().trim().parse::<u32>().expect("a number");
    assert!(count() < 1000);
    world.sbx(["pause", "web"]).succeed();
    assert!(world.sbx(["ps", "--format", "{{.Status}}"]).succeed().contains("(Paused)"));
    world.sbx(["unpause", "web"]).succeed();
    let counted =
        world.sbx(["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}} {{.CPUPerc}}"]).succeed();
    let words: Vec<&str> = counted.split_whitespace().collect();
    assert!(words[0] == "web" && words[1].parse::<u32>().is_ok_and(|pids| pids > 0), "{counted}");
    assert!(words[2].ends_with('%'), "{counted}");
    world.sbx(["rm", "-f", "-t", "0", "web"]).succeed();
    world.assert_clean();
}

#[test]
fn an_image_is_built_and_run_with_a_network() {
    let world = world();
    world.put_image(&images().busybox(), "docker.io/library/base:latest");
    world.file("Dockerfile", "FROM base\nRUN echo made >/made\nCMD cat /made; ls /sys/class/net\n");
    world.sbx(["build", "--quiet", "-t", "made", "."]).expect_code(0);
    let said = world.run(["--rm", "made"]).succeed();
    assert!(said.starts_with("made\n") && said.contains("tap0"), "{said}");
    let maps = world
        .run(["--rm", "--net=none", "--rootfs"])
        .arg(rootfs())
        .args(["cat", "/proc/self/uid_map"])
        .succeed();
    assert_eq!(maps.lines().count(), 2, "{maps}");
}
