//! What holds for both helpers, slirp4netns and pasta: one suite, run over each.

use super::outer::{FAR, FAR_6, INTERFACE, Outer};
use crate::harness::{require, sbx};

/// Makes a module of tests for each helper out of the functions below.
macro_rules! over_both {
    ($($name:ident),* $(,)?) => {
        mod slirp4netns {
            $(#[test]
            fn $name() {
                super::$name("slirp4netns");
            })*
        }
        mod pasta {
            $(#[test]
            fn $name() {
                super::$name("pasta");
            })*
        }
    };
}

over_both!(
    servers_beyond_the_host_are_reached,
    large_datagrams_pass,
    names_are_resolved_through_the_helper,
    the_hosts_loopback_is_closed,
    the_hosts_loopback_can_be_opened,
    a_published_port_is_reached_from_everywhere,
    a_port_of_one_address_is_closed_on_others,
    published_ipv6_ports,
    published_udp_ports,
    ranges_and_random_ports,
    a_port_is_free_again_when_the_container_has_ended,
    a_taken_port_names_port_and_process,
    the_mac_address_is_as_asked,
    the_container_survives_its_helper,
);

fn servers_beyond_the_host_are_reached(helper: &str) {
    require(helper);
    let world = sbx();
    let outer = Outer::new(&world, FAR);
    let _servers = outer.serve(&[
        &format!("tcp:{FAR}:7000"),
        &format!("tcp:{FAR_6}:7000"),
        &format!("udp:{FAR}:7000"),
        &format!("udp:{FAR_6}:7000"),
    ]);
    let script = format!(
        "for at in {FAR} {FAR_6}; do python3 /test/peer.py tcp $at 7000 1000000; python3 /test/peer.py udp $at 7000 1200; done"
    );
    outer.run(helper, &[], &["sh", "-c", &script]).expect_code(0).stdout_is(&"whole\n".repeat(4));
}

fn large_datagrams_pass(helper: &str) {
    let world = sbx();
    let outer = Outer::new(&world, FAR);
    let _server = outer.serve(&[&format!("udp:{FAR}:7000")]);
    let sizes: &[&str] = &["1472", "9000", "60000", "65000"];
    let script =
        format!("for size in {}; do python3 /test/peer.py udp {FAR} 7000 $size; done", sizes.join(" "));
    outer.run(helper, &[], &["sh", "-c", &script]).expect_code(0).stdout_is(&"whole\n".repeat(sizes.len()));
}

fn names_are_resolved_through_the_helper(helper: &str) {
    let world = sbx();
    // An old pasta forwards to servers beyond the loopback interface alone.
    let server = if helper == "pasta" { FAR } else { "127.0.0.1" };
    let outer = Outer::new(&world, server);
    let _server = outer.serve(&[&format!("dns:{server}:53")]);
    let forwarder = if helper == "pasta" { "169.254.1.1" } else { "10.0.2.3" };
    let script = format!(
        "head -1 /etc/resolv.conf; nslookup some.example {forwarder}; nslookup xyz.example {forwarder}; true"
    );
    outer
        .run(helper, &[], &["sh", "-c", &script])
        .expect_code(0)
        .stdout_has(&format!("nameserver {forwarder}\n"))
        .stdout_has("192.0.2.77")
        .stdout_has("2001:db8::77")
        .stdout_has("NXDOMAIN");
    let lookup = "import socket; print(socket.gethostbyname('some.example'))";
    outer.run(helper, &[], &["python3", "-c", lookup]).expect_code(0).stdout_is("192.0.2.77\n");
}

/// Every address at which the host's loopback interface might be met from inside.
const TOWARDS_THE_HOST: &str = "127.0.0.1 ::1 10.0.2.2 10.0.2.3 fd00::2 fd00::3 192.0.2.1 2001:db8::1 \
    192.0.2.10 2001:db8::10 169.254.1.1 169.254.1.2 0.0.0.0 ::";

fn the_hosts_loopback_is_closed(helper: &str) {
    let world = sbx();
    let outer = Outer::new(&world, FAR);
    let _servers = outer.serve(&["tcp:127.0.0.1:7001", "tcp:::1:7001", "udp:127.0.0.1:7001", "udp:::1:7001"]);
    let script = format!(
        "for i in $(seq 100); do ip -6 route | grep -q ^default && break; sleep 0.02; done; \
         for at in {TOWARDS_THE_HOST}; do python3 /test/peer.py tcp $at 7001 5 0.3 & python3 /test/peer.py udp $at 7001 5 0.3 & done; wait"
    );
    let finished = outer.run(helper, &[], &["sh", "-c", &script]).expect_code(0).stdout_has_not("whole");
    assert_eq!(finished.stdout().lines().count(), 28, "every attempt says how it failed");
}

