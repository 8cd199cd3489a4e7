//! Control groups of bundles: where `linux.cgroupsPath` and the engine want them, with what `linux.resources` says.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Account, world};
use crate::harness::{Podman, Sbx, sbx_binary};
use crate::oci::{Bundle, behind, content_of, status, wait_for};

const ROOT: &str = "/sys/fs/cgroup";

/// A bundle with limits and a path.
fn limited<'w>(world: &'w Sbx, path: &str, script: &str) -> Bundle<'w> {
    Bundle::new(world, script).set("/linux/cgroupsPath", json!(path)).set(
        "/linux/resources",
        json!({
            "memory": { "limit": 67_108_864, "reservation": 1_048_576 },
            "pids": { "limit": 20 },
            "cpu": { "quota": 50_000, "period": 100_000, "shares": 512 },
            "unified": { "memory.high": "60000000", "cgroup.max.depth": "3" },
        }),
    )
}

/// Starts it in the background, with options for `sbx oci`.
fn start(bundle: &Bundle<'_>, world: &Sbx, options: &[&str], id: &str) {
    let create = behind(world).arg("oci").args(options).args(["create", "--bundle"]);
    create.arg(&bundle.directory).arg(id).expect_code(0);
    world.sbx(["oci", "start", id]).succeed();
}

/// The cgroup of a container's first process, with the mount.
fn group_of(world: &Sbx, id: &str) -> PathBuf {
    let state: Value = serde_json::from_str(&world.sbx(["oci", "state", id]).succeed()).expect("JSON");
    let text = fs::read_to_string(format!("/proc/{}/cgroup", state["pid"])).expect("a process");
    Path::new(ROOT).join(text.trim().trim_start_matches("0::/"))
}

fn said(group: &Path, file: &str) -> String {
    fs::read_to_string(group.join(file)).unwrap_or_else(|error| panic!("{file}: {error}")).trim().to_owned()
}

fn limits_hold(group: &Path) {
    for (file, expected) in [
        ("memory.max", "67108864"),
        ("memory.low", "1048576"),
        ("memory.high", "59998208"),
        ("pids.max", "20"),
        ("cpu.max", "50000 100000"),
        ("cpu.weight", "59"),
        ("cgroup.max.depth", "3"),
    ] {
        assert_eq!(said(group, file), expected, "{file}");
    }
}

/// What engines do with a container in its cgroup.
fn engines_can_use(world: &Sbx, group: &Path, id: &str) {
    world.sbx(["oci", "pause", id]).succeed();
    assert_eq!((said(group, "cgroup.freeze").as_str(), status(world, id).as_str()), ("1", "paused"));
    world.sbx(["oci", "exec", id, "true"]).expect_code(255).stderr_has("paused");
    let mut held = world.sbx(["oci", "exec", "--ignore-paused", id, "echo", "goes on"]).spawn();
    let before = said(group, "cgroup.procs").lines().count();
    assert!((0..500).any(|_| said(group, "cgroup.procs").lines().count() > before || {
        std::thread::sleep(std::time::Duration::from_millis(20));
        false
    }));
    assert!(held.is_running());
    world.sbx(["oci", "resume", id]).succeed();
    held.finish().code_is(0).stdout_is("goes on\n");
    fs::create_dir(group.join("part")).expect("a control group");
    let exec = ["oci", "exec", "--cgroup", "/part", id, "cat", "/proc/self/cgroup"];
    world.sbx(exec).expect_code(0).stdout_is("0::/part\n");
    for (wrong, words) in [("../part", "leads out"), ("none", "has none of this name")] {
        world.sbx(["oci", "exec", "--cgroup", wrong, id, "true"]).expect_code(255).stderr_has(words);
    }
    fs::remove_dir(group.join("part")).expect("removed");
    assert_eq!((said(group, "cgroup.freeze").as_str(), status(world, id).as_str()), ("0", "running"));
    world.sbx(["oci", "update", "--memory", "80m", "--pids-limit", "30", id]).succeed();
    assert_eq!((said(group, "memory.max").as_str(), said(group, "pids.max").as_str()), ("83886080", "30"));
    let resources = r#"{"unified":{"memory.high":"max"},"cpu":{"quota":-1}}"#;
    world.sbx(["oci", "update", "--resources", "-", id]).stdin(resources).expect_code(0);
    assert_eq!((said(group, "memory.high").as_str(), said(group, "cpu.max").as_str()), ("max", "max 100000"));
    let resources = r#"{"memory":{"limit":4096,"checkBeforeUpdate":true}}"#;
    let refused = world.sbx(["oci", "update", "--resources", "-", id]).stdin(resources).expect_code(1);
    refused.stderr_has("`checkBeforeUpdate` forbids to limit that to 4096");
    let exec =
        world.sbx(["oci", "exec", id, "sh", "-c", "cat /proc/self/cgroup; ls /sys/fs/cgroup/pids.max"]);
    exec.expect_code(0).stdout_is("0::/\n/sys/fs/cgroup/pids.max\n");
    let pids: Vec<u64> =
        serde_json::from_str(&world.sbx(["oci", "ps", "--format", "json", id]).succeed()).expect("JSON");
    let inside: Vec<u64> =
        said(group, "cgroup.procs").lines().map(|pid| pid.parse().expect("a PID")).collect();
    assert_eq!(pids, inside);
    let event: Value =
        serde_json::from_str(&world.sbx(["oci", "events", "--stats", id]).succeed()).expect("JSON");
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(id)));
    let data = &event["data"];
    assert_eq!(
        (&data["pids"]["current"], &data["pids"]["limit"]),
        (&json!(pids.len()), &json!(30)),
        "{event:#}"
    );
    assert_eq!(data["memory"]["usage"]["limit"], json!(83_886_080), "{event:#}");
    assert!(data["memory"]["usage"]["usage"].as_u64() > Some(0), "{event:#}");
    assert!(data["cpu"]["usage"]["total"].as_u64() > Some(0), "{event:#}");
}

