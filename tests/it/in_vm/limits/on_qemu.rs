//! With every controller delegated, two processors, and a kernel that counts pressure.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use super::{files, said, world};
use crate::harness::{Background, rootfs};

#[test]
fn a_set_of_processors_is_all_that_a_container_has() {
    let world = world();
    assert_eq!(
        said(&world, &["--cpuset-cpus=1"], "nproc; grep Cpus_allowed_list /proc/self/status"),
        "1\nCpus_allowed_list:\t1"
    );
    let run = world.run(["--rm", "--net=none", "--cpuset-cpus=0-7", "--rootfs"]).arg(rootfs()).arg("true");
    run.expect_code(125).stderr_has("there is no 2-7 here, but 0-1");
    let web = Background::start(&world, &["--cpuset-cpus=0-1"], "sleep 999");
    world.sbx(["update", "--cpuset-cpus=0"]).arg(&web.id).succeed();
    assert_eq!(web.sh(&[], &files("cpuset.cpus.effective")).succeed(), "0");
}

/// Of the system, and the one that came with the run, which the guest shares out by weight (bfq).
const DISK: &str = "/dev/nvme0n1";
const SHARED: &str = "/dev/nvme1n1";

#[test]
fn disks_are_limited_by_their_paths() {
    let world = world();
    let (read, write) = (format!("--device-read-bps={DISK}:1m"), format!("--device-write-iops={DISK}:50"));
    let found = said(&world, &[&read, &write], &files("io.max"));
    assert!(found.contains(" rbps=1048576 ") && found.contains(" wiops=50"), "{found}");
    let device = format!("--blkio-weight-device={SHARED}:700");
    let found = said(&world, &["--blkio-weight=300", &device], &files("io.bfq.weight"));
    assert_eq!(found, format!("default 300\n{} 700", number(SHARED)));
    let run = world.run(["--rm", "--net=none", "--device-read-bps=/dev/nvme0:1m", "host", "true"]);
    run.expect_code(125).stderr_has("--device-read-bps /dev/nvme0").stderr_has("no block device");
}

#[test]
fn limits_of_disks_and_sets_are_changed_and_what_is_written_is_counted() {
    let world = world();
    let web = Background::start(&world, &["--blkio-weight=300"], "sleep 999");
    for (option, file, value) in [
        ("--blkio-weight=200".to_owned(), "io.bfq.weight", "default 200".to_owned()),
        (format!("--blkio-weight-device={SHARED}:99"), "io.bfq.weight", format!("{} 99", number(SHARED))),
        (
            format!("--device-read-bps={DISK}:2m"),
            "io.max",
            "rbps=2097152 wbps=max riops=max wiops=max".to_owned(),
        ),
        (format!("--device-write-bps={DISK}:3m"), "io.max", "rbps=2097152 wbps=3145728 riops=max".to_owned()),
        (format!("--device-read-iops={DISK}:70"), "io.max", "riops=70 wiops=max".to_owned()),
        (format!("--device-write-iops={DISK}:80"), "io.max", "riops=70 wiops=80".to_owned()),
        (format!("--device-read-iops={DISK}:0"), "io.max", "riops=max wiops=80".to_owned()),
        ("--cpuset-cpus=1".to_owned(), "cpuset.cpus.effective", "1".to_owned()),
        ("--cpuset-mems=0".to_owned(), "cpuset.mems", "0".to_owned()),
    ] {
        world.sbx(["update", &option]).arg(&web.id).succeed();
        let found = web.sh(&[], &files(file)).succeed();
        assert!(found.contains(&value), "{option}: {found}");
    }
    world
        .sbx(["update", "--cpuset-mems=1"])
        .arg(&web.id)
        .expect_code(125)
        .stderr_has("there is no 1 here, but 0");
    web.sh(&[], "dd if=/dev/zero of=/f bs=64k count=16 conv=fsync").expect_code(0);
    let told = world.sbx(["stats", "--no-stream", "--format", "{{.BlockIO}}"]).arg(&web.id).succeed();
    let (_, written) = told.trim().split_once(" / ").expect("two sizes");
    assert!(written.ends_with("MB"), "{told}");
}

/// As the kernel names a disk.
fn number(disk: &str) -> String {
    let device = fs::metadata(disk).expect("a disk of the virtual host").rdev();
    format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device))
}

#[test]
fn pressure_is_told() {
    let world = world();
    let web = Background::start(&world, &["--cpus=0.1"], "while :; do :; done");
    let pressed = (0..150).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(200));
        let told = world.sbx(["stats", "--no-stream", "--format", "{{.CPUPressure}}"]).arg(&web.id).succeed();
        told.trim()
            .strip_suffix('%')
            .and_then(|percent| percent.parse::<f64>().ok())
            .is_some_and(|percent| percent > 5.0)
    });
    assert!(pressed);
}

/// UML's kernel has no nftables.
#[test]
fn a_container_in_a_bridge_network_is_limited_and_its_traffic_is_counted() {
    let world = world();
    world.sbx(["network", "create", "shop"]).expect_code(0);
    // Its first rules have the kernel load a dozen modules, which takes an emulated machine a minute.
    let first = world.run(["--rm", "--net=shop", "--rootfs"]).arg(rootfs()).arg("true");
    first.timeout(Duration::from_secs(300)).expect_code(0);
    let options = ["--net=shop", "--memory=64m", "--pids-limit=40"];
    let web = Background::start(&world, &[&options[..], &["--name=web"]].concat(), "sleep 999");
    let client = Background::start(&world, &[&options[..], &["--name=client"]].concat(), "sleep 999");
    assert_eq!(web.sh(&[], &files("memory.max pids.max")).succeed(), "67108864\n40");
    client.sh(&[], "ping -c 3 -i 0.2 -s 4000 web").expect_code(0).stdout_has("3 packets received");
    let counted = |template: &str| {
        world.sbx(["stats", "--no-stream", "--format", template, "client"]).succeed().trim().to_owned()
    };
    let told = counted("{{.NetIO}}");
    let (received, sent) = told.split_once(" / ").expect("two sizes");
    assert!(received.ends_with("kB") && sent.ends_with("kB"), "{told}");
    assert!(counted("{{.MemUsage}}").ends_with(" / 64MiB"), "{}", counted("{{.MemUsage}}"));
}
