//! What `sbx ps` lists, in which order and form, and what `sbx inspect` shows of a container.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::harness::{Running, Sbx, image, images, rootfs, sbx};

fn ended(world: &Sbx, name: &str, options: &[&str], code: i32) {
    let run = world.run(["--net=none", "--name", name]).args(options).arg("--rootfs").arg(rootfs());
    run.args(["sh", "-c", &format!("exit {code}")]).expect_code(code);
}

/// Runs until its input ends.
fn runs<'w>(world: &'w Sbx, name: &str, options: &[&str]) -> Running<'w> {
    let run = world.run(["-i", "--net=none", "--name", name]).args(options).arg("--rootfs").arg(rootfs());
    let mut running = run.args(["sh", "-c", "echo up; cat"]).stdin_from(Stdio::piped()).spawn();
    running.wait_for_stdout("up");
    running
}

fn names(world: &Sbx, options: &[&str]) -> String {
    let text = world.sbx(["ps", "--format", "{{.Names}}"]).args(options).succeed();
    text.lines().collect::<Vec<_>>().join(" ")
}

#[test]
fn filters_of_one_key_are_alternatives_and_of_several_all_hold() {
    let world = sbx();
    ended(&world, "db-1", &["--label=team=a", "--label=x"], 0);
    ended(&world, "db-2", &["--label=team=b"], 1);
    let running = runs(&world, "web", &["--label=team=a", "-v", "/usr:/host-usr:ro"]);
    for (filters, found) in [
        (&["name=db"][..], "db-2 db-1"),
        (&["name=^db-1$"], "db-1"),
        (&["name=^/web$"], "web"),
        (&["name=b.1$", "name=^w"], "web db-1"),
        (&["label=team=a"], "web db-1"),
        (&["label=team=a", "label=x"], "db-1"),
        (&["label!=team=a"], "db-2"),
        (&["label!=team"], ""),
        (&["status=running"], "web"),
        (&["status=exited", "status=running"], "web db-2 db-1"),
        (&["status=created"], ""),
        (&["exited=1"], "db-2"),
        (&["exited=1", "exited=0", "label=team=a"], "db-1"),
        (&["volume=/host-usr"], "web"),
        (&["volume=/usr"], "web"),
        (&["network=none"], "web db-2 db-1"),
        (&["network=host"], ""),
        (&["before=db-2"], "db-1"),
        (&["since=db-1"], "web db-2"),
        (&["since=db-1", "before=web"], "db-2"),
        (&["until=1h"], ""),
        (&["restart-policy=no"], "web db-2 db-1"),
        (&["restart-policy=always"], ""),
    ] {
        let words: Vec<&str> = filters.iter().flat_map(|filter| ["--filter", filter]).collect();
        assert_eq!(names(&world, &[&["-a"], &words[..]].concat()), found, "{filters:?}");
    }
    // Who asks for a state means all containers.
    assert_eq!(names(&world, &["-f", "status=exited"]), "db-2 db-1");
    assert_eq!(names(&world, &["-f", "name=db"]), "");
    let id = world.sbx(["ps", "-q"]).succeed();
    assert_eq!(names(&world, &["-f", &format!("id={}", &id[..6])]), "web");
    for (filter, words) in [
        ("colour=red", "there are: id, name"),
        ("status=asleep", "there are: created"),
        ("name=(", "regular expression"),
        ("before=nothing", "`nothing`"),
        ("name", "KEY=VALUE"),
    ] {
        world.sbx(["ps", "--filter", filter]).expect_code(125).stdout_is("").stderr_has(words);
    }
    drop(running);
    world.sbx(["rm", "-f", "-t", "0", "web"]).expect_code(0);
}

