//! What a container may do to its root, and what stays of it: the same statements for both drivers.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Run, Running, Sbx, require, rootfs, sbx};

#[derive(Clone, Copy, PartialEq)]
enum Driver {
    Overlay,
    FuseOverlayfs,
}

impl Driver {
    fn word(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::FuseOverlayfs => "fuse-overlayfs",
        }
    }

    /// What /proc/mounts calls the root's file system.
    fn file_system(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::FuseOverlayfs => "fuse.fuse-overlayfs",
        }
    }

    /// `sbx run --rm --storage-driver … --rootfs …` with the root for tests below those given.
    fn run<'w>(self, world: &'w Sbx, lowers: &[&Path]) -> Run<'w> {
        self.run_keeping(world, lowers).arg("--rm")
    }

    fn run_keeping<'w>(self, world: &'w Sbx, lowers: &[&Path]) -> Run<'w> {
        if self == Self::FuseOverlayfs {
            require("fuse-overlayfs");
        }
        let run = world.run(["--net", "none", "--storage-driver", self.word()]);
        let run = run.arg("--rootfs").arg(rootfs());
        lowers.iter().fold(run, |run, lower| run.arg("--rootfs").arg(lower))
    }
}

/// With the root for tests they are `count`. Each has a file of its own, and writes over that of those below.
fn layers(world: &Sbx, count: usize, below: &str) -> Vec<PathBuf> {
    let numbered = |number: usize| {
        let (own, last) = (format!("opt/{number}"), number.to_string());
        layer(world, &format!("{below}/{number}"), &[(&own, "x"), ("opt/last", &last)])
    };
    (1..count).map(numbered).collect()
}

/// One test for each driver.
macro_rules! on_both_drivers {
    ($($name:ident)*) => {
        $(mod $name {
            #[test]
            fn overlay() {
                super::statements::$name(super::Driver::Overlay);
            }

            #[test]
            fn fuse_overlayfs() {
                super::statements::$name(super::Driver::FuseOverlayfs);
            }
        })*
    };
}

on_both_drivers! {
    the_driver_asked_for_is_taken
    a_later_root_lies_above_an_earlier
    a_hundred_and_twenty_seven_lowers_with_long_paths
    two_hundred_and_fifty_lowers
    a_change_is_a_copy
    what_is_removed_is_gone_and_its_place_can_be_taken
    a_directory_made_again_is_empty
    files_and_directories_are_renamed
    hard_links_are_one_file
    user_attributes_are_kept
    sockets_and_fifos_are_made
    owners_within_the_map_are_kept
    names_and_paths_of_every_kind
    without_rm_the_changes_are_kept
    the_lowers_stay_as_they_are
    files_of_owners_outside_the_map
    a_read_only_root_refuses_changes
}

/// A directory below the world's work directory with the files given.
fn layer(world: &Sbx, name: &str, files: &[(&str, &str)]) -> PathBuf {
    for (path, content) in files {
        world.file(&format!("{name}/{path}"), content);
    }
    world.work().join(name)
}

/// Everything below a directory: names, kinds, modes, sizes, times of change, contents.
fn picture(world: &Sbx, directory: &Path) -> String {
    let script =
        r"find . -printf '%p %y %m %U %G %s %T@ %l\n' | sort; find . -type f -exec sha256sum {} + | sort";
    world.program("sh").args(["-c", script]).directory(directory).succeed()
}

/// The file system of `/` in /proc/mounts.
fn root_kind(mounts: &str) -> &str {
    let root = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).expect("a root");
    root.split(' ').nth(2).expect("a kind")
}

/// The only container of the world.
fn container(world: &Sbx) -> PathBuf {
    let mut all = fs::read_dir(world.store().join("containers")).expect("there are containers");
    let only = all.next().expect("there is a container").expect("readable").path();
    assert!(all.next().is_none(), "more than one container");
    only
}

mod statements {
    use super::*;

