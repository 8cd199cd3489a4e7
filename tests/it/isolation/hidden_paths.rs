//! Masked and read-only paths of /proc and /sys.

use std::path::Path;

use super::super::harness::{Sbx, sbx};
use super::run;

/// What docker and podman hide; a kernel has some of them.
const HIDDEN: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn present(world: &Sbx, flags: &[&str]) -> Vec<String> {
    let script = format!("for path in {}; do test -e $path && echo $path; done; true", HIDDEN.join(" "));
    run(world, flags, &script).succeed().lines().map(str::to_owned).collect()
}

/// Those that are mount points inside.
fn covered(world: &Sbx, flags: &[&str]) -> Vec<String> {
    let points = run(world, flags, "cut -d' ' -f5 /proc/self/mountinfo").succeed();
    let points: Vec<&str> = points.lines().collect();
    let known = HIDDEN.iter().chain(READ_ONLY).filter(|path| points.contains(path));
    known.map(|path| (*path).to_owned()).collect()
}

#[test]
fn everything_that_is_there_and_to_be_hidden_is_empty() {
    let world = sbx();
    let present = present(&world, &["--security-opt", "systempaths=unconfined"]);
    assert!(present.contains(&"/proc/keys".to_owned()), "{present:?}");
    let script = format!(
        "for path in {}; do if test -d $path; then ls -A $path; else cat $path; fi; echo x > $path/x; true >> $path/x; done 2>/dev/null; echo end",
        present.join(" ")
    );
    assert_eq!(run(&world, &[], &script).succeed(), "end");
    let covered = covered(&world, &[]);
    assert!(present.iter().all(|path| covered.contains(path)), "{covered:?}");
    let unmasked =
        run(&world, &["--security-opt", "systempaths=unconfined"], "cat /proc/interrupts").succeed();
    assert!(unmasked.contains("CPU0"), "{unmasked}");
}

#[test]
fn kernel_settings_cannot_be_written() {
    let world = sbx();
    // Not every kernel has the last one.
    let settings = ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/panic", "/sys/kernel/mm/ksm/run"];
    for path in settings.into_iter().filter(|path| Path::new(path).exists()) {
        let script = format!("true >> {path}");
        let said = run(&world, &["--cap-add", "ALL"], &script).expect_code(1).stderr();
        assert!(
            said.contains("Read-only file system") || said.contains("Permission denied"),
            "{path}: {said}"
        );
    }
    for path in READ_ONLY {
        let script = format!("test ! -e {path} || grep ' {path} ro,' /proc/self/mountinfo");
        run(&world, &[], &script).expect_code(0);
    }
    run(&world, &["--cap-add", "ALL"], "true >> /sys/fs/cgroup/cgroup.procs").expect_code(1);
}

#[test]
fn settings_of_the_containers_own_namespaces_are_read_only_too() {
    let world = sbx();
    let script = "echo 1 > /proc/sys/net/ipv4/ip_forward";
    run(&world, &["--cap-add", "ALL"], script).expect_code(1).stderr_has("Read-only file system");
    run(&world, &["--cap-add", "ALL", "--security-opt", "unmask=/proc/sys"], script).succeed();
}

#[test]
fn paths_are_shown_on_request() {
    let world = sbx();
    let keys = "/proc/keys".to_owned();
    assert!(covered(&world, &[]).contains(&keys));
    let one = covered(&world, &["--security-opt", "unmask=/proc/keys:/proc/sys"]);
    assert!(!one.contains(&keys) && !one.contains(&"/proc/sys".to_owned()), "{one:?}");
    assert!(one.contains(&"/proc/interrupts".to_owned()) && one.contains(&"/proc/irq".to_owned()), "{one:?}");
    for flags in [
        &["--security-opt", "unmask=ALL"][..],
        &["--security-opt", "unmask=all"],
        &["--security-opt", "unmask=/proc/*:/sys/*"],
        &["--security-opt", "systempaths=unconfined"],
        &["--privileged"],
    ] {
        assert!(covered(&world, flags).is_empty(), "{flags:?}");
    }
    let forward = "echo 1 > /proc/sys/net/ipv4/ip_forward && cat /proc/sys/net/ipv4/ip_forward";
    let flags = ["--cap-add", "NET_ADMIN", "--security-opt", "unmask=/proc/sys"];
    assert_eq!(run(&world, &flags, forward).succeed(), "1");
}

#[test]
fn more_paths_are_hidden_on_request() {
    let world = sbx();
    let flags = ["--security-opt", "mask=/etc/group:/home", "--security-opt", "mask=/no/such"];
    assert_eq!(run(&world, &flags, "cat /etc/group; ls -A /home; touch /home/x 2>&1").finish().code(), 1);
    let script = "cat /etc/group; ls -A /home; head -n1 /etc/passwd";
    assert_eq!(run(&world, &flags, script).succeed(), "root:x:0:0:root:/root:/bin/sh");
    world.file("secret", "hunter2");
    let bind = format!("{}:/mnt", world.work().display());
    let flags = ["-v", &bind, "--security-opt", "mask=/mnt/secret"];
    assert_eq!(run(&world, &flags, "cat /mnt/secret; ls /mnt").succeed(), "secret");
}

/// CAP_SYS_ADMIN over the container's own mounts can take a cover off, or mount a second /proc. What shows then
/// is the container's own view: what is the host's alone stays closed by its owner. Files are opened only, so that
/// a failure harms nobody.
#[test]
fn without_the_covers_the_host_is_as_far_away() {
    let world = sbx();
    let script = "mount -t proc none /mnt 2>/dev/null || mount --bind /proc /mnt; umount /proc/timer_list /proc/keys 2>/dev/null
        echo /mnt/[0-9]*
        for file in kcore kmsg timer_list sysrq-trigger vmallocinfo slabinfo pagetypeinfo kpagecount; do
            for proc in /proc /mnt; do
                head -c 1 $proc/$file >/dev/null 2>&1 && test $(head -c 1 $proc/$file | wc -c) != 0 && echo read $proc/$file
            done
        done
        for file in sysrq-trigger sys/kernel/panic sys/kernel/core_pattern sys/kernel/modprobe sys/vm/drop_caches sys/fs/file-max irq/default_smp_affinity; do
            (true >>/mnt/$file) 2>/dev/null && echo may write $file
        done
        mkdir /tmp/sys; mount -t sysfs none /tmp/sys 2>/dev/null
        for file in power/state kernel/mm/ksm/run module/kernel/parameters/panic; do
            (true >>/tmp/sys/$file) 2>/dev/null && echo may write $file
        done; ls /tmp/sys/class/net 2>/dev/null | grep -v '^lo$'; true";
    for flags in [
        &["--cap-add", "SYS_ADMIN"][..],
        &["--cap-add", "ALL", "--security-opt", "seccomp=unconfined"],
        &["--privileged"],
    ] {
        assert_eq!(run(&world, flags, script).succeed(), "/mnt/1", "{flags:?}");
    }
}
