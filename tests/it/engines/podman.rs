//! Containers of Debian's podman.

use std::fs;
use std::os::unix::fs::symlink;

use nix::sys::signal::Signal;

use crate::harness::{Podman, require, sbx, sbx_binary};

#[test]
fn streams_and_exit_codes_pass_through() {
    let podman = Podman::above_sbx();
    podman
        .sh(&["--rm", "-i"], "cat; echo $$ >&2; exit 7")
        .stdin("hello")
        .expect_code(7)
        .stdout_is("hello")
        .stderr_has("1\n");
    podman.sh(&["--rm"], "sh -c 'kill -9 $$' || exit $?").expect_code(137);
    let run = || podman.podman(["run", "--rm", "--network", "none", &podman.image]);
    run().arg("no-such").expect_code(127).stderr_has("cannot execute `no-such`: executable file not found");
    run().arg("/etc").expect_code(126).stderr_has("`/etc` is a directory");
    podman.assert_clean();
}

#[test]
fn by_the_names_of_runc_and_crun_it_is_told_of_errors_in_json() {
    let world = sbx();
    // The latter is known to do without a control group.
    for (name, options) in [("runc", &["--rm"][..]), ("crun", &["--rm", "--cgroups=disabled"])] {
        let link = world.work().join(name);
        symlink(sbx_binary(), &link).expect("a link");
        let podman = Podman::with_runtime(link);
        podman.sh(options, "exit 4").expect_code(4);
        let missing = podman.podman(["run", "--rm", "--network", "none", &podman.image, "no-such"]);
        let missing = missing.expect_code(127);
        missing.stderr_has("cannot execute `no-such`: executable file not found").stderr_has("OCI runtime");
        podman.assert_clean();
    }
}

#[test]
fn another_process_is_brought_in() {
    let podman = Podman::above_sbx();
    podman.start(&["--name=web", "--hostname=web"], "exec sleep 999");
    let exec = podman.podman(["exec", "-e", "A=1", "-w", "/tmp", "--user", "1000:1000", "web", "sh", "-c"]);
    exec.arg("id -u; id -g; pwd; echo $A; hostname").expect_code(0).stdout_is("1000\n1000\n/tmp\n1\nweb\n");
    let exec = podman.podman(["exec", "-i", "web", "sh", "-c", "cat; exit 9"]);
    exec.stdin("hello").expect_code(9).stdout_is("hello");
    let missing = podman.podman(["exec", "web", "no-such"]).expect_code(127);
    missing.stderr_has("cannot execute `no-such`: executable file not found");
    podman.podman(["exec", "-d", "web", "sh", "-c", "echo made >/made; exec sleep 998"]).expect_code(0);
    let made = "until [ -s /made ]; do sleep 0.01; done; cat /made; grep Seccomp: /proc/self/status";
    podman.podman(["exec", "web", "sh", "-c", made]).expect_code(0).stdout_is("made\nSeccomp:\t2\n");
    let top = podman.podman(["top", "web", "pid", "args"]).expect_code(0).stdout();
    assert!(top.contains("sleep 999") && top.contains("sleep 998"), "{top}");
    let pid = podman.podman(["inspect", "--format", "{{.State.Pid}}", "web"]).expect_code(0).stdout();
    let comm = fs::read_to_string(format!("/proc/{}/comm", pid.trim())).expect("a process");
    assert_eq!(comm, "sleep\n");
    podman.podman(["rm", "-f", "-t", "0", "web"]).expect_code(0);
    podman.assert_clean();
}

#[test]
fn it_is_stopped_started_again_and_removed() {
    let podman = Podman::above_sbx();
    let state = |name: &str| {
        let format = "{{.State.Status}} {{.State.ExitCode}}";
        podman.podman(["inspect", "--format", format, name]).expect_code(0).stdout().trim().to_owned()
    };
    let logs = |wanted: &str| {
        let said = (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            podman.podman(["logs", "web"]).expect_code(0).stdout() == wanted
        });
        assert!(said, "{wanted:?} is not said");
    };
    podman.start(&["--name=web"], "trap 'echo ends; exit 3' TERM; echo up; while :; do sleep 0.01; done");
    logs("up\n");
    podman.podman(["stop", "web"]).expect_code(0);
    assert_eq!(state("web"), "exited 3");
    podman.podman(["start", "web"]).expect_code(0);
    logs("up\nends\nup\n");
    podman.podman(["restart", "web"]).expect_code(0);
    logs("up\nends\nup\nends\nup\n");
    podman.podman(["kill", "--signal", "TERM", "web"]).expect_code(0);
    podman.podman(["wait", "web"]).expect_code(0).stdout_is("3\n");
    podman.podman(["start", "web"]).expect_code(0);
    podman.podman(["kill", "web"]).expect_code(0);
    podman.podman(["wait", "web"]).expect_code(0).stdout_is("137\n");
    podman.podman(["rm", "web"]).expect_code(0);
    podman.podman(["create", "--name=never", "--network=none", &podman.image, "true"]).expect_code(0);
    podman.podman(["rm", "never"]).expect_code(0);
    podman.assert_clean();
}

#[test]
fn a_stop_that_is_ignored_ends_in_a_kill() {
    let podman = Podman::above_sbx();
    podman.start(&["--name=deaf"], "trap '' TERM; sleep 999 & while :; do sleep 0.01; done");
    podman.podman(["stop", "-t", "1", "deaf"]).expect_code(0);
    let format = "{{.State.ExitCode}}";
    podman.podman(["inspect", "--format", format, "deaf"]).expect_code(0).stdout_is("137\n");
    podman.podman(["rm", "deaf"]).expect_code(0);
    podman.assert_clean();
}

