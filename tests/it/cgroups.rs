//! The control group of a container: `pause`, `unpause`, `stats`, `commit --pause`.

use std::fs;

use rustix::fs::{Access, access};

use crate::harness::{Background, rootfs, sbx};

/// Whether the kernel lets us make cgroups in our own, by the rules of cgroups(7).
fn is_delegated() -> bool {
    let own = fs::read_to_string("/proc/self/cgroup").expect("the cgroups of this process");
    let Some(path) = own.lines().find_map(|line| line.strip_prefix("0::")) else { return false };
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].iter().any(|root| {
        let writable = |file: &str| access(format!("{root}{path}/{file}"), Access::WRITE_OK).is_ok();
        writable("cgroup.procs") && writable("cgroup.subtree_control") && writable(".")
    })
}

#[test]
fn what_needs_a_control_group_says_why_there_is_none() {
    let world = sbx();
    let web = Background::start(&world, &[], "sleep 999");
    let id = &web.id;
    if is_delegated() {
        world.sbx(["pause"]).arg(id).succeed();
        world.sbx(["unpause"]).arg(id).succeed();
        return;
    }
    let why = "has no control group of its own";
    world.sbx(["pause"]).arg(id).expect_code(125).stdout_is("").stderr_has(why).stderr_has("Hint: ");
    world.sbx(["stats", "--no-stream"]).arg(id).expect_code(125).stdout_is("").stderr_has(why);
    world.sbx(["stats", "--no-stream"]).expect_code(125).stdout_is("").stderr_has(why);
    world.sbx(["container", "unpause"]).arg(id).expect_code(125).stderr_has("is not paused");
    let commit = world.sbx(["commit", "--pause"]).arg(id).expect_code(125);
    commit.stderr_has(why).stderr_has("leave out `--pause`");
    // What all of them are is no matter of cgroups.
    world.sbx(["ps", "--format", "{{.Status}}"]).expect_code(0).stdout_has("Up ").stdout_has_not("Paused");
}

#[test]
fn containers_that_are_down_are_not_paused() {
    let world = sbx();
    let web = Background::start(&world, &[], "sleep 999");
    world.sbx(["stop", "-t", "0"]).arg(&web.id).succeed();
    for verb in ["pause", "unpause"] {
        world.sbx([verb]).arg(&web.id).expect_code(125).stderr_has("is not running").stdout_is("");
        world.sbx([verb, "nobody"]).expect_code(125).stderr_has("no container with the name or ID");
        world.sbx([verb]).expect_code(125).stderr_has("no name or ID");
        world.sbx([verb, "--all"]).expect_code(0).stdout_is("");
    }
    world.sbx(["stats", "--no-stream"]).arg(&web.id).expect_code(125).stderr_has("is not running");
    let all = world.sbx(["stats", "--no-stream", "--all", "--format", "{{.ID}} {{.CPUPerc}} {{.MemUsage}}"]);
    all.expect_code(0).stdout_is(&format!("{} -- -- / --\n", &web.id[..12]));
    world.sbx(["stats", "--no-stream", "--format", "{{.ID}}"]).expect_code(0).stdout_is("");
}

#[test]
fn a_limit_that_cannot_be_kept_is_an_error_before_anything_is_made() {
    let world = sbx();
    // Nobody is to be asked for a scope.
    let run = |option: &str| {
        let run = world.run([option, "--name=web", "--net=none", "--rootfs"]).arg(rootfs()).arg("true");
        run.env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nobody")
    };
    if !is_delegated() {
        for (option, controller) in [("-m64m", "memory"), ("--cpus=1", "cpu"), ("--pids-limit=50", "pids")] {
            let refused = run(option).expect_code(125).stdout_is("").stderr_has("Hint: ");
            refused.stderr_has(&format!("cannot limit the container ({controller})"));
        }
        world.sbx(["container", "exists", "web"]).expect_code(1);
        run("--cgroups=enabled").expect_code(125).stderr_has("cannot make a control group");
        world.assert_clean();
    }
    run("--cgroups=disabled").expect_code(0);
}

