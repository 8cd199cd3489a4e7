//! `-t`: a terminal of the container's own, and the caller's terminal as it was before, whatever happens.

use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Pty, Sbx, rootfs, sbx};

/// `sbx run OPTIONS… COMMAND…` on a terminal, on the test's root.
fn run<'w>(world: &'w Sbx, options: &[&str], command: &[&str]) -> Pty<'w> {
    let root = rootfs().to_str().expect("a path in UTF-8");
    let start = ["run", "--rm", "--net", "none", "--rootfs", root];
    world.pty(start.iter().chain(options).chain(command))
}

const INTERACTIVE: [&str; 2] = ["-i", "-t"];

/// A shell in a container, at its prompt.
fn shell<'w>(world: &'w Sbx, options: &[&str]) -> Pty<'w> {
    let options: Vec<&str> = INTERACTIVE.iter().chain(options).copied().collect();
    let mut pty = run(world, &options, &["sh"]);
    pty.send_line("echo rea''dy");
    pty.expect("ready\r\n");
    pty.expect("# ");
    pty
}

/// Whether `holds` comes true within some seconds.
fn comes_true(mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// The PIDs of this world's processes with that name (proc_pid_comm(5)).
fn named(world: &Sbx, name: &str) -> Vec<Pid> {
    let has_name = |pid: &Pid| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    world.leftovers().processes.iter().map(|process| process.pid).filter(has_name).collect()
}

/// The state letter of a process (proc_pid_stat(5)).
fn state(pid: Pid) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('?')
}

#[test]
fn the_container_has_a_terminal_of_its_own() {
    let world = sbx();
    let mut pty = shell(&world, &[]);
    pty.send_line("tty; tty -s && echo \"term is $TERM\"; readlink /proc/self/fd/0");
    pty.expect("/dev/pts/0\r\n");
    pty.expect("term is xterm\r\n");
    pty.expect("/dev/pts/0\r\n");
    pty.send_line("exit 5");
    assert_eq!(pty.finish(), 5);
}

#[test]
fn the_console_is_the_terminal() {
    let world = sbx();
    let mut pty = shell(&world, &[]);
    pty.send_line("test -c /dev/console && echo to the con''sole > /dev/console");
    pty.expect("to the console");
    pty.send_line("stat -c %t:%T /dev/console /dev/pts/0 | uniq | wc -l");
    pty.expect("1\r\n");
    pty.send_line("exit");
    assert_eq!(pty.finish(), 0);
}

#[test]
fn standard_output_and_error_are_the_terminal() {
    let world = sbx();
    let mut pty = run(&world, &["-t"], &["sh", "-c", "echo out; echo err >&2; test -t 0 -a -t 1 -a -t 2"]);
    pty.expect("out");
    pty.expect("err");
    assert_eq!(pty.finish(), 0);
}

#[test]
fn the_size_is_the_callers_from_the_start_and_follows_it() {
    let world = sbx();
    let script = "trap 'echo changed to $(stty size)' WINCH; trap 'exit 0' INT; stty size; echo set; \
                  while :; do sleep 0.02; done";
    let mut pty = run(&world, &INTERACTIVE, &["sh", "-c", script]);
    pty.expect("24 80");
    pty.expect("set");
    for (rows, columns) in [(33, 99), (50, 132), (10, 20)] {
        pty.resize(rows, columns);
        pty.expect(&format!("changed to {rows} {columns}"));
    }
    assert!(comes_true(|| pty.is_raw()));
    pty.send("\x03");
    assert_eq!(pty.finish(), 0);
}

#[test]
fn a_terminal_without_a_size_is_passed_on_as_it_is() {
    let world = sbx();
    let script = format!(
        "read go; exec '{}' run --rm --net none -it host stty size",
        crate::harness::sbx_binary().display()
    );
    let mut pty = Pty::of(&world, &["sh", "-c", &script]);
    pty.resize(0, 0);
    pty.send_line("go");
    pty.expect("0 0\r\n");
    assert_eq!(pty.finish(), 0);
}

#[test]
fn keys_travel_raw_and_the_callers_modes_come_back() {
    let world = sbx();
    let mut pty = shell(&world, &[]);
    assert!(pty.is_raw());
    pty.send_line("exit 3");
    assert_eq!(pty.finish(), 3);
    assert!(!pty.is_raw());
}

