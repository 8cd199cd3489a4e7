//! Health checks: `--health-*`, `sbx healthcheck run`, and where they show.

use std::time::{Duration, Instant};

use super::harness::{Background, Sbx, sbx};

/// Waits until the container has this health.
#[track_caller]
fn becomes(web: &Background<'_>, health: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while web.inspect("{{.State.Health.Status}}") != health {
        assert!(Instant::now() < deadline, "it is not {health}: {}", web.inspect("{{json .State.Health}}"));
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn checked<'w>(world: &'w Sbx, flags: &[&str]) -> Background<'w> {
    let flags = [&["--health-cmd", "echo asked; test -e /tmp/well", "--health-interval", "100ms"][..], flags];
    Background::start(world, &flags.concat(), "sleep 1000")
}

#[test]
fn health_follows_the_checks() {
    let world = sbx();
    let web = checked(&world, &["--name", "web", "--health-retries", "2"]);
    becomes(&web, "unhealthy");
    world.sbx(["ps"]).expect_code(0).stdout_has("(unhealthy)");
    world.sbx(["ps", "-q", "--filter", "health=healthy"]).expect_code(0).stdout_is("");
    web.exec(&[], &["touch", "/tmp/well"]).expect_code(0);
    world.sbx(["wait", "--condition", "healthy", "web"]).expect_code(0);
    becomes(&web, "healthy");
    world.sbx(["ps"]).expect_code(0).stdout_has("(healthy)");
    world
        .sbx(["ps", "--filter", "health=healthy", "--format", "{{.Names}}"])
        .expect_code(0)
        .stdout_is("web\n");
    assert_eq!(web.inspect("{{.State.Health.FailingStreak}}"), "0");
    let last = web.inspect("{{range .State.Health.Log}}{{.ExitCode}} {{.Output}}{{end}}");
    assert!(last.ends_with("0 asked"), "{last}");
    std::thread::sleep(Duration::from_millis(1000));
    assert_eq!(web.inspect("{{len .State.Health.Log}}"), "5");
    assert_eq!(
        web.inspect("{{json .Config.Healthcheck.Test}}"),
        r#"["CMD-SHELL","echo asked; test -e /tmp/well"]"#
    );
    let told =
        world.sbx(["events", "--stream=false", "--since", "1m", "--filter", "event=health_status"]).succeed();
    let states: Vec<bool> = told.lines().map(|line| line.contains("health_status=unhealthy")).collect();
    assert_eq!(states, [true, false], "{told}");
}

#[test]
fn a_check_is_made_when_asked_for() {
    let world = sbx();
    let web = checked(&world, &["--health-interval", "disable"]);
    assert_eq!(web.inspect("{{.State.Health.Status}} {{len .State.Health.Log}}"), "starting 0");
    world.sbx(["healthcheck", "run"]).arg(&web.id).expect_code(1).stdout_is("unhealthy\n");
    web.exec(&[], &["touch", "/tmp/well"]).expect_code(0);
    world.sbx(["healthcheck", "run"]).arg(&web.id).expect_code(0).stdout_is("");
    assert_eq!(web.inspect("{{.State.Health.Status}} {{len .State.Health.Log}}"), "healthy 2");
    let bare = Background::start(&world, &["--no-healthcheck"], "sleep 1000");
    world.sbx(["healthcheck", "run"]).arg(&bare.id).expect_code(125).stderr_has("it has no health check");
    world.sbx(["stop", "-t", "0"]).arg(&web.id).expect_code(0);
    world.sbx(["healthcheck", "run"]).arg(&web.id).expect_code(125).stderr_has("is not running");
}

#[test]
fn a_check_runs_as_the_container_does() {
    let world = sbx();
    let check = r#"["CMD", "sh", "-c", "echo $(id -u) $PWD $OF; ls /proc/self/fd | tr '\n' ' '; grep Cap[E] /proc/self/status"]"#;
    let flags = ["-u", "33", "-w", "/srv", "-e", "OF=container", "--health-cmd", check];
    let web = Background::start(&world, &flags, "sleep 1000");
    becomes(&web, "healthy");
    let output = web.inspect("{{(index .State.Health.Log 0).Output}}");
    assert_eq!(output, "33 /srv container\n0 1 2 3 CapEff:\t0000000000000000");
}