    pub(super) fn the_driver_asked_for_is_taken(driver: Driver) {
        let world = sbx();
        let mounts = driver.run(&world, &[]).args(["cat", "/proc/mounts"]).succeed();
        assert_eq!(root_kind(&mounts), driver.file_system());
    }

    pub(super) fn a_later_root_lies_above_an_earlier(driver: Driver) {
        let world = sbx();
        let lower = layer(&world, "lower", &[("opt/both", "lower"), ("opt/lower", "1")]);
        let upper = layer(&world, "upper", &[("opt/both", "upper"), ("opt/upper", "2")]);
        let run = driver.run(&world, &[&lower, &upper]);
        run.args(["sh", "-c", "cat /opt/both /opt/lower /opt/upper; ls /opt | wc -l"])
            .expect_code(0)
            .stderr_is("")
            .stdout_is("upper123\n");
    }

    pub(super) fn a_hundred_and_twenty_seven_lowers_with_long_paths(driver: Driver) {
        many_lowers(driver, 127, &format!("{}/{}", "p".repeat(110), "q".repeat(110)));
    }

    /// More than one page of mount options holds, even of short names.
    pub(super) fn two_hundred_and_fifty_lowers(driver: Driver) {
        many_lowers(driver, 250, "l");
    }

    fn many_lowers(driver: Driver, count: usize, below: &str) {
        let world = sbx();
        let lowers = layers(&world, count, below);
        let lowers: Vec<&Path> = lowers.iter().map(PathBuf::as_path).collect();
        let script = "ls /opt | wc -l; cat /opt/last; rm /opt/1 && echo x > /opt/2 && echo changed";
        let run = driver.run(&world, &lowers).args(["sh", "-c", script]);
        run.expect_code(0).stderr_is("").stdout_is(&format!("{count}\n{}changed\n", count - 1));
    }

    pub(super) fn a_change_is_a_copy(driver: Driver) {
        let world = sbx();
        let lower = layer(&world, "lower", &[("opt/file", "old\n"), ("opt/mode", "")]);
        let script = "echo new >> /opt/file; cat /opt/file; chmod 4711 /opt/mode; stat -c %a /opt/mode";
        let run = driver.run(&world, &[&lower]).args(["sh", "-c", script]);
        run.expect_code(0).stderr_is("").stdout_is("old\nnew\n4711\n");
        assert_eq!(fs::read_to_string(lower.join("opt/file")).expect("a file"), "old\n");
    }

    pub(super) fn what_is_removed_is_gone_and_its_place_can_be_taken(driver: Driver) {
        let world = sbx();
        let lower = layer(&world, "lower", &[("opt/file", "1"), ("opt/directory/below", "2")]);
        let script = "cd /opt; rm file; rm -r directory; ls -A; mkdir file; echo x > directory; ls file; cat directory";
        let run = driver.run(&world, &[&lower]).args(["sh", "-c", script]);
        run.expect_code(0).stderr_is("").stdout_is("x\n");
        assert!(lower.join("opt/file").is_file() && lower.join("opt/directory/below").is_file());
    }

    pub(super) fn a_directory_made_again_is_empty(driver: Driver) {
        let world = sbx();
        let lower = layer(&world, "lower", &[("opt/d/old", "1"), ("opt/d/deep/old", "2")]);
        let script = "rm -r /opt/d; mkdir /opt/d; echo > /opt/d/new; ls -A /opt/d";
        let run = driver.run(&world, &[&lower]).args(["sh", "-c", script]);
        run.expect_code(0).stderr_is("").stdout_is("new\n");
        // fuse-overlayfs lists such a directory right, but opens by name what was below (1.10 at least):
        // https://github.com/containers/fuse-overlayfs/issues/324
        if driver == Driver::Overlay {
            let script = "rm -r /opt/d; mkdir -p /opt/d/deep; ls -A /opt/d /opt/d/deep; cat /opt/d/old";
            let run = driver.run(&world, &[&lower]).args(["sh", "-c", script]);
            let _ =
                run.expect_code(1).stdout_is("/opt/d:\ndeep\n\n/opt/d/deep:\n").stderr_has("No such file");
        }
    }

