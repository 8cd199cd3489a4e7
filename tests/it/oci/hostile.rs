//! Files, hooks and sockets of somebody who means no good: an error, no panic, and nothing that hangs or stays.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
use serde_json::json;

use super::Bundle;
use crate::harness::{Sbx, sbx, sbx_binary};

fn nothing_is_left(world: &Sbx) {
    assert_eq!(world.sbx(["oci", "list", "--quiet"]).succeed(), "");
}

#[test]
fn a_config_json_may_be_anything() {
    let world = sbx();
    let bundle = Bundle::new(&world, "true");
    let file = bundle.directory.join("config.json");
    for (text, words) in [
        (vec![b' '; (16 << 20) + 1], "longer than 16 MiB"),
        (format!("{{\"annotations\": {}", "{\"a\":".repeat(100_000)).into_bytes(), "invalid type: map"),
        (format!("{{\"linux\": {{\"resources\": {}", "[".repeat(100_000)).into_bytes(), "recursion limit"),
        (b"{\"hostname\": \"\xff\"}".to_vec(), "invalid unicode"),
        (b"{\"mounts\": [\0]}".to_vec(), "expected value"),
        (b"\xef\xbb\xbf{}".to_vec(), "expected value"),
    ] {
        fs::write(&file, text).expect("a file");
        bundle.run().expect_code(1).stderr_has(words).stdout_is("");
    }
    fs::remove_file(&file).expect("removed");
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    bundle.run().expect_code(1).stderr_has("no regular file");
    fs::remove_file(&file).expect("removed");
    for (target, words) in [
        ("config.json", "Too many levels of symbolic links"),
        ("/dev/zero", "no regular file"),
        (".", "no regular file"),
    ] {
        std::os::unix::fs::symlink(target, &file).expect("a symlink");
        bundle.run().expect_code(1).stderr_has(words);
        fs::remove_file(&file).expect("removed");
    }
    nothing_is_left(&world);
}

#[test]
fn paths_with_nul_bytes_are_errors() {
    let world = sbx();
    for (pointer, value) in [
        ("/process/cwd", json!("/a\0b")),
        ("/process/env", json!(["A=\0"])),
        ("/hostname", json!("a\0b")),
        ("/linux/maskedPaths", json!(["/a\0b"])),
        ("/linux/readonlyPaths", json!(["/a\0b"])),
        (
            "/linux/namespaces",
            json!([{ "type": "mount" }, { "type": "user" }, { "type": "ipc", "path": "/a\0b" }]),
        ),
        ("/linux/devices", json!([{ "path": "/dev/a\0b", "type": "c", "major": 1, "minor": 3 }])),
        ("/mounts", json!([{ "destination": "/a\0b", "type": "tmpfs" }])),
        ("/mounts", json!([{ "destination": "/mnt", "type": "tm\0pfs" }])),
        ("/mounts", json!([{ "destination": "/mnt", "type": "tmpfs", "options": ["size=\0"] }])),
        ("/mounts", json!([{ "destination": "/mnt", "source": "/etc\0", "options": ["bind"] }])),
        ("/hooks", json!({ "createRuntime": [{ "path": "/bin/true\0" }] })),
    ] {
        let bundle = Bundle::new(&world, "echo ran").set(pointer, value.clone());
        let finished = bundle.run().finish();
        assert_eq!(
            (finished.code(), finished.stdout().as_str()),
            (1, ""),
            "{pointer} {value}: {}",
            finished.stderr()
        );
        assert!(finished.stderr().starts_with("Error: "), "{pointer} {value}: {}", finished.stderr());
    }
    nothing_is_left(&world);
}

#[test]
fn more_mounts_than_open_files_are_no_obstacle() {
    let world = sbx();
    let mut bundle = Bundle::new(&world, "grep -c ' /srv/' /proc/self/mountinfo; ulimit -Sn")
        .set("/process/rlimits", json!([]));
    for number in 0..300 {
        let destination = format!("/srv/{number}");
        bundle = bundle.mount(json!({ "destination": destination, "source": "/etc", "options": ["bind"] }));
    }
    bundle.config["root"]["readonly"] = json!(false);
    bundle.write();
    let run =
        world.program("prlimit").arg("--nofile=256:1024").arg(sbx_binary()).args(["oci", "run", "--bundle"]);
    run.arg(&bundle.directory).arg("a").expect_code(0).stdout_is("300\n256\n");
    let run =
        world.program("prlimit").arg("--nofile=256:256").arg(sbx_binary()).args(["oci", "run", "--bundle"]);
    run.arg(&bundle.directory).arg("a").expect_code(1).stderr_has("Too many open files").stderr_has("Hint: ");
    nothing_is_left(&world);
}

#[test]
fn a_process_id_that_cannot_be_written_fails_the_creation() {
    let world = sbx();
    let bundle = Bundle::new(&world, "true");
    for file in ["/no/such", "/"] {
        bundle.verb("create", "a").args(["--pid-file", file]).stdin("").expect_code(1).stderr_has(file);
    }
    nothing_is_left(&world);
}