#[track_caller]
fn goes(group: &Path) {
    let gone = (0..300).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        !group.exists()
    });
    assert!(gone, "{} stays", group.display());
}

#[test]
fn systemd_makes_the_scope_that_an_engine_names() {
    let world = world();
    let id = format!("web{}", std::process::id());
    let bundle = limited(&world, &format!("user.slice:sbxtest:{id}"), "exec sleep 999");
    for options in [&["--systemd-cgroup"], &["--cgroup-manager=systemd"]] {
        start(&bundle, &world, options, &id);
        let group = group_of(&world, &id);
        let path = group.display().to_string();
        assert!(path.ends_with(&format!("/user.slice/sbxtest-{id}.scope/container")), "{path}");
        limits_hold(&group);
        engines_can_use(&world, &group, &id);
        let told = Account::own()
            .sh(&world, &format!("systemctl --user show -P Description -P Delegate sbxtest-{id}.scope"));
        assert_eq!(told.succeed().lines().collect::<Vec<_>>().len(), 2);
        let again = world.sbx(["oci"]).args(options).args(["create", "--bundle"]);
        again.arg(&bundle.directory).arg("other").expect_code(1).stderr_has("systemd starts no scope");
        world.sbx(["oci", "delete", "--force", &id]).succeed();
        goes(group.parent().expect("a scope"));
    }
    world.sbx(["oci", "list", "--quiet"]).expect_code(0).stdout_is("");
}

