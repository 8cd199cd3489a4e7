//! `sbx cp`: what goes where, and whose it is.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::{IMAGE, listed, remove, running, stopped, world};
use crate::harness::Sbx;

/// A tree of every kind of file.
const TREE: &str = "mkdir -p /srv/d/e; echo hi > /srv/d/f; ln /srv/d/f /srv/d/h; ln -s f /srv/d/l; mkfifo /srv/d/p; \
                    chmod 4751 /srv/d/f; chmod 1775 /srv/d/e; chown 5:6 /srv/d/e";

fn check_tree(at: &std::path::Path) {
    let of = |name: &str| at.join(name).symlink_metadata().unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(fs::read_to_string(at.join("f")).unwrap(), "hi\n");
    let caller = nix::unistd::geteuid().as_raw();
    assert!(["e", "f", "l", "p"].iter().all(|name| of(name).uid() == caller));
    // Nobody else of this machine is to run a program of the container's as the caller.
    assert_eq!(of("f").mode() & 0o7777, 0o751);
    assert_eq!(of("e").mode() & 0o7777, 0o1775);
    assert_eq!((of("h").ino(), of("h").nlink()), (of("f").ino(), 2));
    assert_eq!(fs::read_link(at.join("l")).unwrap().to_str(), Some("f"));
    assert_eq!(of("p").mode() & libc::S_IFMT, libc::S_IFIFO);
}

/// Every way in which a container may keep its files.
const KINDS: &[&[&str]] = &[
    &[],
    &["--storage-driver", "fuse-overlayfs"],
    &["--id-tier", "single"],
    &["--userns", "keep-id", "-u", "0"],
    &["--read-only", "--tmpfs", "/srv"],
    &["--init", "--tmpfs", "/srv"],
];

#[test]
fn trees_come_out_of_running_and_stopped_containers() {
    for options in KINDS {
        let world = world();
        running(&world, options, TREE);
        world.sbx(["cp", "-q", "box:/srv/d", "out"]).expect_code(0).stderr_is("").stdout_is("");
        check_tree(&world.work().join("out"));
        // Into a directory that is there, under its own name; its contents; and what comes again replaces it.
        world.sbx(["cp", "box:/srv/d/", "out"]).expect_code(0).stderr_has("Successfully copied");
        check_tree(&world.work().join("out/d"));
        world.sbx(["cp", "box:srv/d/.", "out"]).expect_code(0);
        check_tree(&world.work().join("out"));
        world.sbx(["stop", "-t", "0", "box"]).expect_code(0);
        if !options.contains(&"--tmpfs") {
            world.sbx(["cp", "box:/srv/d", "later"]).expect_code(0);
            check_tree(&world.work().join("later"));
            // It starts again, and nothing says that it was looked at.
            assert!(world.sbx(["ps", "-a"]).expect_code(0).stdout().contains("Exited (137)"), "{options:?}");
            world.sbx(["start", "box"]).expect_code(0);
        }
        remove(&world);
    }
}

#[test]
fn what_comes_in_belongs_to_the_user_of_the_container() {
    for (options, owner) in [
        (&[][..], "0/0"),
        (&["-u", "7:8"], "7/8"),
        (&["-u", "7:8", "--storage-driver", "fuse-overlayfs"], "7/8"),
        (&["--userns", "keep-id:uid=7,gid=8"], "7/8"),
        (&["--id-tier", "single"], "0/0"),
    ] {
        let world = world();
        stopped(&world, options, "true");
        world.script("tree/below/program", "#!/bin/sh\n");
        symlink("below", world.work().join("tree/link")).unwrap();
        world.sbx(["cp", "tree", "box:/opt"]).expect_code(0);
        let expected = format!(
            "drwxr-xr-x {owner} opt/\ndrwxr-xr-x {owner} opt/below/\n-rwxr-xr-x {owner} opt/below/program\n\
             lrwxrwxrwx {owner} opt/link -> below\n"
        );
        assert_eq!(listed(&world, "/opt"), expected, "{options:?}");
        world.sbx(["rm", "box"]).expect_code(0);
        world.assert_clean();
    }
}

