//! Attacks on sbx itself: on its binary, on the processes beside the container, and on work that it does in a
//! volume while another container changes it.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags};

use super::super::harness::{sbx, sbx_binary};
use super::{run, run_on_host_image};

#[test]
fn no_image_gets_hold_of_the_sbx_that_runs_it() {
    let world = sbx();
    let copy = world.file("sbx", fs::read(sbx_binary()).expect("the binary"));
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("a mode");
    // What sbx would start in the container, with sbx as its parent.
    for helper in ["fuse-overlayfs", "slirp4netns", "pasta", "getsubids", "newuidmap"] {
        world.script(helper, "#!/bin/sh\nchmod 0711 /proc/1/exe\n");
    }
    world.script("script", "#!/proc/self/exe\n");
    world.script("nested-script", "#!/evil/script\n");
    symlink("/proc/self/exe", world.work().join("link")).expect("a symlink");
    let evil = format!("{}:/evil", world.work().display());
    for command in ["/proc/self/exe", "/proc/1/exe", "/evil/link", "/evil/script", "/evil/nested-script"] {
        let run =
            world.program(&copy).args(["run", "--rm", "--net", "none", "-v", &evil, "-e", "PATH=/evil:/bin"]);
        let _ =
            run.args(["host", command, "info"]).expect_code(126).stdout_is("").stderr_has("a link of /proc");
        let mode = copy.metadata().expect("the binary").mode() & 0o7777;
        assert_eq!(mode, 0o755, "{command} changed the binary of the host");
    }
}

#[test]
fn sbx_of_the_host_does_nothing_in_a_container_and_a_bound_one_works() {
    let world = sbx();
    // A descriptor that somebody handed in is one more way to it.
    let binary = sbx_binary();
    let passed = "import os, sys; os.execv('/proc/self/fd/0', ['sbx', 'version'])";
    let file = File::open(&binary).expect("the binary");
    let foreign =
        run_on_host_image(&world, &["-i", "--log-driver", "passthrough"], &["python3", "-c", passed]);
    let _ = foreign.stdin_from(Stdio::from(file)).expect_code(126).stderr_has("sbx of the host");
    let bound = format!("{}:/usr/bin/sbx:ro", binary.display());
    let own = run_on_host_image(&world, &["-v", &bound], &["/usr/bin/sbx", "version"]);
    let _ = own.expect_code(0).stdout_has("Version");
}

#[test]
fn a_standard_stream_that_is_a_directory_is_not_passed_through() {
    let world = sbx();
    let directory = File::open(world.directory()).expect("a directory");
    let _ = run(&world, &["-i", "--log-driver", "passthrough"], "cd -P /proc/self/fd/0/.. && ls")
        .stdin_from(Stdio::from(directory))
        .expect_code(125)
        .stdout_is("")
        .stderr_has("is a directory");
}

#[test]
fn who_may_trace_and_sees_the_host_does_not_reach_the_server_of_the_root() {
    let world = sbx();
    let secret = world.file("secret", "hunter2");
    let script = format!(
        "found=no; for process in /proc/[0-9]*; do
            case $(cat $process/comm) in fuse-overlayfs) found=yes; cat $process/root{} $process/environ;; esac
        done 2>/dev/null; echo $found",
        secret.display()
    );
    let flags = ["--pid", "host", "--cap-add", "SYS_PTRACE"];
    let _ = run_on_host_image(&world, &flags, &["sh", "-c", &script]).expect_code(0).stdout_is("yes\n");
    let flags = ["--pid", "host", "--privileged"];
    let _ = run_on_host_image(&world, &flags, &["sh", "-c", &script]).expect_code(0).stdout_is("yes\n");
}

/// Exchanges `one` and `other` until `attack` is over, as a second container on the same volume does.
fn exchanging(one: &Path, other: &Path, attack: impl FnOnce()) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).expect("an exchange");
            }
        });
        // Also when the attack panics, or the scope would wait for ever.
        let attacked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(attack));
        over.store(true, Ordering::Relaxed);
        if let Err(failure) = attacked {
            std::panic::resume_unwind(failure);
        }
    });
}

