//! Roots and volumes that are broken or mean harm: a readable error or a container, never a touched host.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::harness::{Finished, Sbx, rootfs, sbx, sbx_binary};

/// `sbx run --rm --net none FLAGS… --rootfs ROOT true`, and the same with `--rootfs-rw`.
fn both_ways(world: &Sbx, flags: &[&str], root: &Path) -> [Finished; 2] {
    ["--rootfs", "--rootfs-rw"].map(|kind| {
        let run = world.run(["--rm", "--net", "none"]).args(flags).arg(kind).arg(root).arg("/bin/true");
        run.timeout(Duration::from_secs(20)).finish()
    })
}

/// What must not change: a directory with a file and an empty directory, outside every root.
struct Canary(PathBuf);

impl Canary {
    fn new(world: &Sbx) -> Self {
        world.file("canary/file", "untouched\n");
        fs::create_dir(world.work().join("canary/empty")).expect("a directory");
        Self(world.work().join("canary"))
    }

    /// Ways out of a root to `name` in the canary: by an absolute path, and by more `..` than there can be.
    fn ways_to(&self, name: &str) -> [String; 2] {
        let absolute = self.0.join(name).display().to_string();
        [absolute.clone(), format!("{}{absolute}", "../".repeat(40).trim_end_matches('/'))]
    }

    #[track_caller]
    fn assert_untouched(&self, world: &Sbx) {
        let listed = world.program("find").args([".", "-printf", "%p %y %s\\n"]).directory(&self.0).succeed();
        let mut lines: Vec<&str> = listed.lines().filter(|line| !line.starts_with(". ")).collect();
        lines.sort_unstable();
        assert!(
            lines.len() == 2 && lines[0].starts_with("./empty d") && lines[1] == "./file f 10",
            "{listed}"
        );
        assert_eq!(fs::read_to_string(self.0.join("file")).expect("a file"), "untouched\n");
    }
}

/// A copy of the root for tests with `path` replaced by nothing.
fn without(world: &Sbx, path: &str) -> PathBuf {
    let root = world.own_rootfs();
    let spoilt = root.join(path);
    match fs::symlink_metadata(&spoilt) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(spoilt).expect("it may be removed"),
        Ok(_) => fs::remove_file(spoilt).expect("it may be removed"),
        Err(_) => {}
    }
    root
}

#[test]
fn what_is_no_root_is_refused() {
    let world = sbx();
    let file = world.file("file", "");
    let missing = world.work().join("missing");
    let dangling = world.work().join("dangling");
    symlink("nowhere", &dangling).expect("a symlink");
    for (path, why) in [
        (file.as_path(), "it is not a directory"),
        (&missing, "No such file or directory"),
        (&dangling, "No such file or directory"),
        (Path::new("/"), "a root below itself"),
        (Path::new("/usr/.."), "a root below itself"),
    ] {
        for ended in both_ways(&world, &[], path) {
            let ended =
                ended.code_is(125).stdout_is("").stderr_has(why).stderr_has("as the root file system");
            let _ = ended.stderr_has("Hint: ");
        }
    }
    world.assert_clean();
}

#[test]
fn a_root_may_be_named_by_a_symlink() {
    let world = sbx();
    symlink(rootfs(), world.work().join("link")).expect("a symlink");
    let run = world.run(["--rm", "--net", "none", "--rootfs", "link", "cat", "/etc/nsswitch.conf"]);
    assert_eq!(run.succeed(), "hosts: files dns");
}

#[test]
fn an_empty_root_has_no_command() {
    let world = sbx();
    fs::create_dir(world.work().join("empty")).expect("a directory");
    let run = world.run(["--rm", "--net", "none", "--rootfs", "empty", "true"]);
    let _ = run.expect_code(127).stderr_has("true");
    let left = fs::read_dir(world.work().join("empty")).expect("a directory").count();
    assert_eq!(left, 0, "mount points were made in the lower");
}