#[test]
fn owners_and_attributes_are_kept_on_request() {
    let world = world();
    stopped(&world, &[], "true");
    let file = world.file("tree/f", "x");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    world.program("setfattr").args(["-n", "user.mark", "-v", "yes"]).arg(&file).expect_code(0);
    world
        .program("tar")
        .args(["--owner", "u:11", "--group", "g:12", "--xattrs", "-cf", "tree.tar", "tree"])
        .succeed();
    let archive =
        || world.sbx(["cp", "-a", "-", "box:/"]).stdin(fs::read(world.work().join("tree.tar")).unwrap());
    archive().expect_code(0).stderr_is("");
    assert!(listed(&world, "/tree").ends_with("-rw-r----- 11/12 tree/f\n"), "{}", listed(&world, "/tree"));
    // And back: attributes stay, owners do not.
    world.sbx(["cp", "box:/tree/f", "back"]).expect_code(0);
    let shown = world.program("getfattr").args(["--only-values", "-n", "user.mark", "back"]).expect_code(0);
    shown.stdout_is("yes");
    world.sbx(["rm", "box"]).expect_code(0);
}

#[test]
fn between_containers_and_within_one() {
    let world = world();
    running(&world, &[], TREE);
    world
        .run(["--name", "other", "--net", "none", "--storage-driver", "fuse-overlayfs", IMAGE, "true"])
        .expect_code(0);
    world.sbx(["cp", "-a", "box:/srv/d", "other:/copy"]).expect_code(0);
    world.sbx(["cp", "other:/copy", "out"]).expect_code(0);
    check_tree(&world.work().join("out"));
    world.sbx(["cp", "box:/srv/d", "box:/srv/again"]).expect_code(0);
    world.sbx(["cp", "-q", "other:/copy/.", "other:/third"]).expect_code(0);
    world.sbx(["cp", "other:/third", "third"]).expect_code(0);
    check_tree(&world.work().join("third"));
    world.sbx(["rm", "other"]).expect_code(0);
    remove(&world);
}

#[test]
fn volumes_tmpfs_and_mounted_files_are_part_of_a_running_container() {
    let world = world();
    fs::create_dir(world.work().join("volume")).unwrap();
    let file = world.file("single", "old, and longer");
    let (volume, single) = (
        format!("{}:/vol", world.work().join("volume").display()),
        format!("{}:/etc/single", file.display()),
    );
    running(&world, &["-v", &volume, "-v", &single, "--tmpfs", "/tm"], "echo t > /tm/t");
    world.file("n", "new");
    for target in ["box:/vol/", "box:/tm/", "box:/etc/single", "box:/etc/hostname"] {
        world.sbx(["cp", "n", target]).expect_code(0);
    }
    assert_eq!(fs::read_to_string(world.work().join("volume/n")).unwrap(), "new");
    // The name is another file's mount point: the file itself is written to.
    assert_eq!(fs::read_to_string(&file).unwrap(), "new");
    world
        .sbx(["exec", "box", "cat", "/tm/n", "/etc/single", "/etc/hostname"])
        .expect_code(0)
        .stdout_is("newnewnew");
    let names = listed(&world, "/");
    assert!(names.contains(" ./tm/t\n") && names.contains(" ./vol/n\n"), "{names}");
    assert!(names.contains(" ./proc/\n") && !names.contains(" ./proc/1"), "{names}");
    world.sbx(["stop", "-t", "0", "box"]).expect_code(0);
    world.file("m", "stopped");
    world.sbx(["cp", "m", "box:/vol"]).expect_code(0);
    assert_eq!(fs::read_to_string(world.work().join("volume/m")).unwrap(), "stopped");
    remove(&world);
}

#[test]
fn a_container_that_never_ran_takes_files_and_is_still_new() {
    let world = world();
    world.sbx(["create", "--name", "box", "--net", "none", IMAGE, "cat", "/given"]).expect_code(0);
    world.file("given", "words\n");
    world.sbx(["cp", "given", "box:/given"]).expect_code(0);
    assert!(world.sbx(["ps", "-a"]).expect_code(0).stdout().contains("Created"));
    world.sbx(["start", "-a", "box"]).expect_code(0).stdout_is("words\n");
    world.sbx(["rm", "box"]).expect_code(0);
    // Also one that goes with its end.
    world.sbx(["create", "--rm", "--name", "box", "--net", "none", IMAGE, "cat", "/given"]).expect_code(0);
    world.sbx(["cp", "given", "box:/given"]).expect_code(0);
    world.sbx(["start", "-a", "box"]).expect_code(0).stdout_is("words\n");
    world.assert_clean();
}

