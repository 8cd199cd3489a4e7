//! The image `host`: the machine's own system, to be changed at will and thrown away.

use std::fs;
use std::path::Path;

use crate::harness::{Run, Sbx, require, sbx, sbx_binary};

fn host<'w>(world: &'w Sbx, flags: &[&str], script: &str) -> Run<'w> {
    require("fuse-overlayfs");
    world.run(["--rm", "--net", "none"]).args(flags).args(["host", "sh", "-c", script])
}

/// The image inside a user and mount namespace in which `prepare` has covered something of the host.
fn host_within<'w>(world: &'w Sbx, prepare: &str, script: &str) -> Run<'w> {
    let outer = format!("{prepare}\nexec \"$SBX\" run --rm --net none host sh -c \"$1\"");
    world.program("unshare").args(["-Urm", "sh", "-ec", &outer, "sh", script]).env("SBX", sbx_binary())
}

#[test]
fn the_system_is_there_and_nothing_else() {
    let world = sbx();
    let script = "ls -A /home /tmp /srv /mnt /media; ls -A /run; ls -d /data /lost+found /snap 2>/dev/null; \
        command -v dpkg >/dev/null && dpkg -s libc6 | head -1; id -u; [ -e \"$1\" ] || echo hidden";
    let seen = host(&world, &[], script).arg("sh").arg(world.home()).succeed();
    assert!(seen.starts_with("/home:\n\n/media:\n\n/mnt:\n\n/srv:\n\n/tmp:\nlock\n"), "{seen}");
    assert!(seen.ends_with("0\nhidden"), "{seen}");
    assert!(!seen.contains("/data"), "{seen}");
    // What is wanted is brought in.
    let bind = format!("{0}:{0}", world.home().display());
    let seen = host(&world, &["-v", &bind], "[ -e \"$1\" ] && echo there").arg("sh").arg(world.home());
    assert_eq!(seen.succeed(), "there");
}

#[test]
fn a_project_is_built_with_the_machines_own_compiler() {
    let world = sbx();
    world.file("Makefile", "all: hello\n\t./hello\nhello: hello.c\n\t$(CC) -o $@ $<\n");
    world.file("hello.c", "#include <stdio.h>\nint main(void) { puts(\"hello\"); return 0; }\n");
    require("gcc");
    require("make");
    let run = world.run(["--rm", "--net", "none", "-v", ".:/src", "-w", "/src", "host", "make"]);
    assert_eq!(run.succeed(), "cc -o hello hello.c\n./hello\nhello");
    assert!(world.work().join("hello").is_file());
}

#[test]
fn files_of_the_system_are_changed_inside_alone() {
    let world = sbx();
    let before = fs::read("/etc/passwd").expect("a file");
    let script = "echo own:x:1234:1234::/:/bin/sh >> /etc/passwd; getent passwd own; rm /usr/bin/env; \
        [ -e /usr/bin/env ] || echo removed; mv /usr/bin/tail /usr/bin/end; end -n 1 /etc/passwd; \
        stat -c %u:%g /usr/bin /etc/passwd; mkdir /opt/own && touch /own /usr/own /var/lib/own && echo made";
    let seen = host(&world, &[], script).succeed();
    let entry = "own:x:1234:1234::/:/bin/sh";
    assert_eq!(seen, format!("{entry}\nremoved\n{entry}\n0:0\n0:0\nmade"));
    assert_eq!(fs::read("/etc/passwd").expect("a file"), before);
    assert!(Path::new("/usr/bin/env").exists() && Path::new("/usr/bin/tail").exists());
    assert!(!Path::new("/own").exists() && !Path::new("/opt/own").exists());
    world.assert_clean();
}

#[test]
fn secrets_of_root_stay_secret() {
    let world = sbx();
    assert!(fs::read("/etc/shadow").is_err() || nix::unistd::geteuid().is_root(), "no secret to test with");
    // A closed directory seems empty.
    let closed = "/var/cache/ldconfig";
    assert!(
        Path::new(closed).is_dir(),
        "`{closed}` of Debian's libc-bin is missing: another secret is needed"
    );
    let run = host(&world, &[], &format!("ls -A {closed}; cat {closed}/aux-cache"));
    let _ = run.expect_code(1).stdout_is("").stderr_has("aux-cache");
    // Tools that add users need the file: an empty one stands in its place.
    let script = "cat /etc/shadow /etc/gshadow; useradd own && getent passwd own | cut -d: -f1";
    assert_eq!(host(&world, &[], script).succeed(), "own");
}

