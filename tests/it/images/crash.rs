//! A hundred at once, kill -9, and a full disk.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::removal::orphans;
use crate::harness::{Sbx, image, require, sbx};

/// xorshift64*: the same numbers for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

fn seed() -> u64 {
    let given = std::env::var("SBX_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
        now.as_nanos() as u64
    });
    println!("SBX_TEST_SEED={seed}");
    seed
}

#[test]
fn a_hundred_taggers_at_once_lose_no_name() {
    let world = sbx();
    image().layer(|tar| tar.file("a", "1")).load(&world, "a");
    let taggers: Vec<_> = (0..100).map(|at| world.sbx(["tag", "a", &format!("tag:{at}")]).spawn()).collect();
    taggers.into_iter().for_each(|tagger| drop(tagger.finish().code_is(0).stderr_is("")));
    assert_eq!(world.sbx(["images", "tag", "--noheading"]).succeed().lines().count(), 100);
}

#[test]
fn after_a_kill_the_same_command_succeeds_and_a_prune_leaves_nothing() {
    let mut world = sbx();
    world.allow_leftovers();
    let layout = world.work().join("layout");
    let noise: String =
        (0..200_000_u64).map(|at| format!("{}", at.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    image()
        .runnable()
        .layer(|tar| (0..50).for_each(|at| tar.file(&format!("f{at}"), &noise[at..60_000 + at])))
        .write(&layout, "x:1");
    image().layer(|tar| tar.file("kept", "1")).load(&world, "kept");
    let layout = layout.display().to_string();
    let commands: [&[&str]; 4] = [
        &["load", "-q", "-i", &layout],
        &["tag", "x:1", "y:1"],
        &["rmi", "-f", "x:1"],
        &["system", "prune", "-af"],
    ];
    let mut random = Random(seed() | 1);
    for round in 0..40 {
        let words = commands[random.below(4) as usize];
        let running = world.sbx(words).stdin_from(Stdio::null()).spawn();
        std::thread::sleep(Duration::from_micros(random.below(60_000)));
        running.signal(Signal::SIGKILL);
        let _ = running.finish();
        // Whatever state it left: the list can be read, and each command goes through.
        world.sbx(["images"]).expect_code(0).stderr_is("");
        if round % 4 == 0 {
            world.sbx(commands[0]).expect_code(0);
            assert_eq!(
                world.sbx(["run", "--rm", "--net=none", "x:1", "sh", "-c", "wc -c </f7"]).succeed(),
                "60000",
                "{words:?}"
            );
            world.sbx(["tag", "x:1", "y:1"]).succeed();
            world.sbx(["system", "prune", "-f"]).expect_code(0);
            assert_eq!(orphans(&world), "0", "after {words:?}");
        }
    }
    world.sbx(["rmi", "-f", "-a"]).expect_code(0);
    world.sbx(["system", "prune", "-af"]).expect_code(0);
    assert_eq!(orphans(&world), "0");
    for part in ["oci/blobs/sha256", "oci/partial", "trash", "leases"] {
        assert_eq!(fs::read_dir(world.store().join(part)).expect(part).count(), 0, "{part}");
    }
}

#[test]
fn prunes_beside_runs_and_loads_take_nothing_that_is_in_use() {
    let world = sbx();
    let layouts: Vec<String> = (0..3)
        .map(|at| {
            let layout = world.work().join(format!("layout{at}"));
            image()
                .runnable()
                .layer(|tar| tar.file("which", format!("{at}")))
                .write(&layout, &format!("i{at}:1"));
            layout.display().to_string()
        })
        .collect();
    std::thread::scope(|scope| {
        for (at, layout) in layouts.iter().enumerate() {
            let world = &world;
            scope.spawn(move || {
                for _ in 0..5 {
                    world.sbx(["load", "-q", "-i", layout]).expect_code(0);
                    let name = format!("i{at}:1");
                    let ran = world
                        .sbx(["run", "--rm", "--net=none", "--pull=never", &name, "cat", "/which"])
                        .finish();
                    // Between the two the image may have been pruned, but never half of it.
                    let gone = ran.code() == 125 && ran.stderr().contains(&name);
                    assert!(ran.stdout() == at.to_string() || gone, "{} {}", ran.stdout(), ran.stderr());
                    assert!(
                        !ran.stderr().contains("damaged") && !ran.stderr().contains("No such file"),
                        "{}",
                        ran.stderr()
                    );
                }
            });
        }
        for _ in 0..2 {
            let world = &world;
            scope.spawn(move || {
                (0..10).for_each(|_| drop(world.sbx(["system", "prune", "-af"]).expect_code(0)));
            });
        }
    });
    world.sbx(["system", "prune", "-af"]).expect_code(0);
    assert_eq!(orphans(&world), "0");
    world.assert_clean();
}

/// Runs a script in a user and mount namespace with a tmpfs of this size on `work/small`.
fn on_small_disk(world: &Sbx, size: &str, script: &str) -> String {
    require("unshare");
    fs::create_dir_all(world.work().join("small")).expect("a directory");
    let sbx = crate::harness::sbx_binary();
    let script = format!(
        "set -u; mount -t tmpfs -o size={size} none small || exit 99; sbx() {{ {} --root small/store \"$@\"; }}; {script}",
        sbx.display()
    );
    let words = ["--user", "--map-root-user", "--mount", "sh", "-c", &script];
    world.program("unshare").args(words).expect_code(0).stdout()
}

#[test]
fn a_full_disk_leaves_the_last_good_state() {
    let world = sbx();
    let layout = world.work().join("layout");
    image().layer(|tar| tar.file("a", "1")).write(&layout, "a:1");
    let script = "
        sbx load -q -i layout || exit 1
        dd if=/dev/zero of=small/fill bs=64k 2>/dev/null
        dd if=/dev/zero of=small/fill2 bs=1 2>/dev/null
        sbx tag a:1 $(seq -f b:%g 200) 2>said; echo tag $?
        cat said
        sbx images --format '{{.Repository}}:{{.Tag}}'
        rm small/fill2
        sbx rmi a:1 >/dev/null; echo rmi $?
        sbx system df --format '{{.Type}} {{.Total}}'
        rm small/fill
        sbx load -q -i layout && sbx tag a:1 b:1 && sbx images -q b";
    let said = on_small_disk(&world, "2m", script);
    assert!(said.contains("tag 125\n") && said.contains("No space left"), "{said}");
    assert!(said.contains("free some space there"), "{said}");
    assert!(said.contains("\na:1\n"), "the list is as it was: {said}");
    assert!(!said.contains("b:7"), "{said}");
    assert!(
        said.contains("rmi 0\n") && said.contains("Images 0\n") && said.contains("Orphans 0\n"),
        "{said}"
    );
}

#[test]
fn a_prune_on_a_full_disk_makes_room() {
    let world = sbx();
    let layout = world.work().join("layout");
    image().layer(|tar| tar.file("a", "1")).write(&layout, "a:1");
    let script = "
        sbx load -q -i layout && sbx rmi --no-prune a:1 || exit 1
        at=0; while mkdir small/fill$at 2>/dev/null; do at=$((at + 1)); done
        mkdir small/store/trash/x 2>/dev/null && echo room
        sbx system prune -f; echo prune $?
        ls -A small/store/layers/* small/store/oci/blobs/sha256";
    let said = on_small_disk(&world, "2m,nr_inodes=100", script);
    assert!(
        said.contains("deleted: sha256:") && said.contains("prune 0\n") && !said.contains("room"),
        "{said}"
    );
    assert!(said.ends_with(":\n\nsmall/store/oci/blobs/sha256:\n"), "nothing is left: {said}");
}