#[test]
fn containers_are_found_by_what_their_image_is_and_stands_on() {
    let world = sbx();
    let id = image().layer(|tar| tar.file("a", "1")).runnable().load(&world, "base:1");
    world.sbx(["tag", "base:1", "other:2"]).expect_code(0);
    world.run(["--net=none", "--name=on-base", "base:1", "true"]).expect_code(0);
    ended(&world, "on-none", &[], 0);
    for word in
        ["base:1", "base", "docker.io/library/base", "other:2", &id, &id[..8], &format!("sha256:{id}")]
    {
        assert_eq!(names(&world, &["-a", "-f", &format!("ancestor={word}")]), "on-base", "{word}");
    }
    for word in ["base:2", "bas", "nothing", "ffff"] {
        assert_eq!(names(&world, &["-a", "-f", &format!("ancestor={word}")]), "", "{word}");
    }
    world.put_image(&images().debian(), "docker.io/library/debian:latest");
    world.put_image(&images().python(), "docker.io/library/python:latest");
    world.run(["--net=none", "--name=on-python", "python", "true"]).expect_code(0);
    assert_eq!(names(&world, &["-a", "-f", "ancestor=debian"]), "on-python");
    world.sbx(["rm", "-a"]).expect_code(0);
}

#[test]
fn the_order_and_the_number_are_chosen() {
    let world = sbx();
    ended(&world, "bb", &[], 0);
    ended(&world, "cc", &[], 0);
    ended(&world, "aa", &[], 0);
    assert_eq!(names(&world, &["-a"]), "aa cc bb");
    assert_eq!(names(&world, &["-a", "--sort=names"]), "aa bb cc");
    assert_eq!(names(&world, &["-a", "--sort=created"]), "bb cc aa");
    assert_eq!(names(&world, &["-l"]), "aa");
    assert_eq!(names(&world, &["-n", "2"]), "aa cc");
    assert_eq!(names(&world, &["--last=2", "--sort=names"]), "aa cc");
    assert_eq!(names(&world, &["-n", "1", "-f", "name=b"]), "bb");
    assert_eq!(names(&world, &["-n", "-1"]), "");
    assert_eq!(world.sbx(["inspect", "-l", "-f", "{{.Name}}"]).succeed(), "aa");
    let without = world.sbx(["ps", "-a", "--noheading"]).succeed();
    assert!(without.lines().count() == 3 && !without.contains("CONTAINER"), "{without}");
    let table =
        world.sbx(["ps", "-a", "--format", "table {{.Names}}\\t{{.ExitCode}}", "--sort=names"]).succeed();
    assert_eq!(table, "NAMES   EXIT CODE\naa      0\nbb      0\ncc      0");
}

#[test]
fn labels_are_asked_for_by_their_names() {
    let world = sbx();
    ended(&world, "one", &["--label=a.b=c d", "--label=e="], 0);
    let format =
        "{{.Label \"a.b\"}}|{{.Label \"e\"}}|{{.Label \"none\"}}|{{index .Labels \"a.b\"}}|{{json .Labels}}";
    assert_eq!(
        world.sbx(["ps", "-a", "--format", format]).succeed(),
        "c d|||c d|{\"a.b\":\"c d\",\"e\":\"\"}"
    );
}

#[test]
fn what_a_container_wrote_is_counted() {
    let world = sbx();
    image().layer(|tar| tar.file("a", "1")).runnable().load(&world, "tool");
    world
        .run(["--net=none", "--name=ww", "tool", "sh", "-c", "busybox head -c 5000 /dev/zero >/f"])
        .expect_code(0);
    let listed = world.sbx(["ps", "-as"]).succeed();
    assert!(listed.lines().next().is_some_and(|header| header.ends_with("NAMES   SIZE")), "{listed}");
    assert!(listed.contains("5kB (virtual "), "{listed}");
    assert!(world.sbx(["ps", "-a", "--format", "{{.Size}}"]).succeed().starts_with("5kB (virtual "));
    let json = world.sbx(["ps", "-as", "--format", "json"]).succeed();
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json[0]["Size"]["rwSize"], 5000);
    assert!(json[0]["Size"]["rootFsSize"].as_u64() > Some(5000), "{json}");
}

