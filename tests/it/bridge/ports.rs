//! Ports published from bridge networks: where they are, who seems to ask, and what passes through.

use super::street::{HOST, HOST_6, NEIGHBOUR, NEIGHBOUR_6, Street};
use super::{Member, Place};
use crate::harness::sbx;
use crate::network::outer::{FAR, INTERFACE};

fn gateway(member: &Member) -> String {
    member.sh("ip route | awk '/^default/ {print $3}'").succeed()
}

#[test]
fn ports_are_published_in_every_form() {
    let world = sbx();
    let place = Place::apart(&world, FAR);
    place.create(&["shop"]);
    let options = [
        "--network=shop",
        "-p8080:80",
        "-p127.0.0.1:8081:80",
        "-p127.0.0.1::81",
        "-p9000-9002:90-92",
        "-p80",
        "-p5300:53/udp",
        "-p5300:80",
    ];
    let serves = ["tcp:*:80", "tcp:*:81", "tcp:*:90", "tcp:*:91", "tcp:*:92", "udp:*:53"];
    let web = place.server("web", &options, &serves);
    for (at, port) in [
        ("127.0.0.1", "8080"),
        (INTERFACE, "8080"),
        (FAR, "8080"),
        ("::1", "8080"),
        ("127.0.0.1", "8081"),
        (INTERFACE, "9000"),
        (INTERFACE, "9001"),
        (INTERFACE, "9002"),
        ("127.0.0.1", "5300"),
    ] {
        place.peer(&["tcp", at, port, "300000"]).expect_code(0).stdout_is("whole\n");
    }
    place.peer(&["udp", INTERFACE, "5300", "1400"]).expect_code(0).stdout_is("whole\n");
    place.peer(&["tcp", FAR, "8081"]).expect_code(0).stdout_has("refused");
    let (host, port) = web.port("81");
    assert_eq!(host, "127.0.0.1");
    place.peer(&["tcp", &host, &port]).expect_code(0).stdout_is("whole\n");
    let shown = place.sbx(["port", "web", "80"]).succeed();
    let chosen: Vec<&str> = shown
        .lines()
        .filter_map(|line| line.rsplit_once(':').map(|(_, port)| port))
        .filter(|port| !["8080", "8081", "5300"].contains(port))
        .collect();
    assert!(!chosen.is_empty(), "{shown}");
    place.peer(&["tcp", "127.0.0.1", chosen[0]]).expect_code(0).stdout_is("whole\n");

    place.sbx(["stop", "-t", "0", "web"]).expect_code(0);
    place.peer(&["tcp", "127.0.0.1", "8080"]).expect_code(0).stdout_has("refused");
}

#[test]
fn every_exposed_port_is_published_on_request() {
    let world = sbx();
    let place = Place::apart(&world, FAR);
    place.create(&["shop"]);
    let web = place.server(
        "web",
        &["--network=shop", "-P", "--expose=80", "--expose=53/udp"],
        &["tcp:*:80", "udp:*:53"],
    );
    for (how, inside) in [("tcp", "80"), ("udp", "53/udp")] {
        let (_, port) = web.port(inside);
        place.peer(&[how, "127.0.0.1", &port]).expect_code(0).stdout_is("whole\n");
    }
}

#[test]
fn the_server_sees_who_asks() {
    let world = sbx();
    let place = Place::apart(&world, FAR);
    let street = Street::new(&place);
    place.create(&["--ipv6", "shop"]);
    place.create(&["plain"]);
    let serves = ["who:*:80", "whou:*:53"];
    let both = place.server("both", &["--network=shop", "-p8080:80", "-p5300:53/udp"], &serves);
    let plain = place.server("plain", &["--network=plain", "-p8081:80", "-p5301:53/udp"], &serves);
    for (member, tcp, udp) in [(&both, "8080", "5300"), (&plain, "8081", "5301")] {
        for at in [HOST, INTERFACE] {
            street.peer(&["who", at, tcp]).expect_code(0).stdout_is(&format!("{NEIGHBOUR}\n"));
            street.peer(&["who", at, udp, "udp"]).expect_code(0).stdout_is(&format!("{NEIGHBOUR}\n"));
        }
        // The host's own addresses mean nothing where the server is: its clients appear as the gateway.
        let gateway = gateway(member);
        for at in ["127.0.0.1", INTERFACE] {
            place.peer(&["who", at, tcp]).expect_code(0).stdout_is(&format!("{gateway}\n"));
            place.peer(&["who", at, udp, "udp"]).expect_code(0).stdout_is(&format!("{gateway}\n"));
        }
    }
    street.peer(&["who", HOST_6, "8080"]).expect_code(0).stdout_is(&format!("{NEIGHBOUR_6}\n"));
    street.peer(&["who", HOST_6, "5300", "udp"]).expect_code(0).stdout_is(&format!("{NEIGHBOUR_6}\n"));
    // A server without that family is reached all the same.
    let (gateway, served) = (gateway(&plain), street.peer(&["who", HOST_6, "8081"]).expect_code(0));
    assert_eq!(served.stdout(), format!("{gateway}\n"));
}

#[test]
fn ports_of_ipv6_addresses() {
    let world = sbx();
    let place = Place::apart(&world, FAR);
    place.create(&["--ipv6", "shop"]);
    let options = ["--network=shop", "-p[::1]:8080:80", "-p[::1]:5300:53/udp"];
    let _web = place.server("web", &options, &["tcp:*:80", "udp:*:53"]);
    place.peer(&["tcp", "::1", "8080", "300000"]).expect_code(0).stdout_is("whole\n");
    place.peer(&["udp", "::1", "5300", "60000"]).expect_code(0).stdout_is("whole\n");
    place.peer(&["tcp", "127.0.0.1", "8080"]).expect_code(0).stdout_has("refused");
}