#[test]
fn wrong_limits_are_named() {
    let world = sbx();
    let file = "DEVICE:VALUE";
    for (option, value, says) in [
        ("--memory", "lots", "digit"),
        ("--memory", "1m", "less than 6MiB"),
        ("--memory-swap", "1g", "`--memory` is missing"),
        ("--cpus", "0.001", "from 0.01 on"),
        ("--cpus", "1,5", "from 0.01 on"),
        ("--cpu-period", "5", "not in 1000 to 1000000"),
        ("--cpu-shares", "1", "not in 2 to 262144"),
        ("--cpuset-cpus", "1-", "numbers and ranges"),
        ("--blkio-weight", "5", "not in 10 to 1000"),
        ("--device-read-bps", "sda:1m", file),
        ("--device-write-iops", "/dev/null:10", "no block device"),
        ("--cgroup-conf", "cgroup.procs=1", "no limit"),
        ("--cgroup-conf", "../x.y=1", "FILE=VALUE"),
        ("--cgroup-parent", "../x", "name of a slice"),
    ] {
        let parent = if option == "--cgroup-parent" && !is_delegated() { "cannot" } else { says };
        let run = world.run([option, value, "--name=web", "--rootfs"]).arg(rootfs()).arg("true");
        run.expect_code(125).stdout_is("").stderr_has(parent);
    }
    world.sbx(["container", "exists", "web"]).expect_code(1);
    for (option, says) in [
        ("--memory-swappiness=1", "cgroup v1"),
        ("--kernel-memory=1m", "cgroup v1"),
        ("--cpu-count=1", "Windows"),
    ] {
        world.run([option, "host", "true"]).expect_code(125).stderr_has(says);
    }
    world.assert_clean();
}

#[test]
fn limits_of_a_container_that_is_down_are_changed_for_its_next_life() {
    let world = sbx();
    let web = Background::start(&world, &[], "sleep 999");
    world.sbx(["stop", "-t", "0"]).arg(&web.id).succeed();
    world.sbx(["update", "-m", "64m", "--cpus", "1.5", "--restart", "always"]).arg(&web.id).succeed();
    let fields = "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}";
    assert_eq!(web.inspect(fields).trim(), "67108864 134217728 1500000000 0");
    world.sbx(["update", "--cpu-quota=50000", "--pids-limit=9"]).arg(&web.id).succeed();
    assert_eq!(web.inspect(fields).trim(), "67108864 134217728 0 9");
    assert_eq!(
        web.inspect("{{.HostConfig.CpuQuota}} {{.HostConfig.RestartPolicy.Name}}").trim(),
        "50000 always"
    );
    world.sbx(["update", "--memory-swap=1m"]).arg(&web.id).expect_code(125).stderr_has("--memory-swap 1MiB");
    world.sbx(["update"]).arg(&web.id).expect_code(125).stderr_has("nothing was named");
    assert_eq!(web.inspect(fields).trim(), "67108864 134217728 0 9");
    world.sbx(["update", "-m0", "--cpu-quota=-1", "--pids-limit=-1"]).arg(&web.id).succeed();
    assert_eq!(web.inspect(fields).trim(), "0 0 0 0");
    // With no limit left it starts anywhere.
    world.sbx(["start"]).arg(&web.id).succeed();
}

/// With a cgroup that is delegated to an unprivileged user, in a mount namespace of the test's own.
mod as_root {
    use crate::as_root::User;
    use crate::harness::{Finished, Sbx, require_root, rootfs, sbx, sbx_binary};

    fn world() -> Sbx {
        require_root();
        sbx()
    }

