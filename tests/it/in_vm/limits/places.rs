//! Where the control groups are.

use std::fs;
use std::path::Path;

use super::{LEAVES, files, group_of, kill_monitor, left_by_guests, monitor, said, world};
use crate::harness::{Background, rootfs};
use crate::in_vm::Account;

const ALL: [&str; 8] = [
    "--memory=64m",
    "--memory-swap=96m",
    "--memory-reservation=32m",
    "--memory-high=60m",
    "--cpus=0.5",
    "--cpu-shares=512",
    "--pids-limit=50",
    "--cgroup-conf=memory.min=4096",
];

#[test]
fn limits_hold_from_the_first_instruction_on() {
    let world = world();
    let names = "memory.max memory.swap.max memory.low memory.high cpu.max cpu.weight pids.max memory.min";
    let found = said(&world, &ALL, &files(names));
    let expected = ["67108864", "33554432", "33554432", "62914560", "50000 100000", "59", "50", "4096"];
    assert_eq!(found.lines().collect::<Vec<_>>(), expected);
    // The limit on processes is one.
    let forks = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait; echo done";
    let run = world.run(["--rm", "--net=none", "--pids-limit=5", "--rootfs"]).arg(rootfs());
    let refused = run.args(["sh", "-c", forks]).finish();
    assert!(refused.stderr().contains("can't fork"), "{} {}", refused.stdout(), refused.stderr());
}

#[test]
fn above_the_high_mark_memory_is_taken_back_and_nobody_is_killed() {
    let world = world();
    // Pages of a file can be taken back: nobody waits for swap.
    let script = "truncate -s 80M /f; cat /f >/dev/null; cd /sys/fs/cgroup; cat memory.current; grep -E '^(high|oom_kill) ' memory.events";
    let found = said(&world, &["--memory-high=16m"], script);
    let words: Vec<u64> = found.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert!(words[0] < 24 << 20 && words[1] > 0 && words[2] == 0, "{found}");
}

#[test]
fn a_container_with_limits_has_a_scope_of_its_own_with_the_monitor_beside_it() {
    let world = world();
    let web = Background::start(&world, &["--memory=64m", "--name=web"], "sleep 999");
    let path = web.inspect("{{.State.CgroupPath}}").trim().to_owned();
    let scope = format!("/user.slice/sbx-{}.scope/container", web.id);
    assert!(path.ends_with(&scope), "{path}");
    assert_eq!(group_of(web.inspect("{{.State.Pid}}").trim()), path);
    let monitor = monitor(&web);
    assert_eq!(group_of(&monitor), path.replace("/container", "/monitor"));
    // exec comes from the monitor, and is as limited.
    assert_eq!(
        web.sh(&[], &format!("cat /proc/self/cgroup; {}", files("memory.max"))).succeed(),
        "0::/\n67108864"
    );
    let told =
        Account::own().sh(&world, &format!("systemctl --user show -P Description sbx-{}.scope", web.id));
    assert_eq!(told.succeed().trim(), "sbx container web");
    let group = Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'));
    assert!(group.is_dir());
    world.sbx(["rm", "-f", "-t", "0", "web"]).succeed();
    assert!(!group.exists());
    world.assert_clean();
}

#[test]
fn the_control_group_inside_is_read_only_and_with_privileges_writable() {
    let world = world();
    let write =
        "mkdir /sys/fs/cgroup/own && echo made; ls -d /sys/fs/cgroup/cgroup.procs; cat /proc/self/cgroup";
    let closed = world
        .run(["--rm", "--net=none", "-m64m", "--rootfs"])
        .arg(rootfs())
        .args(["sh", "-c", write])
        .finish();
    assert_eq!(closed.stdout(), "/sys/fs/cgroup/cgroup.procs\n0::/\n");
    assert!(closed.stderr().contains("Read-only file system"), "{}", closed.stderr());
    // Its own limit is not its to change.
    let write = format!(
        "{write}; echo 99m >/sys/fs/cgroup/memory.max || echo refused; cat /sys/fs/cgroup/memory.max"
    );
    let open = world.run(["--rm", "--net=none", "--privileged", "-m64m", "--rootfs"]).arg(rootfs());
    let open = open.args(["sh", "-c", &write]).expect_code(0).stderr_has("Operation not permitted");
    assert_eq!(open.stdout(), "made\n/sys/fs/cgroup/cgroup.procs\n0::/\nrefused\n67108864\n");
}