#[test]
fn what_takes_too_long_has_failed() {
    let world = sbx();
    let flags =
        ["--health-cmd", "sleep 100 & sleep 100", "--health-timeout", "200ms", "--health-retries", "1"];
    let web = Background::start(&world, &flags, "exec sleep 1000");
    becomes(&web, "unhealthy");
    let log = web.inspect("{{(index .State.Health.Log 0).ExitCode}} {{(index .State.Health.Log 0).Output}}");
    assert_eq!(log, "-1 Health check exceeded timeout (200ms)");
    let left = web.exec(&[], &["ps", "-o", "args"]).succeed();
    assert!(!left.contains("sleep 100\n"), "{left}");
}

#[test]
fn a_command_that_is_not_there_is_a_failure() {
    let world = sbx();
    let flags = ["--health-cmd", r#"["CMD", "no-such-check"]"#, "--health-retries", "1"];
    let web = Background::start(&world, &flags, "sleep 1000");
    becomes(&web, "unhealthy");
    let output =
        web.inspect("{{(index .State.Health.Log 0).ExitCode}} {{(index .State.Health.Log 0).Output}}");
    assert!(output.starts_with("127 cannot execute `no-such-check`"), "{output}");
}

#[test]
fn output_is_kept_up_to_a_bound() {
    let world = sbx();
    let flags = [
        "--health-cmd",
        "yes | head -c 100000",
        "--health-max-log-size",
        "1000",
        "--health-max-log-count",
        "2",
    ];
    let web = Background::start(&world, &[&flags[..], &["--health-interval", "50ms"]].concat(), "sleep 1000");
    becomes(&web, "healthy");
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(web.inspect("{{len .State.Health.Log}} {{len (index .State.Health.Log 1).Output}}"), "2 1000");
}

#[test]
fn failures_in_the_start_period_do_not_count() {
    let world = sbx();
    let web = checked(
        &world,
        &["--health-start-period", "1h", "--health-start-interval", "20ms", "--health-retries", "1"],
    );
    // It is asked in the meantime: with the fifth answer the log is full.
    let deadline = Instant::now() + Duration::from_secs(20);
    while web.inspect("{{len .State.Health.Log}}") != "5" {
        assert!(Instant::now() < deadline, "it is not asked: {}", web.inspect("{{json .State.Health}}"));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(web.inspect("{{.State.Health.Status}} {{.State.Health.FailingStreak}}"), "starting 0");
    world.sbx(["ps"]).expect_code(0).stdout_has("(health: starting)");
    web.exec(&[], &["touch", "/tmp/well"]).expect_code(0);
    becomes(&web, "healthy");
    web.exec(&[], &["rm", "/tmp/well"]).expect_code(0);
    becomes(&web, "unhealthy");
}

#[test]
fn a_container_that_is_unhealthy_ends_as_it_is_said() {
    let world = sbx();
    for (action, policy, code, restarts) in
        [("kill", "no", "137", "0"), ("stop", "always", "143", "0"), ("kill", "on-failure:2", "137", "2")]
    {
        let flags = [
            "--health-cmd",
            "false",
            "--health-retries",
            "1",
            "--health-on-failure",
            action,
            "--restart",
            policy,
        ];
        let web = Background::start(&world, &flags, "trap 'exit 143' TERM; while :; do sleep 0.01; done");
        let deadline = Instant::now() + Duration::from_secs(20);
        // Between two lives it has ended, too.
        let wanted = format!("exited {code} {restarts}");
        let found = || web.inspect("{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}");
        while found() != wanted {
            assert!(Instant::now() < deadline, "{action} {policy}: {} instead of {wanted}", found());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    // It begins anew and is well.
    let script = "test -e /tmp/second && touch /tmp/well; touch /tmp/second; sleep 1000";
    let flags = ["--health-cmd", "test -e /tmp/well", "--health-interval", "50ms", "--health-retries", "2"];
    let flags = [&flags[..], &["--health-on-failure", "restart", "--stop-timeout", "0"]].concat();
    let web = Background::start(&world, &flags, script);
    becomes(&web, "healthy");
}

#[test]
fn what_cannot_be_checked_is_refused() {
    let world = sbx();
    let run = |flags: &[&str]| world.run(flags).args(["host", "true"]);
    run(&["--health-interval", "5s"]).expect_code(125).stderr_has("there is no health check");
    run(&["--health-cmd", "x", "--health-interval", "soon"])
        .expect_code(125)
        .stderr_has("`--health-interval`");
    run(&["--health-cmd", "x", "--health-log-destination", "/tmp"])
        .expect_code(125)
        .stderr_has("beside the container");
    run(&["--health-cmd", "x", "--health-max-log-size", "0"]).expect_code(125).stderr_has("has a bound");
    run(&["--health-startup-cmd", "x"]).expect_code(125).stderr_has("one health check");
}
