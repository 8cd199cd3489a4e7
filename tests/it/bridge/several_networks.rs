//! Containers in several networks, and those that move between them while they run.

use super::{Place, wait_until};
use crate::harness::sbx;

#[test]
fn each_network_is_an_interface() {
    let world = sbx();
    let place = Place::new(&world);
    place.create(&["front"]);
    place.create(&["back"]);
    let app = place.sleeper("app", &["--network=front", "--network=back"]);
    let web = place.server("web", &["--network=front"], &["tcp:*:80"]);
    let database = place.server("db", &["--network=back"], &["tcp:*:6379"]);
    assert_eq!(app.sh("ls /sys/class/net").succeed(), "eth0\neth1\nlo");
    for (interface, network) in [("eth0", "front"), ("eth1", "back")] {
        let shown = app.sh(&format!("ip -o -4 address show dev {interface}")).succeed();
        assert!(shown.contains(&format!(" {}/24 ", app.address(network))), "{shown}");
        let mac = app.sh(&format!("cat /sys/class/net/{interface}/address")).succeed();
        assert_eq!(mac, app.mac(network));
    }
    let route = app.exec(&["ip", "route", "get", "203.0.113.7"]).succeed();
    assert!(route.contains("dev eth0"), "the first leads out: {route}");
    assert_eq!(app.peer(&["tcp", "web", "80"]), "whole");
    assert_eq!(app.peer(&["tcp", "db", "6379"]), "whole");
    drop((web, database));
}

#[test]
fn addresses_names_and_interfaces_are_as_asked() {
    let world = sbx();
    let place = Place::new(&world);
    place.create(&[
        "--subnet=10.210.5.0/24",
        "--gateway=10.210.5.254",
        "--ip-range=10.210.5.128/26",
        "front",
    ]);
    place.create(&["--subnet=10.210.6.0/24", "back"]);
    let app = place.sleeper(
        "app",
        &[
            "--network=front:ip=10.210.5.9,mac=02:42:ac:11:00:09,alias=www,interface_name=web0",
            "--network=back:ip=10.210.6.9",
        ],
    );
    assert_eq!(app.sh("cat /sys/class/net/web0/address").succeed(), "02:42:ac:11:00:09");
    let shown = app.sh("ip -o -4 address show dev web0; ip route | grep ^default || true").succeed();
    assert!(shown.contains(" 10.210.5.9/24 ") && shown.contains("via 10.210.5.254 dev web0"), "{shown}");
    assert_eq!(app.address("back"), "10.210.6.9");
    let endpoint = app.endpoint("front");
    assert_eq!(endpoint["Gateway"], "10.210.5.254");
    assert_eq!(endpoint["IPPrefixLen"], 24);
    assert_eq!(endpoint["MacAddress"], "02:42:ac:11:00:09");
    // The options of docker, for a single network.
    let other = place.sleeper(
        "other",
        &["--network=front", "--ip=10.210.5.10", "--mac-address=02:42:ac:11:00:0a", "--network-alias=shop"],
    );
    assert_eq!(
        (other.address("front"), other.mac("front")),
        ("10.210.5.10".into(), "02:42:ac:11:00:0a".into())
    );
    assert_eq!(app.ask("shop", "A"), "NOERROR 10.210.5.10");
    assert_eq!(other.ask("www", "A"), "NOERROR 10.210.5.9");
    // Who asks for nothing gets one of the range.
    let last = place.sleeper("last", &["--network=front"]);
    let number: u8 =
        last.address("front").rsplit('.').next().and_then(|part| part.parse().ok()).expect("a number");
    assert!((128..192).contains(&number), "{number}");
}

#[test]
fn addresses_that_cannot_be_had_are_refused() {
    let world = sbx();
    let place = Place::new(&world);
    place.create(&["--subnet=10.210.10.0/29", "small"]);
    let _first = place.sleeper("first", &["--network=small:ip=10.210.10.2,mac=02:42:ac:11:00:02"]);
    for (options, cause) in [
        (&["--network=small", "--ip=10.210.10.2"][..], "10.210.10.2"),
        (&["--network=small", "--ip=10.210.10.1"], "10.210.10.1"),
        (&["--network=small", "--ip=10.210.11.2"], "10.210.11.2"),
        (&["--network=small", "--ip=10.210.10.7"], "10.210.10.7"),
        (&["--network=small", "--mac-address=02:42:ac:11:00:02"], "02:42:ac:11:00:02"),
    ] {
        place.run(&[&["--rm"], options].concat(), &["true"]).expect_code(125).stdout_is("").stderr_has(cause);
    }
    // Four more, and then it is full.
    let more: Vec<_> =
        ["a", "b", "c", "d"].iter().map(|name| place.sleeper(name, &["--network=small"])).collect();
    place.run(&["--rm", "--network=small"], &["true"]).expect_code(125).stderr_has("small");
    drop(more);
    place.run(&["--rm", "--network=small"], &["true"]).expect_code(0);
}

