//! Trees deeper than any path and any limit of descriptors, which containers make as they like: they are removed like others, and what
//! cannot be done with them is refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::harness::{Run, Sbx, images, rootfs, sbx, sbx_binary};

/// More directories in one another than a process may open.
const DEEP: usize = 3;
/// More than the hard limit of most.
const VERY_DEEP: usize = 12;
/// How many times 1900 directories lie in one another in `deep`, with a file of 1000 bytes at the bottom. It is put together from below, so
/// that no path gets long.
fn make(times: usize) -> String {
    format!(
        "p=$(printf 'd/%.0s' $(seq 1900)); mkdir deep; head -c 1000 /dev/zero >deep/file; \
         for i in $(seq {times}); do mkdir -p next/$p && mv deep next/$p && mv next deep || exit 9; done"
    )
}

/// `sbx ARGS…` where a process may open 1024 files, and another one no more than it has to.
fn limited<'w>(world: &'w Sbx, args: &[&str]) -> Run<'w> {
    let run = world.program("sh").args(["-c", "ulimit -Sn 1024; exec \"$@\"", "sh"]);
    run.arg(sbx_binary()).args(args).timeout(Duration::from_secs(120))
}

/// A container of this name that has made a tree in /srv.
fn made(world: &Sbx, name: &str, times: usize, flags: &[&str]) {
    let run = world.run(["--net", "none", "--name", name, "--workdir", "/srv"]).args(flags);
    run.arg("--rootfs").arg(rootfs()).args(["sh", "-c", &make(times)]).expect_code(0);
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_none())
}

#[test]
fn a_container_is_removed_however_deep_its_directories_are() {
    let world = sbx();
    made(&world, "deep", DEEP, &[]);
    made(&world, "deeper", VERY_DEEP, &[]);
    // The image `host` and other maps are served by fuse-overlayfs.
    made(&world, "mapped", DEEP, &["--userns", "auto"]);
    made(&world, "plain", 0, &[]);
    limited(&world, &["rm", "deep", "mapped", "plain"]).expect_code(0).stderr_is("");
    world.sbx(["rm", "deeper"]).expect_code(0).stderr_is("");
    assert!(is_empty(&world.store().join("containers")));
    made(&world, "goes", DEEP, &["--rm"]);
    world.assert_clean();
}

#[test]
fn what_is_in_deep_directories_is_counted() {
    let world = sbx();
    made(&world, "deep", DEEP, &["-v", "data:/data", "-w", "/data"]);
    made(&world, "deeper", VERY_DEEP, &[]);
    limited(&world, &["ps", "-as", "--format", "{{.Names}} {{.Size}}"])
        .expect_code(0)
        .stdout_has("deeper 1kB");
    let volumes = limited(&world, &["system", "df", "--format", "{{.Type}} {{.Size}}"]).expect_code(0);
    volumes.stdout_has("Containers 1kB").stdout_has("Local Volumes 1kB");
    world.sbx(["rm", "-a"]).expect_code(0);
    world.sbx(["volume", "rm", "data"]).expect_code(0);
}

#[test]
fn a_volume_is_removed_and_given_away_however_deep_its_directories_are() {
    let world = sbx();
    for (name, times) in [("deep", DEEP), ("deeper", VERY_DEEP)] {
        made(&world, name, times, &["--rm", "-v", &format!("{name}:/srv")]);
    }
    let given = world.run(["--rm", "--net", "none", "--user", "33", "-v", "deep:/srv:U"]);
    let given = given.arg("--rootfs").arg(rootfs());
    given.args(["sh", "-c", "cd /srv/deep/d/d && touch new"]).expect_code(0);
    limited(&world, &["volume", "rm", "deep"]).expect_code(0).stderr_is("");
    world.sbx(["volume", "rm", "deeper"]).expect_code(0).stderr_is("");
    // Those without a name go with the container.
    made(&world, "anonymous", DEEP, &["--rm", "-v", "/srv"]);
    assert_eq!(world.sbx(["volume", "ls", "-q"]).succeed(), "");
    assert!(is_empty(&world.store().join("volumes/.part")));
    world.assert_clean();
}