fn the_hosts_loopback_can_be_opened(helper: &str) {
    let world = sbx();
    let outer = Outer::new(&world, FAR);
    let _servers = outer.serve(&["tcp:127.0.0.1:7001", "tcp:::1:7001", "udp:127.0.0.1:7001", "udp:::1:7001"]);
    let (network, ways) = match helper {
        // Datagrams of IPv6 are not among what every pasta maps.
        "pasta" => {
            ("pasta:--map-gw", &[("192.0.2.1", "tcp"), ("192.0.2.1", "udp"), ("2001:db8::1", "tcp")][..])
        }
        _ => (
            "slirp4netns:allow_host_loopback=true",
            &[("10.0.2.2", "tcp"), ("10.0.2.2", "udp"), ("fd00::2", "tcp"), ("fd00::2", "udp")][..],
        ),
    };
    for (gateway, protocol) in ways {
        // The address and route of IPv6 may come a moment later.
        let script = format!(
            "for i in $(seq 100); do ip -6 route | grep -q ^default && break; sleep 0.02; done; \
             exec python3 /test/peer.py {protocol} {gateway} 7001"
        );
        outer.run(network, &[], &["sh", "-c", &script]).expect_code(0).stdout_is("whole\n");
    }
}

fn a_published_port_is_reached_from_everywhere(helper: &str) {
    let world = sbx();
    let outer = Outer::new(&world, FAR);
    let mut inside = outer.serve_inside(helper, &["-p", "8080:80"], &["tcp:*:80"]);
    for at in ["127.0.0.1", INTERFACE, FAR] {
        outer.peer(&["tcp", at, "8080", "300000", "30"]).expect_code(0).stdout_is("whole\n");
    }
    inside.close_stdin();
    inside.finish().code_is(0);
    outer.peer(&["tcp", "127.0.0.1", "8080"]).expect_code(0).stdout_has("refused");
}

fn a_port_of_one_address_is_closed_on_others(helper: &str) {
    let world = sbx();
    let outer = Outer::new(&world, FAR);
    let mut inside = outer.serve_inside(helper, &["-p", "127.0.0.1:8080:80"], &["tcp:0.0.0.0:80"]);
    outer.peer(&["tcp", "127.0.0.1", "8080"]).expect_code(0).stdout_is("whole\n");
    outer.peer(&["tcp", FAR, "8080"]).expect_code(0).stdout_has("refused");
    inside.close_stdin();
    inside.finish().code_is(0);
}

/// slirp4netns before 1.3 cannot listen on IPv6 addresses, and then sbx says so.
fn published_ipv6_ports(helper: &str) {
    let world = sbx();
    let outer = Outer::new(&world, FAR);
    let help = world.program(helper).arg("--version").finish();
    if helper == "slirp4netns" && [" 1.0", " 1.1", " 1.2"].iter().any(|old| help.stdout().contains(old)) {
        outer
            .run(helper, &["-p", "[::1]:8080:80"], &["true"])
            .expect_code(125)
            .stderr_has("cannot publish host port 8080/tcp")
            .stderr_has("does not listen on IPv6 addresses")
            .stderr_has("--network pasta");
        return;
    }
    let mut inside = outer.serve_inside(helper, &["-p", "[::1]:8080:80"], &["tcp:*:80"]);
    outer.peer(&["tcp", "::1", "8080"]).expect_code(0).stdout_is("whole\n");
    outer.peer(&["tcp", "127.0.0.1", "8080"]).expect_code(0).stdout_has("refused");
    inside.close_stdin();
    inside.finish().code_is(0);
}

fn published_udp_ports(helper: &str) {
    let world = sbx();
    let outer = Outer::new(&world, FAR);
    let ports = ["-p", "5300:53/udp", "-p", "5353:5353/udp", "-p", "5300:53"];
    let mut inside = outer.serve_inside(helper, &ports, &["udp:*:53", "udp:0.0.0.0:5353", "tcp:*:53"]);
    for (at, port, size) in
        [("127.0.0.1", "5300", "5"), (FAR, "5300", "1400"), ("127.0.0.1", "5353", "60000")]
    {
        outer.peer(&["udp", at, port, size]).expect_code(0).stdout_is("whole\n");
    }
    outer.peer(&["tcp", "127.0.0.1", "5300"]).expect_code(0).stdout_is("whole\n");
    inside.close_stdin();
    inside.finish().code_is(0);
}

