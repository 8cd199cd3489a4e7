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
