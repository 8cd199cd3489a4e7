//! kill -9 and full disks in the middle: nothing half-done is seen, and the next command works.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::sbx_binary;

use super::{listed, remove, running, stopped, world};

#[test]
fn a_killed_copy_leaves_whole_files_and_a_container_that_works() {
    for options in [&[][..], &["--storage-driver", "fuse-overlayfs"]] {
        let world = world();
        stopped(&world, options, "mkdir -p /srv");
        let content = "0123456789abcdef".repeat(64 << 10);
        for name in ["one", "two", "three"] {
            world.file(&format!("tree/{name}"), &content);
        }
        for round in 0..40_u64 {
            let copy = world.sbx(["cp", "-q", "tree", "box:/srv/"]).spawn();
            std::thread::sleep(Duration::from_millis(3 * round % 70));
            let _ = nix::sys::signal::kill(copy.pid(), Signal::SIGKILL);
            let _ = copy.finish();
            // Still what it was, whatever is left in the lock directory.
            assert!(world.sbx(["ps", "-a"]).expect_code(0).stdout().contains("Exited (0)"), "round {round}");
        }
        world.sbx(["cp", "-q", "tree/.", "box:/srv/tree"]).expect_code(0);
        let archive = world.sbx(["cp", "box:/srv", "-"]).expect_code(0);
        let sizes = world.program("tar").arg("-tv").stdin(archive.stdout_bytes()).expect_code(0).stdout();
        let files: Vec<&str> = sizes.lines().filter(|line| line.starts_with('-')).collect();
        assert_eq!(files.len(), 3, "{sizes}");
        assert!(files.iter().all(|line| line.contains(&format!(" {} ", content.len()))), "{sizes}");
        world.sbx(["start", "-a", "box"]).expect_code(0);
        remove(&world);
    }
}

#[test]
fn a_killed_copy_to_this_machine_leaves_whole_files_and_nothing_hidden() {
    let world = world();
    running(&world, &[], "mkdir -p /srv/d; for i in 1 2 3; do head -c 1000000 /dev/zero > /srv/d/$i; done");
    for round in 0..40_u64 {
        let copy = world.sbx(["cp", "-q", "box:/srv/d/.", "out"]).spawn();
        std::thread::sleep(Duration::from_micros(500 * round % 15000));
        let _ = nix::sys::signal::kill(copy.pid(), Signal::SIGKILL);
        let _ = copy.finish();
        for entry in fs::read_dir(world.work().join("out")).into_iter().flatten().flatten() {
            assert_eq!(entry.metadata().unwrap().len(), 1_000_000, "{:?}", entry.path());
        }
    }
    remove(&world);
}

#[test]
fn a_killed_commit_makes_no_image_and_the_next_one_does() {
    let world = world();
    stopped(&world, &[], "mkdir /srv; head -c 3000000 /dev/urandom > /srv/random; cp -a /bin /srv/bin");
    let mut made = 0;
    for round in 0..40_u64 {
        let commit = world.sbx(["commit", "-q", "box", "new:1"]).spawn();
        std::thread::sleep(Duration::from_millis(3 * round % 80));
        let _ = nix::sys::signal::kill(commit.pid(), Signal::SIGKILL);
        let _ = commit.finish();
        // An image that is there is whole.
        let run = world
            .run(["--rm", "--net", "none", "--pull", "never", "new:1", "wc", "-c", "/srv/random"])
            .finish();
        if run.code() == 0 {
            made += 1;
            run.stdout_is("3000000 /srv/random\n");
            world.sbx(["rmi", "new:1"]).expect_code(0);
        } else {
            run.code_is(125).stderr_has("not in the store");
        }
    }
    assert!(made < 40, "nothing was killed in time");
    world.sbx(["commit", "-q", "box", "new:1"]).expect_code(0);
    world.run(["--rm", "--net", "none", "new:1", "wc", "-c", "/srv/random"]).expect_code(0);
    world.sbx(["rm", "box"]).expect_code(0);
    world.sbx(["system", "prune", "-a", "-f"]).expect_code(0);
    world.assert_clean();
}

/// /dev/shm of the container is small: as full a disk as any.
#[test]
fn a_full_disk_is_named_and_nothing_half_written_stays() {
    let world = world();
    running(&world, &["--tmpfs", "/small:size=200k"], "true");
    world.file("large", vec![7_u8; 1 << 20]);
    let said = world.sbx(["cp", "large", "box:/small/"]).expect_code(125).stderr();
    assert!(said.contains("No space left on device") && said.contains("large"), "{said}");
    assert_eq!(listed(&world, "/small"), "drwxrwxrwt 0/0 small/\n");
    world.file("fits", "x");
    world.sbx(["cp", "fits", "box:/small/"]).expect_code(0);
    remove(&world);
}

/// A limit on the size of files stands for a disk that fills up.
#[test]
fn a_commit_that_finds_no_room_makes_nothing_and_the_next_one_does() {
    let world = world();
    stopped(&world, &[], "mkdir -p /srv; head -c 3000000 /dev/urandom > /srv/random");
    let script = "ulimit -f 1000; exec \"$0\" commit -q box new:1";
    let commit = world.program("sh").args(["-c", script]).arg(sbx_binary());
    commit.expect_code(125).stderr_has("File too large").stdout_is("");
    let none = world.run(["--rm", "--net", "none", "--pull", "never", "new:1", "true"]);
    none.expect_code(125).stderr_has("not in the store");
    world.sbx(["commit", "-q", "box", "new:1"]).expect_code(0);
    world.run(["--rm", "--net", "none", "new:1", "wc", "-c", "/srv/random"]).expect_code(0);
    remove(&world);
}

#[test]
fn commands_that_meet_at_one_stopped_container_take_turns() {
    let world = world();
    stopped(&world, &[], "mkdir -p /srv");
    world.file("tree/f", "x");
    let copies: Vec<_> = (0..6)
        .map(|number| {
            let target = format!("box:/srv/{number}");
            world.sbx(["cp", "-q", "tree", &target]).spawn()
        })
        .collect();
    let start = world.sbx(["start", "-a", "box"]).spawn();
    for copy in copies {
        let _ = copy.finish().code_is(0);
    }
    let _ = start.finish().code_is(0);
    let all = listed(&world, "/srv");
    assert!((0..6).all(|number| all.contains(&format!("srv/{number}/f\n"))), "{all}");
    world.sbx(["rm", "box"]).expect_code(0);
    world.assert_clean();
}
