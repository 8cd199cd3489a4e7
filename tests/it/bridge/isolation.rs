//! What a container on a bridge network does not reach.

use super::{Member, Place};
use crate::harness::sbx;
use crate::network::outer::{FAR, FAR_6, INTERFACE};

/// Whether a server of TCP and UDP at `port` is reached; both or neither.
#[track_caller]
fn reaches(from: &Member, at: &str, port: &str) -> bool {
    let reached = from.peer(&["reach", port, "0.6", at]);
    let both = format!("{at}/tcp {at}/udp");
    assert!(reached.is_empty() || reached == both, "{} to {at}: {reached}", from.name);
    reached == both
}

const SERVES: [&str; 2] = ["tcp:*:7000", "udp:*:7000"];

#[test]
fn two_networks_do_not_reach_each_other() {
    let world = sbx();
    let place = Place::new(&world);
    place.create(&["red"]);
    place.create(&["blue"]);
    let red = place.server("red-one", &["--network=red"], &SERVES);
    let near = place.sleeper("red-two", &["--network=red"]);
    let blue = place.sleeper("blue-one", &["--network=blue"]);
    let plain = place.sleeper("plain", &["--network=bridge"]);
    let address = red.address("red");
    assert!(reaches(&near, &address, "7000"), "the server serves");
    for stranger in [&blue, &plain] {
        assert!(!reaches(stranger, &address, "7000"), "{}", stranger.name);
        let pinged = stranger.exec(&["ping", "-c", "1", "-W", "1", &address]).finish();
        assert_eq!(pinged.code(), 1, "{}: {}", stranger.name, pinged.stdout());
    }
    // A route by hand changes nothing, whoever has the right to make one.
    let free = place.sleeper("free", &["--network=blue", "--cap-add=NET_ADMIN"]);
    free.sh(&format!(
        "ip route add {address}/32 dev eth0 2>&1 || ip route add {address}/32 dev eth0 onlink; true"
    ))
    .expect_code(0);
    assert!(!reaches(&free, &address, "7000"), "by a route of its own");
}

#[test]
fn networks_that_both_want_it_reach_each_other() {
    let world = sbx();
    let place = Place::new(&world);
    place.create(&["--opt=isolate=false", "one"]);
    place.create(&["--opt=isolate=false", "two"]);
    place.create(&["three"]);
    let server = place.server("server", &["--network=one"], &SERVES);
    let address = server.address("one");
    assert!(reaches(&place.sleeper("open", &["--network=two"]), &address, "7000"));
    assert!(!reaches(&place.sleeper("closed", &["--network=three"]), &address, "7000"));
}

#[test]
fn an_internal_network_reaches_nothing_outside() {
    let world = sbx();
    let place = Place::apart(&world, FAR);
    let _server = place.outer().serve(&[&format!("tcp:{FAR}:7000"), &format!("udp:{FAR}:7000")]);
    place.create(&["--internal", "inner"]);
    place.create(&["open"]);
    let server = place.server("server", &["--network=inner"], &SERVES);
    let inner = place.sleeper("inner", &["--network=inner"]);
    let open = place.sleeper("open", &["--network=open"]);
    assert!(reaches(&open, FAR, "7000"), "the world is there");
    assert!(reaches(&inner, &server.address("inner"), "7000"), "neighbours are reached");
    assert!(!reaches(&inner, FAR, "7000"));
    assert_eq!(inner.sh("ip route | grep ^default || true").succeed(), "");
    // Nor with a route made by hand, through the bridge.
    let free = place.sleeper("free", &["--network=inner", "--cap-add=NET_ADMIN"]);
    let bridge =
        "ip -o -4 addr show dev eth0 | awk '{split($4, a, \".\"); print a[1]\".\"a[2]\".\"a[3]\".1\"}'";
    free.sh(&format!("ip route add default via $({bridge})")).expect_code(0);
    assert!(!reaches(&free, FAR, "7000"), "by a route of its own");
}