#[test]
fn archives_and_layers_of_very_deep_directories_are_refused_and_nothing_is_left_of_them() {
    let world = sbx();
    world.put_image(&images().busybox(), "docker.io/library/base:latest");
    let out = world.work().join("out");
    for (times, flags) in [(DEEP, &["-w", "/srv"]), (VERY_DEEP, &["-w", "/opt"])] {
        let run = world.run(["--net", "none", "--name", "deep"]).args(flags);
        run.args(["base", "sh", "-c", &make(times)]).expect_code(0);
        let copied = out.display().to_string();
        let archive = world.work().join("archive").display().to_string();
        let from = format!("deep:{}", flags[1]);
        for command in [
            &["commit", "deep", "new"][..],
            &["diff", "deep"],
            &["export", "-o", &archive, "deep"],
            &["cp", &from, &copied],
        ] {
            let failed = limited(&world, command).expect_code(125);
            failed.stderr_has("it lies more than 500 directories deep").stderr_has("Hint: ");
        }
        assert_eq!(world.sbx(["image", "ls", "-q"]).succeed().lines().count(), 1);
        assert!(!Path::new(&archive).exists(), "half an archive is left");
        limited(&world, &["rm", "deep"]).expect_code(0);
        let _ = fs::remove_dir_all(&out);
    }
    world.assert_clean();
}

/// A context with a Dockerfile, and the image `base`.
fn context(world: &Sbx, dockerfile: &str) -> PathBuf {
    if !world.store().join("oci").exists() {
        world.put_image(&images().busybox(), "docker.io/library/base:latest");
    }
    world.file("context/Dockerfile", dockerfile);
    world.work().join("context")
}

fn build<'w>(world: &'w Sbx, dockerfile: &str) -> Run<'w> {
    let context = context(world, dockerfile).display().to_string();
    limited(world, &["build", "--network", "none", &context])
}

#[test]
fn a_step_that_made_very_deep_directories_leaves_nothing_for_the_next_build_to_wait_for() {
    let world = sbx();
    for (times, end, code) in [(DEEP, "false", 1), (VERY_DEEP, "false", 1), (DEEP, "true", 125)] {
        let dockerfile = format!("FROM base\nWORKDIR /srv\nRUN {}; {end}\n", make(times));
        let failed = build(&world, &dockerfile).expect_code(code);
        if code == 125 {
            let failed = failed.stderr_has("it lies more than 500 directories deep");
            drop(failed.stderr_has("Hint: "));
        }
        assert!(is_empty(&world.store().join("containers")), "{times} {end}");
        let begun = Instant::now();
        build(&world, "FROM base\nRUN true\n").expect_code(0);
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
    world.assert_clean();
}

#[test]
fn caches_of_commands_are_removed_however_deep_their_directories_are() {
    let world = sbx();
    let mounts = ["one", "two"].map(|name| format!("--mount=type=cache,id={name},target=/{name}"));
    let dockerfile = format!(
        "FROM base\nRUN {} cd /one && ({}) && cd /two && ({})\n",
        mounts.join(" "),
        make(DEEP),
        make(VERY_DEEP)
    );
    build(&world, &dockerfile).expect_code(0);
    assert!(!is_empty(&world.store().join("build/caches")));
    limited(&world, &["builder", "prune", "-f"]).expect_code(0).stderr_is("");
    assert!(is_empty(&world.store().join("build/caches")));
}

/// A mount keeps what it is on from being removed.
#[test]
fn one_that_cannot_be_removed_keeps_no_other() {
    let world = sbx();
    let lines = |run: Run<'_>| run.succeed().lines().map(str::to_owned).collect::<Vec<_>>();
    for prune in [&["volume", "rm", "a", "b", "c"][..], &["volume", "prune", "-af"]] {
        for name in ["a", "b", "c"] {
            made(&world, "fills", 0, &["--rm", "-v", &format!("{name}:/srv")]);
        }
        let busy = world.store().join("volumes/b/_data/deep");
        let script = format!("mount -t tmpfs none '{}' && exec \"$@\"", busy.display());
        let run = world.sbx(["unshare", "unshare", "-m", "sh", "-c", &script, "sh"]).arg(sbx_binary());
        let failed = run.args(prune).expect_code(125).stderr_has("Device or resource busy");
        assert!(failed.stdout().contains('a') && failed.stdout().contains('c'), "{}", failed.stdout());
        assert!(lines(world.sbx(["volume", "ls", "-q"])).is_empty());
        world.sbx(["volume", "prune", "-f"]).expect_code(0).stderr_is("");
        assert!(is_empty(&world.store().join("volumes/.part")), "the next command removes the rest");
    }
}
