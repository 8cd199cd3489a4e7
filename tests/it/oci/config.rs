//! What of config.json a process finds.

use serde_json::json;

use super::Bundle;
use crate::harness::{Sbx, sbx};

/// A line for each of the user and group IDs that the caller may map.
fn mapped<'w>(world: &'w Sbx, script: &str) -> Bundle<'w> {
    let map = |file: &str| {
        let text = world.sbx(["unshare", "cat"]).arg(format!("/proc/self/{file}")).succeed();
        let lines = text.lines().map(|line| {
            let numbers: Vec<u32> =
                line.split_whitespace().map(|word| word.parse().expect("a number")).collect();
            json!({ "containerID": numbers[0], "hostID": numbers[1], "size": numbers[2] })
        });
        json!(lines.collect::<Vec<_>>())
    };
    Bundle::new(world, script)
        .set("/linux/uidMappings", map("uid_map"))
        .set("/linux/gidMappings", map("gid_map"))
}

#[test]
fn the_user_has_the_ids_groups_home_and_umask_that_are_listed() {
    let world = sbx();
    let user = json!({ "uid": 1000, "gid": 50, "additionalGids": [33, 7], "umask": 0o27 });
    let script = "id -u; id -g; id -G; umask; echo $HOME";
    mapped(&world, script)
        .set("/process/user", user)
        .run()
        .expect_code(0)
        .stdout_is("1000\n50\n50 7 33\n0027\n/home/user\n");
    let bundle = Bundle::new(&world, "id -u").set("/process/user", json!({ "uid": 5, "gid": 0 }));
    bundle.run().expect_code(1).stderr_has("not among the container's ID mappings");
    let bundle = Bundle::new(&world, "id -u").set("/process/user/additionalGids", json!([0]));
    bundle.run().expect_code(1).stderr_has("set groups").stderr_has("Hint: ");
}

#[test]
fn each_set_of_capabilities_is_the_one_listed() {
    let world = sbx();
    let script = "grep Cap /proc/self/status | tr -d '\\t'";
    let sets = json!({
        "bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_NET_RAW"],
        "permitted": ["CAP_KILL", "CAP_CHOWN"],
        "effective": ["CAP_KILL"],
        "inheritable": ["CAP_KILL"],
        "ambient": ["CAP_KILL"],
    });
    let bundle = mapped(&world, script).set("/process/capabilities", sets);
    // Root gets what the bounding set has at the exec; and with an ambient set nothing beyond that.
    let user = bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
    user.run().expect_code(0).stdout_is(
        "CapInh:0000000000000020\nCapPrm:0000000000000020\nCapEff:0000000000000020\nCapBnd:0000000000002021\n\
         CapAmb:0000000000000020\n",
    );
    let none = Bundle::new(&world, script).set("/process/capabilities", json!(null));
    none.run().expect_code(0).stdout_has("CapPrm:0000000000000000").stdout_has("CapBnd:0000000000000000");
    let unknown = Bundle::new(&world, "true").set("/process/capabilities/bounding", json!(["CAP_NO_SUCH"]));
    unknown.run().expect_code(0).stderr_has("CAP_NO_SUCH");
}