#[test]
fn a_running_container_is_connected_and_disconnected() {
    let world = sbx();
    let place = Place::new(&world);
    place.create(&["front"]);
    place.create(&["--subnet=10.210.12.0/24", "back"]);
    let database = place.server("db", &["--network=back"], &["tcp:*:6379"]);
    let app = place.sleeper("app", &["--network=front"]);
    assert_ne!(app.peer(&["tcp", "db", "6379", "5", "1"]), "whole");
    let connect = ["network", "connect", "--alias=worker", "--ip=10.210.12.50", "back", "app"];
    place.sbx(connect).expect_code(0).stdout_is("").stderr_is("");
    assert_eq!(app.sh("ls /sys/class/net").succeed(), "eth0\neth1\nlo");
    assert_eq!(app.address("back"), "10.210.12.50");
    assert_eq!(app.peer(&["tcp", "db", "6379"]), "whole");
    for name in ["app", "worker"] {
        assert_eq!(database.ask(name, "A"), "NOERROR 10.210.12.50", "{name}");
    }
    place.sbx(connect).expect_code(125).stderr_has("already");
    let listed = place.document(&["network", "inspect", "back"])["Containers"].clone();
    assert_eq!(listed.as_object().map(serde_json::Map::len), Some(2), "{listed}");

    // It stays so over a restart.
    place.sbx(["restart", "-t", "0", "app"]).expect_code(0);
    assert_eq!(app.address("back"), "10.210.12.50");
    assert_eq!(database.ask("worker", "A"), "NOERROR 10.210.12.50");

    place.sbx(["network", "disconnect", "back", "app"]).expect_code(0).stdout_is("").stderr_is("");
    assert_eq!(app.sh("ls /sys/class/net").succeed(), "eth0\nlo");
    assert_ne!(app.peer(&["tcp", &database.address("back"), "6379", "5", "0.4"]), "whole");
    assert!(!database.ask("worker", "A").starts_with("NOERROR"));
    place.sbx(["network", "disconnect", "back", "app"]).expect_code(125).stderr_has("not connected");
    // Also out of the last.
    place.sbx(["network", "disconnect", "front", "app"]).expect_code(0);
    assert_eq!(app.sh("ls /sys/class/net").succeed(), "lo");
    place.sbx(["network", "connect", "back", "app"]).expect_code(0);
    assert_eq!(app.peer(&["tcp", "db", "6379"]), "whole");
}

#[test]
fn a_stopped_container_is_connected_for_its_next_start() {
    let world = sbx();
    let place = Place::new(&world);
    place.create(&["front"]);
    place.create(&["back"]);
    let app = place.sleeper("app", &["--network=front"]);
    place.sbx(["stop", "-t", "0", "app"]).expect_code(0);
    place.sbx(["network", "connect", "back", "app"]).expect_code(0);
    place.sbx(["start", "app"]).expect_code(0);
    assert_eq!(app.sh("ls /sys/class/net").succeed(), "eth0\neth1\nlo");
    place.sbx(["stop", "-t", "0", "app"]).expect_code(0);
    place.sbx(["network", "disconnect", "front", "app"]).expect_code(0);
    place.sbx(["start", "app"]).expect_code(0);
    assert_eq!(app.sh("ls /sys/class/net").succeed(), "eth0\nlo");
    assert_eq!(app.ask("app", "A"), format!("NOERROR {}", app.address("back")));
}

#[test]
fn what_is_in_no_network_that_others_can_be_in_is_not_connected() {
    let world = sbx();
    let place = Place::new(&world);
    place.create(&["shop"]);
    for mode in ["host", "none"] {
        let app = place.sleeper("app", &[&format!("--network={mode}")]);
        place.sbx(["network", "connect", "shop", "app"]).expect_code(125).stderr_has(mode);
        drop(app);
    }
    let app = place.sleeper("app", &["--network=shop"]);
    let joined = place.sleeper("joined", &["--network=container:app"]);
    place.sbx(["network", "connect", "bridge", "joined"]).expect_code(125).stderr_has("container");
    assert_eq!(
        joined.sh("ip -o -4 address show dev eth0").succeed(),
        app.sh("ip -o -4 address show dev eth0").succeed()
    );
    assert_eq!(joined.ask("app", "A"), format!("NOERROR {}", app.address("shop")), "names are its host's");
}

#[test]
fn reload_brings_back_what_was_spoilt_inside() {
    let world = sbx();
    let place = Place::new(&world);
    place.create(&["shop"]);
    let server = place.server("server", &["--network=shop", "-p127.0.0.1::80"], &["tcp:*:80"]);
    let app = place.sleeper("app", &["--network=shop", "--cap-add=NET_ADMIN"]);
    let address = app.address("shop");
    app.sh("ip address flush dev eth0; ip link set eth0 down").expect_code(0);
    assert_ne!(app.peer(&["tcp", &server.address("shop"), "80", "5", "0.4"]), "whole");
    place.sbx(["network", "reload", "app"]).expect_code(0);
    wait_until("it is back", || app.peer(&["tcp", "server", "80", "5", "1"]) == "whole");
    assert_eq!(app.address("shop"), address);
    place.sbx(["network", "reload", "--all"]).expect_code(0);
    assert_eq!(app.peer(&["tcp", "server", "80"]), "whole");
    let (host, port) = server.port("80");
    place.peer(&["tcp", &host, &port]).expect_code(0).stdout_is("whole\n");
}

#[test]
fn another_network_takes_the_place_of_one_that_was_left() {
    let world = sbx();
    let place = Place::new(&world);
    for name in ["one", "two", "three"] {
        place.create(&[name]);
    }
    let app = place.sleeper("app", &["--network=one", "--network=two"]);
    place.sbx(["network", "disconnect", "one", "app"]).expect_code(0);
    for network in ["three", "one"] {
        place.sbx(["network", "connect", network, "app"]).expect_code(0).stderr_is("");
    }
    assert_eq!(app.sh("ip route | grep -c ^default").succeed(), "3");
    place.sbx(["network", "reload", "app"]).expect_code(0);
    place.sbx(["network", "disconnect", "two", "app"]).expect_code(0);
    place.sbx(["network", "connect", "two", "app"]).expect_code(0).stderr_is("");
    assert_eq!(app.sh("ip route | grep -c ^default").succeed(), "3");
}
