//! PID 1: who reaps, who gets the signals, and how a container is ended.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::super::harness::sbx;
use super::run;

/// An orphan ends while PID 1 is busy with something else: is its entry taken away?
const ORPHAN: &str = r#"
mkfifo /tmp/end
(
    exec 3>/tmp/end
    orphan=$(sh -c 'sleep 0.05 >/dev/null & echo $!')
    rounds=0
    while [ -d /proc/$orphan ] && [ $rounds -lt 20 ]; do
        grep -qs '^State:.Z' /proc/$orphan/status && rounds=$((rounds + 1))
        sleep 0.01
    done
    [ -d /proc/$orphan ] && echo zombie || echo reaped
) &
exec cat /tmp/end
"#;

#[test]
fn init_reaps_orphans() {
    assert_eq!(run(&sbx(), &["--init"], ORPHAN).succeed(), "reaped");
}

#[test]
fn without_init_orphans_stay_with_a_command_that_does_not_wait() {
    assert_eq!(run(&sbx(), &[], ORPHAN).succeed(), "zombie");
}

#[test]
fn init_is_process_one_and_the_command_its_child() {
    let world = sbx();
    let script = "cat /proc/1/comm; test $$ != 1; grep PPid /proc/$$/status";
    assert_eq!(run(&world, &["--init"], script).succeed(), "sbx-init\nPPid:\t1");
    run(&world, &["--init"], "exit 7").expect_code(7);
    run(&world, &["--init"], "kill -KILL $$").expect_code(137);
}

#[test]
fn signals_to_the_client_reach_the_command() {
    let world = sbx();
    for flags in [&[][..], &["--init"]] {
        for (signal, name) in [
            (Signal::SIGTERM, "TERM"),
            (Signal::SIGINT, "INT"),
            (Signal::SIGHUP, "HUP"),
            (Signal::SIGUSR1, "USR1"),
            (Signal::SIGQUIT, "QUIT"),
        ] {
            let script = format!("trap 'exit 9' {name}; echo ready; while :; do sleep 0.02; done");
            let mut running = run(&world, flags, &script).spawn();
            running.wait_for_stdout("ready\n");
            running.signal(signal);
            running.finish().code_is(9);
        }
    }
}

#[test]
fn a_signal_ends_a_command_without_a_handler_below_init() {
    let world = sbx();
    let mut running = run(&world, &["--init"], "echo ready; exec sleep 100").spawn();
    running.wait_for_stdout("ready\n");
    running.signal(Signal::SIGTERM);
    running.finish().code_is(143);
}

#[test]
fn process_one_without_a_handler_is_deaf() {
    let world = sbx();
    let mut running = run(&world, &[], "echo ready; exec sleep 0.4").spawn();
    running.wait_for_stdout("ready\n");
    running.signal(Signal::SIGTERM);
    running.finish().code_is(0);
}

#[test]
fn a_client_that_forwards_nothing_ends_and_the_container_goes_on() {
    let world = sbx();
    let bind = format!("{}:/w", world.work().display());
    let script = "trap 'touch /w/stopped; exit' TERM; echo ready; while :; do sleep 0.02; done";
    let mut running = run(&world, &["--sig-proxy=false", "--name=on", "-v", &bind], script).spawn();
    running.wait_for_stdout("ready\n");
    running.signal(Signal::SIGTERM);
    running.finish().code_is(143);
    assert!(!world.work().join("stopped").exists());
    world.sbx(["stop", "on"]).succeed();
    world.assert_clean();
    assert!(world.work().join("stopped").exists());
}

#[test]
fn the_stop_signal_is_what_an_abandoned_container_gets() {
    let world = sbx();
    let bind = format!("{}:/w", world.work().display());
    let script = "trap 'touch /w/usr1; exit' USR1; trap 'touch /w/term; exit' TERM; echo ready
                  while :; do sleep 0.02; done";
    let mut running = run(&world, &["--stop-signal", "SIGUSR1", "-v", &bind], script).spawn();
    running.wait_for_stdout("ready\n");
    running.signal(Signal::SIGKILL);
    running.finish().code_is(137);
    world.assert_clean();
    assert!(world.work().join("usr1").exists() && !world.work().join("term").exists());
}

#[test]
fn a_container_that_does_not_stop_is_killed_after_its_time() {
    let world = sbx();
    let begun = Instant::now();
    let mut running = run(&world, &["--stop-timeout", "1"], "trap '' TERM; echo ready; sleep 100").spawn();
    running.wait_for_stdout("ready\n");
    running.signal(Signal::SIGKILL);
    let _ = running.finish();
    world.assert_clean();
    assert!(begun.elapsed() > Duration::from_secs(1));
}

#[test]
fn the_timeout_kills() {
    let world = sbx();
    for flags in [&["--timeout", "1"][..], &["--timeout", "1", "--init"]] {
        let finished = run(&world, flags, "trap '' TERM; sleep 100").expect_code(137);
        assert!(finished.elapsed >= Duration::from_secs(1) && finished.elapsed < Duration::from_secs(20));
    }
    run(&world, &["--timeout", "30"], "exit 3").expect_code(3);
}

#[test]
fn words_that_are_no_signal_are_refused() {
    let world = sbx();
    run(&world, &["--stop-signal", "SIGNONE"], "true").expect_code(125).stderr_has("--stop-signal");
    run(&world, &["--timeout", "soon"], "true").expect_code(125).stderr_has("--timeout");
}