#[test]
fn the_largest_datagrams_pass() {
    let world = sbx();
    let place = Place::apart(&world, FAR);
    let street = Street::new(&place);
    place.create(&["shop"]);
    let _web = place.server("web", &["--network=shop", "-p5300:53/udp"], &["udp:*:53"]);
    // The most that UDP over IPv4 carries is 65507.
    for size in ["0", "1", "1472", "9000", "65000", "65507"] {
        place.peer(&["udp", "127.0.0.1", "5300", size]).expect_code(0).stdout_is("whole\n");
        street.peer(&["udp", HOST, "5300", size]).expect_code(0).stdout_is("whole\n");
    }
}

#[test]
fn half_closed_streams_end() {
    let world = sbx();
    let place = Place::apart(&world, FAR);
    let street = Street::new(&place);
    place.create(&["shop"]);
    let _web = place.server("web", &["--network=shop", "-p8080:80"], &["tcp:*:80"]);
    place.peer(&["half", "127.0.0.1", "8080", "1000000"]).expect_code(0).stdout_is("whole\nended\n");
    street.peer(&["half", HOST, "8080", "1000000"]).expect_code(0).stdout_is("whole\nended\n");
}

/// As many at once as two descriptors for each leave to the one process that forwards them.
#[test]
fn ten_thousand_connections_pass_one_port() {
    let world = sbx();
    let place = Place::apart(&world, FAR);
    world.file("crowd.py", include_str!("crowd.py"));
    place.create(&["shop"]);
    let options = ["--network=shop", "-p8080:80"];
    let web = place.member("web", &options, &["python3", "/test/crowd.py", "serve", "80"]);
    web.wait_for_log("ready");
    let (_, hard) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).expect("a limit");
    let at_once = 10_000.min((hard - hard / 10) / 2).to_string();
    let crowd = place.program("python3").arg(world.work().join("crowd.py"));
    crowd.args(["127.0.0.1", "8080", "10000", &at_once]).expect_code(0).stdout_is("10000\n");
}

#[test]
fn a_taken_port_is_an_error_that_names_who_has_it() {
    let world = sbx();
    let place = Place::apart(&world, FAR);
    let _server = place.outer().serve(&["tcp:127.0.0.1:8080", "udp:127.0.0.1:8080"]);
    place.create(&["shop"]);
    for protocol in ["tcp", "udp"] {
        let port = format!("-p8080:80/{protocol}");
        place
            .run(&["--rm", "--network=shop", &port], &["true"])
            .expect_code(125)
            .stdout_is("")
            .stderr_has(&format!("cannot publish host port 8080/{protocol}"))
            .stderr_has("(python3)");
    }
    let _web = place.sleeper("web", &["--network=shop", "-p9090:80"]);
    place
        .run(&["--rm", "--network=shop", "-p9090:80"], &["true"])
        .expect_code(125)
        .stderr_has("cannot publish host port 9090/tcp")
        .stderr_has("in use");
}

#[test]
fn a_privileged_port_is_an_error_that_names_the_sysctl() {
    let world = sbx();
    let place = Place::new(&world);
    place.create(&["shop"]);
    for port in ["1:80", "1:80/udp"] {
        place
            .run(&["--rm", "--network=shop", "-p", port], &["true"])
            .expect_code(125)
            .stderr_has("cannot publish host port 1/")
            .stderr_has("net.ipv4.ip_unprivileged_port_start");
    }
}

/// The sockets that listen at a port, by their inode numbers: another socket has another.
fn sockets(place: &Place, port: &str) -> Vec<String> {
    let filter = format!("sport = :{port}");
    let shown = place.program("ss").args(["-Hlntue", &filter]).expect_code(0).stdout();
    let inodes = shown.split_whitespace().filter(|word| word.starts_with("ino:"));
    let mut inodes: Vec<String> = inodes.map(str::to_owned).collect();
    inodes.sort();
    inodes
}

#[test]
fn ports_stay_bound_while_the_container_restarts_and_moves() {
    let world = sbx();
    let place = Place::apart(&world, FAR);
    place.create(&["shop"]);
    place.create(&["second"]);
    let options = ["--network=shop", "-p8080:80", "-p8080:80/udp"];
    let web = place.server("web", &options, &["tcp:*:80", "udp:*:80"]);
    let bound = sockets(&place, "8080");
    assert!(bound.len() >= 2, "TCP and UDP: {bound:?}");
    let served = |when: &str| {
        for how in ["tcp", "udp"] {
            let said = place.peer(&[how, "127.0.0.1", "8080"]).expect_code(0).stdout();
            assert_eq!(said, "whole\n", "{how} {when}");
        }
        assert_eq!(sockets(&place, "8080"), bound, "{when}");
    };
    served("at first");
    place.sbx(["network", "connect", "second", "web"]).expect_code(0);
    served("in two networks");
    place.sbx(["network", "disconnect", "shop", "web"]).expect_code(0);
    served("in the second alone");
    place.sbx(["restart", "-t", "0", "web"]).expect_code(0);
    super::wait_until("it serves again", || web.log().matches("ready").count() == 2);
    served("after a restart");
}
