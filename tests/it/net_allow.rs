//! `--net-allow`: what is listed is reached and nothing else, whatever the container may do, and what it tries is shown.

use serde_json::Value;

use crate::bridge::{Member, Place, holders, wait_until};
use crate::harness::{Sbx, rootfs, sbx};
use crate::network::outer::{FAR, FAR_6};

/// What the name server of the outer world answers for every name that does not begin with an `x`.
const NAMED: &str = "192.0.2.77";

/// A host of its own with servers at [`FAR`], [`FAR_6`] and [`NAMED`], and a name server at [`FAR`].
fn place(world: &Sbx) -> Place<'_> {
    let place = Place::apart(world, FAR);
    place.outer().program("ip").args(["address", "add", "192.0.2.77/32", "dev", "lo"]).expect_code(0);
    place
}

const SERVES: [&str; 5] = ["tcp:*:7000", "udp:*:7000", "tcp:*:7001", "udp:*:7001", "dns:203.0.113.7:53"];

/// Whether a server is reached; that it is not is known at once, not by waiting.
#[track_caller]
fn reaches(from: &Member, kind: &str, at: &str, port: &str) -> bool {
    let said = from.peer(&[kind, at, port, "5", "5"]);
    assert!(
        said == "whole" || said.contains("refused") || said.contains("[Errno 113]"),
        "{kind} {at} {port}: {said}"
    );
    said == "whole"
}

/// The lines of the network log without their times.
fn traffic(place: &Place<'_>, name: &str) -> Vec<String> {
    let lines = place.sbx(["logs", "--network", name]).succeed();
    lines.lines().map(|line| line.split_once(' ').expect("a time").1.to_owned()).collect()
}

#[test]
fn what_is_listed_is_reached_and_nothing_else() {
    let world = sbx();
    let place = place(&world);
    let _servers = place.outer().serve(&SERVES);
    let list =
        ["--net-allow=Good.example:7000", "--net-allow=203.0.113.7:7001/tcp", "--net-allow=*.below.example"];
    let agent = place.sleeper("agent", &list);
    assert!(!reaches(&agent, "tcp", NAMED, "7000"), "nobody has asked for the name yet");
    assert_eq!(agent.ask("GOOD.example", "A"), format!("NOERROR {NAMED}"));
    assert!(reaches(&agent, "tcp", NAMED, "7000") && reaches(&agent, "udp", NAMED, "7000"));
    assert!(!reaches(&agent, "tcp", NAMED, "7001") && !reaches(&agent, "udp", NAMED, "7001"));
    assert!(reaches(&agent, "tcp", FAR, "7001"));
    assert!(!reaches(&agent, "udp", FAR, "7001") && !reaches(&agent, "tcp", FAR, "7000"));
    assert!(!reaches(&agent, "tcp", FAR_6, "7001"));
    for refused in ["evil.example", "example", "notgood.example", "below.example"] {
        assert_eq!(agent.ask(refused, "A"), "NXDOMAIN", "{refused}");
    }
    assert_eq!(agent.ask("a.below.example", "A"), format!("NOERROR {NAMED}"));
    assert!(reaches(&agent, "tcp", NAMED, "7001"), "another name of the same address has every port");
    let refused = agent.peer(&["ask", FAR, "evil.example"]);
    assert!(refused.starts_with("[Errno 11"), "no other name server: {refused}");

    wait_until("the network log is whole", || {
        let lines = traffic(&place, "agent");
        let has = |wanted: &str| lines.iter().any(|line| line.starts_with(wanted));
        has("closed tcp 203.0.113.7:7001 sent=")
            && has("refused tcp 192.0.2.77:7000")
            && has("allowed tcp good.example 192.0.2.77:7000")
            && has("allowed udp good.example 192.0.2.77:7000")
            && has("closed tcp good.example 192.0.2.77:7000 sent=")
            && has("refused udp 203.0.113.7:53")
            && has("refused dns evil.example")
            && has("refused tcp [2001:db8:1::7]:7001")
    });
    let lines = place.sbx(["logs", "--network", "--format=json", "agent"]).succeed();
    let closed = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .find(|record| record["verdict"] == "closed" && record["name"] == "good.example")
        .expect("a connection that has ended");
    let shown = &place.document(&["inspect", "agent"])["NetworkSettings"];
    assert_eq!(shown["Allowed"][0], "good.example:7000", "{shown}");
    assert!(
        shown["Networks"]["net-allow"]["IPAddress"].as_str().is_some_and(|ip| ip.starts_with("10.")),
        "{shown}"
    );
    // Eight bytes of length and five of data, and as many headers as packets.
    assert!(
        closed["bytes_sent"].as_u64() > Some(13) && closed["bytes_received"].as_u64() > Some(5),
        "{closed}"
    );
    assert_eq!((&closed["address"], &closed["port"]), (&Value::from(NAMED), &Value::from(7000)));
}