#[test]
fn a_watched_list_comes_again() {
    let world = sbx();
    ended(&world, "one", &[], 0);
    let mut watching = world.sbx(["ps", "-a", "--watch=1", "--format", "{{.Names}}"]).spawn();
    watching.wait_for_stdout("one\none\n");
    watching.signal(nix::sys::signal::Signal::SIGINT);
    assert_eq!(watching.finish().code(), 130);
    world.sbx(["ps", "--watch=0"]).expect_code(125);
}

#[test]
fn a_state_has_the_words_of_docker() {
    let world = sbx();
    world.sbx(["create", "--net=none", "--name=new", "--rootfs"]).arg(rootfs()).arg("true").expect_code(0);
    ended(&world, "old", &[], 3);
    let running = runs(&world, "on", &["--restart=on-failure:3"]);
    let format = ["ps", "-a", "--sort=names", "--format", "{{.Names}} {{.State}} {{.Status}}"];
    let listed = world.sbx(format).succeed();
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines[0], "new created Created");
    assert!(lines[1].starts_with("old exited Exited (3) ") && lines[1].ends_with(" ago"), "{listed}");
    assert!(lines[2].starts_with("on running Up "), "{listed}");

    let state = |name: &str| {
        let text = world.sbx(["inspect", "-f", "{{json .State}}", name]).succeed();
        serde_json::from_str::<Value>(&text).expect("JSON")
    };
    let never = "0001-01-01T00:00:00Z";
    let (new, old, on) = (state("new"), state("old"), state("on"));
    assert_eq!((&new["Status"], &new["StartedAt"]), (&json!("created"), &json!(never)));
    assert_eq!(
        (&old["Status"], &old["ExitCode"], &old["Running"]),
        (&json!("exited"), &json!(3), &json!(false))
    );
    assert_ne!(old["FinishedAt"], never);
    assert_eq!(
        (&on["Running"], &on["Paused"], &on["FinishedAt"]),
        (&json!(true), &json!(false), &json!(never))
    );
    assert!(on["Pid"].as_i64() > Some(1), "{on}");
    let policy = world.sbx(["inspect", "-f", "{{json .HostConfig.RestartPolicy}}", "on"]).succeed();
    assert_eq!(policy, "{\"MaximumRetryCount\":3,\"Name\":\"on-failure\"}");
    drop(running);
    world.sbx(["rm", "-f", "-t", "0", "on"]).expect_code(0);
}

