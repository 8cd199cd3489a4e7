//! What is wrong is said with its place, and leaves nothing behind.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::kitchen;

#[test]
fn a_mistake_is_shown_with_file_and_line() {
    let kitchen = kitchen();
    for (dockerfile, said) in [
        ("FROM base\nRNU x\n", "Dockerfile:2:1: "),
        ("FROM base\nCOPY nothing /x\n", "   2 | COPY nothing /x"),
        ("FROM base\nCOPY --from=base nothing /x\n", "the image `base` has no such file"),
        ("FROM scratch\nRUN true\n", "the stage is empty"),
        ("FROM host\n", "this machine's own system"),
        ("FROM base\nFROM localhost:1/nosuch:1\n", "Dockerfile:2:6: "),
        ("FROM base\nFROM busybox:UPPER!\n", "   2 | FROM busybox:UPPER!"),
        ("FROM base\nCOPY --from=localhost:1/nosuch:1 a /\n", "   2 | COPY --from=localhost:1/nosuch:1 a /"),
        ("FROM base\nRUN --mount=from=localhost:1/nosuch:1,target=/x true\n", "Dockerfile:2:1: "),
        ("FROM base\nFROM --platform=foo base\n", "Dockerfile:2:17: "),
    ] {
        kitchen.build(dockerfile, &[]).expect_code(125).stderr_has(said);
    }
    kitchen.build("FROM base\nRUN /nothing/there\n", &[]).expect_code(127).stderr_has("Dockerfile:2:1: ");
}

#[test]
fn what_is_not_there_is_refused_with_the_reason() {
    let kitchen = kitchen();
    let output = kitchen.build("FROM base\n", &["-o", "type=bogus,dest=x"]);
    output.expect_code(125).stderr_has("no type `bogus`");
    kitchen.build("FROM base\n", &["-o", ""]).expect_code(125).stderr_has("it names no directory");
    for target in [".", "/"] {
        let dockerfile = format!("FROM base\nRUN --mount=type=bind,target={target} ls\n");
        let said = kitchen.build(&dockerfile, &[]).expect_code(125).stderr();
        assert!(said.contains(&format!("cannot mount on `{target}`")) && !said.contains("layers"), "{said}");
    }
}

#[test]
fn a_killed_build_leaves_nothing_that_the_next_one_does_not_remove() {
    let kitchen = kitchen();
    let dockerfile = "FROM base\nRUN echo one >/one\nRUN echo started; sleep 60\n";
    let mut build = kitchen.build(dockerfile, &[]).spawn();
    let ps = || kitchen.world.sbx(["ps", "--no-trunc", "--format", "{{.Command}}"]).succeed();
    let until = std::time::Instant::now() + Duration::from_secs(30);
    while !ps().contains("started") {
        assert!(std::time::Instant::now() < until && build.is_running(), "the command does not start");
        std::thread::sleep(Duration::from_millis(50));
    }
    build.signal(Signal::SIGKILL);
    let _ = build.finish();
    while !ps().is_empty() {
        assert!(std::time::Instant::now() < until, "the command goes on");
        std::thread::sleep(Duration::from_millis(50));
    }
    let again = kitchen.build(&dockerfile.replace("sleep 60", "true"), &[]).expect_code(0);
    assert_eq!(again.stderr().matches("Using cache").count(), 1, "{}", again.stderr());
    kitchen.world.sbx(["ps", "-aq"]).expect_code(0).stdout_is("");
}

#[test]
fn check_shows_mistakes_and_builds_nothing() {
    let kitchen = kitchen();
    kitchen.build("FROM base as x\nRUN false\n", &["--check"]).expect_code(1).stdout_has("FromAsCasing");
    kitchen.build("FROM base AS x\nRUN false\n", &["--check"]).expect_code(0).stdout_has("no warnings");
}

#[test]
fn builds_warn_of_what_check_shows() {
    let kitchen = kitchen();
    let dockerfile = "FROM base as x\nLABEL v=$VERSOIN\n";
    let built = kitchen.build(dockerfile, &[]).expect_code(0);
    let said = built.stderr();
    assert!(said.contains("Warning: ") && said.contains("Dockerfile:1:11: FromAsCasing: "), "{said}");
    assert!(said.contains("Dockerfile:2:9: UndefinedVar: "), "{said}");
    kitchen.build(dockerfile, &["-q"]).expect_code(0).stderr_is("");
    let skipped = kitchen.build(&format!("# check=skip=all\n{dockerfile}"), &[]).expect_code(0);
    assert!(!skipped.stderr().contains("Warning"), "{}", skipped.stderr());
}

#[test]
fn a_warning_ends_the_build_where_the_dockerfile_or_an_argument_says_so() {
    let kitchen = kitchen();
    let argument = ["-q", "-t", "made", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=error=true"];
    for (dockerfile, options) in [
        ("# check=error=true\nFROM base as x\nRUN true\n", &argument[..3]),
        ("FROM base as x\nRUN true\n", &argument[..]),
    ] {
        kitchen.build(dockerfile, options).expect_code(125).stderr_has("FromAsCasing");
        kitchen.build(&dockerfile.replace(" as ", " AS "), options).expect_code(0);
    }
    for wrong in ["foo=bar", "error=maybe"] {
        kitchen
            .build(&format!("# check={wrong}\nFROM base\n"), &[])
            .expect_code(125)
            .stderr_has("Dockerfile:1:");
    }
}

#[test]
fn check_knows_the_variables_of_images_in_the_store() {
    let kitchen = kitchen();
    kitchen.build("FROM base\nENV VERSION=1\n", &["-q", "-t", "other"]).succeed();
    kitchen
        .build("FROM other\nLABEL v=$VERSOIN\n", &["--check"])
        .expect_code(1)
        .stdout_has("UndefinedVar")
        .stdout_has("$VERSION");
    kitchen.build("FROM other\nLABEL v=$VERSION\n", &["--check"]).expect_code(0);
    kitchen.build("FROM elsewhere\nLABEL v=$VERSION\n", &["--check"]).expect_code(0);
}
