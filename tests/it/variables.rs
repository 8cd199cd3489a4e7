//! What of the caller's surroundings a container is given: variables, labels from files, the time zone.

use std::fs;

use crate::harness::{Run, Sbx, image, rootfs, sbx};

/// `sbx run --rm --net none --rootfs ROOTFS WORDS…`
fn run<'w>(world: &'w Sbx, words: &[&str]) -> Run<'w> {
    world.run(["--rm", "--net", "none", "--rootfs"]).arg(rootfs()).args(words)
}

#[test]
fn proxies_are_passed_on_unless_they_are_unwanted_or_set() {
    let world = sbx()
        .env("http_proxy", "http://p:1")
        .env("HTTPS_PROXY", "http://p:2")
        .env("no_proxy", "localhost")
        .env("FTP_PROXY", "http://p:3")
        .env("all_proxy", "http://p:4");
    let script = "echo \"$http_proxy|$HTTPS_PROXY|$no_proxy|$FTP_PROXY|$all_proxy\"";
    let with = |options: &[&str]| run(&world, &[options, &["sh", "-c", script]].concat()).succeed();
    assert_eq!(with(&[]), "http://p:1|http://p:2|localhost|http://p:3|");
    assert_eq!(with(&["--http-proxy"]), with(&[]));
    assert_eq!(with(&["--http-proxy=false"]), "||||");
    assert_eq!(
        with(&["-e", "http_proxy=own", "-e", "all_proxy"]),
        "own|http://p:2|localhost|http://p:3|http://p:4"
    );
    assert_eq!(with(&["--unsetenv", "http_proxy"]), "|http://p:2|localhost|http://p:3|");
}

#[test]
fn all_of_the_callers_environment_is_there_on_request() {
    let world = sbx().env("OF_CALLER", "yes").env("SHARED", "caller");
    let file = world.file("vars", "SHARED=file\n");
    let script = "echo \"$OF_CALLER|$SHARED|$HOME|$container\"";
    let home = world.home();
    run(&world, &["--env-host", "sh", "-c", script])
        .expect_code(0)
        .stdout_is(&format!("yes|caller|{}|sbx\n", home.display()));
    run(
        &world,
        &[
            "--env-host",
            "--env-file",
            file.to_str().expect("UTF-8"),
            "-e",
            "OF_CALLER=no",
            "sh",
            "-c",
            script,
        ],
    )
    .expect_code(0)
    .stdout_is(&format!("no|file|{}|sbx\n", home.display()));
}

#[test]
fn what_image_and_sbx_set_can_be_left_out_or_built_upon() {
    let world = sbx();
    let variables = serde_json::json!(["PATH=/bin", "GREETING=hello", "OTHER=x"]);
    image().runnable().with("Env", variables).load(&world, "greets:1");
    let with = |options: &[&str]| {
        let words = [&["--rm", "--net", "none"], options, &["greets:1", "/bin/busybox", "env"]].concat();
        let printed = world.run(words).succeed();
        let mut lines: Vec<String> =
            printed.lines().filter(|line| !line.starts_with("HOSTNAME=")).map(str::to_owned).collect();
        lines.sort();
        lines.join(" ")
    };
    assert_eq!(with(&[]), "GREETING=hello HOME=/ OTHER=x PATH=/bin container=sbx");
    assert_eq!(
        with(&["--unsetenv", "OTHER", "--unsetenv", "HOME"]),
        "GREETING=hello PATH=/bin container=sbx"
    );
    assert_eq!(with(&["--unsetenv-all", "-e", "A=1"]), "A=1");
    assert_eq!(
        with(&["--env-merge", "GREETING=${GREETING}, $OTHER", "--unsetenv=container"]),
        "GREETING=hello, x HOME=/ OTHER=x PATH=/bin"
    );
    world.run(["--env-merge", "x", "greets:1", "true"]).expect_code(125).stderr_has("--env-merge x");
}