#[test]
fn the_health_of_what_runs_is_shown_and_asked_for() {
    let world = sbx();
    let start = |name: &str, check: &str| {
        let options =
            ["-d", "--net=none", "--health-interval=1h", "--health-retries=1", "--health-cmd", check];
        let run = world.run(options).args(["--name", name, "--rootfs"]).arg(rootfs());
        run.args(["sleep", "1000"]).expect_code(0);
    };
    start("good", "true");
    start("bad", "echo broken; exit 1");
    ended(&world, "unchecked", &[], 0);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while names(&world, &["-f", "health=healthy", "-f", "health=unhealthy"]) != "bad good" {
        assert!(std::time::Instant::now() < until, "{}", world.sbx(["ps"]).succeed());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(names(&world, &["-f", "health=unhealthy"]), "bad");
    assert_eq!(names(&world, &["-a", "-f", "health=none"]), "unchecked");
    let status = |name: &str| {
        let filter = format!("name={name}");
        world.sbx(["ps", "-f", &filter, "--format", "{{.Status}} {{.Health}}"]).succeed()
    };
    assert!(status("good").ends_with(" (healthy) healthy"), "{}", status("good"));
    assert!(status("bad").ends_with(" (unhealthy) unhealthy"), "{}", status("bad"));
    let show = |name: &str, format: &str| world.sbx(["inspect", "-f", format, name]).succeed();
    let format =
        "{{.State.Health.Status}} {{.State.Health.FailingStreak}} {{(index .State.Health.Log 0).Output}}";
    assert_eq!(show("bad", format), "unhealthy 1 broken");
    assert_eq!(show("good", "{{json .Config.Healthcheck.Test}}"), "[\"CMD-SHELL\",\"true\"]");
    assert_eq!(show("unchecked", "{{if .State.Health}}yes{{else}}no{{end}}"), "no");
    world.sbx(["rm", "-f", "-t", "0", "good", "bad"]).expect_code(0);
}

#[test]
fn inspect_shows_how_a_container_was_made() {
    let world = sbx();
    let options = [
        "create",
        "--name=cc",
        "-p",
        "127.0.0.1:0:80",
        "-e",
        "A=1",
        "--label=x=y",
        "-h",
        "box",
        "-w",
        "/tmp",
        "--user=1:2",
        "-v",
        "/usr:/mnt:ro",
        "--tmpfs=/scratch:size=1m",
        "--cap-add=SYS_PTRACE",
        "--cap-drop=KILL",
        "--ulimit=nofile=100:200",
        "--stop-signal=USR1",
        "--stop-timeout=3",
        "--init",
        "-it",
        "--entrypoint=sh",
        "--rootfs",
    ];
    world.sbx(options).arg(rootfs()).args(["--", "-c", "exit 3"]).expect_code(0);
    let show = |format: &str| world.sbx(["inspect", "-f", format, "cc"]).succeed();
    for (format, shown) in [
        ("{{.Config.Entrypoint}} {{.Config.Cmd}} {{.Path}} {{.Args}}", "[sh] [-c exit 3] sh [-c exit 3]"),
        ("{{.Config.Hostname}} {{.Config.WorkingDir}} {{.Config.User}}", "box /tmp 1:2"),
        ("{{.Config.Tty}} {{.Config.OpenStdin}} {{index .Config.Labels \"x\"}}", "true true y"),
        ("{{.Config.StopSignal}} {{.Config.StopTimeout}} {{.HostConfig.Init}}", "SIGUSR1 3 true"),
        ("{{json .HostConfig.CapAdd}} {{json .HostConfig.CapDrop}}", "[\"CAP_SYS_PTRACE\"] [\"CAP_KILL\"]"),
        ("{{range .NetworkSettings.Ports}}{{(index . 0).HostIp}}{{end}}", "127.0.0.1"),
        ("{{range $p, $c := .NetworkSettings.Ports}}{{$p}}{{end}}", "80/tcp"),
        (
            "{{range .Mounts}}{{.Type}}:{{.Destination}}:{{.RW}} {{end}}",
            "bind:/mnt:false tmpfs:/scratch:true ",
        ),
        ("{{(index .HostConfig.Tmpfs \"/scratch\")}}", "size=1048576"),
        ("{{.RestartCount}} {{.Driver}}", "0 overlay"),
    ] {
        assert_eq!(show(format), shown.trim_end_matches('\n'), "{format}");
    }
    assert!(
        show("{{range .HostConfig.Ulimits}}{{.Name}}={{.Soft}}:{{.Hard}} {{end}}")
            .contains("RLIMIT_NOFILE=100:200")
    );
    assert!(show("{{json .Config.Env}}").contains("\"A=1\""));
    let port = show("{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}");
    assert!(port.parse::<u16>().is_ok_and(|port| port > 0), "{port}");
    assert!(std::path::Path::new(&show("{{.GraphDriver.Data.UpperDir}}")).is_dir());
    world.sbx(["inspect", "-f", "{{.Nothing}}", "cc"]).expect_code(125).stderr_has("there is no field");
    world.sbx(["container", "inspect", "cc"]).expect_code(0);
    world.sbx(["container", "inspect", "nothing"]).expect_code(125).stdout_is("[]\n").stderr_has("nothing");
    world.sbx(["rm", "cc"]).expect_code(0);
}
