//! `sbx generate systemd`: what is written is read by systemd, and its commands do what they are for.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Run, Sbx, require, rootfs, sbx};

fn generate(world: &Sbx, options: &[&str]) -> String {
    world.sbx(["generate", "systemd"]).args(options).succeed()
}

/// The values of a key, in their order.
fn lines<'t>(unit: &'t str, key: &str) -> Vec<&'t str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

/// The one command of a key, where it has no word that has to be quoted.
fn command<'w>(world: &'w Sbx, unit: &str, key: &str) -> Run<'w> {
    let found = lines(unit, key);
    assert_eq!(found.len(), 1, "{key}: {unit}");
    let mut words = found[0].trim_start_matches('-').split(' ');
    let program = words.next().expect("a program");
    world.program(program).args(words)
}

fn systemd_reads(world: &Sbx, path: &str) {
    require("systemd-analyze");
    let path = Path::new(path);
    world
        .program("systemd-analyze")
        .args([
            "--user",
            "verify",
            &format!("./{}", path.file_name().and_then(|name| name.to_str()).expect("a name")),
        ])
        .directory(path.parent().expect("a directory"))
        .expect_code(0)
        .stderr_is("");
}

fn states(world: &Sbx) -> String {
    let listed = world.sbx(["ps", "-a", "--format", "{{.Names}} {{.State}}"]).succeed();
    let mut lines: Vec<&str> = listed.lines().collect();
    lines.sort_unstable();
    lines.join(", ")
}

fn create(world: &Sbx, options: &[&str], command: &[&str]) {
    let create = world.sbx(["create", "--net=none", "--stop-timeout=1"]).args(options);
    create.arg("--rootfs").arg(rootfs()).args(command).expect_code(0);
}

#[test]
fn what_should_run_is_brought_back_and_what_was_stopped_is_not() {
    let world = sbx();
    for (name, policy) in [("a", "always"), ("n", "no"), ("s", "unless-stopped"), ("u", "unless-stopped")] {
        create(&world, &["--name", &format!("x{name}"), "--restart", policy], &["sleep", "1000"]);
    }
    world.sbx(["start", "--all"]).succeed();
    world.sbx(["stop", "xs"]).succeed();
    let path = generate(&world, &["--all", "--files"]);
    assert_eq!(Path::new(&path), world.work().join("sbx-restart.service"));
    systemd_reads(&world, &path);
    let unit = std::fs::read_to_string(path).expect("the unit");
    assert!(unit.contains("loginctl enable-linger"), "{unit}");
    assert_eq!((lines(&unit, "Type"), lines(&unit, "RemainAfterExit")), (vec!["oneshot"], vec!["true"]));
    // The machine goes down, and boots.
    command(&world, &unit, "ExecStop").expect_code(0);
    assert_eq!(states(&world), "xa exited, xn running, xs exited, xu exited");
    command(&world, &unit, "ExecStart").expect_code(0);
    assert_eq!(states(&world), "xa running, xn running, xs exited, xu running");
    // Who names it may start it.
    world.sbx(["start", "xs"]).succeed();
    assert_eq!(states(&world), "xa running, xn running, xs running, xu running");
    world.sbx(["rm", "-f", "-a"]).succeed();
    world.assert_clean();
}

#[test]
fn a_unit_starts_the_container_that_is_there() {
    let world = sbx();
    create(&world, &["--name=web"], &["sh", "-c", "echo up; exec sleep 1000"]);
    let id = world.sbx(["inspect", "-f", "{{.Id}}", "web"]).succeed();
    let unit = generate(&world, &["web"]);
    assert!(unit.contains(&format!("start --attach {id}\n")), "{unit}");
    let path = generate(&world, &["--name", "--files", "web"]);
    assert!(path.ends_with("/container-web.service"), "{path}");
    systemd_reads(&world, &path);
    let unit = std::fs::read_to_string(path).expect("the unit");
    assert_eq!(lines(&unit, "Type"), ["exec"]);
    assert_eq!(lines(&unit, "Restart"), ["on-failure"]);
    assert_eq!(lines(&unit, "TimeoutStopSec"), ["61"]);
    let mut running = command(&world, &unit, "ExecStart").spawn();
    running.wait_for_stdout("up");
    assert_eq!(states(&world), "web running");
    command(&world, &unit, "ExecStop").expect_code(0);
    running.finish().code_is(137);
    assert_eq!(states(&world), "web exited");
}

