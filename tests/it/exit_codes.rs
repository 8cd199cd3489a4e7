//! The exit code of `sbx run`: the command's own, or who failed.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{Run, Sbx, rootfs, sbx};

/// `sbx run --rm --net none --rootfs ROOTFS WORDS…`
fn run<'w>(world: &'w Sbx, words: &[&str]) -> Run<'w> {
    world.run(["--rm", "--net", "none", "--rootfs"]).arg(rootfs()).args(words)
}

#[test]
fn it_is_the_commands_own() {
    let world = sbx();
    for code in [0, 1, 2, 42, 124, 125, 126, 127, 128, 200, 254, 255] {
        run(&world, &["sh", "-c", &format!("exit {code}")]).expect_code(code).stdout_is("").stderr_is("");
    }
}

#[test]
fn a_signal_that_ends_the_command_is_added_to_128() {
    let world = sbx();
    // PID 1 is spared the signals that it sends itself (pid_namespaces(7)); its child isn't, and below
    // `--init` the command is one. SIGQUIT is not among them, since shells ignore it.
    for signal in [1, 2, 4, 6, 8, 9, 10, 11, 13, 14, 15, 31, 34, 64] {
        let script = format!("ulimit -c 0; kill -{signal} $$; sleep 5");
        run(&world, &["--init", "sh", "-c", &script]).expect_code(128 + signal);
    }
}

#[test]
fn a_first_process_that_is_killed_from_outside_gives_137() {
    let world = sbx();
    let mut running = run(&world, &["sh", "-c", "echo up; exec sleep 1000"]).spawn();
    running.wait_for_stdout("up");
    let sleeps = world.leftovers();
    let sleep =
        sleeps.processes.iter().find(|process| process.command.starts_with("sleep")).expect("it runs");
    nix::sys::signal::kill(sleep.pid, Signal::SIGKILL).expect("it is the caller's");
    running.finish().code_is(137);
}

#[test]
fn a_fault_of_the_first_process_ends_it_as_everywhere() {
    let world = sbx();
    // A fault can't be ignored, not even by PID 1.
    let script =
        "import ctypes, resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); ctypes.string_at(0)";
    crate::harness::require("python3");
    world.run(["--rm", "--net", "none", "host", "python3", "-c", script]).expect_code(139);
}

#[test]
fn a_command_that_is_not_there_gives_127() {
    let world = sbx();
    for command in ["no-such-command", "/no/such/command", "./no-such-command", "/etc/passwd/x", ""] {
        run(&world, &[command]).expect_code(127).stdout_is("").stderr_has("Error: cannot execute");
    }
    world.assert_clean();
}

#[test]
fn a_command_that_cannot_be_invoked_gives_126() {
    let world = sbx();
    for (command, why) in
        [("/", "is a directory"), ("/etc", "is a directory"), ("/etc/passwd", "Permission denied")]
    {
        run(&world, &[command]).expect_code(126).stdout_is("").stderr_has(why);
    }
    world.assert_clean();
}

#[test]
fn a_script_without_its_interpreter_gives_127() {
    let world = sbx();
    let script = world.script("script", "#!/no/such/interpreter\n");
    let volume = format!("{}:/script", script.display());
    run(&world, &["-v", &volume, "/script"]).expect_code(127).stdout_is("").stderr_has("interpreter");
}

#[test]
fn a_file_in_no_format_that_can_be_executed_gives_126() {
    let world = sbx();
    let script = world.script("noise", "\x01\x02\x03\x04 no program");
    let volume = format!("{}:/noise", script.display());
    run(&world, &["-v", &volume, "/noise"]).expect_code(126).stdout_is("").stderr_has("Exec format error");
}

#[test]
fn the_path_of_the_container_is_searched_past_what_cannot_be_invoked() {
    let world = sbx();
    let plain = world.file("first/tool", "#!/bin/sh\nexit 1\n");
    std::fs::set_permissions(&plain, std::fs::Permissions::from_mode(0o644)).expect("a mode");
    world.script("second/tool", "#!/bin/sh\nexit 7\n");
    let volume = format!("{}:/tools", world.work().display());
    run(&world, &["-v", &volume, "-e", "PATH=/tools/first:/tools/second:/bin", "tool"]).expect_code(7);
    run(&world, &["-v", &volume, "-e", "PATH=/tools/first:/bin", "tool"]).expect_code(126);
    run(&world, &["-v", &volume, "-e", "PATH=/nowhere", "sh"]).expect_code(127);
}