#[test]
fn a_scope_is_made_without_limits_too_and_goes_with_what_runs_in_the_foreground() {
    let world = world();
    let id = format!("plain{}", std::process::id());
    let bundle = Bundle::new(&world, "cat /proc/self/cgroup; exit 3")
        .set("/linux/cgroupsPath", json!(format!(":sbxtest:{id}")));
    let namespaces = bundle.config["linux"]["namespaces"].as_array().expect("namespaces").clone();
    let namespaces: Vec<Value> = namespaces.into_iter().filter(|one| one["type"] != "cgroup").collect();
    let bundle = bundle.set("/linux/namespaces", json!(namespaces));
    let run = world.sbx(["oci", "--systemd-cgroup", "run", "--bundle"]).arg(&bundle.directory).arg(&id);
    let seen = run.expect_code(3).stdout();
    let path = seen.trim().trim_start_matches("0::/").to_owned();
    assert!(path.ends_with(&format!("/user.slice/sbxtest-{id}.scope/container")), "{path}");
    goes(Path::new(ROOT).join(path).parent().expect("a scope"));
    let unnamed = bundle.set("/linux/cgroupsPath", json!(""));
    let run = world.sbx(["oci", "--systemd-cgroup", "run", "--bundle"]).arg(&unnamed.directory).arg(&id);
    let seen = run.expect_code(3).stdout();
    assert!(seen.contains(&format!("/user.slice/sbx-oci-{id}-")), "{seen}");
    for wrong in ["user.slice", "a:b:c:d", "user.slice:x:../y", "nothing:sbxtest:a"] {
        let wrong = Bundle::new(&world, "true").set("/linux/cgroupsPath", json!(wrong));
        let run = world.sbx(["oci", "--systemd-cgroup", "--rootless=false", "run", "--bundle"]);
        run.arg(&wrong.directory).arg(&id).expect_code(1);
    }
}

/// In a scope of its own, with nobody to ask for others. `oci` is the runtime, `$own` the scope's cgroup below the mount.
fn alone(world: &Sbx, script: &str) -> crate::harness::Finished {
    let script = format!(
        "own={ROOT}$(cut -d: -f3 /proc/self/cgroup); oci() {{ {} --root {} oci \"$@\"; }}\n{script}",
        sbx_binary().display(),
        world.work().join("state").display()
    );
    let script = world.file("script", script).display().to_string();
    let scope = "exec systemd-run --user --scope --quiet --property=Delegate=yes env DBUS_SESSION_BUS_ADDRESS=unix:path=/nobody sh -ec \". $0\"";
    Account::own().sh(world, scope).arg(&script).finish()
}

#[test]
fn a_path_is_below_the_callers_own_or_from_the_mount() {
    let world = world();
    let bundle = limited(&world, "engine/web", "exec sleep 999");
    let directory = bundle.directory.display();
    let script = format!(
        "oci create --bundle {directory} web </dev/null >$PWD/out 2>&1
         oci start web
         cd $own/engine/web; cat memory.max memory.high pids.max cpu.max cgroup.max.depth
         oci pause web; cat cgroup.freeze; oci resume web; cat cgroup.freeze
         oci update --memory 80m web; cat memory.max
         oci exec web cat /proc/self/cgroup
         cd /; oci delete --force web; ls -d $own/engine/web 2>/dev/null || echo gone
         sed -i \"s,engine/web,$(echo $own | cut -c 15-)/from/top,\" {directory}/config.json
         oci --cgroup-manager cgroupfs create --bundle {directory} top </dev/null >/dev/null 2>&1
         cat $own/from/top/memory.max
         oci create --bundle {directory} second || echo refused
         oci delete top; ls $own/from
         sed -i \"s,/from/top,/../../../x,\" {directory}/config.json
         oci run --bundle {directory} out || echo refused"
    );
    let seen = alone(&world, &script).code_is(0);
    let lines =
        "67108864\n59998208\n20\n50000 100000\n3\n1\n0\n83886080\n0::/\ngone\n67108864\nrefused\nrefused\n";
    let top: String =
        seen.stdout().lines().filter(|line| !line.contains('.')).map(|line| format!("{line}\n")).collect();
    assert_eq!(top, lines, "{}", seen.stderr());
    seen.stderr_has("processes are in it already").stderr_has("cannot use the `cgroupsPath`");
}

#[test]
fn what_cannot_be_had_is_an_error_where_it_was_asked_for() {
    let world = world();
    // The root of all is nobody's who is not root.
    let bundle = limited(&world, "/sbxtest/web", "true");
    bundle.run().expect_code(1).stderr_has("cannot set `memory.max`").stderr_has("cgroup");
    let bundle = Bundle::new(&world, "echo runs").set("/linux/cgroupsPath", json!("/sbxtest/web"));
    bundle.run().expect_code(0).stdout_is("runs\n");
    let required = world.sbx(["oci", "--rootless=false", "run", "--bundle"]).arg(&bundle.directory);
    required.arg("a").expect_code(1).stderr_has("cannot make the control group");
    // No such controller is delegated to anybody, where the kernel has it at all.
    let bundle =
        Bundle::new(&world, "true").set("/linux/resources", json!({ "unified": { "rdma.max": "x" } }));
    bundle
        .run()
        .expect_code(1)
        .stderr_has("cannot set `rdma.max`")
        .stderr_has("cannot limit the container (rdma)");
    world.sbx(["oci", "list", "--quiet"]).expect_code(0).stdout_is("");
}

