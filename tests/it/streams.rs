//! Standard input, output and error of a container: whole, in order, apart, and no faster than they are read.

use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{Run, Sbx, rootfs, sbx};

const DRIVERS: [&str; 3] = ["k8s-file", "none", "passthrough"];

/// `sbx run --rm --net none --rootfs ROOTFS OPTIONS… COMMAND…`
fn run<'w>(world: &'w Sbx, options: &[&str], command: &[&str]) -> Run<'w> {
    world
        .run(["--rm", "--net", "none", "--rootfs"])
        .arg(rootfs())
        .args(options)
        .args(command)
        .env("SBX_TEST", "1")
}

/// Bytes that neither repeat nor compress, the same ones each time.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A pipeline of the caller's shell in this world; `$SBX` runs a container on the test's root.
fn pipeline<'w>(world: &'w Sbx, options: &str, script: &str) -> Run<'w> {
    let prelude = format!(
        "box() {{ '{}' run --rm --net none --rootfs '{}' {options} \"$@\"; }}\n",
        crate::harness::sbx_binary().display(),
        rootfs().display()
    );
    world.program("bash").args(["-c", &format!("set -o pipefail; {prelude}{script}")])
}

#[test]
fn binary_data_passes_through_unchanged_with_every_log_driver() {
    let world = sbx();
    let bytes = noise(5 << 20);
    for driver in DRIVERS {
        let finished = run(&world, &["-i", "--log-driver", driver], &["cat"]).stdin(&bytes).expect_code(0);
        assert!(finished.stdout_bytes() == bytes, "{driver}: {} bytes came", finished.stdout_bytes().len());
    }
}

#[test]
fn a_gibibyte_through_a_pipe_arrives_whole() {
    let world = sbx();
    let script = "head -c 1G /dev/zero | box -i cat | cksum >got; cat got";
    let zeros = "3413741448 1073741824\n";
    pipeline(&world, "--log-driver none", script)
        .timeout(Duration::from_secs(120))
        .expect_code(0)
        .stdout_is(zeros);
}

#[test]
fn a_pipe_at_full_speed_loses_nothing_in_the_default_log_driver() {
    let world = sbx();
    let script = "seq 1 3000000 | box -i cat | cksum >got; seq 1 3000000 | cksum >sent; cmp sent got";
    pipeline(&world, "", script).timeout(Duration::from_secs(120)).expect_code(0).stderr_is("");
}

#[test]
fn standard_output_and_error_stay_apart() {
    let world = sbx();
    for driver in DRIVERS {
        run(&world, &["--log-driver", driver], &["sh", "-c", "echo out; echo err >&2; echo more"])
            .expect_code(0)
            .stdout_is("out\nmore\n")
            .stderr_is("err\n");
    }
}

#[test]
fn the_end_of_standard_input_reaches_the_command_while_it_still_talks() {
    let world = sbx();
    run(&world, &["-i"], &["sh", "-c", "cat >/dev/null; echo after the end"])
        .stdin("something")
        .expect_code(0)
        .stdout_is("after the end\n");
}

#[test]
fn without_interactive_standard_input_is_empty() {
    let world = sbx();
    for driver in DRIVERS {
        run(&world, &["--log-driver", driver], &["sh", "-c", "cat; readlink /proc/self/fd/0"])
            .stdin("not for the container")
            .expect_code(0)
            .stdout_is("/dev/null\n");
    }
}

#[test]
fn a_command_that_does_not_read_does_not_hang_on_its_callers_input() {
    let world = sbx();
    for driver in DRIVERS {
        let mut running =
            run(&world, &["-i", "--log-driver", driver], &["true"]).stdin_from(Stdio::piped()).spawn();
        // Nobody closes the pipe: the container's end alone has to bring the client's.
        let _ = running.stdin();
        running.finish().code_is(0);
    }
}

#[test]
fn a_reader_that_closes_early_shows_in_the_container_as_a_closed_pipe() {
    let world = sbx();
    for driver in DRIVERS {
        let script =
            "box sh -c 'while echo line; do :; done 2>/dev/null; exit 33' | head -1; exit ${PIPESTATUS[0]}";
        pipeline(&world, &format!("--log-driver {driver}"), script)
            .timeout(Duration::from_secs(20))
            .expect_code(33)
            .stdout_is("line\n");
    }
}