#[test]
fn without_interactive_the_callers_terminal_stays_as_it_is() {
    let world = sbx();
    let script = "trap 'exit 44' INT; echo begun; while :; do sleep 0.02; done";
    let mut pty = run(&world, &["-t"], &["sh", "-c", script]);
    pty.expect("begun");
    assert!(!pty.is_raw());
    // Control-C is a signal to the client here, and `--sig-proxy` brings it in.
    pty.send("\x03");
    assert_eq!(pty.finish(), 44);
}

#[test]
fn control_c_reaches_the_foreground_job_alone() {
    let world = sbx();
    let mut pty = shell(&world, &[]);
    pty.send_line("sh -c 'echo beg''un; exec sleep 1000'");
    pty.expect("begun");
    pty.send("\x03");
    pty.send_line("echo code $?");
    pty.expect("code 130");
    pty.send_line("exit");
    assert_eq!(pty.finish(), 0);
}

#[test]
fn control_z_stops_a_job_inside_and_fg_continues_it() {
    let world = sbx();
    let mut pty = shell(&world, &[]);
    pty.send_line("sh -c 'echo beg''un; read line; echo got $line'");
    pty.expect("begun");
    pty.send("\x1a");
    pty.expect("Stopped");
    pty.send_line("jobs | wc -l");
    pty.expect("1\r\n");
    pty.send_line("fg");
    pty.send_line("hello");
    pty.expect("got hello");
    pty.send_line("exit");
    assert_eq!(pty.finish(), 0);
}

#[test]
fn control_d_ends_the_shell() {
    let world = sbx();
    let mut pty = shell(&world, &[]);
    pty.send("\x04");
    assert_eq!(pty.finish(), 0);
}

#[test]
fn an_error_before_the_start_leaves_the_terminal_alone() {
    let world = sbx();
    for (command, code) in [("no-such-command", 127), ("/etc", 126)] {
        let mut pty = run(&world, &INTERACTIVE, &[command]);
        assert_eq!(pty.finish(), code);
        assert!(pty.screen().contains("Error: "), "{}", pty.screen());
        assert!(!pty.is_raw());
    }
}

#[test]
fn a_signal_without_proxy_ends_the_client_and_restores_the_terminal() {
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGUSR1] {
        let world = sbx();
        let mut pty = shell(&world, &["--sig-proxy=false", "--stop-timeout", "0"]);
        assert!(pty.is_raw());
        kill(pty.pid(), signal).expect("the client runs");
        assert_eq!(pty.finish(), 128 + signal as i32, "{signal}");
        assert!(!pty.is_raw(), "{signal}");
        world.sbx(["rm", "--force", "--all"]).succeed();
    }
}

#[test]
fn a_signal_with_proxy_is_the_commands() {
    for (signal, code) in [(Signal::SIGTERM, 15), (Signal::SIGHUP, 1), (Signal::SIGINT, 2)] {
        let world = sbx();
        let mut pty = run(
            &world,
            &INTERACTIVE,
            &["sh", "-c", &format!("trap 'exit {code}' {code}; echo ready; while :; do sleep 0.02; done")],
        );
        pty.expect("ready");
        assert!(comes_true(|| pty.is_raw()));
        kill(pty.pid(), signal).expect("the client runs");
        assert_eq!(pty.finish(), code, "{signal}");
        assert!(!pty.is_raw(), "{signal}");
    }
}

#[test]
fn a_killed_monitor_restores_the_terminal() {
    let mut world = sbx();
    world.allow_leftovers();
    let mut pty = shell(&world, &[]);
    assert!(pty.is_raw());
    let monitors = named(&world, "sbx-monitor");
    assert_eq!(monitors.len(), 1);
    kill(monitors[0], Signal::SIGKILL).expect("the monitor runs");
    assert_eq!(pty.finish(), 125);
    assert!(pty.screen().contains("monitor of the container was killed"), "{}", pty.screen());
    assert!(!pty.is_raw());
}

