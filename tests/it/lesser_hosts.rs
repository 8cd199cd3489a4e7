//! Hosts that give less: nothing installed, hidden devices, a masked /proc, containers inside containers. Each
//! steps down as little as it must, and says so.

use std::io::Write;
use std::net::{IpAddr, TcpListener, UdpSocket};

use std::ffi::OsString;
use std::path::Path;

use crate::harness::{Run, Sbx, require, rootfs, sbx, sbx_binary};

/// A shell's words for a mount namespace in which programs are missing: /dev/null is no program.
fn without(programs: &[&str]) -> String {
    let hide = |name: &&str| match std::path::Path::new("/usr/bin").join(name) {
        path if path.exists() => format!("mount --bind /dev/null {}; ", path.display()),
        _ => String::new(),
    };
    programs.iter().map(hide).collect()
}

/// A /dev with the usual nodes and nothing else.
const PLAIN_DEV: &str = "mount -t tmpfs none /mnt; mkdir /mnt/pts /mnt/shm /mnt/mqueue; \
    for node in null zero full random urandom tty; do : >/mnt/$node; mount --bind /dev/$node /mnt/$node; done; \
    mount --rbind /mnt /dev; ";

const HELPERS: &[&str] = &["fuse-overlayfs", "newuidmap", "newgidmap", "slirp4netns", "pasta"];

/// sbx in a mount namespace prepared by `script`, as an ordinary user without a name or a range.
fn on_host<'w>(world: &'w Sbx, script: &str) -> Run<'w> {
    let script = format!("set -e; {script} exec unshare --user --map-user=4711 --map-group=4711 \"$@\"");
    as_outer_root(world, &script).arg(sbx_binary())
}

/// A shell as root of a user namespace with one ID and an own mount namespace.
fn as_outer_root<'w>(world: &'w Sbx, script: &str) -> Run<'w> {
    world.program("unshare").args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
}

#[test]
fn the_first_command_works_on_a_bare_machine() {
    let world = sbx();
    let words =
        ["run", "--rm", "host", "sh", "-c", "id -u; hostname | wc -c; ps ax -o pid= | head -n1 | tr -d ' '"];
    on_host(&world, &without(HELPERS))
        .args(words)
        .expect_code(0)
        .stdout_is("0\n13\n1\n")
        .stderr_has("one user and one group are mapped")
        .stderr_has("no subordinate user range")
        .stderr_has("the image `host` is read-only")
        .stderr_has("`fuse-overlayfs` is not installed")
        .stderr_has("no network but its own loopback interface: neither slirp4netns nor pasta is installed");
    // What is taken is read-only, but for where programs expect to write.
    let script = "touch /etc/x || touch /x || touch /home/x || echo refused; touch /tmp/x /run/x /var/tmp/x /root/x && echo made";
    let run = on_host(&world, &without(HELPERS)).args(["run", "--rm", "--quiet", "host", "sh", "-c", script]);
    run.expect_code(0).stdout_is("refused\nmade\n");
    let volume = format!("{}:/src", world.work().display());
    let words = ["run", "--rm", "--quiet", "-v", &volume, "-w", "/src", "host", "sh", "-c"];
    on_host(&world, &without(HELPERS))
        .args(words)
        .arg("pwd; touch made; touch /src2 || echo refused")
        .expect_code(0)
        .stdout_is("/src\nrefused\n");
    assert!(world.work().join("made").exists());
    world.assert_clean();
}

#[test]
fn what_was_asked_for_by_name_is_refused_on_a_bare_machine() {
    let world = sbx();
    let run = |words: &[&str]| on_host(&world, &without(HELPERS)).args(["run", "--rm"]).args(words);
    run(&["-p", "8080:80", "host", "true"]).expect_code(125).stderr_has("neither slirp4netns nor pasta");
    run(&["--network", "slirp4netns", "host", "true"]).expect_code(125).stderr_has("slirp4netns");
    run(&["--id-tier", "range", "host", "true"]).expect_code(125).stderr_has("cannot take the range tier");
    run(&["--net", "none", "--storage-driver", "fuse-overlayfs", "host", "true"])
        .expect_code(125)
        .stderr_has("`fuse-overlayfs` is not installed");
}

