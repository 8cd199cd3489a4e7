//! Many commands of sbx at once: none waits for, disturbs or is taken for another.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::harness::{Running, Sbx, rootfs, sbx};

fn words<'a>(options: impl IntoIterator<Item = &'a str>, command: &[&str]) -> Vec<PathBuf> {
    let options = options.into_iter().map(PathBuf::from);
    let root = [PathBuf::from("--rootfs"), rootfs().to_owned()];
    options.chain(root).chain(command.iter().map(PathBuf::from)).collect()
}

fn start<'w>(world: &'w Sbx, count: usize, options: &[&str], command: &[&str]) -> Vec<Running<'w>> {
    (0..count).map(|_| world.run(words(options.iter().copied(), command)).spawn()).collect()
}

fn assert_store_empty(world: &Sbx) {
    world.assert_clean();
    let names: Vec<_> = fs::read_dir(world.store().join("names")).expect("names").collect();
    assert!(names.is_empty(), "{names:?}");
}

#[test]
fn fifty_runs_at_once_in_a_fresh_store_all_succeed_and_leave_nothing() {
    let world = sbx();
    let command = ["sh", "-c", "cat /etc/hostname; touch /file; ls / | grep -c file"];
    let running = start(&world, 50, &["--rm", "--net=none"], &command);
    let hosts: BTreeSet<String> = running
        .into_iter()
        .map(|running| running.finish().code_is(0).stderr_is("").stdout_has("\n1\n").stdout())
        .collect();
    assert_eq!(hosts.len(), 50, "host names are the IDs, and those differ: {hosts:?}");
    assert_store_empty(&world);
}

#[test]
fn thirty_runs_with_networks_and_ports_of_their_own_succeed_at_once() {
    let world = sbx();
    let command = ["sh", "-c", "ip route | grep -c default"];
    for running in start(&world, 30, &["--rm", "-p", "127.0.0.1::80"], &command) {
        running.finish().code_is(0).stderr_is("").stdout_is("1\n");
    }
    assert_store_empty(&world);
}

#[test]
fn of_twenty_runs_with_one_name_exactly_one_wins() {
    let world = sbx();
    // A name that a crash left to nobody is fought for as any other.
    fs::create_dir_all(world.store().join("names")).expect("a directory");
    std::os::unix::fs::symlink("0".repeat(64), world.store().join("names/only")).expect("a link");
    let options = ["--rm", "-i", "--net=none", "--name=only"];
    let mut running: Vec<_> = (0..20)
        .map(|_| {
            let run = world.run(words(options, &["sh", "-c", "echo won; cat"]));
            run.stdin_from(std::process::Stdio::piped()).spawn()
        })
        .collect();
    // The winner goes on until its input ends; all others end by themselves.
    while running.iter_mut().map(Running::is_running).filter(|runs| *runs).count() > 1 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let winner = running.iter_mut().position(|running| running.is_running()).expect("a winner");
    let mut winner = running.swap_remove(winner);
    winner.wait_for_stdout("won");
    assert_eq!(world.sbx(["ps", "--format", "{{.Names}}"]).succeed(), "only");
    winner.close_stdin();
    winner.finish().code_is(0).stdout_is("won\n");
    for loser in running {
        loser.finish().code_is(125).stdout_is("").stderr_has("is already in use by container");
    }
    assert_store_empty(&world);
}

#[test]
fn containers_with_automatic_maps_never_share_ids() {
    let world = sbx();
    let options = ["--rm", "-i", "--net=none", "--userns=auto:size=1000"];
    let mut running: Vec<_> = (0..12)
        .map(|_| {
            let run = world.run(words(options, &["sh", "-c", "cat /proc/self/uid_map; echo up; cat"]));
            run.stdin_from(std::process::Stdio::piped()).spawn()
        })
        .collect();
    let mut blocks = Vec::new();
    for container in &mut running {
        container.wait_for_stdout("up");
    }
    for entry in fs::read_dir(world.store().join("containers")).expect("a store") {
        let spec = fs::read(entry.expect("an entry").path().join("spec.json")).expect("a spec");
        let spec: serde_json::Value = serde_json::from_slice(&spec).expect("JSON");
        let map = &spec["identity"]["nested"]["uid_map"];
        for line in map.as_array().expect("lines") {
            let number = |name: &str| line[name].as_u64().expect("a number");
            blocks.push((number("outside"), number("count")));
        }
    }
    blocks.sort_unstable();
    assert!(blocks.len() >= 12, "{blocks:?}");
    for pair in blocks.windows(2) {
        assert!(pair[0].0 + pair[0].1 <= pair[1].0, "two containers share IDs: {blocks:?}");
    }
    for mut container in running {
        container.close_stdin();
        container.finish().code_is(0);
    }
    assert_store_empty(&world);
}

#[test]
fn many_commands_that_clean_up_at_once_do_not_disturb_each_other() {
    let world = sbx();
    let mut lost = start(&world, 6, &["--rm", "--net=none"], &["sh", "-c", "echo up; sleep 1000"]);
    for container in &mut lost {
        container.wait_for_stdout("up");
    }
    for process in world.leftovers().processes {
        let name = fs::read_to_string(format!("/proc/{}/comm", process.pid)).unwrap_or_default();
        if ["sbx-monitor\n", "sbx-guard\n"].contains(&name.as_str()) {
            let _ = nix::sys::signal::kill(process.pid, nix::sys::signal::Signal::SIGKILL);
        }
    }
    for container in lost {
        container.finish().code_is(125);
    }
    for running in start(&world, 10, &["--rm", "--net=none"], &["true"]) {
        running.finish().code_is(0).stderr_is("");
    }
    assert_store_empty(&world);
}

#[test]
fn containers_are_removed_by_several_at_once_without_an_error() {
    let world = sbx();
    for number in 0..4 {
        let name = format!("--name=old{number}");
        world.run(words(["--net=none", &name], &["touch", "/x"])).succeed();
    }
    let removing: Vec<_> = (0..4).map(|_| world.sbx(["rm", "--all"]).spawn()).collect();
    for removing in removing {
        removing.finish().code_is(0);
    }
    assert_store_empty(&world);
}
