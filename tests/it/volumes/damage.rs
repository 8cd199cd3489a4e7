//! Volumes that somebody, a crash or a full disk has spoilt, and file systems that keep too little.

use std::fs;
use std::os::unix::fs::symlink;

use super::{directory, keep, names, shell};
use crate::harness::{Sbx, require, rootfs, sbx, sbx_binary};

#[test]
fn entries_that_are_no_volumes_are_left_alone() {
    let world = sbx();
    world.sbx(["volume", "create", "sound"]).succeed();
    let precious = world.work().join("precious");
    fs::create_dir_all(precious.join("_data")).expect("a directory");
    fs::write(precious.join("_data/f"), "dear").expect("a file");
    symlink(&precious, directory(&world, "link")).expect("a symlink");
    fs::write(directory(&world, "file"), "").expect("a file");
    fs::create_dir(directory(&world, "bad name")).expect("a directory");
    assert_eq!(names(&world), ["sound"]);
    for name in ["link", "file"] {
        let _ = world.sbx(["volume", "rm", name]).expect_code(1);
        let _ = world.sbx(["volume", "create", name]).expect_code(125).stderr_has("is in the way");
        let mount = format!("{name}:/v");
        let _ = shell(&world, &["-v", &mount], "true").expect_code(125).stderr_has("is in the way");
    }
    world.sbx(["volume", "prune", "-af"]).succeed();
    assert_eq!(fs::read_to_string(precious.join("_data/f")).expect("it is there"), "dear");
}

#[test]
fn a_torn_volume_is_one_without_labels() {
    let world = sbx();
    for damage in ["", "{\"name\":\"torn\",\"lab", "null", "[]", "\0\0\0"] {
        world.sbx(["volume", "create", "--label", "a=b", "torn"]).succeed();
        shell(&world, &["-v", "torn:/v"], "echo kept >/v/f").succeed();
        fs::write(directory(&world, "torn").join("volume.json"), damage).expect("a file");
        assert_eq!(
            world.sbx(["volume", "inspect", "-f", "{{.Name}} {{.Driver}}", "torn"]).succeed(),
            "torn local"
        );
        assert_eq!(shell(&world, &["-v", "torn:/v"], "cat /v/f").succeed(), "kept");
        world.sbx(["volume", "rm", "torn"]).succeed();
    }
    // Nothing but an empty directory is left of it.
    fs::create_dir(directory(&world, "husk")).expect("a directory");
    assert_eq!(names(&world), ["husk"]);
    assert_eq!(shell(&world, &["-v", "husk:/v"], "echo 1 >/v/f; cat /v/f").succeed(), "1");
    // A data directory that leads elsewhere is not followed.
    let data = directory(&world, "husk").join("_data");
    fs::remove_dir_all(&data).expect("it goes");
    symlink("/etc", &data).expect("a symlink");
    let _ =
        shell(&world, &["-v", "husk:/v"], "cat /v/passwd").expect_code(125).stderr_has("it is no directory");
    world.sbx(["volume", "rm", "husk"]).succeed();
    assert!(fs::exists("/etc/passwd").expect("it can be told"));
}

#[test]
fn a_container_that_cannot_be_read_keeps_all_volumes() {
    let world = sbx();
    keep(&world, &["--name=cc", "-v=v:/v"], "true").succeed();
    let id = world.sbx(["ps", "-aq", "--no-trunc"]).succeed();
    fs::write(world.store().join("containers").join(&id).join("spec.json"), "{").expect("a file");
    let refused = world.sbx(["volume", "rm", "v"]).expect_code(125).stderr_has(&id[..12]);
    assert!(refused.stderr().contains("sbx rm"), "{}", refused.stderr());
    let _ = world.sbx(["volume", "prune", "-af"]).expect_code(125);
    assert_eq!(names(&world), ["v"]);
    world.sbx(["rm", &id]).succeed();
    world.sbx(["volume", "rm", "v"]).succeed();
}

#[test]
fn what_was_left_half_made_or_half_removed_goes() {
    let world = sbx();
    world.sbx(["volume", "create", "v"]).succeed();
    let part = world.store().join("volumes/.part");
    for name in ["empty", "torn", "whole"] {
        fs::create_dir_all(part.join(name)).expect("a directory");
    }
    fs::create_dir_all(part.join("torn/_data/d")).expect("a directory");
    fs::create_dir_all(part.join("whole/_data")).expect("a directory");
    fs::write(part.join("whole/volume.json"), "{}").expect("a file");
    fs::write(part.join("file"), "").expect("a file");
    world.sbx(["volume", "create", "w"]).succeed();
    assert_eq!(fs::read_dir(&part).expect("it").count(), 0);
}

/// A script with a full tmpfs as the store, in a user and mount namespace of its own.
fn on_a_small_disk(world: &Sbx, script: &str) -> String {
    require("unshare");
    let script = format!("mount -t tmpfs -o size=300k,mode=700 none \"$STORE\" && {script}");
    let run = world.program("unshare").args(["-Urm", "sh", "-euc", &script]);
    let store = world.directory().join("small");
    fs::create_dir_all(&store).expect("a directory");
    run.env("SBX", sbx_binary()).env("ROOT", rootfs()).env("STORE", &store).env("SBX_ROOT", &store).succeed()
}

#[test]
fn on_a_full_disk_nothing_is_half_made_and_volumes_go() {
    let world = sbx();
    let said = on_a_small_disk(
        &world,
        r#"
        $SBX volume create kept; $SBX volume create big
        head -c 1m /dev/zero >"$STORE/volumes/big/_data/fill" 2>/dev/null || true
        for i in 1 2 3 4 5 6 7 8; do echo x >"$STORE/volumes/big/_data/$i" 2>/dev/null || true; done
        $SBX volume create more 2>&1 || echo "code $?"
        $SBX volume ls -q
        $SBX volume rm big; $SBX volume create more; $SBX volume ls -q; ls -A "$STORE/volumes/.part"
        "#,
    );
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..2], ["kept", "big"]);
    assert!(said.contains("cannot make the volume `more`") && said.contains("No space left"), "{said}");
    assert!(said.ends_with("code 125\nbig\nkept\nbig\nmore\nkept\nmore"), "{said}");
}
