//! What becomes of containers when their user logs out.

use std::fs;
use std::time::{Duration, Instant};

use crate::harness::{Sbx, sbx_binary};
use crate::in_vm::world;

use super::OTHER as USER;

/// A session of its own as login(1) makes them, for as long as the script runs.
fn log_in(world: &Sbx, script: &str) -> crate::harness::Finished {
    let script =
        format!("set -e; PATH={}:$PATH\n{script}", sbx_binary().parent().expect("a directory").display());
    world.program("su").args(["--login", USER, "--command", &script]).expect_code(0)
}

/// The processes of the user and of its subordinate IDs.
fn processes() -> Vec<String> {
    let uid = nix::unistd::User::from_name(USER).expect("a user database").expect("the user").uid.as_raw();
    let ranges = fs::read_to_string("/etc/subuid").expect("subordinate IDs");
    let (start, count) = ranges
        .lines()
        .find_map(|line| line.strip_prefix(USER)?.strip_prefix(':')?.split_once(':'))
        .map(|(start, count)| {
            (start.parse::<u32>().expect("a number"), count.parse::<u32>().expect("a number"))
        })
        .expect("a range");
    let pids =
        fs::read_dir("/proc").expect("/proc").filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    pids.filter_map(|pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let owner: u32 = status
            .lines()
            .find_map(|line| line.strip_prefix("Uid:"))?
            .split_whitespace()
            .nth(1)?
            .parse()
            .ok()?;
        (owner == uid || (start..start + count).contains(&owner)).then(|| {
            let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let group = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            format!("{pid} {} in {}", command.replace('\0', " "), group.trim())
        })
    })
    .collect()
}

fn wait_until_nothing_runs() -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let left = processes();
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// logind's default (logind.conf(5), KillUserProcesses=no): the session is kept, closing, for as long as something of it runs.
#[test]
fn a_container_outlives_its_session_and_nothing_outlives_the_container() {
    let world = world();
    log_in(&world, "sbx run -d --quiet --name web --net none host sleep 999");
    assert!(processes().iter().any(|process| process.contains("sleep 999 ")), "{:#?}", processes());
    // The next session finds it, and ends it.
    log_in(&world, "sbx ps --format '{{.Names}} {{.State}}'; sbx rm -f -t 0 web")
        .stdout_is("web running\nweb\n");
    nothing_is_left();
}

/// Services end with the user's manager, and without lingering that ends with the last session.
#[test]
fn a_container_under_a_unit_ends_with_the_last_session() {
    let world = world();
    log_in(
        &world,
        "sbx create --quiet --name web --net none --stop-timeout 5 host sh -c 'trap \"exit 7\" TERM; sleep 999 & wait' >/dev/null
        mkdir -p ~/.config/systemd/user && cd ~/.config/systemd/user
        sbx generate systemd --name --files web >/dev/null
        systemctl --user daemon-reload
        systemctl --user start container-web
        sbx wait --condition=running web >/dev/null
        sbx ps --format '{{.Names}} {{.State}}'",
    )
    .stdout_is("web running\n");
    nothing_is_left();
    // It was stopped, not killed, and is there.
    log_in(
        &world,
        "rm ~/.config/systemd/user/container-web.service
        sbx ps -a --format '{{.Names}} {{.State}} {{.ExitCode}}'
        sbx rm web",
    )
    .stdout_is("web exited 7\nweb\n");
    nothing_is_left();
}

#[track_caller]
fn nothing_is_left() {
    let left = wait_until_nothing_runs();
    assert!(left.is_empty(), "{left:#?}");
    let runtime = std::path::Path::new("/run/user/1001");
    let deadline = Instant::now() + Duration::from_secs(20);
    while runtime.exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(!runtime.exists(), "the runtime directory is still there");
}