#[test]
fn info_lists_every_step_down() {
    let world = sbx();
    let info = on_host(&world, &without(HELPERS)).args(["info", "--format", "json"]).expect_code(0).stdout();
    let info: serde_json::Value = serde_json::from_str(&info).expect("JSON");
    let degraded = info["degraded"].to_string();
    for step in ["single: one ID is mapped", "fuse-overlayfs", "slirp4netns or pasta"] {
        assert!(degraded.contains(step), "{step}: {degraded}");
    }
    assert_eq!(info["host"]["identity"]["tier"], "single");
}

#[test]
fn layers_need_no_fuse() {
    let world = sbx();
    let run =
        on_host(&world, &without(&["fuse-overlayfs"])).args(["run", "--rm", "--net", "none", "--quiet"]);
    run.arg("--rootfs")
        .arg(rootfs())
        .args(["sh", "-c", "mkdir /etc/made && ls -d /etc/made"])
        .expect_code(0)
        .stdout_is("/etc/made\n");
}

#[test]
fn without_the_fuse_device_the_image_host_is_read_only() {
    let world = sbx();
    let run = on_host(&world, PLAIN_DEV).args(["run", "--rm", "--net", "none", "host", "echo", "runs"]);
    run.expect_code(0).stdout_is("runs\n").stderr_has("`/dev/fuse`: No such file").stderr_has("is read-only");
}

#[test]
fn without_the_tun_device_there_is_no_network_and_that_is_said() {
    let world = sbx();
    let devices = "ls /sys/class/net";
    let run = on_host(&world, PLAIN_DEV).args(["run", "--rm", "host", "sh", "-c", devices]);
    run.expect_code(0).stdout_is("lo\n").stderr_has("no network but").stderr_has("/dev/net/tun");
    let run = on_host(&world, PLAIN_DEV).args(["run", "--rm", "--network", "slirp4netns", "host", "true"]);
    run.expect_code(125).stderr_has("/dev/net/tun");
}

#[test]
fn a_masked_proc_is_shared_and_that_is_said() {
    let world = sbx();
    let mask = "mount --bind /dev/null /proc/meminfo;";
    let script = "[ -e /proc/$$/status ] && [ $$ != 1 ] && echo shared";
    let run = on_host(&world, mask).args(["run", "--rm", "--net", "none", "--rootfs"]).arg(rootfs());
    run.args(["sh", "-c", script])
        .expect_code(0)
        .stdout_is("shared\n")
        .stderr_has("the processes of the host are shared")
        .stderr_has("parts of /proc are hidden");
    world.assert_clean();
}

#[test]
fn a_runtime_directory_that_is_missing_or_anothers_is_replaced() {
    let world = sbx();
    let uid = nix::unistd::geteuid();
    let replaced = format!("the runtime directory is /tmp/sbx-{uid}");
    let foreign = if uid.is_root() { "/nonexistent" } else { "/" };
    for (value, reason) in [(None, "XDG_RUNTIME_DIR is not set"), (Some(foreign), foreign)] {
        let run = world.sbx(["--log-level", "info", "run", "--rm", "--rootfs"]).arg(rootfs()).arg("true");
        let run = match value {
            None => run.env_remove("XDG_RUNTIME_DIR"),
            Some(value) => run.env("XDG_RUNTIME_DIR", value),
        };
        run.expect_code(0).stderr_has(&replaced).stderr_has(reason);
    }
}

#[test]
fn a_store_that_cannot_be_written_is_named_with_the_way_out() {
    let world = sbx();
    world.run(["--rm", "--net", "none", "--rootfs"]).arg(rootfs()).arg("true").expect_code(0);
    let data = world.directory().join("data");
    let bind = format!("mount --bind {0} {0}; mount -o remount,bind,ro {0};", data.display());
    let run = on_host(&world, &bind).args(["run", "--rm", "--net", "none", "--rootfs"]).arg(rootfs());
    run.arg("true")
        .expect_code(125)
        .stderr_has("Read-only file system")
        .stderr_has("`--root DIR` or SBX_ROOT");
}