#[test]
fn a_unit_makes_the_container_anew() {
    let world = sbx().env("GIVEN", "by the caller");
    std::fs::create_dir(world.work().join("bound")).expect("a directory");
    let root = rootfs().to_str().expect("UTF-8");
    let options = [
        "-d",
        "--name=web",
        "--stop-timeout=1",
        "-e",
        "GIVEN",
        "--net=none",
        "-v",
        "./bound:/bound",
        "--rootfs",
        root,
    ];
    world.sbx(["run"]).args(options).args(["sleep", "1000"]).expect_code(0);
    let path = generate(&world, &["--new", "--name", "--files", "web"]);
    systemd_reads(&world, &path);
    let unit = std::fs::read_to_string(path).expect("the unit");
    assert_eq!(lines(&unit, "WorkingDirectory"), [world.work().to_str().expect("UTF-8")]);
    assert!(lines(&unit, "Environment").contains(&"\"GIVEN=by the caller\""), "{unit}");
    let before = world.sbx(["inspect", "-f", "{{.Id}}", "web"]).succeed();
    command(&world, &unit, "ExecStartPre").expect_code(0);
    assert_eq!(states(&world), "");
    let mut running = command(&world, &unit, "ExecStart").spawn();
    while states(&world) != "web running" {
        assert!(running.is_running(), "it ended: {unit}");
    }
    let document: Value = serde_json::from_str(&world.sbx(["inspect", "web"]).succeed()).expect("JSON");
    assert_ne!(document[0]["Id"], before.as_str());
    assert_eq!(document[0]["HostConfig"]["AutoRemove"], true);
    assert_eq!(document[0]["Mounts"][0]["Destination"], "/bound");
    command(&world, &unit, "ExecStop").expect_code(0);
    running.finish().code_is(137);
    command(&world, &unit, "ExecStopPost").expect_code(0);
    assert_eq!(states(&world), "");
    world.assert_clean();
}

#[test]
fn every_word_reaches_systemd_as_it_was() {
    let world = sbx();
    let words = ["echo", "50%", "$HOME", "a \"b\" \\c", "", ";", "ä\n"];
    create(&world, &["--name=odd", "-l", "note=100% of $x"], &words);
    let path = generate(&world, &["--new", "--name", "-f", "odd"]);
    systemd_reads(&world, &path);
    let unit = std::fs::read_to_string(path).expect("the unit");
    let start = lines(&unit, "ExecStart")[0];
    assert!(start.ends_with(" echo 50%% \"$$HOME\" \"a \\\"b\\\" \\\\c\" \"\" \";\" \"ä\\n\""), "{start}");
    assert!(start.contains(" --label \"note=100%% of $$x\" "), "{start}");
}

#[test]
fn options_are_in_the_unit_or_refused() {
    let world = sbx();
    create(&world, &["--name=web", "--restart=always"], &["true"]);
    let options = ["--name", "--restart-policy=always", "--restart-sec=5", "--start-timeout=9", "-t", "3"];
    let more = [
        "--after=a.service",
        "--wants=b.service,c.service",
        "-e",
        "A=b c",
        "--container-prefix=box",
        "--separator=_",
    ];
    let generated = world.sbx(["generate", "systemd", "--format=json"]).args(options).args(more).arg("web");
    let generated = generated.expect_code(0).stderr_has("update --restart no web");
    let document: Value = serde_json::from_str(&generated.stdout()).expect("JSON");
    let unit = document["box_web.service"].as_str().expect("the unit").to_owned();
    for (key, value) in [
        ("Restart", "always"),
        ("RestartSec", "5"),
        ("TimeoutStartSec", "9"),
        ("TimeoutStopSec", "63"),
        ("After", "network-online.target a.service"),
        ("Wants", "network-online.target b.service c.service"),
    ] {
        assert_eq!(lines(&unit, key), [value], "{unit}");
    }
    assert!(lines(&unit, "Environment").contains(&"\"A=b c\""), "{unit}");
    assert!(lines(&unit, "ExecStop")[0].ends_with("stop --time 3 web"), "{unit}");
    for (bad, told) in [
        (&["nothing"][..], "`nothing`"),
        (&["--restart-policy=sometimes", "web"], "sometimes"),
        (&["--after=a b", "web"], "`a b`"),
        (&["--container-prefix=a/b", "web"], "`a/b`"),
        (&["--all", "web"], "--all"),
    ] {
        world.sbx(["generate", "systemd"]).args(bad).expect_code(125).stderr_has(told);
    }
}
