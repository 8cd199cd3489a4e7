//! What earlier builds have left, and when it counts.

use super::kitchen;

const DOCKERFILE: &str = "FROM base\nARG A\nLABEL l=1\nCOPY f /f\nRUN cat /proc/sys/kernel/random/uuid >/u\n";

#[test]
fn the_same_again_is_the_same_image_and_runs_nothing() {
    let kitchen = kitchen();
    kitchen.file("f", "1");
    let first = kitchen.made(DOCKERFILE);
    let again = kitchen.build(DOCKERFILE, &["-t", "made"]).expect_code(0);
    assert_eq!(again.stdout().trim(), first);
    assert_eq!(again.stderr().matches("Using cache").count(), 2, "{}", again.stderr());
    // Times are no content.
    kitchen.file("f", "1");
    assert_eq!(kitchen.made(DOCKERFILE), first);
    let anew = kitchen.build(DOCKERFILE, &["-q", "--no-cache"]).succeed();
    assert_ne!(anew, first);
}

#[test]
fn content_modes_and_arguments_count() {
    use std::os::unix::fs::PermissionsExt;
    let kitchen = kitchen();
    kitchen.file("f", "1");
    let mut seen = std::collections::BTreeSet::new();
    let mut anew = |options: &[&str]| {
        kitchen.build(DOCKERFILE, &[&["-q", "-t", "made"], options].concat()).succeed();
        assert!(seen.insert(kitchen.shell("cat /u")), "{options:?}");
    };
    anew(&[]);
    kitchen.file("f", "2");
    anew(&[]);
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(kitchen.context().join("f"), mode).expect("cannot change a mode");
    anew(&[]);
    anew(&["--build-arg", "A=1"]);
    anew(&["--add-host", "a:1.2.3.4"]);
    // A label changes nothing that a command sees.
    let before = kitchen.shell("cat /u");
    kitchen
        .build(&DOCKERFILE.replace("l=1", "l=2"), &["-q", "-t", "made", "--add-host", "a:1.2.3.4"])
        .succeed();
    assert_eq!(kitchen.shell("cat /u"), before);
}

#[test]
fn a_file_that_is_ignored_changes_nothing() {
    let kitchen = kitchen();
    kitchen.file("f", "1").file("noise", "1").file(".dockerignore", "noise\nDockerfile\n");
    let dockerfile = "FROM base\nCOPY . /all\n";
    let first = kitchen.made(dockerfile);
    kitchen.file("noise", "2");
    assert_eq!(kitchen.made(dockerfile), first);
}

#[test]
fn the_cache_outlives_its_image_until_it_is_pruned() {
    let kitchen = kitchen();
    kitchen.file("f", "1");
    let first = kitchen.made(DOCKERFILE);
    kitchen.world.sbx(["rmi", "-f", "made"]).expect_code(0);
    kitchen.world.sbx(["image", "prune", "-f"]).expect_code(0);
    let again = kitchen.build(DOCKERFILE, &["-t", "made"]).expect_code(0);
    assert_eq!(again.stdout().trim(), first);
    assert_eq!(again.stderr().matches("Using cache").count(), 2, "{}", again.stderr());
    kitchen.world.sbx(["rmi", "-f", "made"]).expect_code(0);
    kitchen
        .world
        .sbx(["builder", "prune", "-f"])
        .expect_code(0)
        .stdout_has("Total reclaimed space:")
        .stdout_has_not(" 0B");
    let anew = kitchen.build(DOCKERFILE, &["-t", "made"]).expect_code(0);
    assert_ne!(anew.stdout().trim(), first);
    assert!(!anew.stderr().contains("Using cache"));
}

#[test]
fn the_disk_that_the_cache_takes_is_shown_and_given_back() {
    let kitchen = kitchen();
    kitchen.file("f", "1");
    let shown = || {
        let listed = kitchen.world.sbx([
            "system",
            "df",
            "--format",
            "{{.Type}}: {{.Total}} {{.Active}} {{.RawReclaimable}}",
        ]);
        let listed = listed.succeed();
        listed.lines().find_map(|line| line.strip_prefix("Build Cache: ")).expect("a line").to_owned()
    };
    assert_eq!(shown(), "0 0 0");
    kitchen.made(DOCKERFILE);
    assert_eq!(shown(), "2 2 0", "what the image has, too, is not to be gained");
    kitchen.world.sbx(["rmi", "-f", "made"]).expect_code(0);
    assert!(shown().starts_with("2 0 ") && !shown().ends_with(" 0"), "{}", shown());
    kitchen.world.sbx(["system", "prune", "-f"]).expect_code(0);
    assert!(shown().starts_with("2 0 "), "{}", shown());
    kitchen.world.sbx(["system", "prune", "-f", "--build", "--filter", "until=1h"]).expect_code(0);
    assert!(shown().starts_with("2 0 "), "{}", shown());
    kitchen.world.sbx(["system", "prune", "-f", "--build"]).expect_code(0);
    assert_eq!(shown(), "0 0 0");
    kitchen.made(DOCKERFILE);
    kitchen.world.sbx(["system", "prune", "-af"]).expect_code(0);
    assert_eq!(shown(), "0 0 0");
}

#[test]
fn pruning_leaves_images_whole() {
    let kitchen = kitchen();
    kitchen.file("f", "1");
    kitchen.made(DOCKERFILE);
    kitchen.world.sbx(["builder", "prune", "-f"]).expect_code(0);
    assert_eq!(kitchen.shell("cat /f; test -s /u && echo there"), "1there");
}