#[test]
fn no_capability_leads_past_the_list() {
    let world = sbx();
    let place = place(&world);
    let _servers = place.outer().serve(&SERVES);
    let agent = place.sleeper("agent", &["--cap-add=NET_ADMIN,NET_RAW", "--net-allow=203.0.113.7:7001"]);
    assert!(reaches(&agent, "tcp", FAR, "7001"));
    let gateway = agent.sh("ip route show default | awk '{print $3}'").succeed();
    // Other addresses, other routes, another MAC address: whatever it is, nothing comes of it.
    for change in [
        "true",
        "ip address add 10.0.2.100/24 dev eth0; ip route add 203.0.113.7/32 dev eth0 onlink src 10.0.2.100",
        "ip route del 203.0.113.7/32; ip address add 10.88.0.2/16 dev eth0",
        "ip link set eth0 down; ip link set eth0 address 02:42:00:00:00:09; ip link set eth0 up",
    ] {
        agent.sh(&format!("{change}; ip route replace default via {gateway}; true")).expect_code(0);
        for port in ["7000", "53"] {
            let said = agent.peer(&["tcp", FAR, port, "5", "0.4"]);
            assert_ne!(said, "whole", "{change}");
        }
        assert_ne!(agent.peer(&["udp", FAR, "7000", "5", "0.4"]), "whole", "{change}");
        assert!(!agent.peer(&["ask", FAR, "evil.example"]).contains(NAMED), "{change}");
    }
}

#[test]
fn neither_neighbours_nor_other_networks_are_reached() {
    let world = sbx();
    let place = Place::new(&world);
    place.create(&["shop"]);
    let server = place.server("server", &["--network=shop"], &["tcp:*:7000"]);
    let address = server.address("shop");
    let all = ["--net-allow=10.0.0.0/8", "--net-allow=server", "--net-allow=172.16.0.0/12"];
    let agent = place.sleeper("agent", &all);
    assert!(!reaches(&agent, "tcp", &address, "7000"), "what is private stays so");
    assert!(!agent.ask("server", "A").contains(&address));
    let other = place.sleeper("other", &["--net-allow=203.0.113.7"]);
    let own = agent.sh("ip -4 -o address show eth0 | awk '{print $4}' | cut -d/ -f1").succeed();
    assert_eq!(other.exec(&["ping", "-c", "1", "-W", "1", &own]).finish().code(), 1);
    for container in [&agent, &other] {
        place
            .sbx(["network", "connect", "shop", &container.name])
            .expect_code(125)
            .stderr_has("another network would lead past the list");
    }
    place.sbx(["logs", "--network", "server"]).expect_code(125).stderr_has("--net-allow");
}

#[test]
fn the_list_holds_in_the_next_life_and_under_the_next_holder() {
    let world = sbx();
    let place = place(&world);
    let _servers = place.outer().serve(&SERVES);
    let agent = place.sleeper("agent", &["--net-allow=203.0.113.7:7001", "--net-allow=good.example:7000"]);
    let name_server = || agent.sh("awk '/^nameserver/ {print $2; exit}' /etc/resolv.conf").succeed();
    let before = name_server();
    let check = |when: &str| {
        wait_until(when, || agent.peer(&["tcp", FAR, "7001", "5", "1"]) == "whole");
        assert!(!reaches(&agent, "tcp", FAR, "7000"), "{when}");
        assert_eq!(agent.ask("good.example", "A"), format!("NOERROR {NAMED}"), "{when}");
        assert!(reaches(&agent, "tcp", NAMED, "7000"), "{when}");
    };
    check("the first life");
    for holder in holders(&world) {
        let _ = nix::sys::signal::kill(holder, nix::sys::signal::Signal::SIGKILL);
    }
    check("after the holder's death");
    assert_eq!(name_server(), before, "programs that have read resolv.conf go on");
    place.sbx(["restart", "-t", "0", "agent"]).expect_code(0);
    check("the second life");
    let lines = traffic(&place, "agent");
    let refused = lines.iter().filter(|line| line.starts_with("refused tcp 203.0.113.7:7000"));
    assert_eq!(refused.count(), 3, "the log goes on: {lines:?}");
}

#[test]
fn what_counted_connections_have_sent_is_told_at_the_end() {
    let world = sbx();
    let place = place(&world);
    let _servers = place.outer().serve(&SERVES);
    let script = "import socket; s = socket.create_connection(('203.0.113.7', 7001)); s.sendall(b'x' * 5000)";
    place.run(&["--name=agent", "--net-allow=203.0.113.7:7001"], &["python3", "-c", script]).expect_code(0);
    let lines = traffic(&place, "agent");
    let sent = lines.iter().find_map(|line| line.strip_prefix("closed tcp 203.0.113.7:7001 sent="));
    let sent: u64 = sent.and_then(|rest| rest.split(' ').next()).expect("a line").parse().expect("a number");
    assert!(sent > 5000, "{lines:?}");
    place.sbx(["rm", "agent"]).expect_code(0);
}

#[test]
fn what_goes_past_a_list_is_refused() {
    let world = sbx();
    for (options, reason) in [
        (&["--network=host"][..], "cannot use `--net-allow` with `--network host`"),
        (&["--network=none"], "cannot use `--net-allow` with `--network none`"),
        (&["--network=slirp4netns"], "enforced in a network of the container's own"),
        (&["--network=bridge"], "its members reach each other"),
        (&["--net-allow=192.0.2.1:53"], "port 53"),
        (&["--net-allow=*"], "a list that allows every name is none"),
        (&["--network-alias=a"], "in no network that others can be in"),
    ] {
        world
            .run(["--rm", "--net-allow=example.org:443"])
            .args(options)
            .arg("--rootfs")
            .arg(rootfs())
            .arg("true")
            .expect_code(125)
            .stderr_has(reason);
    }
}
