//! Many commands at once, and kill -9 at any moment: no volume is removed that somebody has, none is half-filled.

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{directory, in_image, names, odd, parts, shell};
use crate::harness::sbx;

#[test]
fn containers_that_start_at_once_fill_a_volume_once() {
    let world = odd();
    // Unpacked before they race.
    in_image(&world, &[], "true").succeed();
    let script = "echo $(ls /odd | wc -l); echo me >>/odd/log";
    let all: Vec<_> = (0..6).map(|_| in_image(&world, &["-v", "new:/odd"], script).spawn()).collect();
    for one in all {
        let count = one.finish().code_is(0).stdout();
        // The log is the twelfth.
        assert!(["11\n", "12\n"].contains(&count.as_str()), "{count}");
    }
    assert_eq!(in_image(&world, &["-v", "new:/odd"], "wc -l </odd/log").succeed().trim(), "6");
    assert!(!directory(&world, "new").join("_copy").exists());
}

#[test]
fn a_volume_is_never_taken_from_a_container_that_is_being_made() {
    let world = sbx();
    let done = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        let remover = scope.spawn(|| {
            let mut removed = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let ended = world.sbx(["volume", "rm", "v"]).finish();
                assert!([0, 1, 2].contains(&ended.code()), "{}", ended.stderr());
                removed += usize::from(ended.code() == 0);
            }
            removed
        });
        for _ in 0..15 {
            // What is written is read again before the volume may go.
            shell(&world, &["-v", "v:/v"], "echo here >/v/f; sleep 0.02; cat /v/f")
                .expect_code(0)
                .stdout_is("here\n");
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(remover.join().expect("it asserts") > 0, "the two never met");
    });
    let _ = world.sbx(["volume", "rm", "-f", "v"]).finish();
    assert_eq!((names(&world).len(), parts(&world)), (0, 0));
    world.assert_clean();
}

#[test]
fn killed_at_any_moment_a_first_use_leaves_all_or_nothing() {
    let world = odd();
    in_image(&world, &[], "true").succeed();
    for step in 0..20_u64 {
        let running = in_image(&world, &["-v", "new:/odd", "-v", "/anonymous"], "true").spawn();
        thread::sleep(Duration::from_millis(step * 5));
        for process in world.leftovers().processes {
            let _ = nix::sys::signal::kill(process.pid, Signal::SIGKILL);
        }
        let _ = running.finish();
        let seen = in_image(&world, &["-v", "new:/odd"], "ls /odd | wc -l").succeed();
        assert_eq!(seen.trim(), "11", "killed after {} ms", step * 5);
        let left = directory(&world, "new");
        assert!(!left.join("_copy").exists() && !left.join("fresh").exists());
        assert_eq!(names(&world), ["new"], "killed after {} ms", step * 5);
        world.sbx(["volume", "rm", "new"]).succeed();
        assert_eq!(parts(&world), 0);
    }
    world.assert_clean();
}

#[test]
fn killed_at_any_moment_create_and_rm_leave_all_or_nothing() {
    let world = sbx();
    for step in 0..40_u64 {
        for words in [&["volume", "create", "--label", "a=b", "v"][..], &["volume", "rm", "v"]] {
            let running = world.sbx(words).spawn();
            thread::sleep(Duration::from_micros(step * 250));
            running.signal(Signal::SIGKILL);
            let _ = running.finish();
            if world.sbx(["volume", "exists", "v"]).finish().code() == 0 {
                assert_eq!(world.sbx(["volume", "inspect", "-f", "{{.Labels.a}}", "v"]).succeed(), "b");
                assert!(directory(&world, "v").join("_data").is_dir());
            }
        }
        world.sbx(["volume", "rm", "-f", "v"]).succeed();
        assert_eq!(parts(&world), 0);
    }
}