#[test]
fn a_hook_that_hangs_or_says_too_much_ends_with_its_timeout() {
    let world = sbx();
    let endless = "while :; do echo 0123456789; done";
    for script in ["trap '' TERM INT HUP; while :; do sleep 1; done", endless, "kill -STOP $$"] {
        let hook = json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 1 }]);
        for moment in ["createRuntime", "createContainer", "startContainer"] {
            let bundle = Bundle::new(&world, "true").set("/hooks", json!({ moment: hook }));
            bundle.run().expect_code(1).stderr_has(moment).stderr_has("timeout of 1 s");
        }
    }
    nothing_is_left(&world);
}

#[test]
fn a_hook_need_not_read_what_it_is_told() {
    let world = sbx();
    let bundle = Bundle::new(&world, "echo on")
        .set("/annotations", json!({ "long": "x".repeat(1 << 20) }))
        .set("/hooks", json!({ "createRuntime": [{ "path": "/bin/true" }] }));
    bundle.run().expect_code(0).stdout_is("on\n");
}

#[test]
fn a_console_socket_may_lie_deep_and_be_of_the_wrong_kind() {
    let world = sbx();
    let bundle = Bundle::new(&world, "tty").set("/process/terminal", json!(true));
    let create = |socket: &std::path::Path| {
        bundle
            .verb("create", "a")
            .arg("--console-socket")
            .arg(socket)
            .stdin("")
            .timeout(Duration::from_secs(30))
    };
    let datagrams = world.work().join("datagrams");
    let _bound = UnixDatagram::bind(&datagrams).expect("a socket");
    create(&datagrams).expect_code(1).stderr_has("Protocol wrong type for socket");
    create(&world.work()).expect_code(1).stderr_has("Connection refused");
    create(&world.file("file", "")).expect_code(1).stderr_has("Connection refused");
    let closed = world.work().join("closed");
    let _listener = UnixListener::bind(&closed).expect("a socket");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("a mode");
    create(&closed).expect_code(1).stderr_has("Permission denied");
    create(&world.work().join("x".repeat(300))).expect_code(1).stderr_has("File name too long");
    nothing_is_left(&world);

    // An address takes 108 bytes (unix(7)).
    let deep = world.work().join(["deep"; 30].join("/"));
    fs::create_dir_all(&deep).expect("a directory");
    let near = world.directory().join("s");
    let listener = UnixListener::bind(&near).expect("a socket");
    let far = deep.join("socket");
    fs::rename(&near, &far).expect("a rename");
    let running = bundle.behind("create", "a").arg("--console-socket").arg(&far).spawn();
    let master = super::console::receive(&listener).1.expect("a descriptor");
    running.finish().code_is(0);
    world.sbx(["oci", "delete", "--force", "a"]).succeed();
    drop(master);
}

#[test]
fn a_console_socket_that_closes_at_once_takes_the_terminal_along() {
    let world = sbx();
    let bundle = Bundle::new(&world, "cat").set("/process/terminal", json!(true));
    let socket = world.work().join("console");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let closing = std::thread::spawn(move || drop(listener.accept().expect("a connection")));
    // It may be gone before or after the terminal was sent.
    let code = bundle.behind("create", "a").arg("--console-socket").arg(&socket).finish().code();
    closing.join().expect("the thread");
    if code == 0 {
        // Nobody has the other end any more. The command may go on: the kernel keeps SIGHUP from the first of a PID namespace.
        let started = world.sbx(["oci", "start", "a"]).finish();
        assert!(started.code() <= 1, "{}", started.stderr());
        world.sbx(["oci", "delete", "--force", "a"]).succeed();
    } else {
        assert_eq!(code, 1);
    }
    nothing_is_left(&world);
}

#[test]
fn a_console_socket_at_which_nobody_accepts_is_not_waited_for_for_ever() {
    let world = sbx();
    let bundle = Bundle::new(&world, "tty").set("/process/terminal", json!(true));
    let path = world.work().join("console");
    let socket = |path: Option<&std::path::Path>| {
        let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
        if let Some(path) = path {
            rustix::net::connect(&socket, &SocketAddrUnix::new(path).expect("an address"))
                .expect("a connection");
        }
        socket
    };
    let listener = socket(None);
    rustix::net::bind(&listener, &SocketAddrUnix::new(&path).expect("an address")).expect("bound");
    rustix::net::listen(&listener, 0).expect("it listens");
    let _waiting = socket(Some(&path));
    let began = Instant::now();
    let create = bundle.verb("create", "a").arg("--console-socket").arg(&path).stdin("");
    create.expect_code(1).stderr_has("console").stderr_has("Hint: ");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    nothing_is_left(&world);
}

/// Whoever has the directory can put another record in the place of ours: none is made there that nobody could use.
#[test]
fn nothing_is_made_in_a_directory_of_somebody_else() {
    let world = sbx();
    let bundle = Bundle::new(&world, "true");
    let root = world.work().join("theirs");
    fs::create_dir(&root).expect("a directory");
    fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).expect("a mode");
    world.sbx(["unshare", "chown", "1:1"]).arg(&root).succeed();
    let run =
        world.sbx(["oci", "--root"]).arg(&root).args(["run", "--bundle"]).arg(&bundle.directory).arg("web");
    run.expect_code(1).stderr_has("belongs to user").stderr_has("--root");
    assert_eq!(fs::read_dir(&root).expect("readable").count(), 0, "a record is left");
}