/// A directory of the host, a directory with the same names in a volume, and a symlink beside it to the former.
fn prepare(world: &super::super::harness::Sbx) -> (std::path::PathBuf, std::path::PathBuf) {
    let (secret, volume) = (world.directory().join("secret"), world.directory().join("outer/volume"));
    for directory in [&secret, &volume.join("one")] {
        fs::create_dir_all(directory).expect("a directory");
    }
    // Whoever it is given to, the exchanging goes on.
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o777)).expect("a mode");
    for number in 0..400 {
        for directory in [&secret, &volume.join("one")] {
            fs::write(directory.join(number.to_string()), directory.to_str().expect("a plain name"))
                .expect("a file");
        }
    }
    symlink(&secret, volume.join("two")).expect("a symlink");
    (secret, volume)
}

#[test]
fn changing_owners_in_a_volume_never_leaves_it() {
    let world = sbx();
    let (secret, volume) = prepare(&world);
    let own = secret.metadata().expect("a directory").uid();
    let bound = format!("{}:/v:U", volume.display());
    exchanging(&volume.join("one"), &volume.join("two"), || {
        for _ in 0..8 {
            // It may fail where a file is gone at the moment.
            let _ = run(&world, &["-v", &bound, "--user", "1000"], "true").finish();
        }
    });
    for entry in
        fs::read_dir(&secret).expect("a directory").flatten().map(|entry| entry.path()).chain([secret])
    {
        assert_eq!(
            entry.symlink_metadata().expect("a file").uid(),
            own,
            "{} was given away",
            entry.display()
        );
    }
    // The files have to go with the test.
    let back = format!("{}:/v:U", volume.display());
    let _ = run(&world, &["-v", &back], "true").expect_code(0);
}

#[test]
fn copying_into_a_tmpfs_never_reads_beside_the_volume() {
    let world = sbx();
    let (secret, volume) = prepare(&world);
    let bound = format!("{}:/o", volume.parent().expect("a directory above").display());
    exchanging(&volume.join("one"), &volume.join("two"), || {
        for _ in 0..8 {
            let script = "cat /o/volume/one/* /o/volume/two/* 2>/dev/null; true";
            let flags = ["-v", &bound, "--mount", "type=tmpfs,target=/o/volume,tmpcopyup"];
            let read = run(&world, &flags, script).finish().stdout();
            assert!(!read.contains(secret.to_str().expect("a plain name")), "a file of the host was copied");
        }
    });
}

#[test]
fn whoever_was_handed_the_output_of_a_container_does_not_keep_it_from_ending() {
    let world = sbx();
    let volume = world.directory().join("volume");
    fs::create_dir(&volume).expect("a directory");
    let hold = "import array, os, signal, socket, sys
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
listener = socket.socket(socket.AF_UNIX); listener.bind(sys.argv[1]); listener.listen()
print('listening', flush=True)
fds = socket.recv_fds(listener.accept()[0], 1, 1)[1]
[os.fork() for _ in range(3)]
while True: os.write(fds[0], b'x' * 65536)";
    let socket = volume.join("socket");
    let mut holder =
        world.program("python3").args(["-c", hold, socket.to_str().expect("a plain name")]).spawn();
    holder.wait_for_stdout("listening");
    let hand = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/v/socket'); socket.send_fds(s, [b'x'], [1])";
    // Slower than the writer, so that there always is more.
    let read = "import os, time\nwhile os.read(0, 4096): time.sleep(0.0005)";
    let pipe = format!("\"$@\" | python3 -c '{read}'");
    let run = world.program("sh").args(["-c", &pipe, "sh"]).arg(sbx_binary());
    let run = run.args(["run", "--rm", "--net", "none", "-v", &format!("{}:/v", volume.display()), "host"]);
    let _ = run.args(["python3", "-c", hand]).timeout(std::time::Duration::from_secs(10)).expect_code(0);
    // SIGPIPE: nobody reads any more.
    let _ = holder.finish();
}

#[test]
fn a_stopped_server_of_the_root_keeps_no_container_from_ending() {
    let world = sbx();
    let ready = "echo ready; while :; do cat /etc/passwd >/root/copy; done";
    let mut container =
        world.run(["--rm", "--net", "none", "--timeout", "2", "host", "sh", "-c", ready]).spawn();
    container.wait_for_stdout("ready");
    let stop = format!(
        "for child in $(pgrep -P $(pgrep -P {} sbx-monitor) fuse-overlayfs); do kill -STOP $child && echo $child; done",
        container.pid()
    );
    assert_ne!(world.program("sh").args(["-c", &stop]).succeed(), "", "no server was stopped");
    let stopped = std::time::Instant::now();
    let _ = container.finish().code_is(137);
    assert!(stopped.elapsed() < std::time::Duration::from_secs(8), "it took {:?}", stopped.elapsed());
}
