//! Volumes in a container: how they are named, what they start with, how they are mounted.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use super::{directory, in_image, keep, names, odd, shell, with_image};
use crate::harness::{images, sbx};

const LOOK: &str =
    "cd /odd; stat -c '%n %u:%g %a %F %Y' . *; cat b*; readlink symlink; stat -c %i with* | uniq | wc -l";

#[test]
fn a_named_volume_is_made_on_its_first_use_and_shared() {
    let world = sbx();
    shell(&world, &["-v", "data:/a/b"], "echo one >/a/b/f").succeed();
    assert_eq!(
        shell(&world, &["--mount", "type=volume,src=data,dst=/x"], "cat /x/f; echo two >/x/f").succeed(),
        "one"
    );
    assert_eq!(shell(&world, &["--mount", "source=data,target=/x,readonly"], "cat /x/f").succeed(), "two");
    let denied = shell(&world, &["-v", "data:/x:ro"], "echo no >/x/f");
    let _ = denied.expect_code(1).stderr_has("Read-only file system");
    assert_eq!(names(&world), ["data"]);
    assert_eq!(fs::read_to_string(directory(&world, "data").join("_data/f")).expect("a file"), "two\n");
    // Two that run at once see each other.
    let mut first =
        shell(&world, &["-v", "data:/d"], "echo up; until [ -e /d/go ]; do sleep 0.01; done").spawn();
    first.wait_for_stdout("up");
    shell(&world, &["-v", "data:/d"], "touch /d/go").succeed();
    first.finish().code_is(0);
}

#[test]
fn a_new_volume_gets_what_the_image_has_there() {
    let world = odd();
    let expected = in_image(&world, &[], LOOK).succeed();
    for flags in [
        &[][..],
        &["--userns", "keep-id", "-u", "0"],
        &["--userns", "nomap"],
        &["--storage-driver", "fuse-overlayfs"],
        &["--read-only"],
    ] {
        let with = |mount: &str| in_image(&world, &[&["-v", mount], flags].concat(), LOOK).succeed();
        assert_eq!(with("new:/odd"), expected, "{flags:?}");
        // The second time it is there, also where nothing may be written.
        assert_eq!(with("new:/odd:ro"), expected, "{flags:?}");
        world.sbx(["volume", "rm", "new"]).succeed();
        assert_eq!(with("new:/odd:ro"), expected, "{flags:?} first read-only");
        world.sbx(["volume", "rm", "new"]).succeed();
    }
    assert_eq!(
        in_image(&world, &["-v", "new:/odd:nocopy"], "ls /odd; stat -c %u:%g:%a /odd").succeed(),
        "0:0:755"
    );
    // What it was left empty with counts for nothing.
    assert_eq!(in_image(&world, &["-v", "new:/odd"], LOOK).succeed(), expected);
}

#[test]
fn recorded_owners_are_copied_where_one_id_is_mapped() {
    let world = odd();
    let look = "cd /odd; stat -c '%n %u:%g %a' . [^f]*";
    for driver in ["overlay", "fuse-overlayfs"] {
        let flags = ["--id-tier", "single", "--storage-driver", driver];
        let expected = in_image(&world, &flags, look).succeed();
        assert!(expected.contains("setuid 33:33 4755"), "{expected}");
        let volume = [&flags[..], &["-v", "new:/odd"]].concat();
        assert_eq!(in_image(&world, &volume, look).succeed(), expected, "{driver}");
        let user = "chown 7:8 /odd/setgid; stat -c %u:%g /odd/setgid";
        assert_eq!(in_image(&world, &volume, user).succeed(), "7:8");
        assert_eq!(in_image(&world, &volume, "stat -c %u:%g /odd/setgid").succeed(), "7:8");
        world.sbx(["volume", "rm", "new"]).succeed();
    }
}

#[test]
fn a_volume_is_filled_once_however_empty_it_becomes() {
    let world = odd();
    let emptied = in_image(&world, &["-v", "v:/odd"], "rm -r /odd/*; ls -A /odd");
    assert_eq!(emptied.succeed(), "");
    assert_eq!(in_image(&world, &["-v", "v:/odd"], "ls -A /odd").succeed(), "");
    // One with files is never filled.
    world.sbx(["volume", "create", "mine"]).succeed();
    fs::write(directory(&world, "mine").join("_data/own"), "").expect("a file");
    assert_eq!(in_image(&world, &["-v", "mine:/odd"], "ls -A /odd").succeed(), "own");
    // The same volume twice in one container is filled from the first of its targets.
    let twice = in_image(
        &world,
        &["-v", "two:/odd", "-v", "two:/other/place"],
        "ls /odd >/a; ls /other/place | cmp - /a && wc -l </a",
    );
    assert_eq!(twice.succeed(), "11");
}

