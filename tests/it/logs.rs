//! `sbx logs`, and the files that it reads.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Run, Running, Sbx, rootfs, sbx};

/// A container that runs a shell script to its end.
fn ran(world: &Sbx, name: &str, options: &[&str], script: &str) {
    let name = format!("--name={name}");
    let finished = container(world, &[&[name.as_str()], options].concat(), script).finish();
    assert!(finished.code() == 0, "{}", finished.stderr());
}

fn container<'w>(world: &'w Sbx, options: &[&str], script: &str) -> Run<'w> {
    world.run(["--net", "none", "--rootfs"]).arg(rootfs()).args(options).args(["sh", "-c", script])
}

/// The same in the background.
fn started(world: &Sbx, name: &str, options: &[&str], script: &str) {
    let name = format!("--name={name}");
    container(world, &[&["-d", name.as_str()], options].concat(), script).expect_code(0);
}

fn logs<'w>(world: &'w Sbx, words: &[&str]) -> Run<'w> {
    world.sbx(["logs"]).args(words)
}

/// The file of the only container in the store.
fn file(world: &Sbx) -> PathBuf {
    let mut containers = fs::read_dir(world.store().join("containers")).expect("the store");
    let log = containers.next().expect("a container").expect("an entry").path().join("log");
    assert!(containers.next().is_none(), "more than one container");
    log
}

fn removed(world: &Sbx, name: &str) {
    world.sbx(["rm", "-f", name]).expect_code(0);
}

const BOTH: &str =
    "echo one; sleep 0.05; echo two >&2; sleep 0.05; printf thr; sleep 0.05; echo ee; echo four";

#[test]
fn each_stream_goes_to_its_own_with_every_driver() {
    let world = sbx();
    for driver in ["k8s-file", "json-file", "local"] {
        ran(&world, driver, &["--log-driver", driver], BOTH);
        logs(&world, &[driver]).expect_code(0).stdout_is("one\nthree\nfour\n").stderr_is("two\n");
        logs(&world, &["--follow", driver]).expect_code(0).stdout_is("one\nthree\nfour\n").stderr_is("two\n");
    }
    let text = fs::read_to_string(file_of(&world, "json-file")).expect("the log");
    assert!(text.starts_with("{\"log\":\"one\\n\",\"stream\":\"stdout\",\"time\":\"20"), "{text}");
}

/// The file of a container.
fn file_of(world: &Sbx, name: &str) -> PathBuf {
    let id = fs::read_link(world.store().join("names").join(name)).expect("a name");
    world.store().join("containers").join(id).join("log")
}

#[test]
fn every_byte_comes_back() {
    let world = sbx();
    let bytes: Vec<u8> = (0..=255_u8).cycle().take(300_000).collect();
    fs::write(world.work().join("bytes"), &bytes).expect("a file");
    let mount = format!("{}:/work:ro", world.work().display());
    ran(&world, "all", &["-v", &mount], "cat /work/bytes");
    assert!(logs(&world, &["all"]).expect_code(0).stdout_bytes() == bytes);
    // JSON holds text.
    let text = "tab\t \"quoted\" back\\slash \u{1} € 𝄞\r\n".repeat(10_000);
    fs::write(world.work().join("bytes"), &text).expect("a file");
    ran(&world, "text", &["--log-driver", "json-file", "-v", &mount], "cat /work/bytes");
    assert!(logs(&world, &["text"]).expect_code(0).stdout() == text);
    let last = &text[text.len() / 10_000 * 9_999..];
    logs(&world, &["--tail", "1", "text"]).expect_code(0).stdout_is(last);
}

#[test]
fn the_tail_is_counted_in_lines() {
    let world = sbx();
    ran(&world, "counted", &[], "seq 1 50000; sleep 0.2; echo end >&2; sleep 0.2; printf rest");
    for (tail, out, err) in [
        (&["--tail=0"][..], "", ""),
        (&["--tail", "1"], "rest", ""),
        (&["-n", "2"], "rest", "end\n"),
        (&["-n3"], "50000\nrest", "end\n"),
        (&["--tail=4"], "49999\n50000\nrest", "end\n"),
    ] {
        logs(&world, tail).arg("counted").expect_code(0).stdout_is(out).stderr_is(err);
    }
    for all in ["--tail=all", "--tail=-1", "--tail=99999999"] {
        let finished = logs(&world, &[all, "counted"]).expect_code(0);
        assert_eq!(finished.stdout().lines().count(), 50_001, "{all}");
    }
    logs(&world, &["--tail=x", "counted"]).expect_code(125).stderr_has("`all`");
}

