//! Stages: which are built, in which order, and where the result goes.

use super::kitchen;

#[test]
fn stages_that_nobody_needs_are_not_built() {
    let kitchen = kitchen();
    let dockerfile = "FROM base AS bad\nRUN false\nFROM base AS good\nRUN echo good >/x\nFROM good AS last\nRUN echo last >/x\n";
    kitchen.made(dockerfile);
    assert_eq!(kitchen.shell("cat /x"), "last");
    kitchen.build(dockerfile, &["-q", "-t", "made", "--target", "good"]).succeed();
    assert_eq!(kitchen.shell("cat /x"), "good");
    kitchen.build(dockerfile, &["--target", "bad"]).expect_code(1);
}

#[test]
fn independent_stages_are_built_side_by_side() {
    let kitchen = kitchen();
    // Each waits until the other runs: one after the other neither would end.
    let meet = |own: &str, other: &str| {
        format!(
            "RUN --mount=type=cache,target=/m touch /m/{own}; for i in $(seq 100); do test -e /m/{other} && exit 0; sleep 0.1; done; exit 1\n"
        )
    };
    let dockerfile = format!(
        "FROM base AS a\n{}FROM base AS b\n{}FROM base\nCOPY --from=a /etc/passwd /a\nCOPY --from=b /etc/passwd /b\n",
        meet("a", "b"),
        meet("b", "a")
    );
    kitchen.build(&dockerfile, &["-q", "--jobs", "2"]).succeed();
    // What fails in one of them is said as anywhere.
    let failing = "FROM base AS a\nRUN sleep 20\nFROM base AS b\nRUN exit 9\nFROM base\nCOPY --from=a / /a\nCOPY --from=b / /b\n";
    kitchen.build(failing, &["--jobs", "2"]).expect_code(9).stderr_has("Dockerfile:4:1: ");
    kitchen.world.sbx(["ps", "-aq"]).expect_code(0).stdout_is("");
}

#[test]
fn the_result_may_be_files() {
    let kitchen = kitchen();
    let out = kitchen.world.directory().join("out");
    let dockerfile =
        "FROM base AS one\nRUN echo x >/x && chmod 600 /x\nFROM scratch\nCOPY --from=one /x /d/\n";
    let option = format!("type=local,dest={}", out.display());
    kitchen.build(dockerfile, &["-o", &option]).expect_code(0).stdout_is("");
    assert_eq!(std::fs::read_to_string(out.join("d/x")).expect("a file"), "x\n");
    let finished = kitchen.build(dockerfile, &["-o", "-"]).expect_code(0);
    let mut archive = tar::Archive::new(finished.stdout_bytes());
    let names: Vec<String> = archive
        .entries()
        .expect("an archive")
        .map(|entry| entry.expect("an entry").path().expect("a path").display().to_string())
        .collect();
    assert_eq!(names, ["d/", "d/x"]);
}
