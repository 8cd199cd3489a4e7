//! /dev, and what `--device` and `--shm-size` change in it.

use crate::harness::{Run, Sbx, rootfs, sbx};

fn shell<'w>(world: &'w Sbx, flags: &[&str], script: &str) -> Run<'w> {
    let run = world.run(["--rm", "--net", "none"]).args(flags);
    run.arg("--rootfs").arg(rootfs()).args(["sh", "-c", script])
}

#[test]
fn dev_holds_what_every_program_expects_and_no_more() {
    let world = sbx();
    let listed = shell(&world, &[], "ls /dev; stat -c %a /dev").succeed();
    let expected = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero 755";
    assert_eq!(listed.split('\n').collect::<Vec<_>>().join(" "), expected);
}

#[test]
fn the_harmless_nodes_work() {
    let world = sbx();
    let script = "echo x > /dev/null; cat /dev/null; head -c 3 /dev/zero | wc -c; head -c 5 /dev/urandom | wc -c; \
        head -c 5 /dev/random | wc -c; { echo x > /dev/full; } 2>&1; echo y > /dev/stdout; stat -c %t:%T /dev/tty; \
        echo through | cat /dev/stdin; ls /dev/fd | head -1";
    let seen = shell(&world, &[], script).succeed();
    assert_eq!(seen, "3\n5\n5\nsh: write error: No space left on device\ny\n5:0\nthrough\n0");
}

#[test]
fn terminals_of_the_container_are_its_own() {
    let world = sbx();
    let script = "ls -l /dev/ptmx | grep -c 'pts/ptmx'; ls /dev/pts; stat -c %a /dev/pts/ptmx; \
        exec 3<>/dev/ptmx; ls /dev/pts";
    assert_eq!(shell(&world, &[], script).succeed(), "1\nptmx\n666\n0\nptmx");
}

#[test]
fn shared_memory_has_the_size_asked_for() {
    let world = sbx();
    let size = "df -k /dev/shm | tail -1 | awk '{print $2}'; stat -c %a /dev/shm";
    assert_eq!(shell(&world, &[], size).succeed(), "65536\n1777");
    assert_eq!(shell(&world, &["--shm-size", "1m"], size).succeed(), "1024\n1777");
    let full = "dd if=/dev/zero of=/dev/shm/x bs=1k count=2000 2>/dev/null; stat -c %s /dev/shm/x";
    assert_eq!(shell(&world, &["--shm-size", "1m"], full).succeed(), "1048576");
    let _ = shell(&world, &["--shm-size", "lots"], "true").expect_code(125).stderr_has("lots");
}

#[test]
fn shared_memory_and_queues_of_two_containers_are_apart() {
    let world = sbx();
    let mut one =
        shell(&world, &[], "echo x > /dev/shm/x; touch /dev/mqueue/q; echo up; exec sleep 1000").spawn();
    one.wait_for_stdout("up");
    let seen = shell(&world, &[], "ls /dev/shm /dev/mqueue").succeed();
    assert_eq!(seen, "/dev/mqueue:\n\n/dev/shm:");
    assert!(!std::path::Path::new("/dev/shm/x").exists());
    let init = loop {
        let left = world.leftovers();
        if let Some(init) = left.processes.iter().find(|process| process.command == "sleep 1000") {
            break init.pid;
        }
    };
    nix::sys::signal::kill(init, nix::sys::signal::Signal::SIGKILL).expect("it may be killed");
    let _ = one.finish().code_is(137);
}

#[test]
fn a_device_of_the_host_is_brought_in() {
    let world = sbx();
    let flags = [
        "--device",
        "/dev/fuse",
        "--device",
        "/dev/null:/dev/hole",
        "--device",
        "/dev/zero:/opt/deep/zero:rwm",
    ];
    let script = "stat -c '%F %t:%T' /dev/fuse /dev/hole /opt/deep/zero; echo x > /dev/hole; head -c 2 /opt/deep/zero | wc -c";
    assert_eq!(
        shell(&world, &flags, script).succeed(),
        "character special file a:e5\ncharacter special file 1:3\ncharacter special file 1:5\n2"
    );
    assert!(!rootfs().join("opt/deep").exists());
}

#[test]
fn no_other_device_can_be_made() {
    let world = sbx();
    let made = shell(&world, &["--cap-add", "MKNOD"], "mknod /dev/own c 1 3");
    let _ = made.expect_code(1).stderr_has("Operation not permitted");
    world.file("plain", "");
    let nodes = shell(&world, &["--tmpfs", "/t"], "mknod /t/own b 254 0");
    let _ = nodes.expect_code(1).stderr_has("Operation not permitted");
}

#[test]
fn a_device_that_cannot_be_had_is_refused() {
    let world = sbx();
    world.file("plain", "");
    let plain = format!("{}/plain:/dev/plain", world.work().display());
    for (device, words) in [
        ("/dev/no-such", "No such file or directory"),
        (plain.as_str(), "it is not a device"),
        ("/dev/fuse:r", "writing cannot be taken away"),
        ("/dev/fuse:/dev/fuse:w", "reading cannot be taken away"),
        ("fuse", "not an absolute path"),
    ] {
        let _ = shell(&world, &["--device", device], "true").expect_code(125).stderr_has(words).stdout_is("");
    }
    world.assert_clean();
}

#[test]
fn privileged_brings_in_every_device() {
    let world = sbx();
    let script = "[ -c /dev/fuse ] && echo fuse; ls /dev/pts; touch /sys/x 2>&1 | grep -c Read-only";
    let ended = shell(&world, &["--privileged"], script).finish();
    let _ = ended.stdout_has("fuse\nptmx\n0\n");
}
