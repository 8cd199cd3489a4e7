//! What holds when real root runs sbx: a user namespace as for everybody else, and the same defaults.

use super::super::harness::{require_root, sbx};
use super::{own_namespace, run, run_on_host_image};

#[test]
fn root_is_confined_like_everybody() {
    require_root();
    let world = sbx();
    let script = "for kind in user mnt pid uts ipc net cgroup; do readlink /proc/self/ns/$kind; done
                  sed -n 's/^Cap[EB]..:.//p; s/^Seccomp:.//p' /proc/self/status; echo $$ /proc/[0-9]*";
    let shown = run(&world, &[], script).succeed();
    let lines: Vec<&str> = shown.lines().collect();
    for (line, kind) in lines.iter().zip(["user", "mnt", "pid", "uts", "ipc", "net", "cgroup"]) {
        assert_ne!(*line, own_namespace(kind));
    }
    assert_eq!(lines[7..], ["00000000a80425fb", "00000000a80425fb", "2", "1 /proc/1"]);
}

/// Files are opened only, so that a failure harms nobody.
#[test]
fn roots_containers_cannot_change_the_kernels_settings() {
    require_root();
    let world = sbx();
    let script = "for file in sys/kernel/core_pattern sys/kernel/panic sys/fs/file-max sys/vm/drop_caches \
                  sysrq-trigger irq/default_smp_affinity; do (true >> /proc/$file) && echo may write $file; done
                  (true >> /sys/power/state) && echo may write; mount -o remount,rw /proc/sys && echo remounted
                  umount /proc/sys && echo uncovered; mount -t proc proc /mnt && echo mounted
                  mknod /tmp/disk b 8 0 && echo a disk; dmesg | head -n 1; head -c 1 /proc/kmsg; true";
    let finished = run(&world, &[], script).expect_code(0);
    let _ = finished.stdout_is("");
}

#[test]
fn root_is_told_where_its_own_ids_are_at_stake() {
    require_root();
    let world = sbx();
    let map = run(&world, &[], "cat /proc/self/uid_map").succeed();
    let own_ids = map.split_whitespace().take(2).eq(["0", "0"]);
    for flags in [
        &["--cap-add", "SYS_ADMIN"][..],
        &["--privileged"],
        &["--security-opt", "unmask=ALL"],
        &["--security-opt", "unmask=/proc/sys"],
    ] {
        let told = run(&world, flags, "true").expect_code(0).stderr();
        assert_eq!(told.contains("is root of the host by its ID"), own_ids, "{flags:?}: {told}");
    }
    let told = run(&world, &[], "true").expect_code(0).stderr();
    assert!(!told.contains("is root of the host by its ID"), "{told}");
}

#[test]
fn the_image_host_keeps_roots_secrets_to_itself() {
    require_root();
    let world = sbx();
    // What is closed to others on the host is closed to the container's root, or empty.
    let script = "find /etc -type f ! -perm -o=r -size +0; find /etc -type d ! -perm -o=r ! -empty; stat -c %s /etc/shadow";
    for flags in [&[][..], &["--userns", "host"]] {
        let shown = run_on_host_image(&world, flags, &["sh", "-c", script]).succeed();
        assert_eq!(shown, "0");
    }
    let read_only = run_on_host_image(&world, &[], &["sh", "-c", script]).env("PATH", "/nowhere");
    assert_eq!(read_only.succeed(), "0", "without fuse-overlayfs");
    assert_ne!(std::fs::metadata("/etc/shadow").expect("accounts").len(), 0, "the host's own");
}

/// passwd(1) and its like rename a new file over the old one.
#[test]
fn a_secret_that_is_replaced_while_the_container_runs_stays_hidden() {
    require_root();
    let world = sbx();
    let secret = std::path::PathBuf::from(format!("/etc/sbx-test-secret-{}", std::process::id()));
    let replace = || {
        let new = secret.with_extension("new");
        std::fs::write(&new, "secret").expect("a file in /etc");
        std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .expect("its mode");
        std::fs::rename(&new, &secret).expect("its place");
    };
    replace();
    let run = world.run(["-d", "--name", "one", "--net", "none", "host", "sleep", "60"]).finish();
    replace();
    let shown = world
        .sbx(["exec", "one", "sh", "-c", "cat \"$0\"; ls /etc | grep -c sbx-test-secret"])
        .arg(&secret)
        .finish();
    std::fs::remove_file(&secret).expect("the file");
    let _ = run.code_is(0);
    let _ = shown.code_is(0).stdout_is("1\n");
    world.sbx(["rm", "-f", "-t", "0", "one"]).succeed();
}
