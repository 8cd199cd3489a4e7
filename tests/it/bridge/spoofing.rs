//! No container passes for another: checked with frames of its own making, out of a raw socket.

use super::{Member, Place};
use crate::harness::{Sbx, sbx};

struct Cast<'p, 'w> {
    /// Serves, and says who sent what.
    target: Member<'p, 'w>,
    /// Whose address is taken.
    victim: Member<'p, 'w>,
    /// Has raw sockets, and may change its interface.
    forger: Member<'p, 'w>,
}

impl<'p, 'w> Cast<'p, 'w> {
    fn new(world: &Sbx, place: &'p Place<'w>) -> Self {
        world.file("forge.py", include_str!("forge.py"));
        place.create(&["--ipv6", "shop"]);
        let target = place.server("target", &["--network=shop"], &["log:*:7000", "tcp:*:7000"]);
        let victim = place.sleeper("victim", &["--network=shop"]);
        let forger = place.sleeper("forger", &["--network=shop", "--cap-add=NET_RAW,NET_ADMIN"]);
        Self { target, victim, forger }
    }

    fn forge(&self, words: &[&str]) {
        self.forger.exec(&[&["python3", "/test/forge.py"], words].concat()).expect_code(0);
    }
}

fn address_6(member: &Member) -> String {
    let endpoint = member.endpoint("shop");
    endpoint["GlobalIPv6Address"].as_str().filter(|text| text.contains(':')).expect("an address").to_owned()
}

#[test]
fn datagrams_come_from_whom_they_say() {
    let world = sbx();
    let place = Place::new(&world);
    let cast = Cast::new(&world, &place);
    let (forger, victim, target) =
        (cast.forger.mac("shop"), cast.victim.mac("shop"), cast.target.mac("shop"));
    for (own, others, to) in [
        (cast.forger.address("shop"), cast.victim.address("shop"), cast.target.address("shop")),
        (address_6(&cast.forger), address_6(&cast.victim), address_6(&cast.target)),
    ] {
        let family = if own.contains(':') { "6" } else { "4" };
        for (mac, from, said) in [
            (&forger, "192.0.2.200", "stranger"),
            (&forger, others.as_str(), "other-address"),
            (&victim, others.as_str(), "other-both"),
            (&victim, own.as_str(), "other-mac"),
        ] {
            // An address of the other family cannot be in this packet.
            if from.contains(':') == own.contains(':') {
                cast.forge(&["udp", "eth0", mac, from, &target, &to, "7000", &format!("{said}-{family}")]);
            }
        }
        // The last is honest: when it has come, all others would have.
        cast.forge(&["udp", "eth0", &forger, &own, &target, &to, "7000", &format!("honest-{family}")]);
        cast.target.wait_for_log(&format!("{own} honest-{family}"));
    }
    let log = cast.target.log();
    assert_eq!(log.lines().filter(|line| !line.contains("honest")).collect::<Vec<_>>(), ["ready"], "{log}");
}

#[test]
fn nobody_answers_for_anothers_address() {
    let world = sbx();
    let place = Place::new(&world);
    let cast = Cast::new(&world, &place);
    let (forger, target) = (cast.forger.mac("shop"), cast.target.mac("shop"));
    let knows = |address: &str, mac: &str| {
        let known = cast.target.sh(&format!("ip neigh show {address}")).succeed();
        known.contains(mac)
    };
    let (victim, at) = (cast.victim.address("shop"), cast.target.address("shop"));
    cast.target.exec(&["ping", "-c", "1", "-W", "2", &victim]).expect_code(0);
    assert!(knows(&victim, &cast.victim.mac("shop")));
    cast.forge(&["arp", "eth0", &forger, &victim, &target, &at]);
    let (victim_6, at_6) = (address_6(&cast.victim), address_6(&cast.target));
    cast.target.exec(&["ping", "-6", "-c", "1", "-W", "2", &victim_6]).expect_code(0);
    assert!(knows(&victim_6, &cast.victim.mac("shop")));
    cast.forge(&["nd", "eth0", &forger, &victim_6, &target, &at_6]);
    // An honest datagram behind both.
    let own = cast.forger.address("shop");
    cast.forge(&["udp", "eth0", &forger, &own, &target, &at, "7000", "honest"]);
    cast.target.wait_for_log("honest");
    for address in [&victim, &victim_6] {
        assert!(knows(address, &cast.victim.mac("shop")) && !knows(address, &forger), "{address}");
    }
}

#[test]
fn nobody_takes_anothers_address() {
    let world = sbx();
    let place = Place::new(&world);
    let cast = Cast::new(&world, &place);
    let (victim, at) = (cast.victim.address("shop"), cast.target.address("shop"));
    drop(cast.victim);
    let ping =
        |from: &str| cast.forger.exec(&["ping", "-c", "1", "-W", "1", "-I", from, &at]).finish().code();
    assert_eq!(ping("eth0"), 0);
    cast.forger.sh(&format!("ip address add {victim}/24 dev eth0")).expect_code(0);
    assert_eq!(ping(&victim), 1);
    // Nor does another MAC address of its own choice help it.
    cast.forger
        .sh("ip link set eth0 down; ip link set eth0 address 02:42:ac:11:00:77; ip link set eth0 up")
        .expect_code(0);
    assert_eq!(ping("eth0"), 1);
}