#[test]
fn packages_are_installed_and_removed() {
    let world = sbx();
    require("dpkg-deb");
    let control = "Package: sbx-greeting\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\n\
        Description: a greeting\n";
    world.file("greeting/DEBIAN/control", control);
    world.script("greeting/DEBIAN/postinst", "#!/bin/sh\nchown daemon:daemon /var/lib/greeting\n");
    world.script("greeting/usr/bin/sbx-greeting", "#!/bin/sh\necho hello\n");
    world.file("greeting/var/lib/greeting/state", "");
    world.program("dpkg-deb").args(["--root-owner-group", "--build", "greeting"]).expect_code(0);
    let script = "dpkg -i /w/greeting.deb >/dev/null && sbx-greeting && dpkg -r sbx-greeting >/dev/null; \
        [ -e /usr/bin/sbx-greeting ] || echo removed; \
        apt-get install -qq /w/greeting.deb >/dev/null 2>&1 && sbx-greeting && dpkg -s sbx-greeting | sed -n 2p";
    let seen = host(&world, &["-v", ".:/w"], script).succeed();
    assert_eq!(seen, "hello\nremoved\nhello\nStatus: install ok installed");
    assert!(!Path::new("/usr/bin/sbx-greeting").exists());
    assert!(!fs::read_to_string("/var/lib/dpkg/status").expect("a list").contains("sbx-greeting"));
}

#[test]
fn every_owner_looks_like_root() {
    // The map squashes: an owner that is given is not kept, and giving one is no error.
    let world = sbx();
    let script = "touch /opt/f; chown 33:33 /opt/f && stat -c %u:%g /opt/f";
    assert_eq!(host(&world, &[], script).succeed(), "0:0");
}

#[test]
fn without_fuse_overlayfs_it_is_read_only_with_places_to_write() {
    let script = "touch /tmp/x /run/x /var/tmp/x /root/x && echo writable; touch /etc/x; rm /usr/bin/env; ls -A /home; \
        cat /etc/shadow; stat -c %a /tmp /root; getent passwd root | cut -d: -f1; [ -s /etc/hosts ] && echo hosts";
    for (cover, why) in [
        (r#"mount --bind /dev/null "$(command -v fuse-overlayfs)""#, "`fuse-overlayfs` is not installed"),
        ("mount --bind /dev/null /dev/fuse", "`/dev/fuse`: it is not the device of FUSE"),
    ] {
        require("fuse-overlayfs");
        let world = sbx();
        let ended = host_within(&world, cover, script).expect_code(0);
        ended
            .stdout_is("writable\n1777\n700\nroot\nhosts\n")
            .stderr_has(
                "Warning: the image `host` is read-only, with a tmpfs on /tmp, /run, /var/tmp and /root: ",
            )
            .stderr_has(why)
            .stderr_has("touch: cannot touch '/etc/x': Read-only file system")
            .stderr_has("rm: cannot remove '/usr/bin/env': Read-only file system")
            .stderr_has("cat: /etc/shadow: Permission denied");
        world.assert_clean();
    }
}

#[test]
fn the_driver_that_cannot_be_had_is_named() {
    let world = sbx();
    let cover = r#"mount --bind /dev/null "$(command -v fuse-overlayfs)"; set -- --storage-driver fuse-overlayfs;
        "$SBX" run "$@" --rm host true; exit"#;
    let _ = host_within(&world, cover, "").expect_code(125).stderr_has("`fuse-overlayfs` is not installed");
    world.assert_clean();
}

#[test]
fn changes_are_kept_without_rm() {
    let world = sbx();
    let run = world.run(["--net", "none", "host", "sh", "-c", "echo own > /etc/own; rm /usr/bin/env"]);
    run.expect_code(0).stderr_is("");
    let mut containers = fs::read_dir(world.store().join("containers")).expect("a directory");
    let upper = containers.next().expect("a container").expect("readable").path().join("upper");
    assert_eq!(fs::read_to_string(upper.join("etc/own")).expect("a file"), "own\n");
    assert!(!upper.join("usr/lib").exists(), "what was not changed was copied");
}

mod as_root {
    use super::{fs, host, sbx};
    use crate::harness::require_root;

    #[test]
    fn what_only_root_may_read_stays_unreadable() {
        require_root();
        assert!(!fs::read("/etc/shadow").expect("root reads it").is_empty(), "no secret to test with");
        let world = sbx();
        // Whole directories, too: /etc/ssl/private is Debian's.
        let script = "wc -c </etc/shadow; ls -A /etc/ssl/private 2>/dev/null | wc -l; useradd own && id -un own; \
            find /etc -type f ! -perm -o+r -size +0";
        host(&world, &[], script).expect_code(0).stdout_is("0\n0\nown\n/etc/gshadow\n/etc/shadow\n");
        assert!(
            !fs::read_to_string("/etc/passwd").expect("a file").contains("\nown:"),
            "the host's was changed"
        );
        let bare = world.run(["--rm", "--net", "none", "--userns", "host", "host", "cat", "/etc/shadow"]);
        bare.expect_code(0).stdout_is("");
    }
}