#[test]
fn an_internal_network_takes_no_ports() {
    let world = sbx();
    let place = Place::new(&world);
    place.create(&["--internal", "inner"]);
    place.create(&["open"]);
    // Of two networks the open one takes them.
    let server = place.server(
        "server",
        &["--network=inner", "--network=open", "-p", "127.0.0.1::7000"],
        &["tcp:*:7000"],
    );
    let (host, port) = server.port("7000");
    place.peer(&["tcp", &host, &port]).expect_code(0).stdout_is("whole\n");
}

/// Every address at which the host's loopback interface might be met from inside.
fn towards_the_host(member: &Member) -> Vec<String> {
    let gateway = member.sh("ip route | awk '/^default/ {print $3}'").succeed();
    let hosts = member.sh("awk '/host.containers.internal/ {print $1}' /etc/hosts").succeed();
    let fixed = [
        "127.0.0.1",
        "10.0.2.2",
        "10.0.2.3",
        "10.0.2.100",
        "10.0.3.2",
        "10.0.3.3",
        "fd00::2",
        "fd00::3",
        "::1",
    ];
    let asked = [INTERFACE, "192.0.2.1", "169.254.1.1", "169.254.1.2", "0.0.0.0"];
    let mut all: Vec<String> = fixed.iter().chain(&asked).map(|&address| address.to_owned()).collect();
    all.push(gateway);
    all.extend(hosts.lines().map(str::to_owned));
    all
}

#[test]
fn the_hosts_loopback_is_closed_unless_asked_for() {
    let world = sbx();
    let place = Place::apart(&world, FAR);
    let _servers =
        place.outer().serve(&["tcp:127.0.0.1:7001", "udp:127.0.0.1:7001", "tcp:::1:7001", "udp:::1:7001"]);
    place.create(&["closed"]);
    place.create(&["--opt=allow_host_loopback=true", "open"]);
    let open = place.sleeper("open", &["--network=open"]);
    assert!(reaches(&open, "host.containers.internal", "7001"), "it was asked for");
    // Also while another network has the way.
    for network in ["closed", "bridge"] {
        let closed = place.sleeper("closed", &[&format!("--network={network}"), "--cap-add=NET_ADMIN"]);
        let towards = towards_the_host(&closed);
        let towards: Vec<&str> = towards.iter().map(String::as_str).collect();
        assert_eq!(closed.peer(&[&["reach", "7001", "1"], &towards[..]].concat()), "", "{network}");
    }
}

#[test]
fn a_network_has_a_name_server_for_its_own_alone() {
    let world = sbx();
    let place = Place::new(&world);
    place.create(&["shop"]);
    place.create(&["other"]);
    let web = place.sleeper("web", &["--network=shop"]);
    let other = place.sleeper("other", &["--network=other"]);
    let gateway = |member: &Member| member.sh("ip route | awk '/^default/ {print $3}'").succeed();
    let (own, others) = (gateway(&web), gateway(&other));
    web.exec(&["ping", "-c", "1", "-W", "2", &own]).expect_code(0);
    assert!(web.peer(&["ask", &own, "web"]).starts_with("NOERROR"));
    for how in ["udp", "tcp"] {
        let said = web.peer(&["ask", &others, "other", "A", how]);
        assert!(said.starts_with("[Errno") || said.contains("timed out"), "no server answers, {how}: {said}");
    }
}

#[test]
fn the_world_is_reached_in_both_families() {
    let world = sbx();
    let place = Place::apart(&world, FAR);
    let places = [FAR, FAR_6].map(|at| [format!("tcp:{at}:7000"), format!("udp:{at}:7000")]).concat();
    let _server = place.outer().serve(&places.iter().map(String::as_str).collect::<Vec<_>>());
    place.create(&["--ipv6", "shop"]);
    // Its way to the host's loopback is no way to the world, for nobody.
    place.create(&["--opt=allow_host_loopback=true", "open"]);
    let _open = place.sleeper("open", &["--network=open"]);
    for network in ["bridge", "open", "shop"] {
        let web = place.sleeper("web", &[&format!("--network={network}")]);
        assert!(reaches(&web, FAR, "7000"), "{network}");
        if network == "shop" {
            assert!(reaches(&web, FAR_6, "7000"), "{network}");
        }
    }
}