#[test]
fn times_bound_what_is_shown() {
    let world = sbx();
    ran(&world, "timed", &[], "for i in 1 2 3; do echo $i; sleep 0.3; done");
    let stamped = logs(&world, &["-t", "timed"]).succeed();
    let times: Vec<&str> = stamped.lines().map(|line| line.split(' ').next().expect("a time")).collect();
    let nanoseconds = "2026-01-02T03:04:05.123456789Z".len();
    assert!(times.len() == 3 && times.iter().all(|time| time.len() == nanoseconds), "{stamped}");
    logs(&world, &["--since", times[1], "timed"]).expect_code(0).stdout_is("2\n3\n");
    logs(&world, &["--until", times[1], "timed"]).expect_code(0).stdout_is("1\n2\n");
    logs(&world, &["--since", times[1], "--until", times[1], "timed"]).expect_code(0).stdout_is("2\n");
    logs(&world, &["--since", "1h30m", "--tail", "2", "timed"]).expect_code(0).stdout_is("2\n3\n");
    logs(&world, &["--since", "0", "timed"]).expect_code(0).stdout_is("1\n2\n3\n");
    logs(&world, &["--until", "10m", "timed"]).expect_code(0).stdout_is("");
    // Without a zone it is the caller's clock: where the sun rises earlier, that hour is over.
    let (hour, _) = times[0].split_once(':').expect("RFC 3339");
    let civil = format!("{hour}:59:59");
    for (zone, shown) in [("EAST-5", ""), ("WEST5", "1\n2\n3\n")] {
        logs(&world, &["--until", &civil, "timed"]).env("TZ", zone).expect_code(0).stdout_is(shown);
    }
    logs(&world, &["--since", "soon", "timed"]).expect_code(125).stderr_has("`--since`: `soon`");
}

#[test]
fn full_files_are_put_away_and_still_shown() {
    let world = sbx();
    for driver in ["k8s-file", "json-file"] {
        let options = ["--log-driver", driver, "--log-opt", "max-size=16k", "--log-opt", "max-file=4"];
        ran(&world, driver, &options, "seq 1 20000; sleep 0.2; echo last >&2");
        let path = file_of(&world, driver);
        let names = fs::read_dir(path.parent().expect("a directory")).expect("a directory");
        let count = names.filter(|name| {
            name.as_ref().is_ok_and(|name| name.file_name().to_string_lossy().starts_with("log"))
        });
        assert_eq!(count.count(), 4, "{driver}");
        for number in 1..4 {
            let text = fs::read_to_string(path.with_extension(number.to_string())).expect("an old file");
            assert!(text.len() <= 16 << 10 && text.ends_with('\n'), "{driver}: {} bytes", text.len());
        }
        let shown = logs(&world, &[driver]).expect_code(0).stderr_is("last\n").stdout();
        let first: u32 = shown.lines().next().expect("a line").parse().expect("a number");
        let wanted: String = (first..=20_000).map(|n| format!("{n}\n")).collect();
        assert!(first > 1 && shown == wanted, "{driver}: from {first}");
        let tail = logs(&world, &["--tail", "500", driver]).expect_code(0).stdout();
        assert!(tail.starts_with("19502\n") && tail.ends_with("20000\n"), "{driver}: {tail}");
    }
    // As much as is to be kept, and nothing of it lost.
    ran(&world, "whole", &["--log-opt", "max-size=10k", "--log-opt", "max-file=1000"], "seq 1 60000");
    let shown = logs(&world, &["whole"]).expect_code(0).stdout();
    assert!(shown == (1..=60_000).map(|n| format!("{n}\n")).collect::<String>(), "{} bytes", shown.len());
}