#[test]
fn what_sbx_cannot_do_gives_125_and_nothing_on_standard_output() {
    let world = sbx();
    let root = rootfs().to_str().expect("a path in UTF-8");
    for words in [
        &["--no-such-option", "host", "true"][..],
        &["--rootfs"],
        &["--rootfs", "/no/such/directory", "true"],
        &["--rootfs", "/etc/passwd", "true"],
        &["--rootfs", root],
        &["--pull=never", "no-such-image", "true"],
        &[],
        &["--rm", "--rootfs", root, "-w", "relative", "true"],
        &["--rm", "--rootfs", root, "-v", "/no/such/source:/x", "true"],
        &["--rm", "--rootfs", root, "--name", "a b", "true"],
        &["--rm", "--rootfs", root, "--env-file", "/no/such/file", "true"],
        &["--rm", "--rootfs", root, "--stop-signal", "NOSUCH", "true"],
        &["--rm", "--rootfs", root, "--user", "no-such-user", "true"],
        &["--rm", "--rootfs", root, "--entrypoint", "[\"sh\"", "true"],
        &["--rm", "--rootfs", root, "--umask", "999", "true"],
        &["--rm", "--rootfs", root, "--timeout", "soon", "true"],
    ] {
        let finished = world.run(words).expect_code(125).stdout_is("").stderr_has("Error: ");
        let text = finished.stderr();
        assert!(!text.contains("RUST_BACKTRACE") && !text.contains("panicked"), "{words:?}: {text}");
        assert!(
            !text.contains("os error") && !text.contains(" { ") && !text.contains("Some("),
            "{words:?}: {text}"
        );
        assert!(text.lines().all(|line| line.ends_with(['.', '!', '?', ':'])), "{words:?}: {text}");
    }
    world.assert_clean();
}

#[test]
fn a_container_that_runs_out_of_time_is_killed() {
    let world = sbx();
    let finished = run(&world, &["--timeout", "1", "sh", "-c", "trap '' TERM; sleep 1000"]).expect_code(137);
    assert!((Duration::from_millis(900)..Duration::from_secs(20)).contains(&finished.elapsed));
    run(&world, &["--timeout", "60", "sh", "-c", "exit 4"]).expect_code(4);
    run(&world, &["--timeout", "0", "true"]).expect_code(0);
    run(&world, &["--timeout", "1m", "true"]).expect_code(0);
    let longest = u64::MAX.to_string();
    run(&world, &["--timeout", &longest, "--stop-timeout", &longest, "true"]).expect_code(0);
}

#[test]
fn signals_of_the_client_are_the_commands() {
    let world = sbx();
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGALRM,
        Signal::SIGCONT,
    ] {
        let number = signal as i32;
        let script = format!("trap 'exit {number}' {number}; echo ready; while :; do sleep 0.02; done");
        let mut running = run(&world, &["sh", "-c", &script]).spawn();
        running.wait_for_stdout("ready");
        running.signal(signal);
        running.finish().code_is(number);
    }
}

#[test]
fn a_first_process_without_a_handler_ignores_signals_and_with_init_it_does_not() {
    let world = sbx();
    let mut running = run(&world, &["sh", "-c", "echo ready; exec sleep 1000"]).spawn();
    running.wait_for_stdout("ready");
    running.signal(Signal::SIGTERM);
    std::thread::sleep(Duration::from_millis(300));
    assert!(running.is_running());
    let left = world.leftovers();
    let sleep = left.processes.iter().find(|process| process.command.starts_with("sleep")).expect("it runs");
    nix::sys::signal::kill(sleep.pid, Signal::SIGKILL).expect("it is the caller's");
    running.finish().code_is(137);

    let mut running = run(&world, &["--init", "sh", "-c", "echo ready; exec sleep 1000"]).spawn();
    running.wait_for_stdout("ready");
    running.signal(Signal::SIGTERM);
    running.finish().code_is(143);
}

#[test]
fn without_signal_proxy_the_client_ends_and_the_container_goes_on() {
    let world = sbx();
    let script = "trap 'exit 3' USR1; echo ready; while :; do sleep 0.02; done";
    let options = ["--sig-proxy=false", "--stop-signal", "USR1", "--name=on", "sh", "-c", script];
    let mut running = run(&world, &options).spawn();
    running.wait_for_stdout("ready");
    running.signal(Signal::SIGTERM);
    running.finish().code_is(143);
    assert_eq!(world.sbx(["ps", "--format", "{{.Names}}"]).succeed(), "on");
    world.sbx(["stop", "on"]).succeed();
    world.assert_clean();
}

#[test]
fn a_signal_that_the_caller_ignores_stays_ignored() {
    let world = sbx();
    let script = format!(
        "trap '' HUP; exec '{}' run --rm --net none --rootfs '{}' sh -c \
         \"trap 'exit 1' HUP; echo ready; sleep 1; exit 5\"",
        crate::harness::sbx_binary().display(),
        rootfs().display()
    );
    let mut running = world.program("sh").args(["-c", &script]).spawn();
    running.wait_for_stdout("ready");
    running.signal(Signal::SIGHUP);
    running.finish().code_is(5);
}