#[test]
fn the_kernels_file_systems_follow_no_symlink() {
    for place in ["proc", "sys", "dev"] {
        let world = sbx();
        let canary = Canary::new(&world);
        let root = without(&world, place);
        for target in canary.ways_to("empty") {
            let _ = fs::remove_file(root.join(place));
            symlink(&target, root.join(place)).expect("a symlink");
            for ended in both_ways(&world, &[], &root) {
                let ended = ended.code_is(125).stderr_has(&format!("cannot mount on `/{place}` of the root"));
                let _ = ended.stderr_has("it is a symlink").stderr_has("Hint: ");
            }
        }
        canary.assert_untouched(&world);
        world.assert_clean();
    }
}

#[test]
fn a_file_in_the_place_of_proc_is_refused() {
    for place in ["proc", "sys", "dev"] {
        let world = sbx();
        let root = without(&world, place);
        fs::write(root.join(place), "").expect("a file");
        for ended in both_ways(&world, &[], &root) {
            let _ = ended.code_is(125).stderr_has(&format!("cannot mount on `/{place}`"));
        }
        world.assert_clean();
    }
}

#[test]
fn what_lies_in_dev_is_covered() {
    let world = sbx();
    let canary = Canary::new(&world);
    let root = without(&world, "dev/pts");
    for (name, target) in [("pts", 0), ("null", 1), ("shm", 0), ("stdout", 1)].map(|(n, way)| (n, way)) {
        symlink(&canary.ways_to("empty")[target], root.join("dev").join(name)).expect("a symlink");
    }
    for ended in both_ways(&world, &[], &root) {
        ended.code_is(0).stderr_is("");
    }
    canary.assert_untouched(&world);
}

#[test]
fn generated_files_follow_symlinks_inside_the_root_alone() {
    for file in ["etc/resolv.conf", "etc/hosts", "etc/hostname"] {
        let world = sbx();
        let canary = Canary::new(&world);
        for (number, target) in canary.ways_to("new").into_iter().chain(canary.ways_to("file")).enumerate() {
            let root = without(&world, file);
            symlink(&target, root.join(file)).expect("a symlink");
            for ended in both_ways(&world, &[], &root) {
                ended.code_is(0).stderr_is("");
            }
            // Also of a host without name servers.
            let run = world.run(["--rm", "--net", "none", "--dns", "192.0.2.53", "--rootfs"]).arg(&root);
            let seen = run.arg("cat").arg(format!("/{file}")).succeed();
            assert!(!seen.is_empty() && !seen.contains("untouched"), "{number}: {seen}");
            canary.assert_untouched(&world);
            fs::remove_dir_all(&root).expect("it may be removed");
        }
    }
}

#[test]
fn an_etc_that_leads_out_ends_inside() {
    let world = sbx();
    let canary = Canary::new(&world);
    for target in canary.ways_to("empty") {
        let root = without(&world, "etc");
        symlink(&target, root.join("etc")).expect("a symlink");
        for ended in both_ways(&world, &[], &root) {
            ended.code_is(0).stderr_is("");
        }
        canary.assert_untouched(&world);
        fs::remove_dir_all(&root).expect("it may be removed");
    }
}

#[test]
fn generated_files_of_strange_kinds_do_no_harm() {
    let world = sbx();
    let root = without(&world, "etc/hosts");
    symlink("hosts", root.join("etc/hosts")).expect("a symlink");
    for ended in both_ways(&world, &[], &root) {
        let _ = ended.code_is(125).stderr_has("`/etc/hosts`").stderr_has("symbolic links");
    }
    fs::remove_file(root.join("etc/hosts")).expect("it may be removed");
    fs::create_dir(root.join("etc/hosts")).expect("a directory");
    world.program("mkfifo").arg("fifo").directory(&root).expect_code(0);
    fs::remove_file(root.join("etc/resolv.conf")).expect("it may be removed");
    fs::rename(root.join("fifo"), root.join("etc/resolv.conf")).expect("a fifo");
    for ended in both_ways(&world, &[], &root) {
        ended.code_is(0).stderr_is("");
    }
    world.assert_clean();
}