#[test]
fn a_stopped_client_gives_the_terminal_back_and_takes_it_again() {
    let world = sbx();
    // A shell with jobs of its own, as the client has around it in life.
    let script = format!(
        "set -m; '{}' run --rm --net none -it --rootfs '{}' sh; echo back in the outer shell; fg; echo over",
        crate::harness::sbx_binary().display(),
        rootfs().display()
    );
    let mut pty = Pty::of(&world, &["bash", "-c", &script]);
    pty.send_line("echo in''side");
    pty.expect("inside\r\n");
    assert!(pty.is_raw());
    let clients = named(&world, "sbx");
    assert_eq!(clients.len(), 1, "{:?}", world.leftovers().to_string());
    kill(clients[0], Signal::SIGTSTP).expect("the client runs");
    pty.expect("back in the outer shell");
    assert!(comes_true(|| pty.is_raw()), "the terminal is not raw again:\n{}", pty.screen());
    pty.send_line("echo aga''in");
    pty.expect("again\r\n");
    pty.send_line("exit");
    pty.expect("over");
    assert_eq!(pty.finish(), 0);
    assert!(!pty.is_raw());
}

#[test]
fn a_stopped_client_leaves_the_terminal_in_its_callers_modes() {
    let world = sbx();
    let mut pty = shell(&world, &[]);
    let client = pty.pid();
    kill(client, Signal::SIGSTOP).expect("the client runs");
    assert!(comes_true(|| state(client) == 'T'));
    assert!(pty.is_raw(), "SIGSTOP cannot be caught");
    kill(client, Signal::SIGCONT).expect("the client is there");
    pty.resize(40, 100);
    pty.send_line("echo on''ward $(stty size)");
    pty.expect("onward 40 100");
    pty.send_line("exit");
    assert_eq!(pty.finish(), 0);
}

#[test]
fn a_terminal_that_hangs_up_ends_the_container() {
    let world = sbx();
    let mut pty =
        run(&world, &["-i", "-t", "--stop-timeout", "1"], &["sh", "-c", "trap '' HUP; echo on; sleep 1000"]);
    pty.expect("on");
    pty.hang_up();
    assert!(comes_true(|| world.leftovers().processes.is_empty()), "{}", world.leftovers());
    world.assert_clean();
}

#[test]
fn a_terminal_without_one_outside_goes_on_with_a_warning() {
    let world = sbx();
    let root = rootfs();
    world
        .run(["--rm", "--net", "none", "-i", "-t", "--rootfs"])
        .arg(root)
        .args(["sh", "-c", "tty; read line; echo got $line; cat"])
        .stdin("hello\nunfinished")
        .timeout(Duration::from_secs(20))
        .expect_code(0)
        .stderr_has("the input device is not a TTY")
        .stdout_has("/dev/pts/0\r\n")
        .stdout_has("got hello\r\n")
        .stdout_has("unfinished");
    // Without keys to pass on there is nothing to warn of.
    world
        .run(["--rm", "--net", "none", "-t", "--rootfs"])
        .arg(root)
        .args(["echo", "hi"])
        .expect_code(0)
        .stderr_is("")
        .stdout_is("hi\r\n");
}

#[test]
fn input_on_a_terminal_without_t_works_as_in_a_pipe() {
    let world = sbx();
    let mut pty =
        run(&world, &["-i"], &["sh", "-c", "test -t 0 || echo no terminal; read line; echo got $line"]);
    pty.expect("no terminal");
    assert!(!pty.is_raw());
    pty.send_line("hello");
    pty.expect("got hello");
    assert_eq!(pty.finish(), 0);
}

#[test]
fn a_reader_that_closes_early_ends_a_container_with_a_terminal() {
    let world = sbx();
    let script = format!(
        "'{}' run --rm --net none -t --stop-timeout 1 --rootfs '{}' yes | head -1",
        crate::harness::sbx_binary().display(),
        rootfs().display()
    );
    world
        .program("sh")
        .args(["-c", &script])
        .stdin_from(Stdio::null())
        .timeout(Duration::from_secs(20))
        .expect_code(0)
        .stdout_is("y\r\n");
    world.assert_clean();
}

#[test]
fn much_output_on_a_terminal_arrives_whole() {
    let world = sbx();
    let root = rootfs();
    let finished = world
        .run(["--rm", "--net", "none", "-t", "--rootfs"])
        .arg(root)
        .args(["seq", "1", "200000"])
        .expect_code(0);
    let wanted: String = (1..=200_000).map(|n| format!("{n}\r\n")).collect();
    assert!(finished.stdout() == wanted, "{} bytes instead of {}", finished.stdout().len(), wanted.len());
}