fn refused(world: &Sbx, from: &str, to: &str, why: &str) {
    world.sbx(["cp", from, to]).expect_code(125).stderr_has(why).stdout_is("");
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let world = world();
    stopped(&world, &[], "mkdir -p /srv/d/sub; echo f > /srv/f; ln -s nowhere /srv/dangling");
    world.file("file", "x");
    world.file("dir/sub", "x");
    refused(&world, "box:/none", ".", "No such file or directory");
    refused(&world, "none:/x", ".", "no container");
    refused(&world, "file", "box:/none/x", "there is no directory `/none`");
    refused(&world, "file", "box:/new/", "there is no such directory");
    refused(&world, "file", "box:/srv/f/", "Not a directory");
    refused(&world, "dir", "box:/srv/f", "a directory cannot replace a file");
    refused(&world, "box:/srv", "file", "a directory cannot replace a file");
    refused(&world, "box:/srv/f/.", "out", "Not a directory");
    refused(&world, "file", "box:/srv/dangling", "leads nowhere");
    refused(&world, "file", "other", "neither the source nor the target");
    refused(&world, "dir/.", "box:/srv/d", "of another kind is in the way");
    assert!(!world.work().join("out").exists());
    world.sbx(["cp", "--overwrite", "dir/.", "box:/srv/d"]).expect_code(0);
    world.sbx(["cp", "--overwrite", "dir", "box:/srv/f"]).expect_code(0);
    assert!(listed(&world, "/srv").contains("srv/f/sub\n"));
    world.sbx(["rm", "box"]).expect_code(0);
    world.assert_clean();
}

#[test]
fn symlinks_are_copied_and_followed_on_request() {
    let world = world();
    stopped(
        &world,
        &[],
        "mkdir -p /srv/d; echo f > /srv/f; ln -s ../../../srv/f /srv/up; ln -s /srv/d /to; touch /srv/d/x",
    );
    world.sbx(["cp", "box:/srv/up", "as-link"]).expect_code(0);
    assert_eq!(fs::read_link(world.work().join("as-link")).unwrap().to_str(), Some("../../../srv/f"));
    world.sbx(["cp", "-L", "box:/srv/up", "as-file"]).expect_code(0);
    assert_eq!(fs::read_to_string(world.work().join("as-file")).unwrap(), "f\n");
    world.sbx(["cp", "-L", "box:/to", "as-directory"]).expect_code(0);
    assert!(world.work().join("as-directory/x").exists());
    // A symlink that is named as the target is followed.
    world.sbx(["cp", "as-file", "box:/to/"]).expect_code(0);
    assert!(listed(&world, "/srv/d").contains("d/as-file\n"));
    world.sbx(["rm", "box"]).expect_code(0);
}

#[test]
fn archives_go_in_packed_or_not_and_devices_stay_out() {
    let world = world();
    stopped(&world, &[], "mkdir /srv");
    world.file("one/f", "x");
    for (option, name) in [("-cf", "plain.tar"), ("-czf", "packed.tar.gz"), ("-cJf", "packed.tar.xz")] {
        world.program("tar").args([option, name, "one"]).expect_code(0);
        let archive = fs::read(world.work().join(name)).unwrap();
        world.sbx(["cp", "-", "box:/srv"]).stdin(archive).expect_code(0).stderr_is("");
        world.sbx(["cp", "box:/srv/one/f", "back"]).expect_code(0);
        fs::remove_file(world.work().join("back")).unwrap();
    }
    world
        .sbx(["cp", "-", "box:/none"])
        .stdin("")
        .expect_code(125)
        .stderr_has("cannot unpack an archive in `/none`");
    world.sbx(["cp", "-", "box:/srv"]).stdin("no archive at all").expect_code(125);
    world.sbx(["cp", "box:/dev", "devices"]).expect_code(0).stderr_has("devices are not copied");
    assert!(!world.work().join("devices/null").exists());
    world.sbx(["rm", "box"]).expect_code(0);
}