#[test]
fn a_slow_reader_holds_the_container_back() {
    let world = sbx();
    for driver in DRIVERS {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let script =
            "i=0; while [ $i -lt 64 ]; do head -c 65536 /dev/zero; i=$((i + 1)); echo $i >/count; done";
        let work = format!("{}:/shown", world.work().display());
        let script = script.replace("/count", "/shown/count");
        let mut running = run(&world, &["-v", &work, "--log-driver", driver], &["sh", "-c", &script])
            .stdout_to(writer)
            .spawn();
        let count = || -> u64 {
            let text = std::fs::read_to_string(world.work().join("count")).unwrap_or_default();
            text.trim().parse().unwrap_or(0)
        };
        let mut before = u64::MAX;
        // It stands still once every buffer between is full, long before its 4 MiB are out.
        while before != count() || before == 0 {
            before = count();
            std::thread::sleep(Duration::from_millis(300));
        }
        assert!(running.is_running(), "{driver}: it did not wait for its reader");
        assert!(before < 48, "{driver}: {before} of 64 pieces are held somewhere");
        let mut all = Vec::new();
        reader.read_to_end(&mut all).expect("a pipe");
        assert_eq!(all.len(), 64 << 16, "{driver}");
        running.finish().code_is(0);
        std::fs::remove_file(world.work().join("count")).expect("the count");
    }
}

#[test]
fn output_is_delivered_whole_when_the_command_ends_before_its_reader_is_done() {
    let world = sbx();
    for driver in DRIVERS {
        // As much as fits into the pipes between, so that the command is long gone when reading begins.
        let script = "box sh -c 'seq 1 10000; seq 1 10000 >&2' 2>err | { sleep 0.7; cksum; }; cksum <err; seq 1 10000 | cksum";
        let finished = pipeline(&world, &format!("--log-driver {driver}"), script).expect_code(0);
        let text = finished.stdout();
        let sums: Vec<&str> = text.lines().collect();
        assert!(sums.len() == 3 && sums[0] == sums[2] && sums[1] == sums[2], "{driver}: {text}");
    }
}

#[test]
fn background_processes_that_hold_the_output_end_with_the_first() {
    let world = sbx();
    for driver in DRIVERS {
        let finished = run(&world, &["--log-driver", driver], &["sh", "-c", "sleep 1000 & echo done"])
            .timeout(Duration::from_secs(20))
            .expect_code(0)
            .stdout_is("done\n");
        assert!(finished.elapsed < Duration::from_secs(10), "{driver}: it took {:?}", finished.elapsed);
    }
}

#[test]
fn a_client_can_be_ended_while_its_reader_sleeps_over_the_last_output() {
    let world = sbx();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let work = format!("{}:/shown", world.work().display());
    // More than the reader's pipe holds, and less than it and those of sbx do.
    let script = "seq 1 18000; echo >/shown/done";
    let mut running = run(&world, &["-v", &work], &["sh", "-c", script]).stdout_to(writer).spawn();
    while !world.work().join("done").exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(500));
    assert!(running.is_running(), "the client did not wait for its reader");
    running.signal(Signal::SIGTERM);
    running.finish().code_is(143);
    drop(reader);
}

#[test]
fn output_to_a_full_disk_is_told() {
    let world = sbx();
    let full = std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let finished = run(&world, &[], &["sh", "-c", "echo lost"]).stdout_to(full).finish();
    finished.stderr_has("No space left on device");
}

#[test]
fn output_is_added_to_a_file_that_is_opened_for_appending() {
    let world = sbx();
    let path = world.file("log", "before\n");
    for driver in DRIVERS {
        let file = std::fs::File::options().append(true).open(&path).expect("a file");
        run(&world, &["--log-driver", driver], &["echo", driver]).stdout_to(file).expect_code(0);
    }
    let text = std::fs::read_to_string(&path).expect("the file");
    assert_eq!(text, "before\nk8s-file\nnone\npassthrough\n");
}

#[test]
fn a_non_blocking_output_of_the_caller_loses_nothing() {
    let world = sbx();
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    rustix::io::ioctl_fionbio(&writer, true).expect("a pipe can be non-blocking");
    let mut running = run(&world, &[], &["seq", "1", "100000"]).stdout_to(writer).spawn();
    std::thread::sleep(Duration::from_millis(500));
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("a pipe");
    assert!(running.is_running() || text.len() == 588_895, "it ended early");
    running.finish().code_is(0);
    assert_eq!(text.lines().count(), 100_000);
}

/// The log of the only container in the store.
fn log(world: &Sbx) -> PathBuf {
    let mut containers = std::fs::read_dir(world.store().join("containers")).expect("the store");
    let log = containers.next().expect("a container").expect("an entry").path().join("log");
    assert!(containers.next().is_none(), "more than one container");
    log
}

/// `sbx run` without `--rm`, so that the log stays.
fn keep<'w>(world: &'w Sbx, options: &[&str], command: &[&str]) -> Run<'w> {
    world.run(["--net", "none", "--rootfs"]).arg(rootfs()).args(options).args(command)
}