    pub(super) fn files_and_directories_are_renamed(driver: Driver) {
        let world = sbx();
        let lower = layer(&world, "lower", &[("opt/file", "1\n"), ("opt/d/below", "2\n"), ("opt/x/y", "")]);
        let script = "cd /opt; mv file renamed; mv d e; cat renamed e/below; ls -A; \
            mkdir new; echo 3 > new/f; mv new newer; cat newer/f; rm -r x; mv newer x; ls x";
        let run = driver.run(&world, &[&lower]).args(["sh", "-c", script]);
        run.expect_code(0).stderr_is("").stdout_is("1\n2\ne\nrenamed\nx\n3\nf\n");
    }

    pub(super) fn hard_links_are_one_file(driver: Driver) {
        let world = sbx();
        let lower = layer(&world, "lower", &[("opt/old", "1\n")]);
        let script = "cd /opt; ln old other; echo 2 >> other; cat old; echo x > a; ln a b; \
            stat -c %h a b; [ a -ef b ] && echo same; rm a; cat b";
        let run = driver.run(&world, &[&lower]).args(["sh", "-c", script]);
        run.expect_code(0).stderr_is("").stdout_is("1\n2\n2\n2\nsame\nx\n");
    }

    pub(super) fn user_attributes_are_kept(driver: Driver) {
        let world = sbx();
        require("setfattr");
        let lower = layer(&world, "lower", &[("opt/file", "1")]);
        let set = ["-n", "user.lower", "-v", "below", "lower/opt/file"];
        world.program("setfattr").args(set).expect_code(0);
        let script = "import os; f = '/opt/file'; print(os.getxattr(f, 'user.lower')); \
            os.setxattr(f, 'user.upper', b'above'); print(sorted(os.listxattr(f))); \
            os.removexattr(f, 'user.lower'); print(os.getxattr(f, 'user.upper'), os.listxattr(f))";
        // The root for tests has no program for attributes: the host's python is brought in.
        let run = driver.run(&world, &[&lower]);
        let run = ["/usr:/usr:ro", "/lib:/lib:ro", "/lib64:/lib64:ro"]
            .iter()
            .filter(|bind| Path::new(bind.split(':').next().expect("a source")).exists())
            .fold(run, |run, bind| run.args(["-v", bind]));
        run.args(["/usr/bin/python3", "-c", script])
            .expect_code(0)
            .stderr_is("")
            .stdout_is("b'below'\n['user.lower', 'user.upper']\nb'above' ['user.upper']\n");
    }

    pub(super) fn sockets_and_fifos_are_made(driver: Driver) {
        let world = sbx();
        let script = "cd /opt; mkfifo fifo; (echo through > fifo &); cat fifo; stat -c %F fifo; \
            nc -l -s local:/opt/socket -p 1 2>/dev/null & \
            chmod 600 fifo; stat -c %a fifo; rm fifo; ls -A";
        let run = driver.run(&world, &[]).args(["sh", "-c", script]);
        run.expect_code(0).stdout_is("through\nfifo\n600\n");
    }

    pub(super) fn owners_within_the_map_are_kept(driver: Driver) {
        let world = sbx();
        let lower = layer(&world, "lower", &[("opt/file", "1")]);
        let script = "cd /opt; chown 33:50 file; stat -c %u:%g file; mkdir d; chown -R 1000:1000 d; \
            stat -c %u:%g d; chmod 2750 d; stat -c %a d; chown 4000000000 file 2>/dev/null || echo refused";
        let run = driver.run(&world, &[&lower]).args(["sh", "-c", script]);
        run.expect_code(0).stderr_is("").stdout_is("33:50\n1000:1000\n2750\nrefused\n");
    }