#[test]
fn account_files_of_strange_kinds_do_not_hang() {
    for kind in [
        "mkfifo passwd",
        "ln -s /dev/zero passwd",
        "truncate -s 3G passwd",
        "mkdir passwd",
        "ln -s passwd passwd",
    ] {
        let world = sbx();
        let root = without(&world, "etc/passwd");
        world.program("sh").args(["-c", kind]).directory(root.join("etc")).expect_code(0);
        for ended in both_ways(&world, &[], &root) {
            ended.code_is(0).stderr_is("");
        }
        for ended in both_ways(&world, &["-u", "user"], &root) {
            let _ = ended.code_is(125).stderr_has("user");
        }
        world.assert_clean();
    }
}

#[test]
fn targets_of_volumes_end_inside_the_root() {
    let world = sbx();
    let canary = Canary::new(&world);
    world.file("src/a", "a\n");
    let root = world.own_rootfs();
    let [absolute, relative] = canary.ways_to("empty");
    symlink(&absolute, root.join("absolute")).expect("a symlink");
    symlink(&relative, root.join("opt/relative")).expect("a symlink");
    symlink("/srv", root.join("inside")).expect("a symlink");
    for (target, seen_at) in [
        ("/../../../x".to_owned(), "/x/a".to_owned()),
        ("/srv/../../../../y".to_owned(), "/y/a".to_owned()),
        ("/absolute/deep".to_owned(), format!("{absolute}/deep/a")),
        ("/absolute".to_owned(), format!("{absolute}/a")),
        ("/opt/relative/deep".to_owned(), format!("{absolute}/deep/a")),
        ("/inside/z".to_owned(), "/srv/z/a".to_owned()),
        (format!("/..{absolute}"), format!("{absolute}/a")),
    ] {
        for kind in ["--rootfs", "--rootfs-rw"] {
            let run = world.run(["--rm", "--net", "none", "-v", &format!("./src:{target}"), kind]).arg(&root);
            assert_eq!(run.args(["cat", &seen_at]).succeed(), "a", "{target} {kind}");
        }
        // A file ends there, too.
        let run = world.run(["--rm", "--net", "none", "-v", &format!("./src/a:{target}/file"), "--rootfs"]);
        let beside = Path::new(&seen_at).with_file_name("file");
        assert_eq!(run.arg(&root).arg("cat").arg(&beside).succeed(), "a", "{target}");
    }
    canary.assert_untouched(&world);
}

#[test]
fn targets_lead_through_no_magic_link() {
    let world = sbx();
    world.file("src/a", "a\n");
    for target in ["/proc/self/root/x", "/proc/1/cwd/x", "/proc/self/fd/3/x"] {
        let run = world.run(["--rm", "--net", "none", "-v", &format!("./src:{target}"), "--rootfs"]);
        let _ =
            run.arg(rootfs()).arg("true").expect_code(125).stderr_has(&format!("cannot mount on `{target}`"));
    }
    world.assert_clean();
}

#[test]
fn sources_are_looked_up_where_the_caller_stands() {
    let world = sbx();
    world.file("src/a", "a\n");
    world.file("below/b", "b\n");
    symlink("src", world.work().join("link")).expect("a symlink");
    let run = |source: &str, file: &str| {
        let run = world.run(["--rm", "--net", "none", "-v", &format!("{source}:/m"), "--rootfs"]);
        run.arg(rootfs()).args(["cat", file]).directory(world.work().join("below")).succeed()
    };
    assert_eq!(run(".", "/m/b"), "b");
    assert_eq!(run("../src", "/m/a"), "a");
    assert_eq!(run("../link", "/m/a"), "a");
    assert_eq!(run("../link/../below", "/m/b"), "b");
    assert_eq!(run("../link/a", "/m"), "a");
}

