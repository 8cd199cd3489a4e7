//! What holds for root: containers without a user namespace.

use serde_json::json;

use super::joined_mounts::Holder;
use super::{Bundle, behind};
use crate::harness::{require_root, sbx};

#[test]
fn a_container_lives_in_the_callers_user_namespace() {
    require_root();
    let world = sbx();
    let script = "cat /proc/self/uid_map; id -u; hostname; test -c /dev/null && stat -c '%t,%T %a' /dev/null; \
                  cat /proc/self/cgroup > /dev/null; test -b /dev/block && echo block; ls /sys/class/net";
    let bundle = Bundle::of_spec(&world, script, &[]).set(
        "/linux/devices",
        json!([{ "path": "/dev/block", "type": "b", "major": 7, "minor": 200, "fileMode": 0o600 }]),
    );
    let own = std::fs::read_to_string("/proc/self/uid_map").expect("a map");
    bundle.run().expect_code(0).stdout_is(&format!("{own}0\nsbx\n1,3 666\nblock\nlo\n"));
    let user = Bundle::of_spec(&world, "id -u; id -G; touch /x || echo refused", &[])
        .set("/process/user", json!({ "uid": 1000, "gid": 1000, "additionalGids": [50] }));
    user.run().expect_code(0).stdout_is("1000\n1000 50\nrefused\n");
}

#[test]
fn a_container_that_was_created_is_started_entered_and_deleted() {
    require_root();
    let world = sbx();
    let bundle = Bundle::of_spec(&world, "exec sleep 999", &[]);
    bundle.behind("create", "web").expect_code(0);
    world.sbx(["oci", "start", "web"]).succeed();
    world.sbx(["oci", "exec", "--user", "33:33", "web", "id", "-u"]).expect_code(0).stdout_is("33\n");
    world.sbx(["oci", "delete", "--force", "web"]).succeed();
}

#[test]
fn mounts_of_others_are_joined_without_a_user_namespace() {
    require_root();
    let world = sbx();
    let holder = Holder::start(&world, &["--mount", "--propagation", "private"]);
    let before = holder.mounts();
    let script = "test -e /mnt/dir || hostname; cat /proc/1/comm; readlink /proc/self/ns/mnt";
    let mut bundle = Bundle::of_spec(&world, script, &[]);
    for namespace in bundle.config["linux"]["namespaces"].as_array_mut().expect("namespaces") {
        if namespace["type"] == "mount" {
            namespace["path"] = json!(format!("/proc/{}/ns/mnt", holder.pid()));
        }
    }
    bundle.write();
    let theirs = std::fs::read_link(format!("/proc/{}/ns/mnt", holder.pid())).expect("a namespace");
    bundle.run().expect_code(0).stdout_is(&format!("sbx\nsh\n{}\n", theirs.display()));
    assert_eq!(holder.mounts(), before);
    assert!(holder.has_its_own());
    holder.end();
}

#[test]
fn records_of_others_are_not_believed() {
    require_root();
    let world = sbx();
    let bundle = Bundle::of_spec(&world, "exec sleep 999", &[]);
    let root = world.directory().join("state");
    let oci = |words: &[&str]| world.sbx(["--root"]).arg(&root).arg("oci").args(words);
    let create = behind(&world).arg("--root").arg(&root).args(["oci", "create", "--bundle"]);
    create.arg(&bundle.directory).arg("web").succeed();
    for theirs in [root.clone(), root.join("web")] {
        std::os::unix::fs::chown(&theirs, Some(1000), None).expect("another owner");
        for words in [&["state", "web"][..], &["delete", "--force", "web"], &["kill", "--all", "web", "KILL"]]
        {
            oci(words).expect_code(1).stderr_has("it belongs to user 1000");
        }
        std::os::unix::fs::chown(&theirs, Some(0), None).expect("the owner");
    }
    assert!(oci(&["state", "web"]).succeed().contains("created"));
    oci(&["delete", "--force", "web"]).succeed();
}

#[test]
fn binds_of_the_host_are_mapped_to_the_ids_of_the_container() {
    require_root();
    let world = sbx();
    let own = world.work().join("own");
    std::fs::create_dir(&own).expect("a directory");
    world.file("own/file", "shown");
    let map = json!([{ "containerID": 0, "hostID": 3_000_000, "size": 1000 }]);
    let one = json!([{ "containerID": 0, "hostID": 3_000_007, "size": 1 }]);
    let bind = |destination: &str, more: serde_json::Value| {
        let mut mount = json!({ "destination": destination, "type": "bind", "source": own });
        mount.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
        mount
    };
    let script = "stat -c '%u %g' /tmp/plain/file /tmp/same/file /tmp/other/file; cat /tmp/same/file; echo x >/tmp/same/new; echo x >/tmp/plain/new || echo refused";
    let bundle = Bundle::new(&world, script)
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map)
        .mount(json!({ "destination": "/tmp", "type": "tmpfs" }))
        .mount(bind("/tmp/plain", json!({ "options": ["bind"] })))
        .mount(bind("/tmp/same", json!({ "options": ["bind", "idmap"] })))
        .mount(bind("/tmp/other", json!({ "options": ["rbind"], "uidMappings": one, "gidMappings": one })));
    bundle.run().expect_code(0).stdout_is("65534 65534\n0 0\n7 7\nshownrefused\n");
    let made = std::fs::metadata(own.join("new")).expect("a file");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), 0);
}