#[test]
fn what_the_image_has_below_another_mount_is_copied_all_the_same() {
    let world = odd();
    let flags = ["-v", "outer:/odd", "-v", "inner:/odd/directory/below", "--tmpfs", "/etc"];
    in_image(&world, &flags, "stat -c %u:%g:%a /odd /odd/directory; touch /odd/directory/below/x").succeed();
    let look =
        in_image(&world, &["-v", "outer:/odd", "-v", "etc:/etc"], "ls /odd | wc -l; cat /etc/passwd | wc -l");
    assert!(look.succeed().lines().all(|count| count.trim() != "0"));
}

#[test]
fn a_volume_of_nothing_belongs_to_the_user_of_the_container() {
    let world = sbx();
    let script = "stat -c %u:%g /new; echo mine >/new/f; cat /new/f";
    assert_eq!(shell(&world, &["-u", "1000:100", "-v", "a:/new"], script).succeed(), "1000:100\nmine");
    assert_eq!(
        shell(&world, &["-v", "a:/new"], "stat -c %u:%g /new").succeed(),
        "1000:100",
        "it stays theirs"
    );
    assert_eq!(shell(&world, &["-v", "b:/new"], "stat -c %u:%g:%a /new").succeed(), "0:0:755");
    world.sbx(["volume", "create", "-o", "o=uid=5,gid=6", "c"]).succeed();
    assert_eq!(shell(&world, &["-v", "c:/home"], "stat -c %u:%g /home").succeed(), "5:6");
    let given = shell(&world, &["-u", "9:9", "-v", "b:/new:U"], "stat -c %u:%g /new");
    assert_eq!(given.succeed(), "9:9");
}

#[test]
fn volumes_of_the_image_become_volumes() {
    let world = with_image(&images().busybox_of("configured"));
    let run = world.run(["--quiet", "--net=none", "--name=cc", "-u=0", "--entrypoint=sh", "image", "-c"]);
    let seen = run.arg(
        "cat /var/www/index.html; stat -c %u:%g /var/www; echo new >/var/www/new; echo x >/fresh/volume/x",
    );
    assert_eq!(seen.succeed(), "<p>from the image</p>\n33:33");
    let mounts: Value =
        serde_json::from_str(&world.sbx(["inspect", "-f", "{{json .Mounts}}", "cc"]).succeed())
            .expect("JSON");
    let mounts = mounts.as_array().expect("mounts");
    assert_eq!(mounts.len(), 2, "{mounts:?}");
    for mount in mounts {
        let name = mount["Name"].as_str().expect("a name");
        assert_eq!(
            (&mount["Type"], &mount["Driver"], &mount["RW"]),
            (&json!("volume"), &json!("local"), &json!(true))
        );
        assert_eq!(mount["Source"], json!(directory(&world, name).join("_data")));
        let anonymous = world.sbx(["volume", "inspect", "-f", "{{.Anonymous}}", name]).succeed();
        assert_eq!((name.len(), anonymous.as_str()), (64, "true"));
    }
    let upper =
        fs::read_dir(world.store().join("containers")).expect("a store").next().expect("one").expect("one");
    assert!(!upper.path().join("upper/var/www/new").exists(), "it went to the volume");
    // What the user mounts there takes its place.
    for flags in
        [&["-v", "mine:/var/www/"][..], &["--tmpfs", "/var/www"], &["--mount", "type=volume,dst=/var/www"]]
    {
        let run = world.run(["--quiet", "--net=none", "--rm", "-u=0", "--entrypoint=sh"]).args(flags);
        run.args(["image", "-c", "grep -c ' /var/www ' /proc/mounts"]).expect_code(0).stdout_is("1\n");
    }
    world.sbx(["rm", "-v", "cc"]).succeed();
    assert_eq!(names(&world), ["mine"], "those of --rm are gone");
}