#[test]
fn who_follows_sees_everything_over_full_files_and_new_lives() {
    let world = sbx();
    let script = "sleep 0.3; seq 1 30000; printf unfinished; sleep 0.2; exit 3";
    let options = ["--restart=on-failure:2", "--log-opt", "max-size=64k", "--log-opt", "max-file=1000"];
    started(&world, "again", &options, script);
    let followed = logs(&world, &["-f", "again"]).expect_code(0).stderr_is("").stdout();
    let life: String = (1..=30_000).map(|n| format!("{n}\n")).chain(["unfinished".to_owned()]).collect();
    let wanted = [life.as_str(), &life, &life].join("\n");
    assert!(followed == wanted, "{} bytes instead of {}", followed.len(), wanted.len());
    assert!(logs(&world, &["again"]).expect_code(0).stdout() == wanted);
}

#[test]
fn who_follows_is_told_at_once() {
    let world = sbx();
    for driver in ["k8s-file", "json-file"] {
        let fifo = world.work().join("fifo");
        world.program("mkfifo").arg(&fifo).expect_code(0);
        let mount = format!("{}:/work", world.work().display());
        started(&world, driver, &["--log-driver", driver, "-v", &mount], "cat /work/fifo");
        let mut to = fs::File::options().write(true).open(&fifo).expect("a pipe");
        let mut following = logs(&world, &["-f", driver]).spawn();
        for word in ["one", "two", "with\u{20}space"] {
            let begin = std::time::Instant::now();
            std::io::Write::write_all(&mut to, format!("{word}\n").as_bytes()).expect("a pipe");
            following.wait_for_stdout(word);
            assert!(begin.elapsed() < Duration::from_millis(1500), "{driver}: {:?}", begin.elapsed());
        }
        drop(to);
        following.finish().code_is(0).stdout_is("one\ntwo\nwith space\n");
        fs::remove_file(fifo).expect("a pipe");
    }
}

#[test]
fn following_ends_at_the_time_that_was_set() {
    let world = sbx();
    started(&world, "endless", &[], "while :; do echo x; sleep 0.05; done");
    let finished = logs(&world, &["-f", "--until", "1s", "endless"]).expect_code(0);
    assert!(finished.elapsed > Duration::from_millis(900) && finished.elapsed < Duration::from_secs(10));
    assert!(finished.stdout().len() > 10, "{}", finished.stdout());
    removed(&world, "endless");
}

#[test]
fn a_reader_that_goes_ends_it_quietly() {
    let world = sbx();
    started(&world, "silent", &[], "seq 1 100000; sleep 1000");
    let sbx = crate::harness::sbx_binary();
    let sbx = sbx.display();
    let mut following = logs(&world, &["-f", "--tail", "3", "silent"]).spawn();
    following.wait_for_stdout("100000\n");
    following.signal(Signal::SIGTERM);
    following.finish().code_is(143);
    for words in ["logs silent", "logs -f silent", "logs -f --tail 3 silent"] {
        let script = format!("set -o pipefail; '{sbx}' {words} | head -1");
        let finished = world.program("bash").args(["-c", &script]).expect_code(0).stderr_is("");
        assert_eq!(finished.stdout().lines().count(), 1, "{words}");
    }
    removed(&world, "silent");
}

#[test]
fn a_killed_monitor_ends_the_following_and_loses_nothing() {
    let world = sbx();
    started(&world, "killed", &[], "echo before; sleep 1000");
    let mut following = logs(&world, &["-f", "killed"]).spawn();
    following.wait_for_stdout("before\n");
    kill(monitor(&world, "killed"), Signal::SIGKILL).expect("the monitor");
    following.finish().code_is(0).stdout_is("before\n");
    logs(&world, &["killed"]).expect_code(0).stdout_is("before\n");
    removed(&world, "killed");
}

/// The monitor of a container that runs.
fn monitor(world: &Sbx, name: &str) -> Pid {
    let id = fs::read_link(world.store().join("names").join(name)).expect("a name");
    let record = fs::read(world.store().join("running").join(id)).expect("a record");
    let record: serde_json::Value = serde_json::from_slice(&record).expect("a record");
    Pid::from_raw(record["monitor"]["pid"].as_i64().expect("a number") as i32)
}