    /// What the user's shell says. In it `$group` is the cgroup that it is in, `$sbx` the binary, `$rootfs` a root; `run`
    /// starts a container in the background.
    fn delegated(world: &Sbx, script: &str) -> Finished {
        let user = User::of(world);
        let prepare = r#"set -e
            [ -e /sys/fs/cgroup/cgroup.controllers ] || mount -t cgroup2 none /sys/fs/cgroup
            top=/sys/fs/cgroup/sbx-test-$$
            mkdir $top $top/leaf
            trap 'echo 1 >$top/cgroup.kill; sleep 0.2; find $top -depth -type d -exec rmdir {} \;' EXIT
            for directory in $top $top/leaf; do
                chown "$uid" $directory $directory/cgroup.procs $directory/cgroup.subtree_control
            done
            export group=$top/leaf
            sh -c 'echo $$ >$group/cgroup.procs
                   exec setpriv --reuid "$uid" --regid "$gid" --init-groups --inh-caps=-all sh -ec "$script"'"#;
        let script = format!(
            r#"run() {{ name=$1; shift; "$sbx" run -d --quiet --net none --name "$name" --rootfs "$rootfs" "$@" >/dev/null; }}
            count() {{ wc -l <"$home/count"; }}
            own() {{ find "$group" -mindepth 1 -type d | wc -l; }}
            trap '"$sbx" rm -fa >/dev/null' EXIT
            {script}"#
        );
        world
            .program("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", prepare])
            .env("uid", user.uid.to_string())
            .env("gid", user.gid.to_string())
            .env("home", &user.home)
            .env("HOME", &user.home)
            .env("USER", &user.name)
            .env("XDG_DATA_HOME", &user.home)
            .env("XDG_RUNTIME_DIR", user.home.join("run"))
            .env_remove("SBX_ROOT")
            .env("sbx", sbx_binary())
            .env("rootfs", rootfs())
            .env("script", script)
            .finish()
            .code_is(0)
    }

    #[test]
    fn a_paused_container_stands_still_until_it_is_let_go_on() {
        let world = world();
        let said = delegated(
            &world,
            r#"run web -v "$home:/h" sh -c 'while :; do echo >>/h/count; sleep 0.02; done'
            "$sbx" exec -d web sh -c 'while :; do echo >>/h/count; sleep 0.02; done' >/dev/null
            sleep 0.3
            echo "groups $(own)"
            "$sbx" pause web
            before=$(count); sleep 0.3; echo "still $(($(count) - before))"
            "$sbx" ps --format '{{.State}} {{.Status}}' | grep -o 'paused.*(Paused)' | cut -d' ' -f1
            "$sbx" info --format '{{.store.containerStore.paused}} {{.store.containerStore.running}}'
            "$sbx" inspect -f '{{.State.Status}} {{.State.Paused}} {{.State.Running}}' web
            "$sbx" exec web true 2>&1 || echo "exec $?"
            "$sbx" attach web 2>&1 || echo "attach $?"
            "$sbx" start web 2>&1 || echo "start $?"
            "$sbx" pause web 2>&1 || echo "again $?"
            "$sbx" kill -s USR1 web
            "$sbx" container unpause --all | wc -c
            sleep 0.3; [ "$(count)" -gt $before ] && echo goes
            "$sbx" unpause web 2>&1 || echo "unpause $?"
            "$sbx" events --since 1m --until 0s --format '{{.Status}}' | grep pause | tr '\n' ' '"#,
        )
        .stdout();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(
            &lines[..6],
            ["groups 1", "web", "still 0", "paused", "1 0", "paused true true"],
            "{said}"
        );
        for expected in
            ["container web is paused", "exec 255", "attach 125", "start 125", "paused already", "again 125"]
        {
            assert!(said.contains(expected), "{expected}: {said}");
        }
        assert!(said.contains("\nweb\n65\ngoes\n"), "{said}");
        assert!(said.contains("is not paused") && said.contains("unpause 125"), "{said}");
        assert!(said.trim_end().ends_with("pause unpause"), "{said}");
    }

    #[test]
    fn a_bundle_that_is_paused_before_its_start_waits_for_nothing_but_its_resumption() {
        let world = world();
        let said = delegated(
            &world,
            r#"mkdir "$home/bundle"; cd "$home/bundle"; ln -s "$rootfs" rootfs
            "$sbx" oci spec --rootless
            sed -i 's/"terminal": true/"terminal": false/; /"args"/,/]/s/"sh"/"sleep", "998"/' config.json
            oci() { timeout 20 "$sbx" oci "$@"; }
            status() { echo "status $("$sbx" oci state c | sed -n 's/.*"status": "\(.*\)".*/\1/p')"; }
            oci create c </dev/null >/dev/null 2>&1
            oci pause c; status
            oci start c 2>&1 || echo "start $?"
            oci exec --ignore-paused c true 2>&1 || echo "exec $?"
            oci delete c 2>&1 || echo "delete $?"
            oci resume c; status
            oci exec c echo entered
            oci start c; status
            oci delete --force c
            oci create c </dev/null >/dev/null 2>&1
            oci pause c; oci delete --force c; oci state c >/dev/null 2>&1 || echo gone"#,
        )
        .stdout();
        let lines: Vec<&str> = said
            .lines()
            .filter(|line| !["Error", "Caused", "Hint"].iter().any(|word| line.starts_with(word)))
            .collect();
        let wanted = "status paused,start 1,exec 255,delete 1,status created,entered,status running,gone";
        assert_eq!(lines.join(","), wanted, "{said}");
        for words in ["already paused container", "has not been started", "that is not stopped: paused"] {
            assert!(said.contains(words), "{words}: {said}");
        }
    }

    #[test]
    fn what_ends_a_paused_container_lets_it_go_on_first() {
        let world = world();
        let said = delegated(
            &world,
            r#"for verb in 'stop -t 5' 'kill' 'restart -t 5' 'rm -f'; do
                run web sh -c 'trap "exit 7" TERM; while :; do sleep 0.02; done'
                sleep 0.2
                "$sbx" pause web >/dev/null
                "$sbx" $verb web >/dev/null
                [ "$verb" != kill ] || "$sbx" wait web >/dev/null
                echo "$verb: $("$sbx" ps -a --format '{{.State}} {{.ExitCode}}') $(own)"
                "$sbx" rm -f web >/dev/null 2>&1
            done
            own"#,
        );
        said.stdout_is(
            "stop -t 5: exited 7 0\nkill: exited 137 0\nrestart -t 5: running 0 1\nrm -f:  0\n0\n",
        );
    }

    #[test]
    fn the_control_group_goes_with_a_killed_monitor() {
        let world = world();
        let said = delegated(
            &world,
            r#"run web --userns keep-id sleep 99
            "$sbx" pause web
            monitor=$(grep -o '"monitor":{"pid":[0-9]*' "$home"/sbx/running/* | grep -o '[0-9]*$')
            kill -9 "$monitor"
            sleep 0.3
            "$sbx" run --rm --net none --rootfs "$rootfs" cat /proc/self/cgroup | grep '^0::'
            "$sbx" ps -a --format '{{.State}}'
            own"#,
        );
        said.stdout_is("web\n0::/\nexited\n0\n");
    }

    #[test]
    fn stats_count_what_a_container_takes() {
        let world = world();
        let said = delegated(
            &world,
            r#"run busy sh -c 'while :; do :; done'
            run idle sleep 99
            sleep 0.5
            "$sbx" stats --no-stream | head -1
            "$sbx" stats --no-stream --format '{{.Name}} {{.PIDs}} {{.MemUsage}} {{.NetIO}}'
            "$sbx" stats --no-stream --format json busy | tr -d ' \n'; echo
            timeout 3 "$sbx" stats -i 1 --format '{{.CPUPerc}}' busy || echo "code $?""#,
        )
        .stdout();
        let mut lines = said.lines();
        let heading = "ID NAME CPU % MEM USAGE / LIMIT MEM % NET IO BLOCK IO PIDS CPU TIME AVG CPU %";
        let found: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
        assert_eq!(found.join(" "), heading);
        // A cgroup in which its maker is, too, has no controllers to hand on (cgroups(7)).
        assert_eq!(lines.next(), Some("idle 1 -- / -- 0B / 0B"));
        assert_eq!(lines.next(), Some("busy 1 -- / -- 0B / 0B"));
        let json: serde_json::Value = serde_json::from_str(lines.next().unwrap_or_default()).expect("JSON");
        let time = json[0]["cpu_time"].as_str().expect("a time").trim_end_matches('s').to_owned();
        assert!(time.parse::<f64>().expect("seconds") > 0.05, "{json}");
        let percents: Vec<f64> = lines.filter_map(|line| line.strip_suffix('%')?.parse().ok()).collect();
        assert!(percents.len() >= 2 && percents.iter().all(|&percent| percent > 1.0), "{said}");
        assert!(said.ends_with("code 124\n"), "{said}");
    }

    #[test]
    fn commit_freezes_the_container_where_it_is_asked_to() {
        let world = world();
        let said = delegated(
            &world,
            r#"mkdir "$home/root"
            cp -a "$rootfs/bin" "$home/root"
            rootfs=$home/root
            run web sh -c 'while :; do sleep 0.02; done'
            "$sbx" commit --quiet --pause web made >/dev/null
            "$sbx" events --since 1m --until 0s --format '{{.Status}}' | grep -E 'pause|commit' | tr '\n' ' '
            "$sbx" ps --format '{{.State}}'
            "$sbx" pause web
            "$sbx" commit --quiet --pause web made >/dev/null
            "$sbx" ps --format '{{.State}}'"#,
        );
        said.stdout_is("pause unpause commit running\nweb\npaused\n");
    }
}
