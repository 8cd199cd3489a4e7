//! `sbx attach`, `start --attach`, and the detach keys.

use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{Pty, Run, Running, Sbx, rootfs, sbx};

/// A container in the background.
fn started(world: &Sbx, name: &str, options: &[&str], script: &str) {
    let name = format!("--name={name}");
    let words = ["-d", "--net=none", name.as_str()];
    world.run(words).args(options).arg("--rootfs").arg(rootfs()).args(["sh", "-c", script]).expect_code(0);
}

/// A FIFO in the directory that the container sees as /work, and a mount of that.
fn fifo(world: &Sbx) -> (fs::File, String) {
    let path = world.work().join("fifo");
    world.program("mkfifo").arg(&path).expect_code(0);
    // Both ends, so that neither side waits for the other to open it.
    let fifo = fs::File::options().read(true).write(true).open(path).expect("a pipe");
    (fifo, format!("{}:/work", world.work().display()))
}

fn attach<'w>(world: &'w Sbx, words: &[&str]) -> Run<'w> {
    world.sbx(["attach"]).args(words)
}

fn attached<'w>(world: &'w Sbx, name: &str) -> Running<'w> {
    attach(world, &[name]).spawn()
}

fn is_up(world: &Sbx, name: &str) -> bool {
    world.sbx(["ps", "--format", "{{.Names}}"]).succeed().lines().any(|up| up == name)
}

fn removed(world: &Sbx, name: &str) {
    world.sbx(["rm", "-f", name]).expect_code(0);
}