    pub(super) fn names_and_paths_of_every_kind(driver: Driver) {
        let world = sbx();
        for name in [
            "with space",
            "with,comma",
            "with:colon",
            "with\\backslash",
            "with\nnewline",
            "ünïcode",
            "-rf",
            "%s",
        ] {
            let lower = layer(&world, name, &[("opt/found", "1\n")]);
            let path = format!("/opt/{name}");
            let run = driver.run(&world, &[&lower]);
            let script =
                "cat /opt/found; echo 2 > \"$1\"; mv \"$1\" \"$1.x\"; cat \"$1.x\"; rm \"$1.x\"; ls -A /opt";
            run.args(["sh", "-c", script, "sh", &path])
                .expect_code(0)
                .stderr_is("")
                .stdout_is("1\n2\nfound\n");
        }
    }

    pub(super) fn without_rm_the_changes_are_kept(driver: Driver) {
        let world = sbx();
        let lower = layer(&world, "lower", &[("opt/file", "1")]);
        let script = "echo kept > /opt/new; chown 33 /opt/new; mkdir -p /opt/deep/er";
        driver.run_keeping(&world, &[&lower]).args(["sh", "-c", script]).expect_code(0).stderr_is("");
        let upper = container(&world).join("upper");
        assert_eq!(fs::read_to_string(upper.join("opt/new")).expect("a file"), "kept\n");
        assert!(upper.join("opt/deep/er").is_dir());
        assert!(!upper.join("opt/file").exists(), "what was not changed was copied");

        let other = sbx();
        driver.run(&other, &[&lower]).args(["sh", "-c", script]).expect_code(0).stderr_is("");
        other.assert_clean();
        let kept = fs::read_dir(other.store().join("containers")).expect("a directory").count();
        assert_eq!(kept, 0, "--rm left something");
    }

    pub(super) fn the_lowers_stay_as_they_are(driver: Driver) {
        let world = sbx();
        let lower = layer(&world, "lower", &[("opt/file", "1"), ("opt/d/below", "2"), ("opt/other", "3")]);
        symlink("file", lower.join("opt/link")).expect("a symlink");
        let (before, root_before) = (picture(&world, &lower), picture(&world, rootfs()));
        let script = "cd /opt; echo x > file; rm -r d; mkdir d; chmod 700 other; mv other o; ln -sf x link; \
            touch -d 2001-01-01 /etc/passwd; rm /bin/busybox";
        driver.run(&world, &[&lower]).args(["sh", "-c", script]).expect_code(0).stderr_is("");
        assert_eq!(picture(&world, &lower), before);
        assert_eq!(picture(&world, rootfs()), root_before);
    }

    /// In the single tier every other owner is outside the map; root of the host always is.
    pub(super) fn files_of_owners_outside_the_map(driver: Driver) {
        let world = sbx();
        let lower = layer(&world, "lower", &[("opt/group", "1\n")]);
        let readable = fs::metadata("/usr/bin/env").expect("there is env");
        assert_ne!(readable.permissions().mode() & 0o004, 0);
        // A bind shows files of unmapped owners on any machine; the lower holds the same through a mount.
        let script = "cat /opt/group; stat -c %u:%g /usr2/env; cat /usr2/env >/dev/null && echo read; \
            chown 0 /usr2/env 2>/dev/null || echo kept; cp /usr2/env /opt/env && stat -c %u:%g /opt/env";
        driver
            .run(&world, &[&lower])
            .args(["-v", "/usr/bin:/usr2", "sh", "-c", script])
            .expect_code(0)
            .stderr_is("")
            .stdout_is("1\n65534:65534\nread\nkept\n0:0\n");
    }

    pub(super) fn a_read_only_root_refuses_changes(driver: Driver) {
        let world = sbx();
        let script = "touch /opt/x 2>/dev/null || echo refused; rm /etc/passwd 2>/dev/null || echo refused";
        let run = driver.run(&world, &[]).args(["--read-only", "sh", "-c", script]);
        run.expect_code(0).stderr_is("").stdout_is("refused\nrefused\n");
    }
}