#[test]
fn no_user_namespaces_left_is_named_with_the_sysctl() {
    let world = sbx();
    let script = "echo 0 >/proc/sys/user/max_user_namespaces; exec \"$@\"";
    let run =
        as_outer_root(&world, script).arg(sbx_binary()).args(["run", "--rm", "--net", "none", "--rootfs"]);
    run.arg(rootfs())
        .arg("true")
        .expect_code(125)
        .stderr_has("user.max_user_namespaces is 0")
        .stderr_has("sysctl --system");
    world.assert_clean();
}

#[test]
fn a_missing_proc_is_named() {
    let world = sbx();
    let script = "mount -t tmpfs none /proc; exec \"$@\"";
    let run = as_outer_root(&world, script).arg(sbx_binary()).args(["run", "--rm", "host", "true"]);
    run.expect_code(125).stderr_has("/proc/self/uid_map").stderr_has("mount -t proc proc /proc");
}

#[test]
fn a_kernel_without_a_system_call_is_an_error_that_names_it() {
    require("python3");
    let world = sbx();
    let filter = "import os, seccomp, sys\n\
        f = seccomp.SyscallFilter(seccomp.ALLOW)\n\
        f.add_rule(seccomp.ERRNO(38), sys.argv[1])\n\
        f.load()\n\
        os.execv(sys.argv[2], sys.argv[2:])\n";
    let run = |call: &str| {
        let run = world.program("/usr/bin/python3").args(["-c", filter, call]).arg(sbx_binary());
        run.args(["run", "--rm", "--net", "none", "--quiet", "--rootfs"]).arg(rootfs()).arg("true")
    };
    run("clone3").expect_code(125).stderr_has("clone3 is not there").stderr_has("seccomp=unconfined");
    run("openat2").expect_code(125).stderr_has("openat2 is not there").stderr_has("Linux 5.6");
    // This one is made up for.
    run("close_range").expect_code(0).stderr_is("");
    world.assert_clean();
}

#[test]
fn a_store_on_tmpfs_serves() {
    let world = sbx();
    let directory = tempfile::tempdir_in("/dev/shm").expect("a directory on tmpfs");
    let script = "mkdir /etc/made && chown 1000 /etc/made && ls -d /etc/made";
    let run = world.sbx(["--root".into(), directory.path().as_os_str().to_owned()]);
    let run = run.args(["run", "--rm", "--net", "none", "--rootfs"]).arg(rootfs());
    assert_eq!(run.args(["sh", "-c", script]).succeed(), "/etc/made");
}

/// `sbx run OPTIONS host sh -c SCRIPT` with sbx itself inside.
fn outer<'w>(world: &'w Sbx, options: &[&str], script: &str) -> Run<'w> {
    let mut volume = OsString::from("--volume=");
    volume.push(sbx_binary());
    volume.push(":/usr/local/bin/sbx:ro");
    let run = world.run(["--rm", "--net", "none", "--quiet"]).arg(volume).args(options);
    run.args(["host", "sh", "-c", script])
}

#[test]
fn sbx_runs_in_a_privileged_container_of_its_own() {
    let world = sbx();
    let inner = "sbx run --rm --quiet --net none host sh -c 'id -u; echo $$'";
    outer(&world, &["--privileged"], inner).expect_code(0).stdout_is("0\n1\n");
    // Its store lies on the outer container's fuse-overlayfs, which cannot hold another's layers.
    outer(&world, &["--privileged"], "sbx run --rm --net none host touch /etc/x")
        .expect_code(1)
        .stderr_has("is on a fuse-overlayfs itself");
    let on_tmpfs = "sbx --root /t run --rm --net none --quiet host sh -c 'mkdir /etc/x && id -u'";
    outer(&world, &["--privileged", "--tmpfs", "/t"], on_tmpfs).expect_code(0).stdout_is("0\n").stderr_is("");
    // A third level.
    let third = "sbx run --rm --quiet --privileged --net none -v /usr/local/bin/sbx:/usr/local/bin/sbx host \
        sbx run --rm --quiet --net none host id -u";
    outer(&world, &["--privileged"], third).expect_code(0).stdout_is("0\n");
}