/// Says a word through the container until the client has seen it: from then on it misses nothing.
fn say_until_seen(fifo: &mut fs::File, word: &str, clients: &mut [Running<'_>]) {
    for _ in 0..500 {
        if clients.iter_mut().all(|client| client.stdout_now().contains(word)) {
            return;
        }
        writeln!(fifo, "{word}").expect("a pipe");
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("nobody said {word}");
}

const ECHO: &str =
    "while read -r line; do case $line in end) exit 7;; *) echo \"$line\"; echo \"$line\" >&2;; esac; done";

#[test]
fn all_clients_see_the_same_and_get_the_exit_code() {
    let world = sbx();
    for driver in ["k8s-file", "none"] {
        let (mut to, mount) = fifo(&world);
        let script = format!("exec </work/fifo; {ECHO}");
        started(&world, driver, &["--log-driver", driver, "-v", &mount], &script);
        let mut clients = [attached(&world, driver), attached(&world, driver), attached(&world, driver)];
        say_until_seen(&mut to, "seen", &mut clients);
        writeln!(to, "one\ntwo\nend").expect("a pipe");
        for client in clients {
            let finished = client.finish().code_is(7);
            assert!(finished.stdout().ends_with("seen\none\ntwo\n"), "{}", finished.stdout());
            assert!(finished.stderr().ends_with("seen\none\ntwo\n"), "{}", finished.stderr());
        }
        fs::remove_file(world.work().join("fifo")).expect("a pipe");
    }
}

#[test]
fn a_client_that_is_killed_is_missed_by_nobody_and_a_slow_one_holds_the_container_back() {
    let world = sbx();
    let (mut to, mount) = fifo(&world);
    let script = "exec </work/fifo; read -r go; seq 1 2000000; touch /work/done; exit 3";
    started(&world, "fast", &["-v", &mount], script);
    let sleepy = attached(&world, "fast");
    let killed = attached(&world, "fast");
    let reader = attached(&world, "fast");
    std::thread::sleep(Duration::from_millis(500));
    sleepy.signal(Signal::SIGSTOP);
    killed.signal(Signal::SIGKILL);
    killed.finish().code_is(137);
    writeln!(to, "go").expect("a pipe");
    std::thread::sleep(Duration::from_secs(1));
    assert!(!world.work().join("done").exists(), "a pipe that nobody reads took 14 MB");
    sleepy.signal(Signal::SIGKILL);
    sleepy.finish().code_is(137);
    let told = reader.finish().code_is(3).stdout();
    assert!(told == (1..=2_000_000).map(|n| format!("{n}\n")).collect::<String>(), "{} bytes", told.len());
}

#[test]
fn a_shell_is_driven_over_start_attach() {
    let world = sbx();
    let bytes: Vec<u8> = (0..=255_u8).cycle().take(200_000).collect();
    let words = ["create", "--name=shell", "--interactive", "--net=none", "--rootfs"];
    world.sbx(words).arg(rootfs()).arg("sh").expect_code(0);
    for code in [0, 9] {
        let start = world.sbx(["start", "--attach", "--interactive", "shell"]).stdin_from(Stdio::piped());
        let mut shell = start.spawn();
        shell.stdin().write_all(b"echo up $((40 + 2))\n").expect("the shell reads");
        shell.wait_for_stdout("up 42\n");
        // A shell may read ahead: the bytes are sent when its command reads.
        let command = format!("echo go; head -c {}; echo; echo over\n", bytes.len());
        shell.stdin().write_all(command.as_bytes()).expect("the shell reads");
        shell.wait_for_stdout("go\n");
        shell.stdin().write_all(&bytes).expect("the shell reads");
        shell.wait_for_stdout("over\n");
        writeln!(shell.stdin(), "(exit {code})").expect("the shell reads");
        // The end of the input is the end of the shell.
        shell.close_stdin();
        let finished = shell.finish().code_is(code).stderr_is("");
        let told = finished.stdout_bytes();
        assert!(told == [&b"up 42\ngo\n"[..], &bytes, b"\nover\n"].concat(), "{} bytes", told.len());
    }
}

#[test]
fn the_input_of_a_container_in_the_background_stays_open() {
    let world = sbx();
    started(&world, "open", &["-i"], ECHO);
    for word in ["one", "two"] {
        let mut client = attach(&world, &["open"]).stdin(format!("{word}\n")).spawn();
        client.wait_for_stdout(word);
        assert!(client.is_running(), "the client ended with its input");
        client.signal(Signal::SIGKILL);
        client.finish().code_is(137);
        assert!(is_up(&world, "open"), "the container ended with its client's input");
    }
    let mut deaf = attach(&world, &["--no-stdin", "open"]).stdin("three\n").spawn();
    std::thread::sleep(Duration::from_millis(300));
    assert!(deaf.is_running());
    attach(&world, &["open"]).stdin("end\n").expect_code(7);
    deaf.finish().code_is(7).stdout_is("");
}

#[test]
fn signals_go_to_the_container_unless_they_should_not() {
    let world = sbx();
    let script = "trap 'echo got it; exit 5' TERM; echo ready; while :; do echo on; sleep 0.05; done";
    started(&world, "trap", &[], script);
    let mut own = attach(&world, &["--sig-proxy=false", "trap"]).spawn();
    let mut forwards = attached(&world, "trap");
    own.wait_for_stdout("on");
    forwards.wait_for_stdout("on");
    own.signal(Signal::SIGTERM);
    own.finish().code_is(143);
    assert!(is_up(&world, "trap"));
    forwards.signal(Signal::SIGTERM);
    forwards.finish().code_is(5).stdout_has("got it\n");
}

#[test]
fn a_client_whose_output_is_closed_goes_and_the_container_does_not() {
    let world = sbx();
    started(&world, "talks", &[], "while :; do echo on; echo too >&2; sleep 0.02; done");
    let sbx = crate::harness::sbx_binary();
    for redirection in ["", "2>&1"] {
        let script = format!("set -o pipefail; '{}' attach talks {redirection} | head -1", sbx.display());
        world.program("bash").args(["-c", &script]).expect_code(0);
    }
    let mut other = attached(&world, "talks");
    other.wait_for_stdout("on\non\n");
    removed(&world, "talks");
    other.finish().code_is(137);
}

#[test]
fn attaching_ends_with_the_life_that_it_saw() {
    let world = sbx();
    let (mut to, mount) = fifo(&world);
    let script = format!("exec </work/fifo; echo life; {ECHO}");
    started(&world, "again", &["-v", &mount, "--restart=always"], &script);
    let mut clients = [attached(&world, "again")];
    say_until_seen(&mut to, "seen", &mut clients);
    writeln!(to, "end").expect("a pipe");
    let [client] = clients;
    client.finish().code_is(7);
    // The next life takes clients, too.
    for _ in 0..200 {
        if world.sbx(["logs", "again"]).finish().stdout().matches("life\n").count() == 2 {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut clients = [attached(&world, "again")];
    say_until_seen(&mut to, "back", &mut clients);
    removed(&world, "again");
    let [client] = clients;
    client.finish().code_is(137);
}

#[test]
fn a_container_that_does_not_run_is_not_attached_to() {
    let world = sbx();
    world.sbx(["create", "--name=new", "--net=none", "--rootfs"]).arg(rootfs()).arg("true").expect_code(0);
    attach(&world, &["new"])
        .expect_code(125)
        .stderr_has("`new`")
        .stderr_has("not running")
        .stderr_has("sbx start");
    attach(&world, &["nosuch"]).expect_code(125).stderr_has("`nosuch`");
    attach(&world, &["new", "nosuch"]).expect_code(125).stderr_has("several");
    attach(&world, &[]).expect_code(125);
    started(&world, "down", &["--restart=always"], "exit 1");
    std::thread::sleep(Duration::from_millis(1200));
    let refused = attach(&world, &["--latest"]).expect_code(125);
    assert!(refused.stderr().contains("restart"), "{}", refused.stderr());
    removed(&world, "down");
    attach(&world, &["--detach-keys=ctrl-1", "new"]).expect_code(125).stderr_has("--detach-keys ctrl-1");
}

/// `sbx run -it` of a shell, on a terminal of ours.
fn shell<'w>(world: &'w Sbx, options: &[&str]) -> Pty<'w> {
    let mut words = vec!["run".into(), "-it".into(), "--net=none".into()];
    words.extend(options.iter().map(std::ffi::OsString::from));
    words.extend(["--rootfs".into(), rootfs().as_os_str().to_owned(), "sh".into()]);
    let mut pty = world.pty(words);
    pty.send_line("PS1=; echo ready-$((40 + 2))");
    pty.expect("ready-42");
    pty
}

#[test]
fn the_detach_keys_leave_a_container_running() {
    let world = sbx();
    let mut first = shell(&world, &["--name=kept", "--rm", "--cidfile=id"]);
    first.send_line("word=secret; echo set");
    first.expect("set");
    first.send("\x10\x11");
    assert_eq!(first.finish(), 0);
    first.expect("Detached");
    assert!(!first.is_raw());
    assert!(is_up(&world, "kept"));
    assert!(world.work().join("id").exists(), "the ID of a container that runs");
    let mut second = world.pty(["attach", "kept"]);
    second.send_line("echo still-$word");
    second.expect("still-secret");
    second.resize(33, 99);
    second.send_line("stty size");
    second.expect("33 99");
    // Who looks on sees the same, and the size is that of who resized last.
    let mut third = world.pty(["attach", "--detach-keys=ctrl-x,x", "kept"]);
    third.send_line("echo both-$((1 + 1))");
    third.expect("both-2");
    second.expect("both-2");
    third.resize(20, 70);
    third.send_line("sleep 0.3; stty size");
    second.expect("20 70");
    // These are not its keys.
    third.send("\x10\x11\x03");
    third.send_line("echo here-$((2 + 2))");
    third.expect("here-4");
    third.send("\x18x");
    assert_eq!(third.finish(), 0);
    second.send_line("exit 3");
    assert_eq!(second.finish(), 3);
    assert!(!is_up(&world, "kept"));
}

#[test]
fn keys_that_only_begin_like_the_detach_keys_arrive() {
    let world = sbx();
    let mut shell = shell(&world, &["--name=keys"]);
    shell.send_line("stty raw -echo; printf 'on\\r\\n'; head -c 4 | od -An -tx1; stty sane");
    shell.expect("on\r\n");
    shell.send("\x10");
    std::thread::sleep(Duration::from_millis(300));
    shell.send("a\x10\x10");
    std::thread::sleep(Duration::from_millis(300));
    // The last control-P is held until the next key.
    shell.send("b");
    shell.expect("10 61 10 10");
    shell.send_line("");
    shell.send_line("exit 4");
    assert_eq!(shell.finish(), 4);
}

#[test]
fn without_detach_keys_every_key_is_the_containers() {
    let world = sbx();
    let mut shell = shell(&world, &["--name=none", "--detach-keys="]);
    shell.send_line("stty raw -echo; printf 'on\\r\\n'; head -c 2 | od -An -tx1; stty sane");
    shell.expect("on\r\n");
    shell.send("\x10\x11");
    shell.expect("10 11");
    shell.send_line("exit 4");
    assert_eq!(shell.finish(), 4);
}

#[test]
fn a_command_that_was_brought_in_is_left_running_too() {
    let world = sbx();
    started(&world, "host", &[], "sleep 1000");
    let mut exec = world.pty(["exec", "-it", "--detach-keys=ctrl-a,d", "host", "sh"]);
    exec.send_line("PS1=; (sleep 1; echo done >/mark) & echo begun-$((1 + 1))");
    exec.expect("begun-2");
    exec.send("\x01d");
    assert_eq!(exec.finish(), 0);
    for _ in 0..200 {
        if world.sbx(["exec", "host", "cat", "/mark"]).finish().stdout() == "done\n" {
            removed(&world, "host");
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("the command went with its client");
}
