//! Called by root: the same commands, always in a user namespace; and what only root can set the stage for.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::harness::{Run, Sbx, require_root, rootfs, sbx, sbx_binary};

fn world() -> Sbx {
    require_root();
    sbx()
}

fn shell(world: &Sbx, options: &[&str], script: &str) -> String {
    let run = world.run(["--rm", "--net", "none", "--quiet"]).args(options).arg("--rootfs").arg(rootfs());
    run.args(["sh", "-c", script]).succeed()
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// A root file system that any user may read.
fn public_rootfs() -> PathBuf {
    rootfs().to_owned()
}

/// What `mount` covers for one command: /etc/subuid and /etc/subgid with these lines.
pub(crate) fn ranges(world: &Sbx, text: &str) -> String {
    let file = world.file("ranges", text);
    ["/etc/subuid", "/etc/subgid"].map(|path| format!("mount --bind {} {path}; ", file.display())).concat()
}

/// sbx by root in a mount namespace prepared by `script`.
fn on_host<'w>(world: &'w Sbx, script: &str) -> Run<'w> {
    let script = format!("set -e; {script} exec \"$@\"");
    world.program("unshare").args(["--mount", "sh", "-c", &script, "sh"]).arg(sbx_binary())
}

/// An unprivileged user with a range, and directories of its own in the world.
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: PathBuf,
}

impl User {
    pub(crate) fn of(world: &Sbx) -> Self {
        let name = std::env::var("SBX_TEST_OTHER_USER")
            .expect("the name of an unprivileged user with subordinate IDs: run `scripts/test` as root");
        let user = nix::unistd::User::from_name(&name).expect("a user database").expect("the user exists");
        let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
        let home = world.directory().join("user");
        for directory in [world.directory().to_owned(), world.work()] {
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("a mode");
        }
        for directory in [home.clone(), home.join("run")] {
            fs::create_dir(&directory).expect("a directory");
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).expect("a mode");
            chown(&directory, Some(uid), Some(gid)).expect("an owner");
        }
        Self { name, uid, gid, home }
    }

    /// `sbx run …` as this user in a mount namespace prepared by `script`; `privileges` are options of setpriv(1).
    fn run<'w>(&self, world: &'w Sbx, script: &str, privileges: &[&str]) -> Run<'w> {
        self.sbx(world, script, privileges).args(["run", "--rm", "--net", "none"])
    }

    /// `sbx …`, the same way.
    pub(crate) fn sbx<'w>(&self, world: &'w Sbx, script: &str, privileges: &[&str]) -> Run<'w> {
        let script = format!("set -e; {script} exec \"$@\"");
        let run = world.program("unshare").args(["--mount", "sh", "-c", &script, "sh", "setpriv"]);
        let (uid, gid) = (self.uid.to_string(), self.gid.to_string());
        let run = run.args(["--reuid", &uid, "--regid", &gid, "--inh-caps=-all"]).args(privileges);
        let run = run.arg("env").arg(format!("HOME={}", self.home.display()));
        let run =
            run.arg(format!("USER={}", self.name)).arg(format!("XDG_DATA_HOME={}", self.home.display()));
        let run = run.arg(format!("XDG_RUNTIME_DIR={}", self.home.join("run").display()));
        run.arg(sbx_binary())
    }

    /// The map that `options` give, or what sbx says.
    fn map<'w>(&self, world: &'w Sbx, script: &str, privileges: &[&str], options: &[&str]) -> Run<'w> {
        let privileges = [privileges, &["--init-groups"]].concat();
        let run = self.run(world, script, &privileges).args(options).arg("--rootfs").arg(public_rootfs());
        run.args(["cat", "/proc/self/uid_map"])
    }
}

#[test]
fn root_always_gets_a_user_namespace() {
    let world = world();
    let own = fs::read_link("/proc/self/ns/user").expect("a namespace");
    for options in [&[][..], &["--userns", "host"], &["--privileged"], &["--userns", "keep-id"]] {
        assert_ne!(shell(&world, options, "readlink /proc/self/ns/user"), own.display().to_string());
    }
}

#[test]
fn the_image_host_the_network_and_layers_work_for_root() {
    let world = world();
    let run = world.run([
        "--rm",
        "--quiet",
        "host",
        "sh",
        "-c",
        "id -u; echo $$; touch /etc/made /root/made && echo made",
    ]);
    assert_eq!(run.succeed(), "0\n1\nmade");
    assert!(!Path::new("/etc/made").exists() && !Path::new("/root/made").exists());
    let run = world.run(["--rm", "--quiet", "--rootfs"]).arg(rootfs());
    assert_eq!(
        run.args(["sh", "-c", "ip -o -4 addr show dev tap0 | grep -c inet"]).expect_code(0).stdout().trim(),
        "1"
    );
    for driver in ["overlay", "fuse-overlayfs"] {
        let script = "mkdir /opt/d && chown 1000:50 /opt/d && stat -c %u:%g /opt/d";
        assert_eq!(shell(&world, &["--storage-driver", driver], script), "1000:50", "{driver}");
    }
    assert_eq!(shell(&world, &["--user", "user"], "id -u; id -G"), "1000\n1000 50");
    assert_eq!(shell(&world, &["--userns", "keep-id:uid=1000,gid=1000"], "id -u; whoami"), "1000\nuser");
    assert_eq!(shell(&world, &["--id-tier", "single"], "cat /proc/self/uid_map | tr -s ' '"), " 0 0 1");
    world.assert_clean();
}