#[test]
fn memory_that_runs_out_is_an_event() {
    let world = world();
    let id = format!("oom{}", std::process::id());
    let bundle = Bundle::new(
        &world,
        "read go; head -c 99m /dev/zero | tail -n 1 >/dev/null; echo survived; sleep 999",
    )
    .set("/linux/resources", json!({ "memory": { "limit": 16_777_216, "swap": 16_777_216 } }))
    .set("/linux/cgroupsPath", json!(format!("user.slice:sbxtest:{id}")))
    .set("/process/terminal", json!(false));
    let fifo = world.work().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let fifo = fs::File::options().read(true).write(true).open(&fifo).expect("a FIFO");
    let create = world.sbx(["oci", "--systemd-cgroup", "create", "--bundle"]).arg(&bundle.directory).arg(&id);
    let out = fs::File::create(world.work().join("said")).expect("a file");
    // Its standard error is the container's, too.
    let mut creating = create.stdin_from(fifo.try_clone().expect("a descriptor")).stdout_to(out).spawn();
    while world.sbx(["oci", "list", "--quiet"]).expect_code(0).stdout().is_empty() {
        assert!(creating.is_running() || world.runtime().join("sbx/oci").join(&id).exists());
    }
    wait_for(&world, &id, "created");
    world.sbx(["oci", "start", &id]).succeed();
    let mut events = world.sbx(["oci", "events", "--interval", "600s", &id]).spawn();
    events.wait_for_stdout("\"stats\"");
    std::io::Write::write_all(&mut &fifo, b"go\n").expect("the container reads");
    events.wait_for_stdout("\"oom\"");
    assert_eq!(content_of(&world.work().join("said")), "survived\n");
    world.sbx(["oci", "delete", "--force", &id]).succeed();
    events.finish().code_is(0);
    assert!(!creating.is_running());
}

#[test]
fn podman_limits_pauses_and_counts() {
    world();
    let podman = Podman::above_sbx();
    let uid = nix::unistd::geteuid();
    let say = |words: &[&str]| {
        let run = podman.podman(["--cgroup-manager=systemd"]).args(words);
        run.env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path=/run/user/{uid}/bus")).expect_code(0).stdout()
    };
    let image = podman.image.as_str();
    let limits = ["--memory=64m", "--pids-limit=20", "--cpus=0.5", "--cgroup-conf=memory.high=60000000"];
    let web = ["run", "--detach", "--name=web", "--network=none"];
    say(&[&web[..], &limits, &[image, "sleep", "999"]].concat());
    let pid = say(&["inspect", "--format", "{{.State.Pid}}", "web"]);
    let text = fs::read_to_string(format!("/proc/{}/cgroup", pid.trim())).expect("a process");
    let group = Path::new(ROOT).join(text.trim().trim_start_matches("0::/"));
    assert!(text.contains("/user.slice/libpod-") && text.ends_with(".scope/container\n"), "{text}");
    for (file, expected) in [
        ("memory.max", "67108864"),
        ("pids.max", "20"),
        ("cpu.max", "50000 100000"),
        ("memory.high", "59998208"),
    ] {
        assert_eq!(said(&group, file), expected, "{file}");
    }
    say(&["pause", "web"]);
    assert_eq!(said(&group, "cgroup.freeze"), "1");
    say(&["unpause", "web"]);
    assert_eq!(said(&group, "cgroup.freeze"), "0");
    assert_eq!(say(&["exec", "web", "cat", "/sys/fs/cgroup/pids.max"]), "20\n");
    let stats = say(&["stats", "--no-stream", "--format", "{{.PIDs}} {{.MemLimit}}", "web"]);
    assert_eq!(stats.trim(), "1 67108864", "{stats}");
    say(&["rm", "-f", "-t", "0", "web"]);
    goes(&group);
    podman.assert_clean();
}