#[test]
fn a_target_in_a_read_only_place_is_refused() {
    let world = sbx();
    world.file("src/a", "a\n");
    let flags = ["-v", "./src:/m:ro", "-v", "./src:/m/below/it"];
    for ended in both_ways(&world, &flags, &world.own_rootfs()) {
        let ended = ended.code_is(125).stderr_has("cannot mount on `/m/below/it`").stderr_has("Read-only");
        let _ = ended.stderr_has("Hint: ");
    }
    assert!(!world.work().join("src/below").exists());
    world.assert_clean();
}

#[test]
fn a_full_disk_is_named_and_nothing_half_done_stays() {
    let world = sbx();
    world.file("names", "");
    let script = r#"
        mkdir store && mount -t tmpfs -o size=1m store store
        run() { "$SBX" --root store run -q --rm --net none --rootfs "$ROOT" "$@"; }
        for left in 0 4 8 12; do
            head -c 2M /dev/zero > store/fill 2>/dev/null
            truncate -s "-${left}k" store/fill
            run true 2>> errors; echo "code $?"
            ls store/containers store/running store/names 2>/dev/null | grep -v : | tr -d '\n'
        done
        rm store/fill
        run sh -c 'head -c 2M /dev/zero > /big; echo "inside $?"; rm /big; echo x > /small && cat /small'
        ls store/containers store/running store/names | grep -v : | tr -d '\n'"#;
    let run = world.program("unshare").args(["-Urm", "sh", "-c", script]);
    let ended = run.env("SBX", sbx_binary()).env("ROOT", rootfs()).expect_code(0);
    let _ = ended.stdout_is("code 125\ncode 125\ncode 125\ncode 125\ninside 1\nx\n");
    let errors = fs::read_to_string(world.work().join("errors")).expect("errors");
    assert_eq!(errors.matches("No space left on device").count(), 4, "{errors}");
    assert_eq!(errors.matches("Error: cannot ").count(), 4, "{errors}");
    assert_eq!(errors.matches("Hint: free some space").count(), 4, "{errors}");
}

#[test]
fn a_root_on_a_noexec_mount_says_why_nothing_runs() {
    let world = sbx();
    let script = r#"
        mkdir root && mount -t tmpfs -o noexec root root && cp -a "$ROOT/." root/
        "$SBX" run -q --rm --net none --read-only --rootfs root true"#;
    let run = world.program("unshare").args(["-Urm", "sh", "-c", script]);
    let ended = run.env("SBX", sbx_binary()).env("ROOT", rootfs()).expect_code(126);
    let _ = ended.stderr_has("Permission denied").stderr_has("noexec");
}

#[test]
fn a_root_that_is_removed_while_it_runs_ends_with_the_command() {
    for driver in ["overlay", "fuse-overlayfs"] {
        let world = sbx();
        let root = world.own_rootfs();
        let run = world.run(["--rm", "--net", "none", "--storage-driver", driver, "--rootfs"]).arg(&root);
        let script = "echo up; while read -r line; do echo $line; done; exit 3";
        let mut running =
            run.args(["-i", "sh", "-c", script]).stdin_from(std::process::Stdio::piped()).spawn();
        running.wait_for_stdout("up");
        fs::remove_dir_all(&root).expect("it may be removed");
        running.close_stdin();
        let _ = running.finish().code_is(3);
        world.assert_clean();
    }
}

#[test]
fn a_root_that_may_not_be_entered_is_refused_or_run() {
    let world = sbx();
    let closed = world.work().join("closed");
    fs::create_dir_all(closed.join("root")).expect("directories");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("a mode");
    if !nix::unistd::geteuid().is_root() {
        for ended in both_ways(&world, &[], &closed.join("root")) {
            let _ = ended.code_is(125).stderr_has("Permission denied").stderr_has("as the root file system");
        }
    }
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).expect("a mode");
    world.assert_clean();
}
