//! `sbx export`

use std::path::PathBuf;
use std::time::Duration;

use super::registry_of;
use crate::harness::{Sbx, images, rootfs, sbx};

/// Names in the tar of a container's root.
fn exported(world: &Sbx, container: &str) -> Vec<String> {
    let path = world.work().join("root.tar");
    world.sbx(["export", "-o"]).arg(&path).arg(container).expect_code(0);
    let listed = world.program("tar").arg("-tf").arg(&path).expect_code(0).stdout();
    listed.lines().map(|line| line.trim_start_matches("./").trim_end_matches('/').to_owned()).collect()
}

#[test]
fn the_root_is_what_the_container_saw_without_its_mounts() {
    for driver in ["overlay", "fuse-overlayfs"] {
        let world = sbx();
        let registry = registry_of(&world, &[(images().busybox(), "test/busybox:1")]);
        let name = format!("{}/test/busybox:1", registry.address());
        world.sbx(["pull", "-q", &name]).expect_code(0);
        world.file("volume/secret", "x");
        let volume = format!("{}:/mnt", world.work().join("volume").display());
        let script =
            "echo hi > /new; chown 5:6 /new; rm /bin/vi; rm -rf /home; mkdir /home; touch /home/only";
        let options = ["--name", "box", "--net", "none", "--storage-driver", driver, "-v", &volume];
        world.run(options).args([&name, "sh", "-c", script]).expect_code(0);
        let names = exported(&world, "box");
        for (path, there) in [
            ("new", true),
            ("bin/sh", true),
            ("bin/vi", false),
            ("home/only", true),
            ("mnt", true),
            ("mnt/secret", false),
        ] {
            assert_eq!(names.iter().any(|name| name == path), there, "{driver}: {path} in {names:?}");
        }
        let owners =
            world.program("tar").args(["--numeric-owner", "-tvf", "root.tar"]).expect_code(0).stdout();
        assert!(owners.lines().any(|line| line.contains("5/6") && line.ends_with("new")), "{owners}");
        // It makes an image again.
        world.sbx(["import", "-q", "root.tar", "again:1"]).expect_code(0);
        world.run(["--rm", "--net", "none", "again:1", "cat", "/new"]).expect_code(0).stdout_is("hi\n");
        world.sbx(["rm", "box"]).expect_code(0);
    }
}

/// A copy lies beside the container's layer meanwhile.
#[test]
fn what_the_kernel_stacks_is_not_copied() {
    let world = sbx();
    let lower = |number: usize| world.file(&format!("{number}/lower"), number.to_string());
    // One page of options holds the paths of the first, and not those of the second.
    for count in [3, 250] {
        let lowers: Vec<PathBuf> = (0..count).map(lower).collect();
        let directories = lowers.iter().filter_map(|file| file.parent());
        let run = world.run(["--name", "box", "--net", "none", "--storage-driver", "overlay", "--rootfs"]);
        let run = directories.fold(run.arg(rootfs()), |run, lower| run.arg("--rootfs").arg(lower));
        run.arg("true").expect_code(0);
        let id = world.sbx(["inspect", "-f", "{{.Id}}", "box"]).succeed();
        let changed = || {
            let directory =
                std::fs::metadata(world.store().join("containers").join(&id)).expect("a directory");
            directory.modified().expect("a time")
        };
        // The place to mount on is made once.
        assert!(exported(&world, "box").iter().any(|name| name == "lower"));
        let before = changed();
        assert!(exported(&world, "box").iter().any(|name| name == "lower"));
        assert_eq!(changed(), before, "{count} layers");
        let content = world.program("tar").args(["-xOf", "root.tar", "lower"]).succeed();
        assert_eq!(content, (count - 1).to_string());
        world.sbx(["rm", "box"]).expect_code(0);
    }
}

#[test]
fn a_container_is_exported_while_it_runs() {
    let world = sbx();
    let registry = registry_of(&world, &[(images().busybox(), "test/busybox:1")]);
    let name = format!("{}/test/busybox:1", registry.address());
    world.sbx(["pull", "-q", &name]).expect_code(0);
    let script = "echo x > /made; echo ready; read wait";
    let options = ["--rm", "-i", "--name", "box", "--net", "none"];
    let mut running = world
        .run(options)
        .args([&name, "sh", "-c", script])
        .stdin_from(std::process::Stdio::piped())
        .timeout(Duration::from_secs(30))
        .spawn();
    running.wait_for_stdout("ready");
    assert!(exported(&world, "box").iter().any(|name| name == "made"));
    running.close_stdin();
    let _ = running.finish();
}

#[test]
fn what_has_no_root_of_its_own_is_refused() {
    let world = sbx();
    world.sbx(["export", "nothing"]).stdin("").expect_code(125).stderr_has("nothing");
    world.run(["--name", "box", "--net", "none", "host", "true"]).expect_code(0);
    world.sbx(["export", "box"]).expect_code(125).stderr_has("the image `host`");
    world.sbx(["rm", "box"]).expect_code(0);
}
