//! A transfer that is killed, or finds no room, leaves nothing that the next command could take for whole.

use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::Signal;

use super::{files, layers, partial, registry_of};
use crate::harness::{Sbx, images, require, sbx};

fn seed() -> u64 {
    let given = std::env::var("SBX_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let now = || {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |time| time.subsec_nanos().into())
    };
    let seed = given.unwrap_or_else(now);
    eprintln!("SBX_TEST_SEED={seed}");
    seed
}

/// Kills the command at moments spread over the time that it takes, and then lets it run to its end.
fn killed_anywhere(arguments: &[&str], rounds: u64) {
    let mut random = seed() | 1;
    let whole = {
        let world = sbx();
        let started = Instant::now();
        world.sbx(arguments).expect_code(0);
        started.elapsed()
    };
    for round in 0..rounds {
        let mut world = sbx();
        world.allow_leftovers();
        for _ in 0..2 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let command = world.sbx(arguments).spawn();
            std::thread::sleep(whole.mul_f64((random % 1000) as f64 / 1000.0));
            command.signal(Signal::SIGKILL);
            let _ = command.finish();
        }
        world.sbx(arguments).expect_code(0);
        nothing_is_orphaned(&world, round);
    }
}

fn nothing_is_orphaned(world: &Sbx, round: u64) {
    world.sbx(["system", "prune", "-f"]).expect_code(0);
    assert_eq!(partial(world), Vec::<String>::new(), "round {round}");
    let hidden: Vec<String> = layers(world).into_iter().filter(|name| name.starts_with('.')).collect();
    assert_eq!(hidden, Vec::<String>::new(), "round {round}");
    for directory in ["leases", "trash"] {
        assert_eq!(files(&world.store().join(directory)), Vec::<String>::new(), "round {round}, {directory}");
    }
    let images = world.sbx(["images", "-q"]).succeed();
    assert_eq!(images.lines().count(), 1, "round {round}: {images}");
}

#[test]
fn a_killed_pull_can_be_repeated() {
    let world = sbx();
    let registry = registry_of(&world, &[(images().debian(), "test/debian:1")]);
    killed_anywhere(&["pull", "-q", &format!("{}/test/debian:1", registry.address())], 3);
}

#[test]
fn a_killed_load_can_be_repeated() {
    let world = sbx();
    for (kind, image, rounds) in
        [("docker-archive", images().debian(), 2), ("oci-archive", images().busybox_of("odd"), 5)]
    {
        let path = world.work().join(kind);
        let to = format!("{kind}:{}:test:1", path.display());
        let copy = ["--insecure-policy", "copy", "-q", &image.skopeo(), &to];
        world.program(require("skopeo")).args(copy).expect_code(0);
        killed_anywhere(&["load", "-q", "-i", &path.display().to_string()], rounds);
    }
}

#[test]
fn a_full_disk_leaves_no_half_layer() {
    let world = sbx();
    let registry = registry_of(&world, &[(images().debian(), "test/debian:1")]);
    let path = world.work().join("debian.tar");
    let to = format!("docker-archive:{}:test:1", path.display());
    let copy = ["--insecure-policy", "copy", "-q", &images().debian().skopeo(), &to];
    world.program(require("skopeo")).args(copy).expect_code(0);
    let pull = format!("pull -q {}/test/debian:1", registry.address());
    let load = format!("load -q -i {}", path.display());
    for (size, command) in [("8m", &pull), ("40m", &pull), ("90m", &pull), ("8m", &load), ("130m", &load)] {
        let script = format!(
            "set -e; mkdir -p store; mount -t tmpfs -o size={size},mode=700 none store
             if \"$SBX\" --root store {command} 2>said; then echo 'it had room'; exit 9; fi
             grep -q 'No space left on device' said || {{ cat said; exit 8; }}
             find store/layers -name fs | grep . && exit 7
             find store/layers -name '.new-*' | grep . && exit 6
             find store/trash store/leases -type f | grep . && exit 5
             test -z \"$(\"$SBX\" --root store images -q)\""
        );
        let unshared = ["--user", "--map-root-user", "--map-auto", "--mount", "sh", "-c", &script];
        let run = world.program(require("unshare")).args(unshared).env("SBX", crate::harness::sbx_binary());
        let run = run.timeout(Duration::from_secs(60)).finish();
        assert_eq!(run.code(), 0, "{size}, {command}: {}{}", run.stdout(), run.stderr());
    }
}
