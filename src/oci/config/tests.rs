use std::path::Path;

use serde_json::{Value, json};

use super::{Described, from_text};
use crate::container::listed::{ListedKind, ListedMount};
use crate::error::Result;
use crate::sys::mount::{ATTR_ATIME, ATTR_NOATIME, ATTR_NODEV, ATTR_NOEXEC, ATTR_RDONLY, ATTR_STRICTATIME};

fn bundle(change: impl FnOnce(&mut Value)) -> Result<Described> {
    let own = |file: &str| {
        let id = match file {
            "uid" => rustix::process::getuid().as_raw(),
            _ => rustix::process::getgid().as_raw(),
        };
        json!([{ "containerID": 0, "hostID": id, "size": 1 }])
    };
    let mut config = json!({
        "ociVersion": "1.2.0",
        "process": { "args": ["true"], "cwd": "/" },
        "root": { "path": "rootfs" },
        "linux": {
            "namespaces": [{ "type": "user" }, { "type": "mount" }],
            "uidMappings": own("uid"),
            "gidMappings": own("gid"),
        },
    });
    change(&mut config);
    from_text(config.to_string().as_bytes(), "id", Path::new("/bundle"))
}

fn mount(mount: &Value) -> Result<ListedMount> {
    let described = bundle(|config| config["mounts"] = json!([mount]))?;
    Ok(described.spec.listed.expect("a bundle").mounts.remove(0))
}

#[test]
fn the_last_of_several_options_decides() {
    for (options, set, clear) in [
        (&["ro"][..], ATTR_RDONLY, 0),
        (&["ro", "rw"], 0, ATTR_RDONLY),
        (&["rw", "ro", "nodev"], ATTR_RDONLY | ATTR_NODEV, 0),
        // One value of several bits: all are cleared to set it (mount_setattr(2)).
        (&["noatime", "strictatime"], ATTR_STRICTATIME, ATTR_ATIME),
        (&["strictatime", "noatime"], ATTR_NOATIME, ATTR_ATIME),
    ] {
        let read =
            mount(&json!({ "destination": "/a", "type": "tmpfs", "options": options })).expect("a mount");
        assert_eq!((read.set, read.clear), (set, clear), "{options:?}");
    }
}

#[test]
fn options_of_all_mounts_below_begin_with_r() {
    let options = ["rbind", "rro", "rnoexec", "rslave", "private"];
    let read = mount(&json!({ "destination": "a", "source": "b", "options": options })).expect("a mount");
    assert_eq!(read.destination, Path::new("/a"));
    assert_eq!((read.set, read.set_below), (0, ATTR_RDONLY | ATTR_NOEXEC));
    assert_eq!(read.propagation, [(libc::MS_SLAVE, true), (libc::MS_PRIVATE, false)]);
    let source = Path::new("/bundle/b").to_owned();
    assert_eq!(read.kind, ListedKind::Bind { source, recursive: true, no_follow: false });
}

#[test]
fn nothing_is_null_and_what_is_not_known_is_left_alone() {
    let described = bundle(|config| {
        config["mounts"] = json!(null);
        config["hooks"] = json!({ "prestart": null });
        config["process"]["capabilities"] = json!(null);
        config["linux"]["resources"] = json!(null);
        config["vm"] = json!({ "any": "thing" });
    })
    .expect("a container");
    assert!(described.spec.listed.expect("a bundle").mounts.is_empty());
    assert_eq!(described.spec.process.umask, Some(0o022));
    assert!(described.control_group.resources.is_none());
}

#[test]
fn a_spec_is_read_as_it_was_written() {
    let spec = bundle(|config| config["hooks"] = json!({ "poststop": [{ "path": "/x", "timeout": 3 }] }))
        .expect("a container")
        .spec;
    let text = serde_json::to_string(&spec).expect("JSON");
    let read: crate::container::spec::Spec = serde_json::from_str(&text).expect("a spec");
    let hooks = |spec: &crate::container::spec::Spec| spec.listed.as_ref().expect("a bundle").hooks.clone();
    assert_eq!(hooks(&read), hooks(&spec));
    assert_eq!(read.process.exact, spec.process.exact);
}

#[test]
fn an_object_is_no_array() {
    for (pointer, value) in [
        ("/hooks", json!([])),
        ("/root", json!(["rootfs"])),
        ("/process/user", json!([5, 6])),
        ("/process/capabilities", json!([])),
        ("/linux/uidMappings", json!([[0, 0, 1]])),
    ] {
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        let error = bundle(|config| config.pointer_mut(parent).expect("an object")[name] = value);
        let error = format!("{:#}", error.expect_err(pointer));
        assert!(error.contains("cannot understand it"), "{pointer}: {error}");
    }
}

#[test]
fn versions_are_those_of_the_first_major_one() {
    let read = |version: &str| bundle(|config| config["ociVersion"] = json!(version)).map(drop);
    for version in ["1.0.0", "1.2.0", "1.99.7", "1.0.2-dev", "1.1.0-rc.1+build.5"] {
        read(version).expect(version);
    }
    for version in ["", "1", "1.0", "1.0.x", "1.0.0.0", "0.9.0", "2.0.0", "v1.0.0", "1..0", "banana"] {
        read(version).expect_err(version);
    }
}

#[test]
fn lists_of_processors_have_numbers_and_ranges() {
    let read = |list: &str| {
        let described = bundle(|config| config["process"]["execCPUAffinity"] = json!({ "final": list }))?;
        let affinity = described.spec.process.exact.expect("a bundle's").affinity.expect("it is listed");
        assert!(affinity.initial.is_empty());
        Ok::<_, crate::error::Error>(affinity.last)
    };
    for (list, numbers) in [("", &[][..]), ("0", &[0]), ("0-3,7", &[0, 1, 2, 3, 7]), ("5, 2-2 ,5", &[2, 5])] {
        assert_eq!(read(list).expect(list), numbers, "{list}");
    }
    for list in ["x", "-1", "1-", "3-1", "0,,1", "1024", "0-99999999999", "0-1-2"] {
        read(list).expect_err(list);
    }
}

#[test]
fn a_bind_is_one_by_its_options_alone() {
    let error = mount(&json!({ "destination": "/a", "type": "bind", "source": "b" })).expect_err("no option");
    assert!(error.to_string().contains("neither `bind` nor `rbind`"), "{error}");
    let read = mount(&json!({ "destination": "/a", "options": ["remount", "ro", ""] })).expect("a change");
    assert_eq!((read.kind, read.set), (ListedKind::Existing, ATTR_RDONLY));
    let error = mount(&json!({ "destination": "/a", "type": "tmpfs", "options": ["remount", "size=1m"] }));
    error.expect_err("of the file system");
}