/// Words of a shell that is in a unit with Delegate=yes and has nobody to ask for scopes.
fn alone(script: &str) -> String {
    format!(
        "exec systemd-run --user --scope --quiet --property=Delegate=yes env DBUS_SESSION_BUS_ADDRESS=unix:path=/nobody \
         sh -ec '{script}'"
    )
}

#[test]
fn a_subtree_that_may_be_written_does_without_systemd() {
    let world = world();
    let root = rootfs().display();
    let run = format!("sbx run --rm --quiet --net none --rootfs {root}");
    let script = format!(
        "own=$(cut -d: -f3 /proc/self/cgroup)
         sbx info --format \"{{{{.host.cgroupManager}}}}\"
         {run} -m 64m cat /sys/fs/cgroup/memory.max
         test $(cut -d: -f3 /proc/self/cgroup) = $own/supervisor && echo moved
         {run} --cgroups split --pids-limit 7 cat /sys/fs/cgroup/pids.max
         {run} --cgroups no-conmon --pids-limit 8 cat /sys/fs/cgroup/pids.max
         sbx run -d --name web --cgroups no-conmon --quiet --net none --rootfs {root} sleep 999 >/dev/null
         first=$(sbx inspect -f \"{{{{.State.Pid}}}}\" web)
         test $(cut -d: -f3 /proc/$first/cgroup) = $own/sbx-$(sbx inspect -f \"{{{{.Id}}}}\" web) && echo own
         test $(cut -d: -f3 /proc/$(cut -d\" \" -f4 /proc/$first/stat)/cgroup) = $own/supervisor && echo beside
         sbx rm -f -t 0 web
         {run} --cgroup-parent a/b --pids-limit 9 cat /sys/fs/cgroup/pids.max
         test -d /sys/fs/cgroup$own/a/b && echo below
         {run} --cgroup-parent x.slice --pids-limit 9 true || echo $?
         ls -d /sys/fs/cgroup$own/sbx-* /sys/fs/cgroup$own/*/sbx-* || true"
    );
    let found =
        Account::own().sh(&world, &alone(&script)).env("XDG_DATA_HOME", world.directory().join("data"));
    let found = found.expect_code(0);
    found
        .stderr_has("there is no systemd session of yours")
        .stdout_is("cgroupfs\n67108864\nmoved\n7\n8\nown\nbeside\nweb\n9\nbelow\n125\n");
}

#[test]
fn a_parent_is_a_slice_and_no_group_is_no_group() {
    let world = world();
    let web = Background::start(&world, &["--cgroup-parent=sbxtest.slice"], "sleep 999");
    let path = web.inspect("{{.State.CgroupPath}}");
    assert!(path.contains("/sbxtest.slice/sbx-"), "{path}");
    let none = Background::start(&world, &["--cgroups=disabled"], "sleep 999");
    assert_eq!(none.inspect("{{.State.CgroupPath}}").trim(), "");
    world.sbx(["pause"]).arg(&none.id).expect_code(125);
    let limited = world.run(["--rm", "--cgroups=disabled", "-m64m", "host", "true"]).expect_code(125);
    limited.stderr_has("`--cgroups disabled` gives it no control group");
}

#[test]
fn a_pod_is_limited_by_the_slice_of_its_containers() {
    let world = world();
    let account = Account::own();
    let create = ["pod", "create", "--infra=false", "--share=", "--cgroup-parent=sbxpod.slice", "site"];
    world.sbx(create).expect_code(0);
    assert_eq!(world.sbx(["pod", "inspect", "-f", "{{.CgroupParent}}", "site"]).succeed(), "sbxpod.slice");
    account.sh(&world, "systemctl --user set-property --runtime sbxpod.slice MemoryMax=48M").expect_code(0);
    let one = Background::start(&world, &["--pod=site", "-m64m"], "sleep 999");
    let two = Background::start(&world, &["--pod=site"], "sleep 999");
    let other = Background::start(&world, &["--pod=site", "--cgroup-parent=sbxtest.slice"], "sleep 999");
    for (container, slice) in
        [(&one, "/sbxpod.slice/"), (&two, "/sbxpod.slice/"), (&other, "/sbxtest.slice/")]
    {
        let path = container.inspect("{{.State.CgroupPath}}");
        assert!(path.contains(slice), "{path}");
    }
    assert_eq!(two.inspect("{{.HostConfig.CgroupParent}}").trim(), "sbxpod.slice");
    let path = one.inspect("{{.State.CgroupPath}}");
    let slice = path.trim().trim_start_matches('/').split_inclusive("/sbxpod.slice").next().expect("a slice");
    let limit = Path::new("/sys/fs/cgroup").join(slice).join("memory.max");
    assert_eq!(fs::read_to_string(limit).expect("a limit").trim(), "50331648");
    world.sbx(["pod", "rm", "-f", "-t", "0", "site"]).expect_code(0);
    account.sh(&world, "systemctl --user revert sbxpod.slice").expect_code(0);
}

#[test]
fn what_a_killed_monitor_leaves_goes_with_the_next_command() {
    let world = world();
    // Nothing but its control group tells its processes from those of the container among which they are.
    let inn = Background::start(&world, &["--name=inn"], "sleep 999");
    let script = format!("{LEAVES}exec sleep 777");
    let web = Background::start(&world, &["--memory=64m", "--pid=container:inn"], &script);
    let scope =
        Path::new("/sys/fs/cgroup").join(web.inspect("{{.State.CgroupPath}}").trim().trim_start_matches('/'));
    let scope = scope.parent().expect("a scope").to_owned();
    assert!((0..100).any(|_| left_by_guests(&inn) == 1));
    kill_monitor(&web);
    // Its guard ends what it finds first.
    let down = || world.sbx(["ps", "-a", "--format", "{{.State}}"]).succeed().contains("exited");
    assert!((0..100).any(|_| down() || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        false
    }));
    world.sbx(["rm", "--ignore", "none"]).expect_code(0);
    assert_eq!(left_by_guests(&inn), 0);
    world.sbx(["start"]).arg(&web.id).succeed();
    assert_eq!(web.sh(&[], &files("memory.max")).succeed(), "67108864");
    world.sbx(["rm", "-f", "-t", "0"]).arg(&web.id).succeed();
    let gone = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        !fs::exists(&scope).expect("the cgroup file system")
    });
    assert!(gone, "{}", scope.display());
}

#[test]
fn another_life_has_the_same_limits() {
    let world = world();
    let script = "cat /sys/fs/cgroup/memory.max; exit 3";
    let run =
        world.run(["--name=web", "--net=none", "--restart=on-failure:2", "-m64m", "--rootfs"]).arg(rootfs());
    run.args(["sh", "-c", script]).expect_code(3);
    let logs = || world.sbx(["logs", "web"]).succeed();
    let all = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        logs() == ["67108864"; 3].join("\n")
    });
    assert!(all, "{}", logs());
    world.sbx(["rm", "-f", "web"]).succeed();
}

#[test]
fn who_is_born_through_a_launcher_is_in_the_group_from_the_start_too() {
    let world = world();
    for option in ["--userns=keep-id", "--userns=nomap", "--pid=host"] {
        let found = said(&world, &[option, "-m64m"], "cat /proc/self/cgroup /sys/fs/cgroup/memory.max");
        assert_eq!(found, "0::/\n67108864", "{option}");
    }
}