#[test]
fn limits_and_marks_of_the_process_are_set() {
    let world = sbx();
    let bundle = Bundle::new(
        &world,
        "ulimit -n; ulimit -c; cat /proc/self/oom_score_adj; grep NoNewPrivs /proc/self/status; uname -m; hostname; pwd",
    )
    .set("/process/rlimits", json!([
        { "type": "RLIMIT_NOFILE", "soft": 77, "hard": 88 },
        { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
    ]))
    .set("/process/oomScoreAdj", json!(500))
    .set("/process/cwd", json!("/tmp"))
    .set("/hostname", json!("box"))
    .set("/linux/personality", json!({ "domain": "LINUX32" }));
    // Not every kernel has another name for it.
    let machine = world.program("setarch").args(["linux32", "uname", "-m"]).succeed();
    bundle.run().expect_code(0).stdout_is(&format!("77\n0\n500\nNoNewPrivs:\t1\n{machine}\nbox\n/tmp\n"));
    let lower = Bundle::new(&world, "cut -d' ' -f19 /proc/self/stat")
        .set(
            "/process/scheduler",
            json!({
                "policy": "SCHED_BATCH", "nice": 5,
            }),
        )
        .set("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 4 }));
    lower.run().expect_code(0).stdout_is("5\n");
}

#[test]
fn a_time_namespace_has_clocks_of_its_own_where_an_exec_changes_it() {
    let world = sbx();
    let bundle = Bundle::new(&world, "readlink /proc/self/ns/time; cat /proc/uptime")
        .set("/linux/namespaces", json!([
            { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }, { "type": "user" },
            { "type": "network" }, { "type": "time" },
        ]))
        .set("/linux/timeOffsets", json!({ "boottime": { "secs": 1_000_000_000, "nanosecs": 0 } }));
    let kernel = nix::sys::utsname::uname().expect("a name").release().to_string_lossy().into_owned();
    let mut numbers = kernel.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or_default());
    if (numbers.next(), numbers.next()) < (Some(6), Some(3)) {
        bundle.run().expect_code(1).stderr_has("time namespace at an exec since Linux 6.3");
        return;
    }
    let out = bundle.run().expect_code(0).stdout();
    let own = std::fs::read_link("/proc/self/ns/time").expect("a link");
    let (namespace, uptime) = out.split_once('\n').expect("two lines");
    assert_ne!(own.to_str(), Some(namespace));
    assert!(uptime.starts_with("100"), "{uptime}");
}

#[test]
fn namespaces_are_new_joined_or_the_callers() {
    let world = sbx();
    let all = json!([
        { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }, { "type": "user" },
        { "type": "network" }, { "type": "cgroup" },
    ]);
    let script = "cd /proc/self/ns; for n in *; do echo $(readlink $n); done; cat /proc/net/dev | grep -c :; \
                  ping -c 1 127.0.0.1 > /dev/null 2>&1; grep -q 0100007F /proc/net/fib_trie || grep -q 127 /proc/net/fib_trie";
    let bundle = Bundle::new(&world, script)
        .set("/linux/namespaces", all)
        .set("/linux/sysctl", json!({ "net.ipv4.ip_default_ttl": "77" }));
    let out = bundle.run().expect_code(0).stdout();
    for (name, own) in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"]
        .iter()
        .map(|name| (name, std::fs::read_link(format!("/proc/self/ns/{name}")).expect("a link")))
    {
        let own = own.to_str().expect("UTF-8");
        assert!(out.contains(&own[..own.find('[').expect("a number")]), "{name}: {out}");
        assert!(!out.contains(own), "{name} is the caller's: {out}");
    }

    let bundle = Bundle::new(&world, "exec sleep 999").set("/linux/namespaces", json!([
        { "type": "pid" }, { "type": "uts" }, { "type": "mount" }, { "type": "user" }, { "type": "network" }, { "type": "ipc" },
    ])).set("/hostname", json!("first"));
    let pid = world.work().join("pid");
    bundle.behind("create", "first").arg("--pid-file").arg(&pid).expect_code(0);
    world.sbx(["oci", "start", "first"]).succeed();
    let pid = std::fs::read_to_string(pid).expect("a file");
    let of_first = |name: &str| json!({ "type": name, "path": format!("/proc/{pid}/ns/{}", match name { "network" => "net", other => other }) });
    let second = Bundle::new(&world, "hostname; ps | grep -c 'sleep 99[9]'; readlink /proc/self/ns/user").set("/linux/namespaces", json!([
        of_first("user"), of_first("uts"), of_first("network"), of_first("pid"), { "type": "mount" }, { "type": "ipc" },
    ]));
    let mut second = second;
    for key in ["uidMappings", "gidMappings"] {
        second.config["linux"].as_object_mut().expect("an object").remove(key);
    }
    second.config.as_object_mut().expect("an object").remove("hostname");
    second.write();
    let users = std::fs::read_link(format!("/proc/{pid}/ns/user")).expect("a link");
    second.verb("run", "second").expect_code(0).stdout_is(&format!("first\n1\n{}\n", users.display()));
    world.sbx(["oci", "delete", "--force", "first"]).succeed();
}

#[test]
fn what_cannot_be_honoured_is_named() {
    let world = sbx();
    let line = |at: u32| json!({ "containerID": at, "hostID": 100_000 + at, "size": 1 });
    for (pointer, value, words) in [
        ("/linux/uidMappings", json!((0..6).map(line).collect::<Vec<_>>()), "a map has at most 5 lines"),
        ("/linux/uidMappings", json!([]), "`uidMappings` has no lines"),
        ("/linux/namespaces", json!([{ "type": "mount" }]), "no user namespace to have them"),
        ("/linux/namespaces", json!([{ "type": "user" }]), "no mount namespace"),
        ("/linux/namespaces", json!([{ "type": "moon" }]), "there is none of this type"),
        ("/linux/namespaces", json!([{ "type": "pid" }, { "type": "pid" }]), "it is listed twice"),
        ("/linux/namespaces", json!([{ "type": "mount" }, { "type": "pid", "path": "x" }]), "absolute path"),
        ("/linux/sysctl", json!({ "kernel.panic": "1" }), "belongs to the whole machine"),
        ("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" }), "not the container's own"),
        ("/linux/intelRdt", json!({ "closID": "x" }), "`intelRdt` is not supported"),
        ("/linux/devices", json!([{ "path": "dev/x", "type": "c" }]), "not absolute"),
        ("/linux/rootfsPropagation", json!("loud"), "there are: shared"),
        ("/process/args", json!([]), "`args` is empty"),
        ("/process/cwd", json!("tmp"), "absolute path"),
        ("/process/apparmorProfile", json!("x"), "not supported"),
        ("/process/rlimits", json!([{ "type": "RLIMIT_MOON", "soft": 1, "hard": 1 }]), "no such limit"),
        ("/process/user", json!({ "uid": -1 }), "cannot understand"),
        ("/hooks", json!({ "poststop": [{ "path": "true" }] }), "absolute path"),
        ("/hooks", json!({ "poststop": [{ "path": "/bin/true", "timeout": 0 }] }), "above zero"),
        ("/root", json!(null), "there is no `root`"),
        ("/root", json!({ "path": "no-such" }), "no-such"),
        ("/process", json!(null), "there is no `process`"),
        ("/ociVersion", json!("2.0.0"), "`ociVersion` is `2.0.0`"),
        ("/mounts", json!([{ "destination": "/", "type": "tmpfs" }]), "the root is mounted already"),
        ("/mounts", json!([{ "destination": "/tmp", "source": "/etc" }]), "neither `bind` nor `rbind`"),
        (
            "/mounts",
            json!([{ "destination": "/tmp", "source": "/no/such", "options": ["bind"] }]),
            "/no/such",
        ),
        (
            "/mounts",
            json!([{ "destination": "/tmp", "type": "tmpfs", "options": ["color=red"] }]),
            "one of its options",
        ),
    ] {
        let bundle = Bundle::new(&world, "true").set(pointer, value);
        bundle.run().expect_code(1).stderr_has(words).stdout_is("");
    }
    assert_eq!(world.sbx(["oci", "list", "--quiet"]).succeed(), "");
}

#[test]
fn a_user_namespace_without_maps_has_all_that_the_caller_has() {
    let world = sbx();
    let bundle = Bundle::new(&world, "cat /proc/self/uid_map /proc/self/gid_map");
    let bundle = bundle.set("/linux/uidMappings", json!([])).set("/linux/gidMappings", json!([]));
    let told = bundle.run().succeed();
    let run = world.run(["--rm", "--net", "none", "--rootfs"]).arg(super::rootfs());
    assert_eq!(told, run.args(["cat", "/proc/self/uid_map", "/proc/self/gid_map"]).succeed());
}
