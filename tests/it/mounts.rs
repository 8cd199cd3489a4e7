//! The file system that a container sees: the kernel's own parts, and what `-v`, `--mount` and `--tmpfs` bring in.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use crate::harness::{Run, Sbx, rootfs, sbx, sbx_binary};

/// `sbx run --rm --net none FLAGS… --rootfs ROOT sh -c SCRIPT`
fn shell<'w>(world: &'w Sbx, flags: &[&str], script: &str) -> Run<'w> {
    let run = world.run(["--rm", "--net", "none"]).args(flags);
    run.arg("--rootfs").arg(rootfs()).args(["sh", "-c", script])
}

/// A script in a user and mount namespace around sbx, where mounts can be made: `$SBX` is the program and
/// `$ROOT` the root for tests.
fn outside<'w>(world: &'w Sbx, script: &str) -> Run<'w> {
    let run = world.program("unshare").args(["-Urm", "--propagation", "shared", "sh", "-c", script]);
    run.env("SBX", sbx_binary()).env("ROOT", rootfs())
}

/// A world with the directory `src` in it: `a`, and `sub/b`.
fn with_source() -> Sbx {
    let world = sbx();
    world.file("src/a", "a\n");
    world.file("src/sub/b", "b\n");
    world
}

/// The options of the mount at `target` in /proc/mounts.
fn options(mounts: &str, target: &str) -> Vec<String> {
    let line = mounts.lines().rfind(|line| line.split(' ').nth(1) == Some(target)).expect("it is mounted");
    line.split(' ').nth(3).expect("options").split(',').map(str::to_owned).collect()
}

#[test]
fn proc_sys_and_dev_are_the_containers_own() {
    let world = sbx();
    let mounts = shell(&world, &[], "cat /proc/mounts").succeed();
    for (target, kind, wanted) in [
        ("/proc", "proc", &["rw", "nosuid", "nodev", "noexec"][..]),
        ("/sys", "sysfs", &["ro", "nosuid", "nodev", "noexec"]),
        ("/dev", "tmpfs", &["rw", "nosuid", "mode=755"]),
        ("/dev/pts", "devpts", &["rw", "nosuid", "noexec", "ptmxmode=666"]),
        ("/dev/shm", "tmpfs", &["rw", "nosuid", "nodev", "noexec", "size=65536k"]),
        ("/dev/mqueue", "mqueue", &["rw", "nosuid", "nodev", "noexec"]),
    ] {
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(target)).expect(target);
        assert_eq!(line.split(' ').nth(2), Some(kind), "{line}");
        let options = options(&mounts, target);
        assert!(wanted.iter().all(|word| options.iter().any(|option| option == word)), "{line}");
    }
    let processes = "set -- /proc/[0-9]*; echo $#; readlink /proc/1/exe; ls /sys/class/net";
    assert_eq!(shell(&world, &[], processes).succeed(), "1\n/bin/busybox\nlo");
}

#[test]
fn nothing_of_the_host_is_left_reachable() {
    let world = sbx();
    let secret = world.file("secret", "");
    let script = "cd /; cd ../../..; pwd; ls -d /home/*; \
        for way in '' /proc/1/root /proc/self/cwd /proc/self/fd/0 /..; do [ -e $way$1 ] && echo $way; done; \
        cut -d' ' -f5 /proc/self/mountinfo";
    let run = shell(&world, &[], script).arg("sh").arg(&secret);
    let seen = run.succeed();
    let (reached, mounts) = seen.split_at(seen.find("\n/\n/proc\n").expect("a mount table"));
    assert_eq!(reached, "/\n/home/user");
    // The old root is detached: neither it nor anything below it is in the mount table.
    assert_eq!(mounts.lines().filter(|place| *place == "/").count(), 1, "{mounts}");
    let own = ["/", "/proc", "/dev", "/sys", "/etc/resolv.conf", "/etc/hosts", "/etc/hostname"];
    let below = |place: &str| ["/proc/", "/dev/", "/sys/"].iter().any(|parent| place.starts_with(parent));
    let strange = mounts.lines().find(|place| !place.is_empty() && !own.contains(place) && !below(place));
    assert_eq!(strange, None);
    // The same look finds the file where it is bound.
    let bound =
        shell(&world, &["-v", &format!("{0}:{0}", world.work().display())], "[ -e $1 ] && echo there");
    assert_eq!(bound.arg("sh").arg(&secret).succeed(), "there");
}