#[test]
fn root_without_a_range_is_root_outside_and_is_warned() {
    let world = world();
    let none = ranges(&world, "somebody:100000:65536\n");
    let volume = format!("{}:/v", world.work().display());
    let run = on_host(&world, &none).args(["run", "--rm", "--net", "none", "-v", &volume, "--rootfs"]);
    run.arg(rootfs()).args(["sh", "-c", "touch /v/f && chown 1234 /v/f"]).expect_code(0);
    assert_eq!(fs::metadata(world.work().join("f")).expect("the file").uid(), 1234);
    let info = on_host(&world, &none).arg("info").expect_code(0).stdout();
    assert!(info.contains("files that root inside makes are root's outside"), "{info}");
    let doctor = on_host(&world, &none).arg("doctor").finish().stdout();
    assert!(doctor.contains("the separation of root inside from root outside"), "{doctor}");
    for userns in ["auto", "nomap"] {
        let run = on_host(&world, &none).args(["run", "--rm", "--userns", userns, "host", "true"]);
        run.expect_code(125).stderr_has("the host's own users").stderr_has("usermod --add-subuids");
    }
}

#[test]
fn root_with_a_range_is_somebody_else_outside() {
    let world = world();
    let range = ranges(&world, "root:3000000:65536\n");
    fs::set_permissions(world.work(), fs::Permissions::from_mode(0o777)).expect("a mode");
    let secret = world.file("secret", "x");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("a mode");
    let volume = format!("{}:/v", world.work().display());
    let run = |options: &[&str], script: &str| {
        let run = on_host(&world, &range).args(["run", "--rm", "--net", "none", "-v", &volume]).args(options);
        run.arg("--rootfs").arg(rootfs()).args(["sh", "-c", script]).expect_code(0)
    };
    let script = "cat /proc/self/uid_map; mkdir /opt/d; touch /v/f; cat /v/secret 2>&1 || true";
    let seen = run(&[], script).stdout();
    assert_eq!(lines(&seen), ["0 3000000 65536", "cat: can't open '/v/secret': Permission denied"]);
    assert_eq!(fs::metadata(world.work().join("f")).expect("the file").uid(), 3_000_000);
    assert_eq!(lines(&run(&["--userns", "auto"], "cat /proc/self/uid_map").stdout()), ["0 3000000 1024"]);
    assert_eq!(
        lines(&run(&["--userns", "host"], "cat /v/secret /proc/self/uid_map").stdout()),
        ["x 0 0 4294967295"]
    );
    // Maps count the host's IDs from 0 on.
    let explicit = run(&["--uidmap", "0:5000:1", "--uidmap", "1:0:1"], "cat /proc/self/uid_map").stdout();
    assert_eq!(lines(&explicit), ["0 5000 1", "1 0 1"]);
    let run = on_host(&world, &range).args([
        "run",
        "--rm",
        "--net",
        "none",
        "host",
        "sh",
        "-c",
        "mkdir /root/d && id -u",
    ]);
    run.expect_code(0).stdout_is("0\n");
    world.assert_clean();
}

#[test]
fn kept_groups_open_what_they_open_outside() {
    let world = world();
    let user = User::of(&world);
    let group = 54_321;
    let file = world.file("groups-only", "readable");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o040)).expect("a mode");
    chown(&file, Some(0), Some(group)).expect("an owner");
    let volume = format!("{}:/v", world.work().display());
    let groups = format!("--groups={},{group}", user.gid);
    let run = |options: &[&str]| {
        let run = user.run(&world, "", &[&groups]).args(["-v", &volume]).args(options);
        run.arg("--rootfs").arg(public_rootfs()).args(["cat", "/v/groups-only"])
    };
    run(&["--group-add", "keep-groups"]).expect_code(0).stdout_is("readable");
    run(&["--group-add", "keep-groups", "--userns", "keep-id"]).expect_code(0).stdout_is("readable");
    run(&[]).expect_code(1).stderr_has("Permission denied");
    run(&["--userns", "keep-id"]).expect_code(1).stderr_has("Permission denied");
}