fn sleeping(world: &Sbx) -> (Running<'_>, Vec<(Pid, String)>) {
    let run = Driver::FuseOverlayfs.run(world, &[]);
    let mut running = run.args(["sh", "-c", "echo up; exec sleep 1000"]).spawn();
    running.wait_for_stdout("up");
    loop {
        let left = world.leftovers();
        let processes: Vec<_> =
            left.processes.iter().map(|process| (process.pid, process.command.clone())).collect();
        // The shell's `exec` may take a moment longer than its word.
        if processes.iter().any(|(_, command)| command == "sleep 1000") {
            let served = processes.iter().any(|(_, command)| command.starts_with("fuse-overlayfs"));
            assert!(served, "{processes:?}");
            return (running, processes);
        }
        assert!(running.is_running(), "it ended");
    }
}

fn pid_of(processes: &[(Pid, String)], command: &str) -> Pid {
    processes.iter().find(|(_, line)| line.starts_with(command)).expect("it runs").0
}

#[test]
fn fuse_overlayfs_ends_when_the_command_does() {
    let world = sbx();
    Driver::FuseOverlayfs.run(&world, &[]).arg("true").expect_code(0);
    world.assert_clean();
}

#[test]
fn fuse_overlayfs_ends_when_the_first_process_is_killed() {
    let world = sbx();
    let (running, processes) = sleeping(&world);
    kill(pid_of(&processes, "sleep 1000"), Signal::SIGKILL).expect("it may be killed");
    let _ = running.finish().code_is(137);
    world.assert_clean();
}

#[test]
fn fuse_overlayfs_ends_when_the_monitor_is_killed() {
    let mut world = sbx();
    let (running, processes) = sleeping(&world);
    let init = pid_of(&processes, "sleep 1000");
    let stat = fs::read_to_string(format!("/proc/{init}/stat")).expect("it runs");
    let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)).expect("a parent");
    kill(Pid::from_raw(parent.parse().expect("a number")), Signal::SIGKILL).expect("it may be killed");
    let _ = running.finish().code_is(125).stderr_has("was killed");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while !world.leftovers().processes.is_empty() {
        assert!(std::time::Instant::now() < deadline, "left behind:\n{}", world.leftovers());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // The next command puts the rest in order.
    Driver::Overlay.run(&world, &[]).arg("true").expect_code(0);
    world.assert_clean();
    world.allow_leftovers();
}

#[test]
fn a_driver_that_is_not_known_is_refused_by_name() {
    let world = sbx();
    let run = world.run(["--storage-driver", "vfs", "--rootfs"]).arg(rootfs()).arg("true");
    let _ = run.expect_code(125).stderr_has("vfs").stderr_has("fuse-overlayfs");
}

#[test]
fn what_the_kernel_stacks_no_more_is_left_to_fuse_overlayfs() {
    let world = sbx();
    require("fuse-overlayfs");
    let lowers = layers(&world, 501, "l");
    let run = |driver: &str, count: usize| {
        let run = world.run(["--rm", "--net", "none", "--storage-driver", driver, "--rootfs"]).arg(rootfs());
        let run = lowers[..count - 1].iter().fold(run, |run, lower| run.arg("--rootfs").arg(lower));
        run.args(["sh", "-c", "grep ' / ' /proc/mounts | cut -d' ' -f3; cat /opt/last"])
    };
    run("overlay", 500).expect_code(0).stderr_is("").stdout_is("overlay\n499");
    run("overlay", 501).expect_code(125).stderr_has("stacks 500 layers at most, not 501");
    let left = run("auto", 501).expect_code(0).stdout_is("fuse.fuse-overlayfs\n500");
    left.stderr_has("fuse-overlayfs stacks the layers: the kernel's overlay stacks 500 layers at most");
}

