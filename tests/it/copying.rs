//! Files of containers on their way: cp, diff, commit and export, of running containers and of stopped ones.

mod changes;
mod commits;
mod crashes;
mod hostile;
mod rules;

use std::time::{Duration, Instant};

use crate::harness::{Sbx, images, sbx};

/// The image of most of these tests: busybox.
const IMAGE: &str = "docker.io/library/tool:1";

/// A world that has the image.
fn world() -> Sbx {
    let world = sbx();
    world.put_image(&images().busybox(), IMAGE);
    world
}

/// Runs a script in a container `box`, which has ended then.
fn stopped(world: &Sbx, options: &[&str], script: &str) {
    world
        .run(["--name", "box", "--net", "none"])
        .args(options)
        .args([IMAGE, "sh", "-c", script])
        .expect_code(0);
}

/// Runs a script in a container `box` that goes on until it is removed. The script says `ready` in a file of the log.
fn running(world: &Sbx, options: &[&str], script: &str) {
    let script = format!("{script}; echo ready; while :; do sleep 1; done");
    started(world, options, &script);
}

/// The same with a script that does not end by itself and says when it is ready.
fn started(world: &Sbx, options: &[&str], script: &str) {
    let run = world.run(["-d", "--name", "box", "--net", "none"]).args(options);
    run.args([IMAGE, "sh", "-c", script]).expect_code(0);
    let until = Instant::now() + Duration::from_secs(20);
    while !world.sbx(["logs", "box"]).expect_code(0).stdout().contains("ready") {
        assert!(Instant::now() < until, "the container never got ready");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn remove(world: &Sbx) {
    world.sbx(["rm", "-f", "-t", "0", "box"]).expect_code(0);
    world.assert_clean();
}

/// What a command sees in the stopped container's root.
fn listed(world: &Sbx, path: &str) -> String {
    let tar = world.sbx(["cp", &format!("box:{path}"), "-"]).expect_code(0);
    let listing = world.program("tar").args(["--numeric-owner", "-tv"]).stdin(tar.stdout_bytes());
    let text = listing.expect_code(0).stdout();
    // Mode, owner and name; times and sizes are others' affair.
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (mode, owner) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let name: Vec<&str> = words.skip(3).collect();
        format!("{mode} {owner} {}\n", name.join(" "))
    };
    text.lines().map(line).collect()
}