#[test]
fn a_container_with_a_terminal_has_one_stream() {
    let world = sbx();
    started(&world, "tty", &["-t"], "echo out; echo err >&2");
    logs(&world, &["-f", "tty"]).expect_code(0).stdout_is("out\r\nerr\r\n").stderr_is("");
}

#[test]
fn several_containers_are_told_apart() {
    let world = sbx();
    for name in ["one", "two"] {
        ran(
            &world,
            name,
            &["--log-opt", "tag={{.Name}}!", "--label=a=b", "--log-opt=labels=a"],
            "echo hello",
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let ids = logs(&world, &["one", "two"]).succeed();
    let lines: Vec<&str> = ids.lines().collect();
    assert!(lines.len() == 2 && lines.iter().all(|line| line.len() == 12 + " hello".len()), "{ids}");
    assert_eq!(logs(&world, &["--names", "one", "two"]).succeed(), "one hello\ntwo hello");
    // podman's `-n`, as podman-compose writes it, and docker's.
    assert_eq!(logs(&world, &["-n", "one", "two"]).succeed(), "one hello\ntwo hello");
    assert_eq!(logs(&world, &["-n", "--since", "1h", "one"]).succeed(), "one hello");
    assert_eq!(logs(&world, &["-fn", "1", "one"]).succeed(), "hello");
    for (dialect, words, told) in [
        ("docker", &["-n", "1", "one"][..], "hello"),
        ("podman", &["-n", "one"], "one hello"),
        ("podman", &["--since=", "--tail=-1", "-n", "one"], "one hello"),
    ] {
        let path = world.work().join(dialect);
        let _ = std::os::unix::fs::symlink(crate::harness::sbx_binary(), &path);
        assert_eq!(world.program(&path).arg("logs").args(words).succeed(), told, "{dialect}");
    }
    assert_eq!(logs(&world, &["--latest", "--names"]).succeed(), "two hello");
    assert_eq!(logs(&world, &["--details", "one"]).succeed(), "a=b,tag=one! hello");
    let colored = logs(&world, &["--color", "--names", "one", "two"]).succeed();
    assert_eq!(colored, "\x1b[31mone hello\x1b[0m\n\x1b[32mtwo hello\x1b[0m");
    logs(&world, &["one", "nosuch"]).expect_code(125).stdout_is("").stderr_has("`nosuch`");
    logs(&world, &[]).expect_code(125).stderr_has("needs CONTAINER");
    logs(&world, &["--latest", "one"]).expect_code(125).stderr_has("--latest");
}

#[test]
fn where_nothing_is_kept_it_says_so() {
    let world = sbx();
    for driver in ["none", "passthrough"] {
        ran(&world, driver, &["--log-driver", driver], "echo hello");
        logs(&world, &[driver])
            .expect_code(125)
            .stdout_is("")
            .stderr_has(&format!("`{driver}`, which keeps nothing"));
    }
}

#[test]
fn a_log_lies_where_it_is_wanted() {
    let world = sbx();
    let path = world.work().join("elsewhere.log");
    ran(&world, "there", &["--log-opt", "path=elsewhere.log"], "echo hello");
    assert!(fs::read_to_string(&path).expect("the log").ends_with(" stdout F hello\n"));
    assert!(!file(&world).exists());
    logs(&world, &["there"]).expect_code(0).stdout_is("hello\n");
    removed(&world, "there");
    assert!(path.exists(), "what lies elsewhere is the caller's");
    ran(&world, "nowhere", &["--log-opt", "path=/dev/null"], "echo hello");
    logs(&world, &["nowhere"]).expect_code(0).stdout_is("");
}

#[test]
fn a_damaged_log_is_shown_as_far_as_it_goes() {
    let world = sbx();
    ran(&world, "damaged", &[], "echo one; echo two");
    let path = file(&world);
    let good = fs::read(&path).expect("the log");
    let noise =
        [&b"\0\xff nonsense\n"[..], &good, &vec![b'y'; 2 << 20], b"\n", &good, b"2026-01-02T03:04:05Z st"];
    fs::write(&path, noise.concat()).expect("the log");
    logs(&world, &["damaged"])
        .expect_code(0)
        .stdout_is("one\ntwo\none\ntwo\n")
        .stderr_has("3 lines are left out");
    logs(&world, &["--tail", "3", "damaged"]).expect_code(0).stdout_is("two\none\ntwo\n");
    for strange in ["symlink", "fifo", "directory"] {
        let _ = fs::remove_file(&path);
        match strange {
            "symlink" => std::os::unix::fs::symlink("/etc/passwd", &path).expect("a symlink"),
            "fifo" => drop(world.program("mkfifo").arg(&path).expect_code(0)),
            _ => fs::create_dir(&path).expect("a directory"),
        }
        let finished = logs(&world, &["-f", "damaged"]).finish();
        assert_eq!(finished.stdout(), "", "{strange}");
    }
}

#[test]
fn a_full_disk_leaves_whole_lines() {
    let world = sbx();
    let script = format!(
        "ulimit -f 64; exec '{}' run --name full --log-driver json-file --net none --rootfs '{}' seq 1 100000",
        crate::harness::sbx_binary().display(),
        rootfs().display()
    );
    world.program("bash").args(["-c", &script]).stdout_to(Stdio::null()).expect_code(0).stderr_is("");
    let shown = logs(&world, &["full"]).expect_code(0).stderr_is("").stdout();
    let mut last = 0;
    for line in shown.lines() {
        let number: u32 = line.parse().expect("a whole line");
        assert!(number > last, "{number} after {last}");
        last = number;
    }
    assert!(last > 100);
}

#[test]
fn following_a_fast_writer_keeps_up_with_it() {
    let world = sbx();
    started(
        &world,
        "fast",
        &["--log-opt", "max-size=200k", "--log-opt", "max-file=500"],
        "sleep 0.2; seq 1 200000",
    );
    let following: Running<'_> = logs(&world, &["-f", "fast"]).spawn();
    let told = following.finish().code_is(0).stdout();
    assert!(told == (1..=200_000).map(|n| format!("{n}\n")).collect::<String>(), "{} bytes", told.len());
}

#[test]
fn a_monitor_killed_at_any_moment_leaves_whole_lines_and_no_gap() {
    let world = sbx();
    let seed =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").subsec_nanos();
    println!("seed {seed}");
    let mut random = seed;
    for driver in ["k8s-file", "json-file"] {
        let name = format!("--name={driver}");
        let options = ["--log-driver", driver, "--log-opt", "max-size=8k", "--log-opt", "max-file=1000"];
        let script = "n=0; while :; do n=$((n + 1)); echo line-$n; done";
        let words = ["create", &name, "--net=none"];
        world
            .sbx(words)
            .args(options)
            .arg("--rootfs")
            .arg(rootfs())
            .args(["sh", "-c", script])
            .expect_code(0);
        for _ in 0..6 {
            world.sbx(["start", driver]).expect_code(0);
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            std::thread::sleep(Duration::from_millis(u64::from(random >> 16) % 150));
            kill(monitor(&world, driver), Signal::SIGKILL).expect("the monitor");
            let text = logs(&world, &[driver]).expect_code(0).stderr_is("").stdout();
            let numbers: Vec<u64> = text
                .lines()
                .map(|line| line.strip_prefix("line-").and_then(|n| n.parse().ok()).expect("a whole line"))
                .collect();
            // Of every life the log has all lines from the first to one; the last may lack its end.
            let whole = if text.ends_with('\n') { numbers.len() } else { numbers.len().saturating_sub(1) };
            for pair in numbers[..whole].windows(2) {
                assert!(pair[1] == pair[0] + 1 || pair[1] == 1, "{driver}: {} after {}", pair[1], pair[0]);
            }
        }
    }
}

#[test]
fn who_follows_needs_no_notices_of_the_kernel() {
    crate::harness::require("strace");
    let world = sbx();
    started(&world, "slow", &[], "for i in 1 2 3; do echo $i; sleep 0.3; done");
    let traced = world.program("strace").args(["-o", "/dev/null", "-e", "inject=inotify_init1:error=EMFILE"]);
    let following = traced.arg(crate::harness::sbx_binary()).args(["logs", "-f", "slow"]);
    following.expect_code(0).stdout_is("1\n2\n3\n");
}