#[test]
fn the_log_holds_each_line_with_time_and_stream() {
    let world = sbx();
    let script = "echo one; sleep 0.1; echo two >&2; sleep 0.1; printf three";
    keep(&world, &[], &["sh", "-c", script]).expect_code(0).stdout_is("one\nthree").stderr_is("two\n");
    let text = std::fs::read_to_string(log(&world)).expect("the log");
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.splitn(4, ' ').collect()).collect();
    let told: Vec<&[&str]> = lines.iter().map(|line| &line[1..]).collect();
    assert_eq!(told, [["stdout", "F", "one"], ["stderr", "F", "two"], ["stdout", "P", "three"]]);
    let times: Vec<&str> = lines.iter().map(|line| line[0]).collect();
    let nanoseconds = "2026-01-02T03:04:05.123456789Z".len();
    assert!(times.iter().all(|time| time.len() == nanoseconds && time.ends_with('Z')), "{times:?}");
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
fn the_log_is_complete_at_full_speed() {
    let world = sbx();
    keep(&world, &[], &["seq", "1", "300000"]).stdout_to(Stdio::null()).expect_code(0);
    let text = std::fs::read_to_string(log(&world)).expect("the log");
    let mut whole = String::new();
    for line in text.lines() {
        let (head, words) = line.split_once(" stdout ").expect("a line of the log");
        assert!(head.ends_with('Z'), "{line}");
        match words.split_once(' ').expect("a flag") {
            ("F", text) => whole.extend([text, "\n"]),
            ("P", text) => whole.push_str(text),
            _ => panic!("{line}"),
        }
    }
    let wanted: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    assert!(whole == wanted, "{} bytes instead of {}", whole.len(), wanted.len());
}

#[test]
fn other_log_drivers_keep_no_log() {
    for driver in ["none", "passthrough"] {
        let world = sbx();
        keep(&world, &["--log-driver", driver], &["echo", "hello"]).expect_code(0).stdout_is("hello\n");
        assert!(!log(&world).exists(), "{driver}");
    }
}

#[test]
fn a_log_that_cannot_grow_does_not_stop_the_container() {
    let world = sbx();
    // A limit on the size of files is to the log what a full disk is, and hits the log alone here.
    let script = format!(
        "ulimit -f 64; exec '{}' run --net none --rootfs '{}' sh -c 'seq 1 100000; exit 7'",
        crate::harness::sbx_binary().display(),
        rootfs().display()
    );
    let finished = world.program("bash").args(["-c", &script]).expect_code(7).stderr_is("");
    assert_eq!(finished.stdout().lines().count(), 100_000);
    let log = log(&world);
    assert!(std::fs::metadata(&log).expect("the log").size() <= 64 * 1024);
    let text = std::fs::read_to_string(&log).expect("the log");
    assert!(!text.is_empty() && text.ends_with('\n'), "half a line stayed at the end of the log");
}

#[test]
fn passthrough_refuses_a_terminal() {
    let world = sbx();
    let mut pty = world.pty(["run", "--rm", "--log-driver", "passthrough", "host", "true"]);
    assert_eq!(pty.finish(), 125);
    assert!(pty.screen().contains("--log-driver passthrough"), "{}", pty.screen());
}

#[test]
fn a_dialogue_over_pipes_is_not_held_up_by_buffers() {
    let world = sbx();
    for driver in DRIVERS {
        let mut running =
            run(&world, &["-i", "--log-driver", driver], &["cat"]).stdin_from(Stdio::piped()).spawn();
        for word in ["one\n", "two\n", "three\n"] {
            running.stdin().write_all(word.as_bytes()).expect("the container reads");
            running.wait_for_stdout(word);
        }
        running.close_stdin();
        running.finish().code_is(0).stdout_is("one\ntwo\nthree\n");
    }
}

#[test]
fn a_socket_as_standard_input_and_output_works_in_both_directions_at_once() {
    let world = sbx();
    for driver in DRIVERS {
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair of sockets");
        let input = std::os::fd::OwnedFd::from(theirs.try_clone().expect("a descriptor"));
        let running = run(&world, &["-i", "--log-driver", driver], &["cat"])
            .stdin_from(input)
            .stdout_to(std::os::fd::OwnedFd::from(theirs))
            .spawn();
        ours.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        for word in [b"ping", b"pong"] {
            ours.write_all(word).expect("a socket");
            let mut answer = [0; 4];
            ours.read_exact(&mut answer).unwrap_or_else(|error| panic!("{driver}: no answer came: {error}"));
            assert_eq!(&answer, word);
        }
        ours.shutdown(std::net::Shutdown::Write).expect("a socket");
        running.finish().code_is(0);
    }
}
