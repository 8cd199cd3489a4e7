//! Networks that are somebody else's: the host's, another container's, a namespace by its path.

use std::process::Stdio;

use super::outer::{FAR, INTERFACE, Outer};
use crate::harness::{Running, Sbx, rootfs, sbx};

fn root() -> &'static str {
    rootfs().to_str().expect("a plain name")
}

fn started<'w>(world: &'w Sbx, options: &[&str]) -> Running<'w> {
    let words = [&["--rm", "-i"], options, &["--rootfs", root(), "sh", "-c", "echo begun; cat"]].concat();
    let mut running = world.run(words).stdin_from(Stdio::piped()).spawn();
    running.wait_for_stdout("begun");
    running
}

#[test]
fn the_hosts_network_is_the_hosts() {
    let world = sbx();
    let own = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
    let script = "readlink /proc/self/ns/net; cat /etc/resolv.conf; hostname";
    let seen = world.run(["--rm", "--net", "host", "--rootfs", root(), "sh", "-c", script]).succeed();
    let resolv = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let name = nix::unistd::gethostname().expect("a name").into_string().expect("text");
    assert_eq!(seen, format!("{}\n{resolv}{name}", own.display()));
}

#[test]
fn the_hosts_network_forwards_no_ports_and_says_so() {
    let world = sbx();
    world
        .run(["--rm", "--net", "host", "-p", "8080:80", "--rootfs", root(), "true"])
        .expect_code(0)
        .stderr_is("Warning: Published ports are discarded when using host network mode.\n");
}

#[test]
fn a_container_shares_anothers_interfaces_and_files() {
    let world = sbx();
    let mut first = started(&world, &["--name", "first", "--hostname", "box", "--add-host", "db:192.0.2.5"]);
    let script =
        "readlink /proc/self/ns/net; ls /sys/class/net; grep -e db -e box /etc/hosts; cat /etc/resolv.conf";
    let join = ["--rm", "--net", "container:first", "--rootfs", root(), "sh", "-c", script];
    let seen = world.run(join).succeed();
    assert!(seen.contains("\nlo\ntap0\n192.0.2.5\tdb\n10.0.2.100\tbox first\nnameserver 10.0.2.3"), "{seen}");
    let own = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
    assert!(!seen.contains(own.to_str().expect("text")), "{seen}");
    // What the one serves the other reaches on its loopback interface.
    let serve = [
        "--rm",
        "--net",
        "container:first",
        "--rootfs",
        root(),
        "sh",
        "-c",
        "echo hello | nc -l -p 7000 -w 9",
    ];
    let served = world.run(serve).spawn();
    let ask = "until nc -w 5 127.0.0.1 7000 </dev/null; do sleep 0.05; done";
    let asked = world.run(["--rm", "--net", "container:first", "--rootfs", root(), "sh", "-c", ask]);
    asked.expect_code(0).stdout_is("hello\n");
    let _ = served.finish().code_is(0);
    first.close_stdin();
    first.finish().code_is(0);
    world
        .run(["--rm", "--net", "container:first", "--rootfs", root(), "true"])
        .expect_code(125)
        .stderr_has("no container with the name or ID `first`");
    world.assert_clean();
}

#[test]
fn a_namespace_of_the_callers_is_joined_by_its_path() {
    let world = sbx();
    let outer = Outer::new(&world, FAR);
    let pid = outer.pid();
    let net = format!("ns:/proc/{pid}/ns/net");
    let user = format!("ns:/proc/{pid}/ns/user");
    let seen = world
        .run(["--rm", "--userns", &user, "--net", &net, "--rootfs", root(), "ip", "-o", "address"])
        .expect_code(0)
        .stdout();
    assert!(seen.contains(INTERFACE), "{seen}");
    // Its owner is another user namespace, which has to be entered, too.
    world
        .run(["--rm", "--net", &net, "--rootfs", root(), "true"])
        .expect_code(125)
        .stderr_has(&format!("cannot join the net namespace of `/proc/{pid}/ns/net`"))
        .stderr_has("--userns ns:PATH");
}

#[test]
fn what_is_no_namespace_is_named() {
    let world = sbx();
    let file = world.file("plain", "");
    for (path, word) in [
        (file.to_str().expect("a plain name"), "not a namespace"),
        ("/proc/self/ns/uts", "namespace of another kind"),
        ("/nonexistent/net", "No such file or directory"),
        ("/proc/1/ns/net", "denied"),
    ] {
        let network = format!("ns:{path}");
        world
            .run(["--rm", "--net", &network, "--rootfs", root(), "true"])
            .expect_code(125)
            .stdout_is("")
            .stderr_has("net namespace of")
            .stderr_has(path)
            .stderr_has(word);
    }
    world.assert_clean();
}
