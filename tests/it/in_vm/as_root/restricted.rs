//! Hosts whose administrator has taken something away: `sbx doctor` names it, and what can work works.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::as_other;
use crate::harness::{Sbx, images, require};
use crate::in_vm::world;

/// What undoes a change to the host, when the test is over.
struct Undo(&'static str);

impl Drop for Undo {
    fn drop(&mut self) {
        let undone = Command::new("sh").args(["-ec", self.0]).status();
        assert!(
            undone.is_ok_and(|status| status.success()) || std::thread::panicking(),
            "cannot undo: {}",
            self.0
        );
    }
}

/// Changes the host until the value is dropped.
#[must_use]
fn change(world: &Sbx, script: &str, undo: &'static str) -> Undo {
    world.program("sh").args(["-ec", script]).expect_code(0);
    Undo(undo)
}

/// The checks of `sbx doctor` that are not well, by their names.
fn lacking(world: &Sbx) -> Vec<(String, Value)> {
    let told = as_other(world, "sbx doctor --format json").finish().stdout();
    let told: Value = serde_json::from_str(&told).expect("JSON");
    let list = told.as_array().or_else(|| told["checks"].as_array()).expect("a list of checks").clone();
    let bad = list.into_iter().filter(|check| check["status"] != "ok");
    // The other user has no session here: nothing is delegated to it.
    bad.map(|check| (check["id"].as_str().expect("a name").to_owned(), check))
        .filter(|(id, _)| !["cgroup-delegation", "runtime-dir"].contains(&id.as_str()))
        .collect()
}

/// The script with the image `busybox` in the store, as another tool puts it there.
fn with_image(script: &str) -> String {
    require("skopeo");
    let image = images().busybox().skopeo();
    format!(
        "install -d -m 0700 $HOME/.local/share/sbx; skopeo copy --quiet {image} oci:$HOME/.local/share/sbx/oci:docker.io/library/busybox:latest; {script}"
    )
}

#[test]
fn without_a_session_no_limit_is_set_and_all_else_works() {
    let world = world();
    as_other(&world, "sbx info --format '{{.host.cgroupManager}}'").expect_code(0).stdout_is("disabled\n");
    let limited =
        as_other(&world, "sbx run --rm --net none -m 64m --pids-limit 9 host true").expect_code(125);
    limited
        .stderr_has("cannot limit the container (memory, pids)")
        .stderr_has("started in a cgroup that is not delegated to you")
        .stderr_has("log in with a session of your own")
        .stderr_has("systemd-run --user --scope -p Delegate=yes");
    let checks = as_other(&world, "sbx doctor --format json").finish().stdout();
    let checks: Value = serde_json::from_str(&checks).expect("JSON");
    let list = checks.as_array().or_else(|| checks["checks"].as_array()).expect("a list of checks");
    let check = list.iter().find(|check| check["id"] == "cgroup-delegation").expect("the check");
    assert_eq!(check["status"], "warning", "{check:#}");
    as_other(&world, RUN).expect_code(0).stdout_is("0\n");
}

const RUN: &str = "sbx run --rm --quiet --net none host id -u";

#[test]
fn user_namespaces_that_a_sysctl_forbids_are_named_with_it() {
    for (name, wanted) in [("kernel.unprivileged_userns_clone", "1"), ("user.max_user_namespaces", "15000")] {
        let world = world();
        as_other(&world, &format!("sbx create --quiet --net none --name web host true; {RUN}"))
            .expect_code(0);
        let before = world.program("sysctl").args(["-n", name]).succeed();
        let forbidden = change(
            &world,
            &format!("sysctl -qw {name}=0"),
            "sysctl -qw kernel.unprivileged_userns_clone=1 user.max_user_namespaces=15000",
        );
        assert_ne!(before, "0");
        let found = lacking(&world);
        let (id, check) = &found[0];
        assert_eq!(id, "user-namespaces");
        let follow = |check: &Value| check["mend"] == "mend the check `user namespaces` first";
        assert!(found[1..].iter().all(|(_, check)| follow(check)), "{found:#?}");
        assert_eq!(check["status"], "missing");
        assert!(
            check["found"].as_str().is_some_and(|found| found.contains(&format!("{name} is 0"))),
            "{check}"
        );
        assert!(
            check["mend"].as_str().is_some_and(|mend| mend.contains(&format!("{name} = {wanted}"))),
            "{check}"
        );
        as_other(&world, RUN)
            .expect_code(125)
            .stderr_has(&format!("{name} is 0"))
            .stderr_has("sysctl --system");
        // What needs no namespace.
        as_other(&world, "sbx ps -a --format '{{.Names}}'; sbx images -q; sbx volume ls -q; sbx inspect -f '{{.Name}}' web")
            .expect_code(0)
            .stdout_is("web\nweb\n");
        drop(forbidden);
        as_other(&world, &format!("sbx rm web >/dev/null; {RUN}")).expect_code(0).stdout_is("0\n");
    }
}

#[test]
fn without_subordinate_ids_one_is_mapped_and_owners_are_emulated() {
    let world = world();
    let files = "for file in /etc/subuid /etc/subgid; do mv $file $file.kept; : >$file; done";
    let _none = change(&world, files, "for file in /etc/subuid /etc/subgid; do mv $file.kept $file; done");
    let found = lacking(&world);
    assert!(!found.is_empty(), "nothing is named");
    let told = found.iter().map(|(_, check)| check.to_string()).collect::<String>();
    assert!(told.contains("usermod --add-subuids"), "{told}");
    as_other(&world, RUN).expect_code(0).stdout_is("0\n");
    let script = "sbx run --rm --quiet --net none busybox sh -c 'wc -l </proc/self/uid_map; touch f; chown 33:33 f; stat -c %u f'";
    let script = &with_image(script);
    as_other(&world, script).expect_code(0).stdout_is("1\n33\n");
}

#[test]
fn a_home_on_another_file_system_serves() {
    for (make, kind, warned) in [
        (
            "truncate -s 3G /var/tmp/home.ext4; mkfs.ext4 -q -F /var/tmp/home.ext4; mount -o loop,nodev /var/tmp/home.ext4 /home/sbxother",
            "ext4",
            false,
        ),
        ("mount -t tmpfs -o mode=700,size=2G,nodev,nosuid none /home/sbxother", "tmpfs", true),
    ] {
        let world = world();
        let script = format!("{make}; chown sbxother:sbxother /home/sbxother");
        let _home = change(&world, &script, "umount /home/sbxother; rm -f /var/tmp/home.ext4");
        let found = lacking(&world);
        assert_eq!(found.iter().any(|(id, _)| id == "store-file-system"), warned, "{kind}: {found:#?}");
        assert!(found.iter().all(|(_, check)| check["status"] == "warning"), "{kind}: {found:#?}");
        as_other(&world, RUN).expect_code(0).stdout_is("0\n");
        let script = "sbx run --quiet --net none --name web busybox sh -c 'mkdir /etc/made && chown 33 /etc/made && stat -c %u /etc/made'
            sbx start -a web 2>/dev/null || echo is there already; sbx rm web";
        as_other(&world, &with_image(script)).expect_code(0).stdout_is("33\nis there already\nweb\n");
    }
}

#[test]
fn without_the_fuse_device_layers_are_the_kernels() {
    let world = world();
    let _gone = change(&world, "mv /dev/fuse /dev/fuse.kept", "mv /dev/fuse.kept /dev/fuse");
    assert!(!Path::new("/dev/fuse").exists());
    let found = lacking(&world);
    let told = found.iter().map(|(_, check)| check.to_string()).collect::<String>();
    assert!(told.contains("/dev/fuse"), "{told}");
    assert!(found.iter().all(|(_, check)| check["status"] == "warning"), "{found:#?}");
    let script = "sbx run --rm --quiet --net none busybox sh -c 'mkdir /etc/made && ls -d /etc/made'";
    as_other(&world, &with_image(script)).expect_code(0).stdout_is("/etc/made\n");
    as_other(&world, "sbx run --rm --net none host touch /etc/made")
        .expect_code(1)
        .stderr_has("is read-only");
}
