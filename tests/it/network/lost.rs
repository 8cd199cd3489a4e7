//! Processes that are killed: what they held is free, and the next command puts the rest in order.

use std::fs;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::outer::{FAR, Outer};
use crate::harness::{Sbx, sbx};

/// The processes of a world whose kernel name is this.
fn named(world: &Sbx, name: &str) -> Vec<Pid> {
    let is =
        |pid: &Pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name);
    world.leftovers().processes.iter().map(|process| process.pid).filter(is).collect()
}

/// What sbx keeps of running containers below `$XDG_RUNTIME_DIR`: the control socket, and a directory for its network.
fn kept(world: &Sbx) -> Vec<String> {
    let entries = fs::read_dir(world.runtime().join("sbx")).expect("the runtime directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text"));
    names.filter(|name| name != "helpers.json" && !name.starts_with("events-")).collect()
}

#[test]
fn a_killed_monitor_takes_the_network_with_it_and_the_next_command_cleans_up() {
    let world = sbx();
    let outer = Outer::new(&world, FAR);
    for helper in ["slirp4netns", "pasta"] {
        let ports = ["-p", "8080:80", "-p", "8080:80/udp"];
        let inside = outer.serve_inside(helper, &ports, &["tcp:*:80", "udp:*:80"]);
        assert_eq!(kept(&world).len(), 2);
        let monitors = named(&world, "sbx-monitor");
        assert_eq!(monitors.len(), 1, "{monitors:?}");
        kill(monitors[0], Signal::SIGKILL).expect("the monitor runs");
        inside.finish().code_is(125).stderr_has("the monitor of the container was killed");
        assert_eq!(kept(&world).len(), 2, "nobody has cleaned up yet");
        outer.run(helper, &ports, &["true"]).expect_code(0);
        assert_eq!(kept(&world), Vec::<String>::new());
    }
    drop(outer);
    world.assert_clean();
}

#[test]
fn published_udp_ports_go_with_their_relay_and_the_container_goes_on() {
    let world = sbx();
    let outer = Outer::new(&world, FAR);
    let options = ["-i", "-p", "5300:53/udp"];
    let run = outer.run("slirp4netns", &options, &["sh", "-c", "echo begun; cat"]);
    let mut inside = run.stdin_from(Stdio::piped()).spawn();
    inside.wait_for_stdout("begun");
    let relays = named(&world, "sbx-relay");
    assert_eq!(relays.len(), 1, "{relays:?}");
    kill(relays[0], Signal::SIGKILL).expect("the relay runs");
    while !named(&world, "sbx-relay").is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(inside.is_running());
    outer.peer(&["udp", "127.0.0.1", "5300"]).expect_code(0).stdout_has("refused");
    inside.close_stdin();
    inside.finish().code_is(0).stderr_has("the relay of the published UDP ports has ended");
    drop(outer);
    world.assert_clean();
}