#[test]
fn where_nothing_stacks_layers_a_container_has_a_copy_of_its_own() {
    let world = sbx();
    let mut volume = OsString::from("--volume=");
    volume.push(rootfs());
    volume.push(":/r:ro");
    let inner = "sbx run --rm --net none --rootfs /r sh -c 'rm /etc/passwd && mkdir /etc/x && ls -d /etc/x' && \
        ls /r/etc/passwd && sbx run --rm --net none --quiet --read-only --rootfs /r sh -c 'touch /x || echo kept' && \
        sbx ps -aq && ls ~/.local/share/sbx/containers";
    let options = ["--privileged", volume.to_str().expect("a path of plain letters")];
    let run = outer(&world, &options, inner)
        .expect_code(0)
        .stdout_is("/etc/x\n/r/etc/passwd\nkept\n")
        .stderr_has("the whole root is copied for this container");
    assert!(!run.stderr().contains("cannot remove"), "{}", run.stderr());
}

#[test]
fn the_seccomp_profile_of_an_outer_container_is_named() {
    let world = sbx();
    let inner = "sbx run --rm --net none host id -u";
    outer(&world, &[], inner)
        .expect_code(125)
        .stderr_has("the seccomp profile of an outer container hides it")
        .stderr_has("--security-opt seccomp=unconfined");
    // What the hint says helps; the masked /proc is shared then.
    for options in [&["--security-opt", "seccomp=unconfined"], &["--cap-add", "SYS_ADMIN"]] {
        outer(&world, options, inner)
            .expect_code(0)
            .stdout_is("0\n")
            .stderr_has("processes of the host are shared");
    }
}

#[test]
fn the_apparmor_profile_is_printed_for_the_binary_that_asks() {
    let world = sbx();
    let printed = world.sbx(["doctor", "--apparmor-profile"]).expect_code(0).stdout();
    assert!(printed.contains("userns,"), "{printed}");
    let binary = sbx_binary().canonicalize().expect("the binary");
    assert!(printed.contains(&binary.display().to_string()), "{printed}");
    let shipped = crate::harness::repository().join("contrib/apparmor/sbx");
    let shipped = std::fs::read_to_string(shipped).expect("the profile that is shipped");
    let rules = |text: &str| {
        let lines = text.lines().filter(|line| line.starts_with("  ") || line.starts_with("abi"));
        lines.map(str::trim).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(rules(&shipped), rules(&printed));
}

#[test]
fn the_environment_of_cron_suffices() {
    let world = sbx()
        .env_remove("XDG_RUNTIME_DIR")
        .env_remove("USER")
        .env_remove("LOGNAME")
        .env("PATH", "/usr/bin:/bin");
    assert!(Path::new("/usr/bin/newuidmap").exists(), "this test needs newuidmap (package uidmap)");
    let run = world.run(["--rm", "--rootfs"]).arg(rootfs());
    assert_eq!(run.args(["sh", "-c", "awk 'END { print NR }' /proc/self/uid_map"]).succeed(), "2");
}

/// The address of this machine on its default route; nothing is sent.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket.connect("198.51.100.1:9").expect("a default route");
    socket.local_addr().expect("an address").ip()
}

#[test]
fn bridges_reach_the_world_through_pasta_where_that_is_all_there_is() {
    let world = sbx();
    let server = TcpListener::bind((own_address(), 0)).expect("a server");
    let address = server.local_addr().expect("an address");
    let answering = std::thread::spawn(move || {
        let (mut client, _) = server.accept().expect("a client");
        client.write_all(b"hello").expect("an answer");
    });
    world.sbx(["network", "create", "shop"]).expect_code(0);
    let ask = format!("exec 3<>/dev/tcp/{}/{} && cat <&3", address.ip(), address.port());
    let words = ["run", "--rm", "--network=shop", "host", "timeout", "10", "bash", "-c", &ask];
    let script = format!("set -e; {} exec \"$@\"", without(&["slirp4netns"]));
    as_outer_root(&world, &script).arg(sbx_binary()).args(words).expect_code(0).stdout_is("hello");
    answering.join().expect("the server");
}