fn ranges_and_random_ports(helper: &str) {
    let world = sbx();
    let outer = Outer::new(&world, FAR);
    let ports = ["-p", "9000-9002:80-82", "-p", "127.0.0.1::90", "--name", "ranges"];
    let places = ["tcp:*:80", "tcp:*:81", "tcp:*:82", "tcp:*:90"];
    let mut inside = outer.serve_inside(helper, &ports, &places);
    for port in ["9000", "9001", "9002"] {
        outer.peer(&["tcp", "127.0.0.1", port]).expect_code(0).stdout_is("whole\n");
    }
    // The one that was chosen is the one other port that listens.
    let listening = outer.program("ss").args(["-Hltn"]).expect_code(0).stdout();
    let chosen: Vec<&str> = listening
        .lines()
        .filter_map(|line| line.split_whitespace().nth(3)?.rsplit_once(':'))
        .map(|(_, port)| port)
        .filter(|port| !port.starts_with("900"))
        .collect();
    assert_eq!(chosen.len(), 1, "{listening}");
    outer.peer(&["tcp", "127.0.0.1", chosen[0]]).expect_code(0).stdout_is("whole\n");
    inside.close_stdin();
    inside.finish().code_is(0);
}

fn a_port_is_free_again_when_the_container_has_ended(helper: &str) {
    let world = sbx();
    let outer = Outer::new(&world, FAR);
    for _ in 0..5 {
        outer.run(helper, &["-p", "8080:80", "-p", "8080:80/udp"], &["true"]).expect_code(0);
    }
    let mut first = outer.serve_inside(helper, &["-p", "8080:80"], &["tcp:*:80"]);
    outer
        .run(helper, &["-p", "8080:80"], &["true"])
        .expect_code(125)
        .stderr_has("cannot publish host port 8080/tcp")
        .stderr_has("address already in use");
    outer.peer(&["tcp", "127.0.0.1", "8080"]).expect_code(0).stdout_is("whole\n");
    first.close_stdin();
    first.finish().code_is(0);
    drop(outer);
    world.assert_clean();
}

fn a_taken_port_names_port_and_process(helper: &str) {
    let world = sbx();
    let outer = Outer::new(&world, FAR);
    let _server = outer.serve(&["tcp:127.0.0.1:8080", "udp:127.0.0.1:8080"]);
    for protocol in ["tcp", "udp"] {
        outer
            .run(helper, &["-p", &format!("8080:80/{protocol}")], &["true"])
            .expect_code(125)
            .stdout_is("")
            .stderr_has(&format!("cannot publish host port 8080/{protocol}"))
            .stderr_has("already in use by process")
            .stderr_has("(python3)");
    }
}

fn the_mac_address_is_as_asked(helper: &str) {
    let world = sbx();
    let outer = Outer::new(&world, FAR);
    let show = "cat /sys/class/net/*/address";
    outer
        .run(helper, &["--mac-address", "02:42:ac:11:00:02"], &["sh", "-c", show])
        .expect_code(0)
        .stdout_has("02:42:ac:11:00:02\n");
}

fn the_container_survives_its_helper(helper: &str) {
    let world = sbx();
    let outer = Outer::new(&world, FAR);
    let mut inside = outer.run(helper, &["-i"], &["sh", "-c", "echo begun; cat; echo ended"]);
    inside = inside.stdin_from(std::process::Stdio::piped());
    let mut inside = inside.spawn();
    inside.wait_for_stdout("begun");
    // As a program, then as the rest of a process that the kernel is taking apart.
    let names = [format!("/usr/bin/{helper}"), format!("[{helper}"), "[passt".to_owned()];
    let helpers = || {
        let mut processes = world.leftovers().processes;
        processes.retain(|process| names.iter().any(|name| process.command.starts_with(name)));
        processes
    };
    for process in helpers() {
        nix::sys::signal::kill(process.pid, nix::sys::signal::Signal::SIGKILL).expect("the helper runs");
    }
    while !helpers().is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(inside.is_running());
    inside.close_stdin();
    inside
        .finish()
        .code_is(0)
        .stdout_is("begun\nended\n")
        .stderr_has(&format!("{helper} has ended: the container goes on without a network"));
    drop(outer);
    world.assert_clean();
}

/// Not of pasta: releases before 2024 repeat data to a side that has ended its own.
#[test]
fn half_closed_streams_end() {
    let world = sbx();
    let outer = Outer::new(&world, FAR);
    let _server = outer.serve(&[&format!("tcp:{FAR}:7000")]);
    outer
        .peer_inside("slirp4netns", &["half", FAR, "7000", "100000"])
        .expect_code(0)
        .stdout_is("whole\nended\n");
    let mut inside = outer.serve_inside("slirp4netns", &["-p", "8080:80"], &["tcp:*:80"]);
    outer.peer(&["half", "127.0.0.1", "8080", "100000"]).expect_code(0).stdout_is("whole\nended\n");
    inside.close_stdin();
    inside.finish().code_is(0);
}