#[test]
fn on_a_terminal() {
    let podman = Podman::above_sbx();
    let mut pty = podman.pty(&["run", "--rm", "-it", "--name=t", "--network=none", &podman.image, "sh"]);
    pty.expect("/ # ");
    pty.send_line("tty; stty size; echo $((40+2))");
    pty.expect("/dev/pts/0");
    pty.expect("24 80");
    pty.expect("42");
    let mut other = podman.pty(&["exec", "-it", "t", "sh", "-c", "tty; exit 6"]);
    other.expect("/dev/pts/1");
    assert_eq!(other.finish(), 6);
    pty.resize(30, 100);
    pty.send_line("until stty size | grep 30; do sleep 0.1; done");
    pty.expect("30 100");
    pty.send_line("exit 5");
    assert_eq!(pty.finish(), 5);
    podman.assert_clean();
}

#[test]
fn one_in_the_background_is_attached_to() {
    let podman = Podman::above_sbx();
    podman.start(&["--name=web", "-i"], "read line; echo \"got $line\"; exit 8");
    podman.podman(["attach", "web"]).stdin("hello\n").expect_code(0).stdout_has("got hello\n");
    podman.podman(["wait", "web"]).expect_code(0).stdout_is("8\n");
    podman.podman(["rm", "web"]).expect_code(0);
    let mut pty = podman.pty(&["create", "-it", "--name=t", "--network=none", &podman.image, "sh"]);
    assert_eq!(pty.finish(), 0);
    let mut pty = podman.pty(&["start", "--attach", "--interactive", "t"]);
    pty.expect("/ # ");
    pty.send_line("echo $((40+2)); exit 5");
    pty.expect("42");
    assert_eq!(pty.finish(), 5);
    podman.podman(["rm", "t"]).expect_code(0);
    podman.assert_clean();
}

#[test]
fn a_signal_to_the_client_reaches_the_command() {
    let podman = Podman::above_sbx();
    let script = "trap 'echo caught; exit 5' TERM; echo up; while :; do sleep 0.01; done";
    let mut running = podman.sh(&["--rm"], script).spawn();
    running.wait_for_stdout("up\n");
    running.signal(Signal::SIGTERM);
    running.finish().code_is(5).stdout_is("up\ncaught\n");
    podman.assert_clean();
}

#[test]
fn its_options_hold() {
    require("catatonit");
    let podman = Podman::above_sbx();
    let said = |options: &[&str], script: &str| {
        podman.sh(&[&["--rm"], options].concat(), script).expect_code(0).stdout()
    };
    assert_eq!(said(&["--init"], "echo $$; cat /proc/1/comm"), "2\npodman-init\n");
    let own = nix::unistd::geteuid();
    assert_eq!(said(&["--userns=keep-id"], "id -u"), format!("{own}\n"));
    podman.world.file("shared/file", "shown");
    let volume = format!("{}:/v:ro", podman.world.work().join("shared").display());
    assert_eq!(
        said(&["-v", &volume], "cat /v/file; touch /v/x 2>/dev/null || echo refused"),
        "shownrefused\n"
    );
    let script = "touch /x 2>/dev/null || echo refused; touch /t/x; grep -o '/t tmpfs.*size=1024k' /proc/mounts | wc -l";
    assert_eq!(said(&["--read-only", "--tmpfs=/t:size=1m"], script), "refused\n1\n");
    let capabilities = "grep CapEff /proc/self/status";
    assert_eq!(
        said(&["--cap-drop=all", "--cap-add=net_raw,chown"], capabilities),
        "CapEff:\t0000000000002001\n"
    );
    let status = "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status";
    let bare = ["--security-opt=seccomp=unconfined", "--security-opt=no-new-privileges"];
    assert_eq!(said(&bare, status), "NoNewPrivs:\t1\nSeccomp:\t0\n");
    let profile = podman.world.file(
        "profile.json",
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":95}]}"#,
    );
    let profile = format!("--security-opt=seccomp={}", profile.display());
    let refused = podman.sh(&["--rm", &profile], "mkdir /x").expect_code(1);
    refused.stderr_has("Operation not supported");
    let limits = ["--ulimit=nofile=50:60", "--shm-size=2m", "--sysctl=net.ipv4.ip_default_ttl=33"];
    let script = "ulimit -n; grep -c '/dev/shm.*size=2048k' /proc/mounts; cat /proc/sys/net/ipv4/ip_default_ttl; ls /dev/fuse";
    let found = said(&[&limits[..], &["--device=/dev/fuse"]].concat(), script);
    assert_eq!(found, "50\n1\n33\n/dev/fuse\n");
    podman.assert_clean();
}

#[test]
fn files_are_copied_and_health_is_checked() {
    let podman = Podman::above_sbx();
    let file = podman.world.file("in", "hello");
    podman.start(&["--name=web", "--health-cmd=test -e /healthy"], "exec sleep 999");
    podman.podman(["cp", &file.display().to_string(), "web:/healthy"]).expect_code(0);
    podman.podman(["healthcheck", "run", "web"]).expect_code(0);
    podman.podman(["exec", "web", "mv", "/healthy", "/other"]).expect_code(0);
    podman.podman(["healthcheck", "run", "web"]).expect_code(1).stdout_is("unhealthy\n");
    let out = podman.world.work().join("out");
    podman.podman(["cp", "web:/other", &out.display().to_string()]).expect_code(0);
    assert_eq!(fs::read_to_string(out).expect("a copy"), "hello");
    podman.podman(["rm", "-f", "-t", "0", "web"]).expect_code(0);
    podman.assert_clean();
}