#[test]
fn the_volumes_of_another_container_are_had_too() {
    let world = sbx();
    world.file("src/a", "bound");
    keep(
        &world,
        &["--name=one", "-v=named:/n", "-v=/anon", "-v=./src:/s:ro", "--tmpfs=/t"],
        "echo 1 >/n/f; echo 2 >/anon/f",
    )
    .succeed();
    keep(&world, &["--name=two", "-v=other:/n"], "echo other >/n/f").succeed();
    let look = "cat /n/f /anon/f /s/a; touch /s/x 2>/dev/null || echo denied; grep -c ' /t ' /proc/mounts";
    let seen = shell(&world, &["--volumes-from", "one"], look).expect_code(1).stdout();
    assert_eq!(seen, "1\n2\nbounddenied\n0\n");
    assert_eq!(
        shell(&world, &["--volumes-from=one:ro"], "touch /n/x 2>/dev/null || echo denied").succeed(),
        "denied"
    );
    // The later container wins, and the user's own word over both.
    assert_eq!(
        shell(&world, &["--volumes-from=one", "--volumes-from=two"], "cat /n/f /anon/f").succeed(),
        "other\n2"
    );
    assert_eq!(shell(&world, &["--volumes-from=two", "--volumes-from=one"], "cat /n/f").succeed(), "1");
    assert_eq!(shell(&world, &["--volumes-from=one", "-v=third:/n"], "ls /n").succeed(), "");
    shell(&world, &["--volumes-from=nobody"], "true").expect_code(125).stderr_has("--volumes-from nobody");
    shell(&world, &["--volumes-from=one:fast"], "true").expect_code(125).stderr_has("`fast` is none of");
    world.sbx(["rm", "-v", "one", "two"]).succeed();
    assert_eq!(names(&world), ["named", "other", "third"]);
}

#[test]
fn an_anonymous_volume_goes_with_the_last_container_that_has_it() {
    let world = sbx();
    keep(&world, &["--name=one", "-v=/anon"], "echo kept >/anon/f").succeed();
    keep(&world, &["--name=two", "--volumes-from=one"], "true").succeed();
    world.sbx(["rm", "-v", "one"]).succeed();
    assert_eq!(names(&world).len(), 1);
    assert_eq!(shell(&world, &["--volumes-from=two"], "cat /anon/f").succeed(), "kept");
    assert_eq!(names(&world).len(), 1, "--rm of one that shares it does not take it either");
    world.sbx(["rm", "-v", "two"]).succeed();
    assert!(names(&world).is_empty());
}

#[test]
fn a_part_of_a_volume_can_be_mounted_and_leads_nowhere_else() {
    let world = sbx();
    shell(
        &world,
        &["-v", "v:/v"],
        "mkdir -p /v/a/b; echo deep >/v/a/b/f; ln -s /etc /v/etc; ln -s ../../../../../etc /v/up",
    )
    .succeed();
    symlink("/etc", directory(&world, "v").join("_data/host")).expect("a symlink");
    let part = |path: &str, script: &str| {
        shell(&world, &["--mount", &format!("type=volume,src=v,dst=/p,volume-subpath={path}")], script)
    };
    assert_eq!(part("a/b", "ls /p; cat /p/f").succeed(), "f\ndeep");
    assert_eq!(part("a/b/f", "cat /p").succeed(), "deep");
    let _ = part("nowhere", "true").expect_code(125).stderr_has("`nowhere` in the volume `v`");
    for hostile in ["etc", "up", "host"] {
        let _ = part(hostile, "cat /p/passwd").expect_code(125).stderr_has("in the volume `v`");
    }
}

#[test]
fn volumes_that_are_no_directories_of_the_store() {
    let world = odd();
    world
        .sbx([
            "volume",
            "create",
            "-o",
            "type=tmpfs",
            "-o",
            "device=tmpfs",
            "-o",
            "o=size=1m,noexec",
            "memory",
        ])
        .succeed();
    let seen = in_image(
        &world,
        &["-v", "memory:/odd"],
        "ls /odd | wc -l; grep ' /odd ' /proc/mounts; stat -f -c %b /odd",
    )
    .succeed();
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!((lines[0], lines[2]), ("11", "256"), "{seen}");
    assert!(lines[1].starts_with("tmpfs ") && lines[1].contains("noexec"), "{seen}");
    let device = format!("device={}", world.work().display());
    world.file("f", "of the host");
    world.sbx(["volume", "create", "-o", "type=none", "-o", "o=bind,ro", "-o", &device, "bound"]).succeed();
    assert_eq!(
        in_image(&world, &["-v", "bound:/odd"], "cat /odd/f; touch /odd/x 2>/dev/null || echo denied")
            .succeed(),
        "of the hostdenied"
    );
    world.sbx(["volume", "rm", "bound", "memory"]).succeed();
    assert!(world.work().join("f").exists());
}

#[test]
fn changes_over_a_volume_can_be_thrown_away() {
    let world = sbx();
    shell(&world, &["-v", "v:/v"], "echo kept >/v/f").succeed();
    assert_eq!(shell(&world, &["-v", "v:/v:O"], "rm /v/f; echo x >/v/g; ls /v").succeed(), "g");
    assert_eq!(shell(&world, &["-v", "v:/v"], "ls /v").succeed(), "f");
}
