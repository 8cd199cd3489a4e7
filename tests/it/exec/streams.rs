//! The streams of commands in running containers.

use std::process::Stdio;
use std::time::Duration;

use super::super::harness::{Background, sbx};

#[test]
fn output_and_errors_arrive_apart() {
    let world = sbx();
    let web = Background::start(&world, &[], "sleep 1000");
    let said = web.sh(&[], "echo out; echo err >&2").expect_code(0);
    said.stdout_is("out\n").stderr_is("err\n");
}

#[test]
fn input_is_binary_clean_and_has_an_end() {
    let world = sbx();
    let web = Background::start(&world, &[], "sleep 1000");
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let back = web.exec(&["-i"], &["cat"]).stdin(&bytes).expect_code(0);
    assert!(back.stdout_bytes() == bytes, "{} bytes came back", back.stdout_bytes().len());
    // As programs that build in containers bring their files in.
    let file = world.file("tree/deep/file", &bytes);
    let archive = world.work().join("tree.tar");
    let tree = file.parent().and_then(|deep| deep.parent()).expect("a directory");
    world.program("tar").arg("-cf").arg(&archive).arg("-C").arg(tree).arg(".").expect_code(0);
    let archive = std::fs::File::open(&archive).expect("an archive");
    web.sh(&[], "mkdir /tmp/in").expect_code(0);
    web.exec(&["-i"], &["tar", "-xC", "/tmp/in", "-f", "-"]).stdin_from(archive).expect_code(0);
    let out = web.exec(&[], &["cat", "/tmp/in/deep/file"]).expect_code(0);
    assert!(out.stdout_bytes() == bytes);
}

#[test]
fn without_interactive_there_is_no_input() {
    let world = sbx();
    let web = Background::start(&world, &[], "sleep 1000");
    web.exec(&[], &["cat"]).stdin("unread").expect_code(0).stdout_is("");
}

#[test]
fn a_shell_is_fed_line_by_line_for_as_long_as_it_lives() {
    use std::io::Write;
    let world = sbx();
    let web = Background::start(&world, &[], "sleep 1000");
    let mut shell =
        web.exec(&["-i", "-u", "user", "-e", "A=b"], &["/bin/sh"]).stdin_from(Stdio::piped()).spawn();
    for n in 0..20 {
        writeln!(shell.stdin(), "echo answer {n} $A $(id -un)").expect("the shell reads");
        shell.wait_for_stdout(&format!("answer {n} b user\n"));
    }
    shell.close_stdin();
    shell.finish().code_is(0);
}

#[test]
fn what_goes_on_in_the_background_is_not_waited_for() {
    let world = sbx();
    let web = Background::start(&world, &[], "sleep 1000");
    let script = "sleep 1000 & while :; do echo noise; done & echo said; exit 4";
    let done = web.sh(&[], script).timeout(Duration::from_secs(10)).expect_code(4);
    assert!(done.stdout().contains("said\n"));
}

#[test]
fn all_that_was_written_arrives_though_others_hold_the_pipe() {
    let world = sbx();
    let web = Background::start(&world, &[], "sleep 1000");
    for _ in 0..5 {
        let done = web.sh(&[], "sleep 1000 & seq 1 100000; echo end").expect_code(0);
        let lines = done.stdout();
        assert!(lines.ends_with("100000\nend\n"), "{} bytes", lines.len());
        assert_eq!(lines.lines().count(), 100_001);
    }
}

#[test]
fn a_reader_that_closes_early_ends_the_command() {
    let world = sbx();
    let web = Background::start(&world, &[], "sleep 1000");
    let script = format!("'{}' exec {} yes | head -1", super::super::harness::sbx_binary().display(), web.id);
    let done = world.program("sh").args(["-c", &script]).timeout(Duration::from_secs(20)).expect_code(0);
    done.stdout_is("y\n");
    let left = || web.exec(&[], &["ps", "-o", "args"]).succeed().lines().any(|line| line == "yes");
    assert!(super::comes_true(|| !left()));
}

#[test]
fn the_commands_user_may_open_its_streams_again() {
    let world = sbx();
    let web = Background::start(&world, &["-u", "www-data"], "sleep 1000");
    for flags in [&[][..], &["-u", "user"], &["-u", "root"]] {
        let said = web.sh(flags, "echo out > /dev/stdout; echo err > /dev/stderr").expect_code(0);
        said.stdout_is("out\n").stderr_is("err\n");
    }
    web.sh(&["-i"], "cat < /dev/stdin").stdin("in").expect_code(0).stdout_is("in");
}
