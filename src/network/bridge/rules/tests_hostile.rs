//! Packets that no honest program sends, out of raw sockets.

use super::tests::{Lab, MACS, endpoint, network};
use super::*;

const SEND_ONE: &str = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); \
                        s.bind((\"10.88.0.1\", 4000)); s.sendto(b\"\", (\"10.88.0.3\", 4001))";

fn mac(lab: &Lab, interface: &str) -> String {
    lab.sh(&format!("ip -o link show {interface} | sed 's/.*ether \\([^ ]*\\).*/\\1/'")).trim().to_owned()
}

#[test]
fn no_group_address_leads_past_the_bridge() {
    let lab = Lab::new();
    // An answer of `two`, which is awaited, and would be taken wherever it comes in.
    lab.sh(&format!("python3 -c '{SEND_ONE}'"));
    let answer = |sender: &str, mac: &str, to: &str| {
        lab.heard(None, &["udp", "10.88.0.1", "4000"], |lab| {
            let (mac, to) = (format!("mac={mac}"), format!("to={to}"));
            let words =
                ["send", "eth0", "answer", "udp", "source=10.88.0.3", "address=10.88.0.1", "ports=4001"];
            lab.python(sender, &[&words[..], &["port=4000", &mac, &to]].concat());
        })
    };
    for last in ["00", "01", "02", "03", "0e", "0f", "21"] {
        for sender in ["one", "three"] {
            let mac = MACS[if sender == "one" { 0 } else { 2 }];
            let heard = answer(sender, mac, &format!("01:80:c2:00:00:{last}"));
            assert!(heard.is_empty(), "{sender} by {last}: {heard:?}");
        }
    }
    let bridge = mac(&lab, "b0");
    assert_eq!(answer("two", MACS[1], &bridge), ["10.88.0.3"], "the true one");
}

#[test]
fn a_port_outside_of_its_bridge_leads_nowhere() {
    let lab = Lab::new();
    lab.sh(&format!("python3 -c '{SEND_ONE}'"));
    lab.sh("ip link set v1 nomaster; ip route add 10.88.0.2/32 dev v1");
    let port = mac(&lab, "v1");
    let heard = lab.heard(None, &["udp", "10.88.0.1", "4000"], |lab| {
        let words = ["send", "eth0", "answer", "udp", "source=10.88.0.3", "address=10.88.0.1", "ports=4001"];
        lab.python("one", &[&words[..], &["port=4000", &format!("to={port}")]].concat());
    });
    assert!(heard.is_empty(), "{heard:?}");
}

/// A helper hands the address to its host's kernel, for which all of these are its own loopback.
#[test]
fn no_address_of_the_hosts_own_leaves_by_an_uplink() {
    let lab = Lab::new();
    let bridge = mac(&lab, "b0");
    let sent = |address: &str| {
        let mark = format!("mark-{address}");
        let heard = lab.heard(Some("world"), &["up0"], |lab| {
            let (to, at) = (format!("to={bridge}"), format!("address={address}"));
            let kind = if address.contains(':') { "ip6" } else { "ip" };
            lab.python("one", &["send", "eth0", &mark, kind, &to, &at]);
        });
        heard.contains(&mark)
    };
    lab.sh("for file in /proc/sys/net/ipv4/conf/*/route_localnet; do echo 1 >$file; done");
    for address in [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "127.1.2.3",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:0.0.0.0",
        "::ffff:10.0.2.2",
        "::ffff:0:127.0.0.1",
        "fe80::2",
        "ff02::1",
    ] {
        assert!(!sent(address), "{address}");
    }
    assert!(sent("203.0.113.1") && sent("2001:db8::1"), "others do");
}

#[test]
fn there_is_no_end_to_what_is_committed_at_once() {
    let mut lab = Lab::bare();
    lab.rules.commit().unwrap();
    let bridges = 300_u32;
    for number in 0..bridges {
        lab.rules
            .add_network(Network { bridge: format!("bridge{number}"), ..network(number.to_le_bytes()[0]) });
    }
    lab.rules.add_limit("bridge7", Limit { entries: entries(3000) });
    let many = 1000;
    let endpoint = |number: usize| Endpoint { host_interface: format!("v123456.{number:x}"), ..endpoint(1) };
    (0..many).for_each(|number| lab.rules.add_endpoint(endpoint(number)));
    lab.rules.commit().unwrap();
    let chains = lab.sh("nft list chains bridge");
    assert_eq!(chains.matches("chain of_v123456.").count(), many);
    // The last of several parts is refused.
    let before = lab.sh("nft list ruleset");
    (0..many).for_each(|number| lab.rules.remove_endpoint(&endpoint(number).host_interface));
    lab.rules.add_endpoint(Endpoint { host_interface: "no such \" interface".to_owned(), ..endpoint(1) });
    lab.rules.commit().unwrap_err();
    lab.rules.commit().unwrap();
    assert_eq!(sorted(&lab.sh("nft list ruleset")), sorted(&before));
}

fn entries(count: u32) -> Vec<Entry> {
    let range = |number: u32| IpNet::from(IpAddr::from(Ipv4Addr::from(0x0b00_0000 + number)));
    (0..count).map(|n| Entry { range: Some(range(n)), protocols: None, ports: None }).collect()
}

fn sorted(rules: &str) -> Vec<String> {
    let mut words: Vec<String> =
        rules.split([',', '\n', '{', '}']).map(|word| word.trim().to_owned()).collect();
    words.sort();
    words
}
