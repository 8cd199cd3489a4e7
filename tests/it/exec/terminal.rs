//! `sbx exec -t`.

use std::time::Duration;

use super::super::harness::{Background, Pty, sbx};
use super::comes_true;

fn shell<'w>(web: &Background<'w>, flags: &[&str]) -> Pty<'w> {
    let flags: Vec<&str> = ["-i", "-t"].iter().chain(flags).copied().collect();
    let mut pty = web.pty(&flags, &["sh"]);
    pty.send_line("echo rea''dy");
    pty.expect("ready\r\n");
    pty
}

#[test]
fn a_command_has_a_terminal_of_its_own() {
    let world = sbx();
    let web = Background::start(&world, &[], "sleep 1000");
    let mut pty = shell(&web, &[]);
    pty.send_line("tty; echo \"term is $TERM\"; stty size; id -u");
    pty.expect("/dev/pts/0\r\n");
    pty.expect("term is xterm\r\n");
    pty.expect("24 80\r\n");
    pty.resize(50, 132);
    std::thread::sleep(Duration::from_millis(200));
    pty.send_line("stty size");
    pty.expect("50 132\r\n");
    let mut other = shell(&web, &["-u", "user"]);
    other.send_line("tty; stat -c %U $(tty); echo again > $(tty)");
    other.expect("/dev/pts/1\r\n");
    other.expect("user\r\n");
    other.expect("again\r\n");
    other.send_line("exit 4");
    assert_eq!(other.finish(), 4);
    pty.send_line("exit 5");
    assert_eq!(pty.finish(), 5);
    assert!(!pty.is_raw());
}

#[test]
fn keys_make_signals() {
    let world = sbx();
    let web = Background::start(&world, &[], "sleep 1000");
    let mut pty = shell(&web, &[]);
    pty.send_line("sh -c 'echo beg''un; exec sleep 1000'");
    pty.expect("begun");
    pty.send("\x03");
    pty.send_line("echo code $?");
    pty.expect("code 130");
    pty.send_line("exit 9");
    assert_eq!(pty.finish(), 9);
}

#[test]
fn a_terminal_without_keys_shows_the_output() {
    let world = sbx();
    let web = Background::start(&world, &[], "sleep 1000");
    let mut pty = web.pty(&["-t"], &["sh", "-c", "test -t 0 && echo out; echo err >&2; exit 3"]);
    pty.expect("out");
    pty.expect("err");
    assert_eq!(pty.finish(), 3);
    let long = web.exec(&["-t"], &["seq", "1", "20000"]).expect_code(0);
    let wanted: String = (1..=20_000).map(|n| format!("{n}\r\n")).collect();
    assert!(long.stdout() == wanted, "{} bytes instead of {}", long.stdout().len(), wanted.len());
}

#[test]
fn a_command_that_cannot_be_executed_leaves_the_terminal_alone() {
    let world = sbx();
    let web = Background::start(&world, &[], "sleep 1000");
    let mut pty = web.pty(&["-it"], &["no-such-command"]);
    assert_eq!(pty.finish(), 127);
    assert!(pty.screen().contains("Error: "), "{}", pty.screen());
    assert!(!pty.is_raw());
}

#[test]
fn a_terminal_whose_client_is_killed_hangs_up() {
    let world = sbx();
    let web = Background::start(&world, &[], "sleep 1000");
    let pty = shell(&web, &[]);
    nix::sys::signal::kill(pty.pid(), nix::sys::signal::Signal::SIGKILL).expect("the client runs");
    assert!(comes_true(|| !web.exec(&[], &["ps", "-o", "args"]).succeed().lines().any(|line| line == "sh")));
}

#[test]
fn a_job_in_the_background_does_not_hold_the_terminal() {
    let world = sbx();
    let web = Background::start(&world, &[], "sleep 1000");
    let mut pty = shell(&web, &[]);
    pty.send_line("trap '' HUP; sleep 1000 & exit 6");
    assert_eq!(pty.finish(), 6);
}