#[test]
fn a_directory_is_bound_writable_or_read_only() {
    let world = with_source();
    shell(&world, &["-v", "./src:/m"], "cat /m/a /m/sub/b; echo new > /m/new")
        .expect_code(0)
        .stdout_is("a\nb\n");
    assert_eq!(fs::read_to_string(world.work().join("src/new")).expect("a file"), "new\n");
    for flags in [["-v", "./src:/m:ro"], ["--mount", "type=bind,src=./src,dst=/m,ro"]] {
        let run = shell(&world, &flags, "cat /m/a; rm /m/a").expect_code(1);
        let _ = run.stdout_is("a\n").stderr_has("Read-only file system");
    }
}

#[test]
fn options_of_a_bind_show_in_the_mount() {
    let world = with_source();
    let plain = options(&shell(&world, &["-v", "./src:/m"], "cat /proc/mounts").succeed(), "/m");
    assert!(!plain.contains(&"noexec".to_owned()), "{plain:?}");
    let strict = "./src:/m:noexec,nosuid,nodev,z";
    let strict = options(&shell(&world, &["-v", strict], "cat /proc/mounts").succeed(), "/m");
    for option in ["rw", "noexec", "nosuid", "nodev"] {
        assert!(strict.contains(&option.to_owned()), "{strict:?}");
    }
    world.script("src/program", "#!/bin/sh\necho ran\n");
    let _ = shell(&world, &["-v", "./src:/m:noexec"], "/m/program").expect_code(126);
    assert_eq!(shell(&world, &["-v", "./src:/m"], "/m/program").succeed(), "ran");
}

#[test]
fn changes_under_an_overlay_volume_are_thrown_away() {
    let world = with_source();
    let script = "rm /m/a; echo x > /m/sub/b; touch /m/new; ls /m; cat /m/sub/b";
    assert_eq!(shell(&world, &["-v", "./src:/m:O"], script).succeed(), "new\nsub\nx");
    assert_eq!(fs::read_to_string(world.work().join("src/a")).expect("a file"), "a\n");
    assert_eq!(fs::read_to_string(world.work().join("src/sub/b")).expect("a file"), "b\n");
    assert!(!world.work().join("src/new").exists());
    world.assert_clean();
}

#[test]
fn a_volume_can_be_given_to_the_containers_user() {
    let world = with_source();
    symlink("/etc/passwd", world.work().join("src/link")).expect("a symlink");
    let owner = fs::metadata("/etc/passwd").expect("a file").uid();
    let script = "stat -c %u:%g /m /m/a /m/sub/b; stat -c %u:%g /etc/passwd; touch /m/mine";
    let seen = shell(&world, &["-u", "1000:1000", "-v", "./src:/m:U"], script).succeed();
    assert_eq!(seen, "1000:1000\n1000:1000\n1000:1000\n0:0");
    assert_eq!(fs::metadata("/etc/passwd").expect("a file").uid(), owner);
    let without = shell(&world, &["-u", "33", "-v", "./src:/m"], "touch /m/mine2");
    let _ = without.expect_code(1).stderr_has("Permission denied");
}

#[test]
fn an_id_mapped_volume_is_had_or_refused_with_a_reason() {
    let world = with_source();
    let ended = shell(&world, &["-v", "./src:/m:idmap"], "cat /m/a").finish();
    if ended.code() == 0 {
        ended.stdout_is("a\n");
    } else {
        let ended = ended.code_is(125).stderr_has("ID-mapped mount of").stderr_has("Operation not permitted");
        let _ = ended.stderr_has("keep-id");
    }
    world.assert_clean();
}

#[test]
fn files_are_bound_onto_files_and_onto_nothing() {
    let world = with_source();
    let flags = ["-v", "./src/a:/etc/passwd", "-v", "./src/a:/etc/new/file", "-v", "./src:/x/y/z"];
    let script = "cat /etc/passwd /etc/new/file /x/y/z/a; echo b >> /etc/new/file; stat -c %a /x/y";
    assert_eq!(shell(&world, &flags, script).succeed(), "a\na\na\n755");
    assert_eq!(fs::read_to_string(world.work().join("src/a")).expect("a file"), "a\nb\n");
    assert!(!rootfs().join("x").exists() && !rootfs().join("etc/new").exists());
}

#[test]
fn nested_targets_are_mounted_in_any_order_of_flags() {
    let world = with_source();
    world.file("other/in/c", "c\n");
    world.file("file", "f\n");
    let binds = ["./file:/m/in/c", "./src:/m/in/deep", "./other:/m"];
    let script = "cat /m/in/c /m/in/deep/a; ls /m/in";
    fs::create_dir(world.work().join("other/in/deep")).expect("a directory");
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let flags: Vec<&str> = order.iter().flat_map(|number| ["-v", binds[*number]]).collect();
        assert_eq!(shell(&world, &flags, script).succeed(), "f\na\nc\ndeep");
    }
    // A tmpfs above a bind covers nothing that was asked for below it.
    let flags = ["-v", "./src:/t/sub", "--tmpfs", "/t"];
    assert_eq!(shell(&world, &flags, "ls /t; cat /t/sub/a").succeed(), "sub\na");
}

