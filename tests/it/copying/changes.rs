//! `sbx diff`

use super::{IMAGE, remove, running, stopped, world};
use crate::harness::rootfs;

const SCRIPT: &str = "mkdir -p /srv/d; echo x > /srv/d/f; rm /bin/vi; echo x >> /etc/passwd; rm -rf /home; mkdir /home; \
                      touch /home/new; chmod 711 /root; touch /tmp/t; rm /tmp/t; echo y >> /etc/group";
const CHANGES: &str = "C /bin\nD /bin/vi\nC /etc\nC /etc/group\nC /etc/passwd\nC /home\nA /home/new\n";

#[test]
fn changes_are_told_whatever_stacks_the_layers() {
    for options in [
        &["--storage-driver", "overlay"][..],
        &["--storage-driver", "fuse-overlayfs"],
        &["--id-tier", "single"],
        &["--userns", "keep-id", "-u", "0"],
    ] {
        let world = world();
        world.file("volume/f", "x");
        let volume = format!("{}:/mnt/deep/vol", world.work().join("volume").display());
        let options = [options, &["-v", &volume]].concat();
        running(&world, &options, SCRIPT);
        let while_it_runs = world.sbx(["diff", "box"]).expect_code(0).stdout();
        world.sbx(["stop", "-t", "0", "box"]).expect_code(0);
        let told = world.sbx(["diff", "box"]).expect_code(0).stdout();
        assert_eq!(told, while_it_runs, "{options:?}");
        for line in CHANGES.lines().chain(["C /root", "A /srv/d", "A /srv/d/f"]) {
            assert!(told.lines().any(|told| told == line), "{options:?}: no `{line}` in\n{told}");
        }
        // Not what is mounted, nor what sbx makes for that, nor what is as it was.
        for none in ["vol", "hosts", "resolv.conf", "hostname", "/dev", "/proc", "/sys", "/tmp", "/usr"] {
            assert!(!told.contains(none), "{options:?}: `{none}` in\n{told}");
        }
        let json = world.sbx(["container", "diff", "--format", "json", "box"]).expect_code(0).stdout();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            json["deleted"].as_array().map(|list| list.contains(&"/bin/vi".into())),
            Some(true),
            "{json}"
        );
        remove(&world);
    }
}

#[test]
fn nothing_is_told_of_a_container_that_did_nothing() {
    let world = world();
    stopped(&world, &["-v", "/tmp:/new/place"], "true");
    world.sbx(["diff", "box"]).expect_code(0).stdout_is("");
    world.sbx(["rm", "box"]).expect_code(0);
    world.sbx(["create", "--name", "box", IMAGE]).expect_code(0);
    world.sbx(["diff", "-l"]).expect_code(0).stdout_is("");
    world.sbx(["rm", "box"]).expect_code(0);
}

#[test]
fn roots_that_are_no_images_are_compared_where_there_is_something_to_compare() {
    let world = crate::harness::sbx();
    let root = rootfs();
    let options = ["--name", "box", "--net", "none"];
    world
        .run(options)
        .arg("--rootfs")
        .arg(root)
        .args(["sh", "-c", "echo > /etc/new; rm /etc/passwd"])
        .expect_code(0);
    world.sbx(["diff", "box"]).expect_code(0).stdout_is("C /etc\nA /etc/new\nD /etc/passwd\n");
    world.sbx(["rm", "box"]).expect_code(0);
    world.run(options).args(["host", "sh", "-c", "echo > /etc/new; rm /etc/passwd"]).expect_code(0);
    world.sbx(["diff", "box"]).expect_code(0).stdout_is("C /etc\nA /etc/new\nD /etc/passwd\n");
    world.sbx(["rm", "box"]).expect_code(0);
    let own = world.own_rootfs();
    world.run(options).arg("--rootfs-rw").arg(&own).arg("true").expect_code(0);
    world.sbx(["diff", "box"]).expect_code(125).stderr_has("nothing is left to compare");
    world.sbx(["rm", "box"]).expect_code(0);
    world.sbx(["diff", "none"]).expect_code(125).stderr_has("no container");
}