#[test]
fn the_single_tier_changes_a_root_of_somebody_elses() {
    let world = world();
    let user = User::of(&world);
    let run = user.run(&world, "", &["--init-groups"]).args(["--id-tier", "single", "--rootfs"]);
    let script = "mkdir /etc/d && echo x >>/etc/hosts.new && stat -c %u /etc /etc/d";
    run.arg(public_rootfs()).args(["sh", "-c", script]).expect_code(0).stdout_is("0\n0\n");
}

#[test]
fn each_flaw_of_the_helpers_is_named_before_the_attempt() {
    let world = world();
    let user = User::of(&world);
    let copy = world.work().join("newuidmap");
    fs::copy("/usr/bin/newuidmap", &copy).expect("this test needs newuidmap (package uidmap)");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("a mode");
    let (lost, nosuid) = (
        format!("mount --bind {} /usr/bin/newuidmap;", copy.display()),
        "mount --bind /usr/bin/newuidmap /usr/bin/newuidmap; mount -o remount,bind,nosuid /usr/bin/newuidmap;",
    );
    let cases: [(&str, &[&str], &str); 4] = [
        (&lost, &[], "`/usr/bin/newuidmap` has neither the set-user-ID bit nor a file capability"),
        (nosuid, &[], "`/usr/bin/newuidmap` is on a file system mounted nosuid"),
        ("", &["--bounding-set=-setuid"], "the outer container has no CAP_SETUID"),
        ("", &["--no-new-privs"], "no_new_privs is set"),
    ];
    for (script, privileges, reason) in cases {
        user.map(&world, script, privileges, &["--id-tier", "range"])
            .expect_code(125)
            .stderr_has("cannot take the range tier")
            .stderr_has(reason)
            .stderr_has("Hint:");
        let stepped = user.map(&world, script, privileges, &[]).expect_code(0).stderr_has(reason);
        assert_eq!(lines(&stepped.stdout()), [format!("0 {} 1", user.uid)], "{reason}");
    }
}

#[test]
fn the_callers_own_id_is_taken_out_of_its_range() {
    let world = world();
    let user = User::of(&world);
    let start = user.uid - 1;
    let own = ranges(&world, &format!("{}:{start}:65536\n", user.name));
    let map = user.map(&world, &own, &[], &[]).expect_code(0).stdout();
    assert_eq!(
        lines(&map),
        [format!("0 {} 1", user.uid), format!("1 {start} 1"), format!("2 {} 65534", user.uid + 1)]
    );
}

#[test]
fn a_container_of_an_old_range_says_so_and_nothing_else_is_touched() {
    let world = world();
    let user = User::of(&world);
    let script = format!(
        r#"as() {{ setpriv --reuid {uid} --regid {gid} --init-groups --inh-caps=-all env HOME={home} USER={name} \
                XDG_DATA_HOME={home} XDG_RUNTIME_DIR={home}/run {sbx} "$@"; }}
        as create --name old --net none --rootfs {root} sh -c 'exit 4' >/dev/null
        as start -a old || echo "before $?"
        {ranges}
        as start old 2>&1 || echo "after $?"
        as ps -a --format '{{{{.Names}}}} {{{{.State}}}} {{{{.ExitCode}}}}'
        as run --rm --net none --rootfs {root} echo new
        as rm old"#,
        uid = user.uid,
        gid = user.gid,
        name = user.name,
        home = user.home.display(),
        sbx = sbx_binary().display(),
        root = public_rootfs().display(),
        ranges = ranges(&world, &format!("{}:3000000:65536\n", user.name)),
    );
    let said = world.program("unshare").args(["--mount", "sh", "-c", &script]).succeed();
    for expected in
        ["before 4", "that are not the ones you have now", "after 125", "old exited 4", "new\nold"]
    {
        assert!(said.contains(expected), "no `{expected}` in\n{said}");
    }
}

#[test]
fn a_range_of_the_name_service_is_found_through_getsubids() {
    let world = world();
    let user = User::of(&world);
    let nsswitch = world.file("nsswitch.conf", "passwd: files\nsubid: sss\n");
    let getsubids =
        world.script("getsubids", "#!/bin/sh\n[ \"$1\" = -g ] && shift\necho \"0: $1 3500000 65536\"\n");
    let script = format!(
        "mount --bind {} /etc/nsswitch.conf; mount --bind {} /usr/bin/getsubids; ",
        nsswitch.display(),
        getsubids.display()
    );
    let answer = user.map(&world, &script, &[], &["--id-tier", "range"]).finish();
    // The helper looks the range up for itself, and grants it only where its own name service does.
    assert_eq!(answer.code(), 125, "{}", answer.stderr());
    let said = answer.stderr();
    assert!(said.contains("newuidmap: uid range [1-65537) -> [3500000-3565536) not allowed"), "{said}");
    assert!(said.contains("`getsubids` tells others"), "{said}");
}
