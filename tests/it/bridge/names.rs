//! Names: who answers to what, in which network, and what is asked of others.

use super::{Place, wait_until};
use crate::harness::sbx;
use crate::network::outer::FAR;

#[test]
fn containers_find_each_other_by_all_their_names() {
    let world = sbx();
    let place = Place::new(&world);
    place.create(&["shop"]);
    let database = place.server(
        "db",
        &["--network=shop:alias=store", "--network-alias=redis", "--hostname=Keeper"],
        &["tcp:*:6379"],
    );
    let asks = place.sleeper("web", &["--network=shop"]);
    let address = database.address("shop");
    let id = place.sbx(["inspect", "-f", "{{.Id}}", "db"]).succeed();
    for name in ["db", "store", "redis", "keeper", "DB", "ReDis", &id[..12]] {
        assert_eq!(asks.ask(name, "A"), format!("NOERROR {address}"), "{name}");
        assert_eq!(asks.peer(&["lookup", name]), address, "{name}");
    }
    assert_eq!(asks.peer(&["tcp", "redis", "6379", "100000"]), "whole");
    // One's own name, too, and by the network as well as by /etc/hosts.
    assert_eq!(database.ask("db", "A"), format!("NOERROR {address}"));
    assert_eq!(asks.ask("db", "AAAA"), "NOERROR", "the name is known, and has no such address");
    assert_eq!(asks.ask("db", "MX"), "NOERROR");
}

#[test]
fn addresses_are_looked_up_in_reverse() {
    let world = sbx();
    let place = Place::new(&world);
    place.create(&["--subnet=10.210.7.0/24", "shop"]);
    let database = place.sleeper("db", &["--network=shop:ip=10.210.7.40,alias=store"]);
    assert_eq!(database.ask("40.7.210.10.in-addr.arpa", "PTR"), "NOERROR db");
    assert!(database.ask("41.7.210.10.in-addr.arpa", "PTR").starts_with("NXDOMAIN"));
}

#[test]
fn a_name_goes_with_its_container() {
    let world = sbx();
    let place = Place::new(&world);
    place.create(&["shop"]);
    let asks = place.sleeper("web", &["--network=shop"]);
    let unknown = |name: &str| !asks.ask(name, "A").starts_with("NOERROR");
    assert!(unknown("db"));
    let database = place.sleeper("db", &["--network=shop"]);
    let address = database.address("shop");
    assert_eq!(asks.ask("db", "A"), format!("NOERROR {address}"));
    place.sbx(["stop", "-t", "0", "db"]).expect_code(0);
    wait_until("db is unknown", || unknown("db"));
    place.sbx(["start", "db"]).expect_code(0);
    assert_eq!(asks.ask("db", "A"), format!("NOERROR {}", database.address("shop")));
    drop(database);
    wait_until("db is unknown", || unknown("db"));
}

#[test]
fn a_name_holds_in_its_networks_alone() {
    let world = sbx();
    let place = Place::new(&world);
    place.create(&["front"]);
    place.create(&["back"]);
    let web = place.sleeper("web", &["--network=front"]);
    let app = place.sleeper("app", &["--network=front", "--network=back"]);
    let database = place.sleeper("db", &["--network=back"]);
    assert!(!web.ask("db", "A").contains(&database.address("back")));
    assert!(!database.ask("web", "A").contains(&web.address("front")));
    // Who is in both finds both, whichever server is asked.
    assert_eq!(app.ask("db", "A"), format!("NOERROR {}", database.address("back")));
    assert_eq!(app.ask("web", "A"), format!("NOERROR {}", web.address("front")));
    assert_eq!(web.ask("app", "A"), format!("NOERROR {}", app.address("front")));
    assert_eq!(database.ask("app", "A"), format!("NOERROR {}", app.address("back")));
}

#[test]
fn the_default_network_has_no_names() {
    let world = sbx();
    let place = Place::new(&world);
    let database = place.server("db", &["--network=bridge"], &["tcp:*:6379"]);
    let web = place.sleeper("web", &["--network=bridge"]);
    assert!(!web.peer(&["lookup", "db"]).contains(&database.address("bridge")));
    assert_eq!(web.peer(&["tcp", &database.address("bridge"), "6379"]), "whole");
}

#[test]
fn a_network_can_go_without_names() {
    let world = sbx();
    let place = Place::new(&world);
    place.create(&["--disable-dns", "quiet"]);
    let database = place.sleeper("db", &["--network=quiet"]);
    let web = place.sleeper("web", &["--network=quiet"]);
    assert!(!web.peer(&["lookup", "db"]).contains(&database.address("quiet")));
}

#[test]
fn other_names_are_asked_of_others() {
    let world = sbx();
    let place = Place::apart(&world, "127.0.0.1");
    let _server = place.outer().serve(&["dns:127.0.0.1:53"]);
    place.create(&["shop"]);
    let web = place.sleeper("web", &["--network=shop"]);
    assert_eq!(web.ask("some.example", "A"), "NOERROR 192.0.2.77");
    assert_eq!(web.ask("some.example", "AAAA"), "NOERROR 2001:db8::77");
    assert_eq!(web.ask("xyz.example", "A"), "NXDOMAIN");
    let search = web.sh("grep ^search /etc/resolv.conf").succeed();
    assert!(search.contains("outer.example"), "{search}");
}

#[test]
fn the_servers_that_are_asked_can_be_named() {
    let world = sbx();
    let place = Place::apart(&world, "127.0.0.1");
    let _server = place.outer().serve(&[&format!("dns:{FAR}:53")]);
    place.create(&["--dns", FAR, "of-the-network"]);
    place.create(&["of-the-container"]);
    for options in [&["--network=of-the-network"][..], &["--network=of-the-container", "--dns", FAR]] {
        let web = place.sleeper("web", options);
        assert_eq!(web.ask("some.example", "A"), "NOERROR 192.0.2.77", "{options:?}");
        assert!(web.ask("web", "A").starts_with("NOERROR 10."), "its own name is known: {options:?}");
    }
}

#[test]
fn an_internal_network_asks_nobody() {
    let world = sbx();
    let place = Place::apart(&world, "127.0.0.1");
    let _server = place.outer().serve(&["dns:127.0.0.1:53"]);
    place.create(&["--internal", "inner"]);
    let web = place.sleeper("web", &["--network=inner"]);
    let answer = web.ask("some.example", "A");
    assert!(["NXDOMAIN", "REFUSED"].contains(&answer.as_str()), "{answer}");
    assert_eq!(web.ask("web", "A"), format!("NOERROR {}", web.address("inner")));
}

#[test]
fn names_are_answered_over_tcp_too() {
    let world = sbx();
    let place = Place::new(&world);
    place.create(&["shop"]);
    let web = place.sleeper("web", &["--network=shop"]);
    let server = web.sh("awk '/^nameserver/ {print $2; exit}' /etc/resolv.conf").succeed();
    let answer = web.peer(&["ask", &server, "web", "A", "tcp"]);
    assert_eq!(answer, format!("NOERROR {}", web.address("shop")));
}
