//! Builds that are interrupted, killed, out of room, or not alone: what they leave is whole or is not there.

use std::fs;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, killpg};

use super::{Kitchen, kitchen};
use crate::harness::{Running, images, require, sbx_binary};

const SLEEPS: &str = "FROM base\nRUN echo one >/one\nRUN echo started; trap '' TERM; sleep 1000\n";
const STAGES: &str = "FROM base AS a\nRUN echo started; trap '' TERM; sleep 1000\nFROM base AS b\nRUN echo started; sleep 1001\n\
    FROM base\nCOPY --from=a /bin/sh /a\nCOPY --from=b /bin/sh /b\n";

/// Waits until so many commands of builds run.
fn wait_for_commands(kitchen: &Kitchen, build: &mut Running<'_>, count: usize) {
    let until = Instant::now() + Duration::from_secs(60);
    let started = || {
        let listed = kitchen.world.sbx(["ps", "--no-trunc", "--format", "{{.Command}}"]).succeed();
        listed.lines().filter(|line| line.contains("sleep 100")).count()
    };
    while started() < count {
        assert!(Instant::now() < until && build.is_running(), "the commands do not start");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// As a terminal does it, to the whole group, and as `kill` does, to the one process.
#[test]
fn an_interrupted_build_ends_at_once_and_leaves_nothing() {
    let kitchen = kitchen();
    for (dockerfile, commands) in [(SLEEPS, 1), (STAGES, 2)] {
        for (signal, group) in [
            (Signal::SIGINT, true),
            (Signal::SIGINT, false),
            (Signal::SIGTERM, false),
            (Signal::SIGHUP, true),
        ] {
            let mut build = kitchen.build(dockerfile, &["--jobs", "2"]).spawn();
            wait_for_commands(&kitchen, &mut build, commands);
            let sent = Instant::now();
            if group {
                killpg(build.pid(), signal).expect("a group");
            } else {
                build.signal(signal);
            }
            drop(build.finish().code_is(128 + signal as i32).stdout_is(""));
            assert!(sent.elapsed() < Duration::from_secs(5), "{signal}: {:?}", sent.elapsed());
            // At once: nothing of it runs, and no record of it is there.
            assert_eq!(kitchen.world.sbx(["ps", "-aq"]).succeed(), "", "{signal} {group}");
            kitchen.world.assert_clean();
        }
    }
    let again = kitchen.build(&SLEEPS.replace("sleep 1000", "true"), &[]).expect_code(0);
    assert_eq!(again.stderr().matches("Using cache").count(), 1, "{}", again.stderr());
}

#[test]
fn the_command_of_a_killed_build_ends_at_once() {
    let mut kitchen = kitchen();
    kitchen.world.allow_leftovers();
    let mut build = kitchen.build(SLEEPS, &[]).spawn();
    wait_for_commands(&kitchen, &mut build, 1);
    build.signal(Signal::SIGKILL);
    let killed = Instant::now();
    let _ = build.finish();
    while kitchen.world.sbx(["ps", "-q"]).succeed() != "" {
        assert!(killed.elapsed() < Duration::from_secs(5), "it still runs");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// xorshift64*: the same numbers for the same seed.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let given = std::env::var("SBX_TEST_SEED").ok().and_then(|text| text.parse().ok());
        let now = || {
            SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(1, |now| now.subsec_nanos().into())
        };
        let seed = given.unwrap_or_else(now);
        println!("SBX_TEST_SEED={seed}");
        Self(seed | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// Every kind of step, with nothing in it that differs from one build to the next.
const EVERYTHING: &str = "FROM base AS one\nCOPY tree /tree\nRUN cat /tree/* >/all && chown 7:8 /all\n\
    FROM base AS two\nRUN rm -r /var/www && ln -s /tree /l && mkdir -m 700 /d\nFROM one\nWORKDIR /work\nCOPY --from=two /d /d\n\
    RUN --mount=type=cache,target=/c echo x >>/c/x; rm /tree/7\nENTRYPOINT [\"cat\"]\n";

#[test]
fn after_a_kill_at_any_moment_the_same_image_is_built() {
    let mut kitchen = kitchen();
    kitchen.world.allow_leftovers();
    for at in 0..30 {
        kitchen.file(&format!("tree/{at}"), &"x".repeat(at * 1000));
    }
    // What another tool has put there is kept for an hour.
    let before: Vec<String> = PARTS.iter().flat_map(|part| names_in(&kitchen, part)).collect();
    let options = ["-q", "--timestamp", "1700000000"];
    let whole = Instant::now();
    let digest = kitchen.build(EVERYTHING, &options).succeed();
    let whole = whole.elapsed().as_micros() as u64;
    let mut random = Random::new();
    for round in 0..12 {
        kitchen.world.sbx(["builder", "prune", "-af"]).expect_code(0);
        kitchen.world.sbx(["rmi", "-f", &digest]).expect_code(0);
        let build = kitchen.build(EVERYTHING, &options).spawn();
        std::thread::sleep(Duration::from_micros(random.below(whole + whole / 4)));
        // The process that was started, or all of its group, as the kernel does it when memory is short.
        if round % 2 == 0 {
            build.signal(Signal::SIGKILL);
        } else {
            let _ = killpg(build.pid(), Signal::SIGKILL);
        }
        let _ = build.finish();
        assert_eq!(kitchen.build(EVERYTHING, &options).succeed(), digest, "round {round}");
        assert_eq!(kitchen.world.sbx(["ps", "-aq"]).succeed(), "", "round {round}");
    }
    kitchen.world.sbx(["builder", "prune", "-af"]).expect_code(0);
    kitchen.world.sbx(["rmi", "-f", "-a"]).expect_code(0);
    kitchen.world.sbx(["system", "prune", "-af"]).expect_code(0);
    kitchen.world.assert_clean();
    for part in PARTS {
        let new: Vec<_> =
            names_in(&kitchen, part).into_iter().filter(|name| !before.contains(name)).collect();
        assert!(new.is_empty(), "{part}: {new:?}");
    }
}

/// Where a build writes.
const PARTS: [&str; 6] = ["oci/blobs/sha256", "oci/partial", "trash", "leases", "names", "build/steps"];

fn names_in(kitchen: &Kitchen, part: &str) -> Vec<String> {
    let entries = fs::read_dir(kitchen.world.store().join(part)).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn builds_of_the_same_file_at_once_make_the_same_image() {
    let kitchen = kitchen();
    for at in 0..30 {
        kitchen.file(&format!("tree/{at}"), &"x".repeat(at * 1000));
    }
    let builds: Vec<_> = (0..4)
        .map(|_| kitchen.build(EVERYTHING, &["-q", "-t", "made", "--timestamp", "1700000000"]).spawn())
        .collect();
    let ids: Vec<String> = builds.into_iter().map(|build| build.finish().code_is(0).stdout()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(kitchen.world.sbx(["images", "-q", "made"]).succeed().lines().count(), 1);
    kitchen.world.assert_clean();
}

#[test]
fn a_build_beside_prunes_ends_well() {
    let kitchen = kitchen();
    for at in 0..30 {
        kitchen.file(&format!("tree/{at}"), &"x".repeat(at * 1000));
    }
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                kitchen.world.sbx(["builder", "prune", "-af"]).expect_code(0);
                kitchen.world.sbx(["image", "prune", "-f"]).expect_code(0);
                kitchen.world.sbx(["container", "prune", "-f"]).expect_code(0);
            }
        });
        let ends = Ends(&over);
        for _ in 0..4 {
            let id = kitchen.build(EVERYTHING, &["-q", "-t", "made"]).succeed();
            let words = ["--rm", "--net", "none", "--entrypoint", "stat", &id, "-c", "%u:%g", "/all"];
            assert_eq!(kitchen.world.run(words).succeed(), "7:8");
        }
        drop(ends);
    });
    kitchen.world.assert_clean();
}

/// Ends the other thread, also when this one fails.
pub(super) struct Ends<'o>(pub &'o std::sync::atomic::AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn a_full_disk_is_named_and_room_makes_it_whole() {
    let kitchen = kitchen();
    for program in ["unshare", "fuse-overlayfs", "python3"] {
        require(program);
    }
    let world = &kitchen.world;
    fs::create_dir_all(world.work().join("small")).expect("a directory");
    kitchen.file("context/data", &"x".repeat(200_000));
    kitchen.file(
        "context/Dockerfile",
        "FROM base\nCOPY data /data\nRUN cat /data /data /data >/more\nRUN rm /data\n",
    );
    kitchen.file("other/Dockerfile", "FROM base\nRUN head -c 100000000 /dev/zero >/large\n");
    let script = format!(
        "set -u; mount -t tmpfs -o size=16m none small || exit 99; sbx() {{ {} --root small/store \"$@\"; }}
         mkdir small/store && skopeo copy --quiet {} oci:small/store/oci:docker.io/library/base:latest || exit 98
         sbx build -q --network none --timestamp 1 context >first || exit 97
         sbx builder prune -af >/dev/null; sbx rmi -f $(cat first) >/dev/null
         python3 -c 'import os; os.setxattr(\"small/store\", \"user.sbx\", b\"1\")' 2>/dev/null && echo attributes
         for driver in auto fuse-overlayfs; do
             sbx build --network none --storage-driver $driver other 2>said
             echo $driver $?; grep -oE 'exit code 1$|No space left' said
         done
         for free in 0 100 400 800 1500; do
             dd if=/dev/zero of=small/fill bs=64k 2>/dev/null; dd if=/dev/zero of=small/fill2 bs=1 2>/dev/null
             truncate -s -${{free}}K small/fill; rm small/fill2
             sbx build -q --network none --timestamp 1 context 2>said >id; code=$?
             echo free $free code $code $(grep -c 'No space left' said)
             [ $code -eq 0 ] || cat said
             rm small/fill; sbx ps -aq; sbx builder prune -af >/dev/null
         done
         sbx build -q --network none --timestamp 1 context >second && cmp first second && echo same
         sbx system df --format '{{{{.Type}}}} {{{{.Total}}}}'",
        sbx_binary().display(),
        images().busybox().skopeo()
    );
    let words = ["--user", "--map-root-user", "--mount", "sh", "-c", &script];
    let said = world.program("unshare").args(words).expect_code(0).stdout();
    // What the command itself is out of room for is its own failure; it has told. Where a tmpfs takes no attributes, before
    // Linux 6.6, what it writes lies elsewhere, and the layer is what finds no room.
    let (code, words) =
        if said.contains("attributes\n") { (1, "exit code 1") } else { (125, "No space left") };
    for driver in ["auto", "fuse-overlayfs"] {
        assert!(said.contains(&format!("{driver} {code}\n{words}\n")), "{said}");
    }
    assert!(said.contains("free 0 code 125 1\n"), "{said}");
    assert!(said.contains("same\n"), "{said}");
    for line in said.lines().filter(|line| line.starts_with("free")) {
        assert!(
            line.ends_with("code 0 0") || line.contains("code 125 1") || line.contains("code 1 "),
            "{said}"
        );
    }
}
