//! The rules in the kernel: a namespace with bridges, containers as namespaces beside it, and raw sockets in those.
//!
//! They need unshare and nsenter (util-linux), ip (iproute2), nft (nftables) and python3.

use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::process::{Child, Command, Output, Stdio};

use super::*;

const FRAMES: &str = include_str!("tests_frames.py");

/// A shared namespace with two isolated networks, `b0` with the containers `one` and `two`, `b1` with `three`, and
/// the uplink `up0`, at whose other end is a namespace `world` with 203.0.113.1.
pub struct Lab {
    pub holder: Child,
    others: Vec<(&'static str, Child)>,
    pub rules: Rules,
}

pub const MACS: [&str; 3] = ["02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"];

fn ready(mut command: Command) -> Child {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("util-linux");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

pub fn enter(pid: u32, words: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--preserve-credentials", "-U", "-n", "-t", &pid.to_string(), "--"]).args(words);
    command
}

pub fn uplinks() -> Uplinks {
    let uplink = |interface: &str, ranges: &[&str]| Uplink {
        interface: interface.to_owned(),
        ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
    };
    Uplinks {
        interfaces: vec![uplink("up0", &["10.0.2.0/24", "fd00::/64"]), uplink("up1", &["10.0.3.0/24"])],
        host_loopback: Some(HostLoopback { interface: "up1".to_owned(), address: [10, 0, 3, 2].into() }),
    }
}

pub fn network(number: u8) -> Network {
    let gateways =
        vec![format!("10.88.{number}.1").parse().unwrap(), format!("fd88:{number}::1").parse().unwrap()];
    let bridge = format!("b{number}");
    Network { bridge, gateways, internal: false, isolated: true, host_loopback: false }
}

pub fn endpoint(number: usize) -> Endpoint {
    let (bridge, host) = if number < 3 { (0, number + 1) } else { (1, 2) };
    let addresses = vec![
        format!("10.88.{bridge}.{host}").parse().unwrap(),
        format!("fd88:{bridge}::{host}").parse().unwrap(),
    ];
    Endpoint {
        host_interface: format!("v{number}"),
        mac_address: MACS[number - 1].parse().unwrap(),
        addresses,
    }
}

impl Lab {
    pub fn bare() -> Self {
        let mut command = Command::new("unshare");
        let script = "ip link set lo up; sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 \
                      net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0; echo ready; exec cat";
        command.args(["--user", "--map-root-user", "--net", "sh", "-ec", script]);
        let holder = ready(command);
        let pid = holder.id().to_string();
        let nft = Nft::through(&["nsenter", "--preserve-credentials", "-U", "-n", "-t", &pid, "--", "nft"]);
        Self { holder, others: Vec::new(), rules: Rules::new(nft, uplinks()) }
    }

    pub fn new() -> Self {
        let mut lab = Self::bare();
        // Else br_netfilter, where the host has it loaded, would filter bridged packets a second time.
        lab.sh("for file in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $file ] || echo 0 >$file; done");
        for bridge in ["b0", "b1"] {
            let number = &bridge[1..];
            lab.sh(&format!(
                "ip link add {bridge} type bridge; ip link set {bridge} up; ip addr add 10.88.{number}.1/24 dev {bridge}; \
                 ip -6 addr add fd88:{number}::1/64 dev {bridge} nodad"
            ));
        }
        for (index, name) in ["one", "two", "three"].into_iter().enumerate() {
            let (number, mac) = (index + 1, MACS[index]);
            let Endpoint { host_interface, addresses, .. } = endpoint(number);
            let bridge = if number < 3 { "b0" } else { "b1" };
            let gateway = &bridge[1..];
            let pid = lab.namespace(name);
            lab.sh(&format!(
                "ip link add {host_interface} type veth peer name eth0 address {mac} netns {pid}; \
                 ip link set {host_interface} master {bridge} up"
            ));
            lab.inside(
                name,
                &format!(
                    "ip link set eth0 up; ip addr add {}/24 dev eth0; ip -6 addr add {}/64 dev eth0 nodad; \
                     ip route add default via 10.88.{gateway}.1; ip -6 route add default via fd88:{gateway}::1",
                    addresses[0], addresses[1]
                ),
            );
        }
        let pid = lab.namespace("world");
        for uplink in ["up0", "up1"] {
            lab.sh(&format!(
                "ip link add {uplink} type veth peer name {uplink} netns {pid}; ip link set {uplink} up"
            ));
        }
        lab.inside(
            "world",
            "ip link set up0 up; ip link set up1 up; ip addr add 10.0.2.2/24 dev up0; ip addr add 10.0.3.2/24 dev up1; \
             ip addr add 203.0.113.1/32 dev lo; ip -6 addr add fd00::2/64 dev up0 nodad; ip -6 addr add 2001:db8::1/128 dev lo",
        );
        lab.sh(
            "ip addr add 10.0.2.100/24 dev up0; ip -6 addr add fd00::100/64 dev up0 nodad; \
             ip addr add 10.0.3.100/24 dev up1; ip route add default via 10.0.2.2; ip -6 route add default via fd00::2",
        );
        lab.rules.add_network(network(0));
        lab.rules.add_network(network(1));
        for number in 1..=3 {
            lab.rules.add_endpoint(endpoint(number));
        }
        lab.rules.commit().unwrap();
        lab
    }

    /// A network namespace of the lab's user namespace.
    fn namespace(&mut self, name: &'static str) -> u32 {
        let script = "ip link set lo up; sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0; \
                      echo ready; exec cat";
        let child = ready(enter(self.holder.id(), &["unshare", "-n", "sh", "-ec", script]));
        let pid = child.id();
        self.others.push((name, child));
        pid
    }

    pub fn pid(&self, name: &str) -> u32 {
        self.others.iter().find(|(one, _)| *one == name).unwrap().1.id()
    }

    pub fn sh(&self, script: &str) -> String {
        succeeded(script, &enter(self.holder.id(), &["sh", "-ec", script]).output().unwrap())
    }

    pub fn inside(&self, name: &str, script: &str) -> String {
        succeeded(script, &enter(self.pid(name), &["sh", "-ec", script]).output().unwrap())
    }

    /// Listens where `place` is (None: the shared namespace) until `during` is over, and says what came.
    pub fn heard(&self, place: Option<&str>, words: &[&str], during: impl FnOnce(&Self)) -> Vec<String> {
        let pid = place.map_or(self.holder.id(), |name| self.pid(name));
        let mut listener = ready(enter(pid, &[&["python3", "-c", FRAMES, "listen"], words].concat()));
        during(self);
        // Everything is local: what was let through is there when its sender has ended.
        std::thread::sleep(std::time::Duration::from_millis(150));
        drop(listener.stdin.take());
        let output = listener.wait_with_output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    pub fn python(&self, name: &str, words: &[&str]) -> String {
        let words = [&["python3", "-c", FRAMES], words].concat();
        succeeded(&words[3..].join(" "), &enter(self.pid(name), &words).output().unwrap())
    }

    /// How an attempt to connect to a TCP port ends: `connected`, `refused` (also by ICMP) or `silence`.
    pub fn connect(&self, name: &str, address: &str, port: &str) -> String {
        self.python(name, &["connect", address, port]).trim().to_owned()
    }

    fn pings(&self, name: &str, address: &str) -> bool {
        let words = ["ping", "-n", "-c1", "-W1", address];
        enter(self.pid(name), &words).output().unwrap().status.success()
    }

    /// Whether `two` sees a frame that `one` sends. The words say what is forged.
    fn passes(&self, frame: &[&str]) -> bool {
        let mark = format!("mark-{}", frame.join("_"));
        let heard = self.heard(Some("two"), &["eth0"], |lab| {
            lab.python("one", &[&["send", "eth0", &mark], frame].concat());
        });
        heard.contains(&mark)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for child in self.others.iter_mut().map(|(_, child)| child).chain([&mut self.holder]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn succeeded(script: &str, output: &Output) -> String {
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn frames_that_say_who_sent_them_pass() {
    let lab = Lab::new();
    for frame in [
        &["ip"][..],
        &["ip6"],
        &["arp"],
        &["arp", "sender_ip=0.0.0.0"],
        &["na"],
        &["ns"],
        &["ns", "source=::", "target=fd88:0::2"],
        &["ip6", "source=fe80::ff:fe00:1"],
    ] {
        assert!(lab.passes(frame), "{frame:?}");
    }
}

#[test]
fn nothing_passes_under_the_name_of_another() {
    let lab = Lab::new();
    for frame in [
        &["ip", "mac=02:00:00:00:00:02"][..],
        &["ip", "mac=02:00:00:00:00:09"],
        &["ip", "source=10.88.0.3"],
        &["ip", "source=10.88.0.1"],
        &["ip", "source=10.88.1.2"],
        &["ip", "source=0.0.0.0"],
        &["ip6", "source=fd88:0::3"],
        &["ip6", "source=fd88:0::1"],
        &["ip6", "source=fe80::1"],
        &["ip6", "source=::"],
        &["arp", "sender_ip=10.88.0.3"],
        &["arp", "sender_ip=10.88.0.1"],
        &["arp", "operation=2", "sender_ip=10.88.0.1"],
        &["arp", "operation=2", "sender_ip=0.0.0.0"],
        &["arp", "sender_mac=02:00:00:00:00:02"],
        &["arp", "sender_ip=0.0.0.0", "sender_mac=02:00:00:00:00:02"],
        &["arp", "mac=02:00:00:00:00:02"],
        &["na", "target=fd88:0::3"],
        &["na", "target=fd88:0::1"],
        &["na", "source=fd88:0::3", "target=fd88:0::2"],
        &["na", "target=fe80::ff:fe00:2"],
        &["ns", "source=fd88:0::3"],
        &["ns", "source=::", "target=fd88:0::3"],
    ] {
        assert!(!lab.passes(frame), "{frame:?}");
    }
}

#[test]
fn nobody_plays_router_or_hides_a_packet_in_a_tag() {
    let lab = Lab::new();
    for frame in [
        &["ra"][..],
        &["ra", "source=fe80::ff:fe00:1"],
        &["redirect"],
        &["dhcp"],
        &["dhcp6"],
        &["ip", "vlan=0"],
        &["ip", "vlan=5"],
        &["ip", "vlan=0", "source=10.88.0.3"],
        &["other"],
    ] {
        assert!(!lab.passes(frame), "{frame:?}");
    }
    assert!(lab.passes(&["udp", "ports=1067"]), "the server of DHCP is told by its port");
}

#[test]
fn a_port_passes_nothing_before_it_is_known_and_after_it_is_gone() {
    let mut lab = Lab::new();
    assert!(lab.passes(&["ip"]));
    lab.rules.remove_endpoint("v1");
    lab.rules.commit().unwrap();
    for frame in ["ip", "ip6", "arp"] {
        assert!(!lab.passes(&[frame]), "{frame}");
    }
    lab.rules.add_endpoint(endpoint(1));
    lab.rules.commit().unwrap();
    assert!(lab.passes(&["ip"]) && lab.passes(&["na"]));
}

#[test]
fn members_of_a_network_reach_each_other_and_no_other_network() {
    let lab = Lab::new();
    for address in ["10.88.0.3", "fd88:0::3", "10.88.0.1", "fd88:0::1"] {
        assert!(lab.pings("one", address), "{address}");
    }
    for address in ["10.88.1.2", "fd88:1::2", "10.88.1.1", "fd88:1::1", "10.0.2.100"] {
        assert!(!lab.pings("one", address), "{address}");
    }
    lab.sh("for file in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $file ] || echo 1 >$file; done");
    assert!(
        lab.pings("one", "10.88.0.3") && lab.pings("one", "fd88:0::3"),
        "also where br_netfilter looks at it"
    );
}

#[test]
fn networks_that_are_not_isolated_reach_each_other() {
    let mut lab = Lab::new();
    let open = |number| Network { isolated: false, ..network(number) };
    lab.rules.add_network(open(0));
    lab.rules.commit().unwrap();
    assert!(!lab.pings("one", "10.88.1.2"), "only one of the two is open");
    lab.rules.add_network(open(1));
    lab.rules.commit().unwrap();
    assert!(lab.pings("one", "10.88.1.2") && lab.pings("three", "fd88:0::2"));
    lab.rules.add_network(network(1));
    lab.rules.commit().unwrap();
    assert!(!lab.pings("one", "10.88.1.2") && !lab.pings("three", "fd88:0::2"));
}

#[test]
fn the_world_is_reached_with_the_address_of_the_uplink() {
    let lab = Lab::new();
    for (address, seen) in [("203.0.113.1", "10.0.2.100"), ("2001:db8::1", "fd00::100")] {
        let heard = lab.heard(Some("world"), &["tcp", address, "80"], |lab| {
            assert_eq!(lab.connect("one", address, "80"), "connected");
        });
        assert_eq!(heard, [seen]);
    }
}

#[test]
fn an_internal_network_reaches_nothing_outside() {
    let mut lab = Lab::new();
    assert!(lab.pings("one", "203.0.113.1"));
    lab.rules.add_network(Network { internal: true, ..network(0) });
    lab.rules.commit().unwrap();
    assert!(!lab.pings("one", "203.0.113.1") && !lab.pings("one", "2001:db8::1"));
    assert!(lab.pings("one", "10.88.0.3") && lab.pings("three", "203.0.113.1"));
    assert_eq!(lab.connect("one", "203.0.113.1", "80"), "refused", "and learns of it at once");
}

#[test]
fn the_uplinks_own_ranges_are_not_reached() {
    let lab = Lab::new();
    for address in ["10.0.2.2", "fd00::2", "10.0.3.2"] {
        lab.heard(Some("world"), &["tcp", address, "80"], |lab| {
            assert_eq!(lab.connect("one", address, "80"), "refused", "{address}");
        });
    }
}

#[test]
fn the_hosts_loopback_is_reached_where_it_was_asked_for() {
    let mut lab = Lab::new();
    lab.rules.add_network(Network { host_loopback: true, ..network(0) });
    lab.rules.commit().unwrap();
    lab.heard(Some("world"), &["tcp", "10.0.3.2", "80"], |lab| {
        assert_eq!(lab.connect("one", "10.0.3.2", "80"), "connected");
        assert_eq!(lab.connect("three", "10.0.3.2", "80"), "refused");
    });
    assert!(!lab.pings("one", "10.0.2.2"));
}

#[test]
fn of_the_namespace_only_the_name_server_is_reached() {
    let lab = Lab::new();
    for (port, outcome) in [("53", "connected"), ("80", "refused")] {
        lab.heard(None, &["tcp", "::", port], |lab| {
            for address in ["10.88.0.1", "fd88:0::1"] {
                assert_eq!(lab.connect("one", address, port), outcome, "{address} {port}");
            }
            for address in ["10.88.1.1", "fd88:1::1", "10.0.2.100"] {
                assert_eq!(lab.connect("one", address, port), "refused", "{address} {port}");
            }
        });
    }
    for (port, served) in [("53", true), ("5353", false)] {
        let heard = lab.heard(None, &["udp", "10.88.0.1", port], |lab| {
            lab.python("one", &["datagram", "10.88.0.1", port, "question"]);
        });
        assert_eq!(!heard.is_empty(), served, "{port}");
    }
}

#[test]
fn a_transparent_socket_talks_under_the_address_of_a_client() {
    let lab = Lab::new();
    lab.sh("ip rule add fwmark 1 lookup 100; ip route add local default dev lo table 100; \
            ip -6 rule add fwmark 1 lookup 100; ip -6 route add local default dev lo table 100");
    for (client, server) in [("198.51.100.7", "10.88.0.2"), ("2001:db8:7::7", "fd88:0::2")] {
        let heard = lab.heard(Some("one"), &["tcp", server, "80"], |lab| {
            let words = ["python3", "-c", FRAMES, "transparent", client, server, "80"];
            let said = succeeded("transparent", &enter(lab.holder.id(), &words).output().unwrap());
            assert_eq!(said, "connected\n", "{client}");
        });
        assert_eq!(heard, [client]);
    }
}

#[test]
fn a_list_limits_a_network_to_addresses_protocols_and_ports() {
    use crate::network::Protocol::{Tcp, Udp};
    let mut lab = Lab::new();
    let limit = Limit {
        entries: vec![
            Entry { range: None, protocols: Some(vec![Tcp]), ports: Some((80, 81)) },
            Entry {
                range: Some("203.0.113.2/32".parse().unwrap()),
                protocols: Some(vec![Tcp, Udp]),
                ports: Some((443, 443)),
            },
            Entry { range: Some("203.0.113.3/32".parse().unwrap()), protocols: None, ports: None },
        ],
    };
    lab.inside("world", "ip addr add 203.0.113.2/32 dev lo; ip addr add 203.0.113.3/32 dev lo");
    lab.rules.add_limit("b0", limit);
    lab.rules.commit().unwrap();
    let connect = |lab: &Lab, address: &str, port: &str| {
        let mut outcome = String::new();
        lab.heard(Some("world"), &["tcp", "::", port], |lab| outcome = lab.connect("one", address, port));
        outcome
    };
    assert_eq!(connect(&lab, "203.0.113.1", "80"), "refused", "the name has no address yet");
    let answer: Vec<IpAddr> = vec!["203.0.113.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    lab.rules.allow("b0", 0, &answer, 60);
    lab.rules.commit().unwrap();
    lab.rules.allow("b0", 0, &answer, 90);
    lab.rules.commit().unwrap();
    assert!(lab.sh("nft list set inet sbx to_b0_0_4").contains("timeout 1m30s"), "the later answer counts");
    for (address, port, outcome) in [
        ("203.0.113.1", "80", "connected"),
        ("203.0.113.1", "81", "connected"),
        ("2001:db8::1", "80", "connected"),
        ("203.0.113.1", "82", "refused"),
        ("203.0.113.2", "443", "connected"),
        ("203.0.113.2", "80", "refused"),
        ("203.0.113.3", "7", "connected"),
        ("203.0.113.3", "53", "refused"),
    ] {
        assert_eq!(connect(&lab, address, port), outcome, "{address} {port}");
    }
    assert!(lab.pings("one", "203.0.113.3") && !lab.pings("one", "203.0.113.2"));
    assert!(lab.pings("three", "203.0.113.2"), "another network is not limited");
    lab.rules.remove_limit("b0");
    lab.rules.commit().unwrap();
    assert_eq!(connect(&lab, "203.0.113.2", "80"), "connected");
    assert!(!lab.sh("nft list ruleset").contains("to_b0"), "nothing is left of the list");
}

#[test]
fn a_refused_transaction_changes_nothing_and_says_why() {
    let mut lab = Lab::new();
    let before = lab.sh("nft list ruleset");
    lab.rules.add_network(Network { bridge: "b7".to_owned(), ..network(7) });
    lab.rules.add_endpoint(Endpoint { host_interface: "no such \" interface".to_owned(), ..endpoint(1) });
    let error = lab.rules.commit().unwrap_err();
    assert!(error.to_string().contains("nft: "), "{error}");
    assert_eq!(lab.sh("nft list ruleset"), before);
    assert!(lab.rules.is_settled());
    lab.rules.remove_network("b7");
    assert!(lab.rules.is_settled(), "what was refused is not there to be removed");
}

#[test]
fn what_is_added_and_removed_leaves_the_base() {
    let mut lab = Lab::bare();
    lab.rules.commit().unwrap();
    let base = lab.sh("nft list ruleset");
    assert!(base.contains("table bridge sbx"));
    for number in 0..2 {
        lab.rules.add_network(Network { isolated: false, host_loopback: true, ..network(number) });
    }
    for number in 1..=3 {
        lab.rules.add_endpoint(endpoint(number));
    }
    lab.rules.commit().unwrap();
    assert_ne!(lab.sh("nft list ruleset"), base);
    for number in 1..=3 {
        lab.rules.remove_endpoint(&format!("v{number}"));
    }
    lab.rules.remove_network("b0");
    lab.rules.remove_network("b1");
    lab.rules.commit().unwrap();
    assert_eq!(lab.sh("nft list ruleset"), base);
}