#[test]
fn a_tmpfs_has_the_size_mode_and_options_asked_for() {
    let world = sbx();
    let script =
        "stat -c %a /t; cat /proc/mounts; dd if=/dev/zero of=/t/x bs=1k count=100 2>/dev/null || echo full";
    let flags = ["--tmpfs", "/t:size=64k,mode=700,exec"];
    let seen = shell(&world, &flags, script).succeed();
    assert!(seen.starts_with("700\n") && seen.ends_with("full"), "{seen}");
    let set = options(&seen, "/t");
    assert!(set.contains(&"size=64k".to_owned()) && !set.contains(&"noexec".to_owned()), "{set:?}");
    let seen = shell(&world, &["--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,ro"], script).succeed();
    let set = options(&seen, "/t");
    assert!(set.contains(&"ro".to_owned()) && set.contains(&"size=1024k".to_owned()), "{set:?}");
}

#[test]
fn a_tmpfs_starts_with_what_the_image_has_there() {
    let world = sbx();
    let script = "cat /etc/nsswitch.conf; stat -c %a /etc/passwd; echo x > /etc/new && ls /etc/new";
    assert_eq!(shell(&world, &["--tmpfs", "/etc"], script).succeed(), "hosts: files dns\n644\n/etc/new");
    let empty = shell(&world, &["--tmpfs", "/etc:notmpcopyup"], "ls -A /etc | wc -l").succeed();
    assert_eq!(empty, "0");
    let small = shell(&world, &["--tmpfs", "/bin:size=64k"], "true");
    let _ = small.expect_code(125).stderr_has("cannot mount on `/bin`").stderr_has("No space left");
    world.assert_clean();
}

#[test]
fn the_kernels_file_systems_can_be_mounted_elsewhere() {
    let world = sbx();
    let flags: Vec<String> =
        [("mqueue", "/a"), ("devpts", "/b"), ("proc", "/c"), ("sysfs", "/d"), ("cgroup", "/e")]
            .iter()
            .flat_map(|(kind, target)| ["--mount".to_owned(), format!("type={kind},dst={target}")])
            .collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let seen = shell(&world, &flags, "ls /b; cat /c/1/comm; ls /d/class/net; cat /proc/mounts").succeed();
    assert!(seen.starts_with("ptmx\nsh\nlo\n"), "{seen}");
    for (target, kind) in [("/a", "mqueue"), ("/e", "cgroup2")] {
        assert!(seen.lines().any(|line| line.split(' ').skip(1).take(2).eq([target, kind])), "{seen}");
    }
}

#[test]
fn a_read_only_root_has_places_to_write() {
    let world = with_source();
    let script =
        "for d in / /etc /run /tmp /var/tmp /dev/shm /m; do touch $d/x 2>/dev/null && echo $d; done; true";
    let flags = ["--read-only", "-v", "./src:/m"];
    assert_eq!(shell(&world, &flags, script).succeed(), "/run\n/tmp\n/var/tmp\n/dev/shm\n/m");
    let flags = ["--read-only", "--read-only-tmpfs=false", "-v", "./src:/m"];
    assert_eq!(shell(&world, &flags, script).succeed(), "/dev/shm\n/m");
    assert_eq!(shell(&world, &[], "touch /x /etc/x && echo writable").succeed(), "writable");
}

#[test]
fn what_a_mount_cannot_be_is_said() {
    let world = with_source();
    for (flags, words) in [
        (
            ["-v", "./none:/m"],
            &["cannot mount", "/none` on `/m`", "No such file or directory", "mkdir -p"][..],
        ),
        (["-v", "./src/a:/etc"], &["cannot mount on `/etc`", "the source is a file", "directory"]),
        (["-v", "./src:/etc/passwd"], &["cannot mount on `/etc/passwd`", "a file is in the way"]),
        (["-v", "./src:/etc/passwd/x"], &["cannot mount on `/etc/passwd/x`", "Not a directory"]),
        (["-v", "./src:/sys/x"], &["cannot mount on `/sys/x`", "read-only"]),
        (["-v", "./src:/proc/x"], &["cannot mount on `/proc/x`", "`/proc/x`"]),
        (["-v", "./src:/"], &["the container's root"]),
        (["-v", "./src:m"], &["not an absolute path"]),
        (["-v", "s$c:/m"], &["there is a `$`"]),
        (["-v", "./src:/m:fast"], &["`fast` is not an option"]),
        (["--mount", "type=bind,dst=/m"], &["`source` is missing"]),
        (["--mount", "type=ext4,src=/dev/vda,dst=/m"], &["cannot be mounted without root"]),
        (["--tmpfs", "/t:size=much"], &["size=much"]),
    ] {
        let mut ended = shell(&world, &flags, "true").expect_code(125).stdout_is("");
        for word in words {
            ended = ended.stderr_has(word);
        }
    }
    world.assert_clean();
}