#[test]
fn overlay_is_refused_where_it_cannot_be_had() {
    let world = sbx();
    let keep = ["--rm", "--net", "none", "--storage-driver", "overlay", "--userns", "keep-id", "--rootfs"];
    let _ = world
        .run(keep)
        .arg(rootfs())
        .arg("true")
        .expect_code(125)
        .stderr_has("`overlay` with this ID map")
        .stderr_has("fuse-overlayfs");
    let _ = world
        .run(["--rm", "--storage-driver", "overlay", "host", "true"])
        .expect_code(125)
        .stderr_has("image `host`");
    world.assert_clean();
}

#[test]
fn a_place_of_an_owner_outside_the_map_is_named() {
    let world = sbx();
    let root = world.own_rootfs();
    fs::remove_file(root.join("etc/hosts")).expect("it was there");
    require("newuidmap");
    let chown = ["--user", "--map-root-user", "--map-auto", "chown", "-R", "5:5", "rootfs/etc"];
    world.program("unshare").args(chown).directory(world.directory()).expect_code(0);
    let single = |driver: &str| {
        let run =
            world.run(["-q", "--rm", "--net", "none", "--id-tier", "single", "--storage-driver", driver]);
        run.arg("--rootfs").arg(&root).arg("true")
    };
    let _ = single("overlay")
        .expect_code(125)
        .stderr_has("cannot make the file `/etc/hosts`")
        .stderr_has("`/etc` belongs to a user or group that is not mapped");
    // fuse-overlayfs shows every owner as the one that there is.
    single("fuse-overlayfs").expect_code(0).stderr_is("");
    // With the whole map it is an owner like any other.
    let run = world.run(["--rm", "--net", "none", "--rootfs"]).arg(&root);
    assert_eq!(run.args(["stat", "-c", "%u:%g", "/etc"]).succeed(), "5:5");
    world.assert_clean();
}

#[test]
fn changes_of_a_writable_root_go_into_the_directory() {
    let world = sbx();
    let root = world.own_rootfs();
    let script = "echo kept > /opt/new; rm /etc/nsswitch.conf";
    world
        .run(["--rm", "--net", "none", "--rootfs-rw"])
        .arg(&root)
        .args(["sh", "-c", script])
        .expect_code(0)
        .stderr_is("");
    assert_eq!(fs::read_to_string(root.join("opt/new")).expect("a file"), "kept\n");
    assert!(!root.join("etc/nsswitch.conf").exists());
    let hosts = fs::read_to_string(root.join("etc/hosts")).expect("a file");
    assert_eq!(hosts, "127.0.0.1 localhost\n", "generated files leaked into the root");
}

#[test]
fn a_bare_read_only_root_needs_no_stacking_and_says_what_is_missing_in_it() {
    let world = sbx();
    let root = world.own_rootfs();
    let run = |flags: &[&str], words: &[&str]| {
        let run = world.run(["--rm", "--net", "none", "--read-only"]).args(flags);
        run.arg("--rootfs").arg(&root).args(words).succeed()
    };
    let kind = |flags: &[&str]| root_kind(&run(flags, &["cat", "/proc/mounts"])).to_owned();
    assert!(!kind(&[]).contains("overlay"));
    assert!(run(&[], &["cat", "/etc/hosts"]).contains("localhost"));
    // Where something has to be made in it first, it is stacked, so that the directory stays as it is.
    assert_eq!(kind(&["-v", ".:/not/there"]), "overlay");
    fs::remove_file(root.join("etc/hosts")).expect("it was there");
    assert!(run(&[], &["cat", "/etc/hosts"]).contains("localhost"));
    assert!(!root.join("etc/hosts").exists() && !root.join("not").exists());
}

#[test]
fn no_name_of_a_layer_shows_in_the_container() {
    let world = sbx();
    for driver in [Driver::Overlay, Driver::FuseOverlayfs] {
        let mounts = driver.run(&world, &[]).args(["cat", "/proc/self/mountinfo"]).succeed();
        let data = world.store().as_os_str().as_bytes().to_owned();
        let data = String::from_utf8(data).expect("a plain name");
        let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).expect("a root");
        assert!(!root.contains(&data), "{root}");
    }
}
