//! `mounts`, masked and read-only paths, devices.

use std::fs;

use serde_json::json;

use super::Bundle;
use crate::harness::sbx;

#[test]
fn mounts_come_in_their_order_with_their_options() {
    let world = sbx();
    let data = world.work().join("data");
    fs::create_dir(&data).expect("a directory");
    fs::write(data.join("file"), "shown\n").expect("a file");
    let script = "grep -E ' /(mnt|opt|srv|mnt/sub|mnt/file) ' /proc/self/mountinfo | cut -d' ' -f5,6 | sort; cat /mnt/file /srv/file; \
                  touch /srv/x 2>/dev/null || echo refused; touch /opt/y && stat -c %a /opt; cat /opt/kept";
    let bundle = Bundle::new(&world, script)
        .mount(json!({ "destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "noatime", "size=1m", "ro"] }))
        .mount(json!({ "destination": "/mnt/file", "source": data.join("file"), "options": ["bind", "ro", "nosymfollow"] }))
        .mount(json!({ "destination": "/srv", "source": "../data", "options": ["rbind", "rro"] }))
        .mount(json!({ "destination": "/opt", "source": world.work().join("o"), "options": ["bind"] }))
        .mount(json!({ "destination": "/opt", "type": "tmpfs", "source": "t", "options": ["tmpcopyup", "mode=0751"] }));
    fs::create_dir(world.work().join("o")).expect("a directory");
    fs::write(world.work().join("o/kept"), "kept\n").expect("a file");
    let out = bundle.run().expect_code(0).stdout();
    let mut lines = out.lines();
    let mut next = || lines.next().expect("a line").to_owned();
    assert_eq!(next(), "/mnt ro,nosuid,nodev,noatime");
    assert!(next().starts_with("/mnt/file ro,"), "{out}");
    assert!(next().starts_with("/opt "), "{out}");
    assert!(next().starts_with("/opt "), "{out}");
    assert!(next().starts_with("/srv ro,"), "{out}");
    assert_eq!(lines.collect::<Vec<_>>(), ["shown", "shown", "refused", "751", "kept"], "{out}");
    assert!(!world.work().join("o/y").exists(), "the tmpfs covers what was mounted before");
}

#[test]
fn paths_are_masked_and_made_read_only() {
    let world = sbx();
    let bundle = Bundle::new(
        &world,
        "cat /etc/hosts; ls -A /srv; touch /tmp/x 2>/dev/null || echo refused; touch /run/x && echo made",
    )
    .set("/root/readonly", json!(false))
    .mount(json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" }))
    .mount(json!({ "destination": "/run", "type": "tmpfs", "source": "tmpfs" }))
    .mount(json!({ "destination": "/srv", "source": "/etc", "options": ["rbind"] }))
    .set("/linux/maskedPaths", json!(["/etc/hosts", "/srv", "/no/such"]))
    .set("/linux/readonlyPaths", json!(["/tmp", "/no/such"]));
    bundle.run().expect_code(0).stdout_is("refused\nmade\n");
}

#[test]
fn devices_are_there_and_the_hosts_are_found_by_their_path() {
    let world = sbx();
    let script = "for d in null zero full random urandom tty; do test -c /dev/$d || echo no $d; done; \
                  for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done; echo x > /dev/null; \
                  test -c /dev/sub/fuse && echo fuse; test -p /dev/pipe && echo pipe";
    let number = |path: &str| {
        use std::os::unix::fs::MetadataExt;
        let device = fs::metadata(path).expect("a device").rdev();
        (rustix::fs::major(device), rustix::fs::minor(device))
    };
    let (major, minor) = number("/dev/fuse");
    let fuse = json!({ "path": "/dev/fuse", "type": "c", "major": major, "minor": minor });
    let pipe = json!({ "path": "/dev/pipe", "type": "p", "fileMode": 0o600 });
    let script = script.replace("/dev/sub/fuse", "/dev/fuse");
    let bundle = Bundle::new(&world, &script).set("/linux/devices", json!([fuse, pipe]));
    bundle.run().expect_code(0).stdout_is(
        "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\nfuse\npipe\n",
    );
    let wrong = json!([{ "path": "/dev/fuse", "type": "c", "major": 1, "minor": 3 }]);
    let bundle = Bundle::new(&world, "true").set("/linux/devices", wrong);
    bundle.run().expect_code(1).stderr_has("the host has another device at this path");
}

#[test]
fn a_root_leads_mounts_nowhere() {
    let world = sbx();
    let root = world.own_rootfs();
    fs::remove_dir(root.join("srv")).expect("removed");
    std::os::unix::fs::symlink("../../../../../../etc", root.join("srv")).expect("a link");
    let bundle = Bundle::new(&world, "cat /etc/inside").set("/root", json!({ "path": root })).mount(
        json!({ "destination": "/srv/inside", "source": world.file("x", "x\n"), "options": ["bind"] }),
    );
    bundle.run().expect_code(0).stdout_is("x\n");
    fs::remove_dir(root.join("proc")).expect("removed");
    std::os::unix::fs::symlink("/tmp", root.join("proc")).expect("a link");
    bundle.run().expect_code(1).stderr_has("it is a symlink");
}

#[test]
fn nothing_of_the_host_is_seen() {
    let world = sbx();
    let script = "grep -c . /proc/self/mountinfo > /dev/null; ls /proc/self/fd | grep -vE '^[0-3]$'; cat /proc/1/cmdline | tr '\\0' ' '";
    Bundle::new(&world, script).run().expect_code(0).stdout_has("sh -c").stdout_has_not("sbx");
}