#[test]
fn mounts_made_outside_come_in_below_a_slave_alone() {
    let world = with_source();
    let script = r#"
        mkfifo ready
        "$SBX" run -q --rm --net none --rootfs "$ROOT" -v .:/w -v ./src:/slave:rslave -v ./src:/private sh -c '
            echo > /w/ready
            while [ ! -e /w/mounted ]; do sleep 0.01; done
            ls /slave/sub /private/sub' &
        read -r line < ready
        mount -t tmpfs late src/sub && touch src/sub/late mounted
        wait $!"#;
    outside(&world, script).expect_code(0).stderr_is("").stdout_is("/private/sub:\nb\n\n/slave/sub:\nlate\n");
}

#[test]
fn propagation_is_set_as_asked() {
    let world = with_source();
    let script = r#"mount -t tmpfs sub src/sub
        for kind in private rprivate slave rslave shared rshared unbindable runbindable; do
            echo "$kind:"
            "$SBX" run -q --rm --net none --rootfs "$ROOT" -v "./src:/m:$kind" cat /proc/self/mountinfo
        done"#;
    let seen = outside(&world, script).succeed();
    let mut kind = "";
    let mut checked = 0;
    for line in seen.lines() {
        if let Some(next) = line.strip_suffix(':') {
            kind = next;
        }
        let fields: Vec<&str> = line.split(' ').collect();
        let Some(end) = fields.iter().position(|field| *field == "-") else { continue };
        // proc_pid_mountinfo(5): optional fields. What was not asked for keeps the slave that it came as.
        let tags: Vec<&str> = fields[6..end].iter().map(|tag| tag.split(':').next().unwrap_or(tag)).collect();
        let wanted: &[&str] = match (fields[4], kind) {
            ("/m", "private" | "rprivate") | ("/m/sub", "rprivate") => &[],
            ("/m", "slave" | "rslave") => &["master"],
            ("/m/sub", "rshared") | ("/m", "shared" | "rshared") => &["shared", "master"],
            ("/m", "unbindable" | "runbindable") | ("/m/sub", "runbindable") => &["unbindable"],
            ("/m/sub", _) => &["master"],
            _ => continue,
        };
        assert_eq!(tags, wanted, "{kind}: {line}");
        checked += 1;
    }
    assert_eq!(checked, 16, "{seen}");
}

#[test]
fn read_only_reaches_the_mounts_below() {
    let world = with_source();
    let script = r#"mount -t tmpfs sub src/sub && touch src/sub/f
        "$SBX" run -q --rm --net none --rootfs "$ROOT" -v ./src:/m:ro sh -c 'touch /m/a; touch /m/sub/f; ls /m/sub'"#;
    outside(&world, script)
        .expect_code(0)
        .stdout_is("f\n")
        .stderr_is("touch: /m/a: Read-only file system\ntouch: /m/sub/f: Read-only file system\n");
}

#[test]
fn a_bind_without_the_mounts_below_is_had_or_refused() {
    let world = with_source();
    let flags = ["--mount", "type=bind,src=./src,dst=/m,bind-nonrecursive"];
    assert_eq!(shell(&world, &flags, "cat /m/a").succeed(), "a");
    let script = r#"mount -t tmpfs sub src/sub
        "$SBX" run -q --rm --net none --rootfs "$ROOT" --mount type=bind,src=./src,dst=/m,bind-nonrecursive true"#;
    let _ = outside(&world, script)
        .expect_code(125)
        .stderr_has("mounts below it")
        .stderr_has("bind-nonrecursive");
}

#[test]
fn changes_to_an_overlay_volume_are_the_containers_own_under_every_map_with_the_caller() {
    let world = sbx();
    world.file("there", "x");
    let volume = format!("{}:/d:O", world.work().display());
    for userns in ["host", "keep-id"] {
        let run = world.run(["--rm", "--net", "none", "--userns", userns, "-v", &volume, "--rootfs"]);
        run.arg(rootfs())
            .args(["sh", "-c", "echo y >/d/new; ls /d"])
            .expect_code(0)
            .stdout_is("new\nthere\n");
    }
    let run = world.run(["--rm", "--net", "none", "--userns", "auto", "-v", &volume, "--rootfs"]);
    run.arg(rootfs()).arg("true").expect_code(125).stderr_has("the container's map leaves you out");
    assert!(!world.work().join("new").exists());
    world.assert_clean();
}