#[test]
fn labels_come_from_files_and_flags_beat_them() {
    let world = sbx();
    let file = world.file("labels", "# a comment\n\na=file\n  b=file=x\nc\n");
    world
        .run(["--name", "kept", "--net", "none", "--label-file"])
        .arg(file)
        .args(["--label", "a=flag", "--rootfs"])
        .arg(rootfs())
        .arg("true")
        .expect_code(0);
    assert_eq!(
        world.sbx(["inspect", "-f", "{{json .Config.Labels}}", "kept"]).succeed(),
        "{\"a\":\"flag\",\"b\":\"file=x\",\"c\":\"\"}"
    );
    run(&world, &["--label-file", "/no/such", "true"]).expect_code(125).stderr_has("--label-file /no/such");
    let bad = world.file("bad", "=x\n");
    run(&world, &["--label-file", bad.to_str().expect("UTF-8"), "true"]).expect_code(125);
}

#[test]
fn the_time_zone_is_the_one_that_was_asked_for() {
    let zone = "/usr/share/zoneinfo/Asia/Kathmandu";
    let expected = fs::read(zone).expect("the host has no time zones: run `apt-get install tzdata`");
    let world = sbx();
    let shown = run(&world, &["--tz", "Asia/Kathmandu", "cat", "/etc/localtime"]).expect_code(0);
    assert_eq!(shown.stdout_bytes(), expected);
    run(&world, &["--tz=Asia/Kathmandu", "date", "-d", "@0", "+%H:%M"]).expect_code(0).stdout_is("05:30\n");
    let local = run(&world, &["--tz=local", "cat", "/etc/localtime"]).expect_code(0);
    assert_eq!(local.stdout_bytes(), fs::read("/etc/localtime").expect("the host's time zone"));
    run(&world, &["--tz", "Mars/Olympus_Mons", "true"]).expect_code(125).stderr_has("Mars/Olympus_Mons");
    run(&world, &["--tz", "../../etc/passwd", "true"]).expect_code(125).stderr_has("no name of a time zone");
    // A link of the image is followed inside.
    let root = world.own_rootfs();
    let outside = world.file("outside", "untouched");
    std::os::unix::fs::symlink(&outside, root.join("etc/localtime")).expect("a link");
    world
        .run(["--rm", "--net", "none", "--tz", "Asia/Kathmandu", "--rootfs"])
        .arg(&root)
        .arg("true")
        .expect_code(0);
    assert_eq!(fs::read_to_string(outside).expect("the file"), "untouched");
}

#[test]
fn accounts_are_written_as_they_were_asked_for() {
    let world = sbx();
    let with =
        |options: &[&str], script: &str| run(&world, &[options, &["sh", "-c", script]].concat()).succeed();
    let entry = "--passwd-entry=$USERNAME:x:$UID:$GID:made up:/home/$USERNAME:/bin/ash";
    assert_eq!(
        with(
            &["--user=1234:1235", entry, "--group-entry=team:x:$GID:"],
            "tail -n 1 /etc/passwd /etc/group; echo $HOME"
        )
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("==>"))
        .collect::<Vec<_>>(),
        ["1234:x:1234:1235:made up:/home/1234:/bin/ash", "team:x:1235:", "/home/1234"]
    );
    let bin = with(&["--hostuser=games", "--hostuser=5"], "grep -c games /etc/passwd; tail -n 1 /etc/passwd");
    assert!(bin.starts_with("1\ngames:*:5:60:games:/usr/games:/bin/sh"), "{bin}");
    for (bad, told) in [
        ("--passwd-entry=a:b", "7 fields"),
        ("--group-entry=a", "4 fields"),
        ("--hostuser=no-such-user", "no such user"),
        ("--hostuser=a:b", "neither"),
    ] {
        run(&world, &[bad, "true"]).expect_code(125).stderr_has(told);
    }
}
