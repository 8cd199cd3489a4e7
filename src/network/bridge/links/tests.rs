//! The real kernel, as any user: each test runs this binary again in a user and network namespace of its own, with
//! containers whose user namespaces are below that. Needs unshare, nsenter, ip and ping.

use std::env;
use std::fs::{self, File};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;

const INSIDE: &str = "SBX_TEST_IN_NAMESPACE";
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs `body` in new namespaces, whose only thread but the test harness' own it has.
fn in_namespace(test: &str, body: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        return body();
    }
    let (_, module) = module_path!().split_once("::").expect("a module of the crate");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--"])
        .arg(env::current_exe().expect("the test's binary"))
        .args(["--exact", &format!("{module}::{test}"), "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output()
        .expect("this test needs `unshare` (util-linux) and user namespaces");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A process in a user namespace below the present one, with a network namespace of its own.
struct Container {
    process: Child,
    network: File,
}

impl Container {
    fn new() -> Self {
        let process = Command::new("unshare")
            .args(["--user", "--map-root-user", "--net", "sleep", "60"])
            .spawn()
            .expect("a namespace in a namespace");
        let comm = format!("/proc/{}/comm", process.id());
        eventually("container", || fs::read_to_string(&comm).is_ok_and(|name| name.trim() == "sleep"));
        let network = File::open(format!("/proc/{}/ns/net", process.id())).expect("its namespace");
        Self { process, network }
    }

    /// With what a container's first process does before it is plugged in.
    fn set_up() -> Self {
        let container = Self::new();
        container.run(&["ip", "link", "set", "lo", "up"]);
        container.run(&["sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad"]);
        container
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        let target = self.process.id().to_string();
        command.args(["--target", &target, "--user", "--net", "--preserve-credentials", "--"]).args(words);
        command
    }

    fn run(&self, words: &[&str]) -> String {
        done(self.command(words), words)
    }

    fn pings(&self, address: &str) -> bool {
        let words = ["ping", "-n", "-c", "1", "-W", "1", address];
        self.command(&words).stdout(Stdio::null()).status().expect("this test needs `ping`").success()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn ip(words: &[&str]) -> Value {
    let mut command = Command::new("ip");
    command.args(words);
    serde_json::from_str(&done(command, words)).expect("JSON")
}

fn done(mut command: Command, words: &[&str]) -> String {
    let output = command.output().expect("a program of iproute2, util-linux or iputils");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "no {what} after {PATIENCE:?}");
        sleep(Duration::from_millis(5));
    }
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().expect(text)).collect()
}

fn router() -> Links {
    let mut links = Links::open().expect("netlink");
    links.prepare().expect("a router");
    links
}

const GATEWAYS: [&str; 2] = ["10.89.0.1/24", "fd12:3456:789a::1/64"];

/// A router with the bridge `sbx0`.
fn bridged() -> Links {
    let mut links = router();
    links
        .make_bridge(&Bridge { name: "sbx0", mtu: 65520, addresses: &nets(&GATEWAYS) })
        .expect("this test needs a kernel with bridges and IPv6");
    links
}

/// The station with this number in the network of `sbx0`.
struct Station {
    host_interface: String,
    mac: MacAddress,
    addresses: Vec<IpNet>,
    gateways: Vec<IpAddr>,
}

impl Station {
    fn new(number: u8) -> Self {
        Self {
            host_interface: format!("v0123abcd{number}"),
            mac: MacAddress([2, 0x42, 10, 89, 0, number]),
            addresses: nets(&[&format!("10.89.0.{number}/24"), &format!("fd12:3456:789a::{number}/64")]),
            gateways: nets(&GATEWAYS).iter().map(IpNet::addr).collect(),
        }
    }

    fn plug(&self) -> Plug<'_> {
        Plug {
            host_interface: &self.host_interface,
            bridge: "sbx0",
            interface: "eth0",
            mac: self.mac,
            mtu: 65520,
            neighbours_mtu: Some(1500),
            addresses: &self.addresses,
            gateways: &self.gateways,
            metric: 100,
        }
    }

    fn into(self, links: &mut Links, container: &Container) -> Self {
        links.plug(container.network.as_fd(), &self.plug()).expect("plugged in");
        self
    }
}

/// The number of interfaces but the loopback one.
fn interfaces_here() -> usize {
    ip(&["-j", "link"]).as_array().expect("a list").len() - 1
}

#[test]
fn containers_reach_each_other_and_the_gateway_with_the_first_packet() {
    in_namespace("containers_reach_each_other_and_the_gateway_with_the_first_packet", || {
        let mut links = bridged();
        let (one, two) = (Container::set_up(), Container::set_up());
        let _one = Station::new(2).into(&mut links, &one);
        let _two = Station::new(3).into(&mut links, &two);
        for address in ["10.89.0.3", "fd12:3456:789a::3", "10.89.0.1", "fd12:3456:789a::1"] {
            assert!(one.pings(address), "{address}");
        }
        assert!(two.pings("fd12:3456:789a::2"));
        // The other way round, too; whoever asks in vain for an address asks again after a second.
        let three = Container::set_up();
        let socket = UdpSocket::bind("10.89.0.1:0").expect("a socket");
        let _three = Station::new(4).into(&mut links, &three);
        let start = Instant::now();
        socket.send_to(b"x", "10.89.0.4:7").expect("sent");
        let came = "grep -q '^Udp: [0-9]* [1-9]' /proc/net/snmp";
        eventually("datagram", || three.command(&["sh", "-c", came]).status().is_ok_and(|s| s.success()));
        assert!(start.elapsed() < Duration::from_millis(900));
    });
}

#[test]
fn a_container_has_what_was_asked_for() {
    in_namespace("a_container_has_what_was_asked_for", || {
        let mut links = bridged();
        let container = Container::set_up();
        let _station = Station::new(2).into(&mut links, &container);
        let json = |words: &[&str]| -> Value { serde_json::from_str(&container.run(words)).expect("JSON") };
        let found = json(&["ip", "-j", "-d", "addr", "show", "eth0"]);
        let found = &found[0];
        assert_eq!(found["address"], "02:42:0a:59:00:02");
        assert_eq!(found["mtu"], 65520);
        assert_eq!(found["operstate"], "UP");
        let global: Vec<String> = found["addr_info"]
            .as_array()
            .expect("addresses")
            .iter()
            .filter(|address| address["scope"] == "global")
            .map(|address| {
                assert_ne!(address["tentative"], true);
                format!("{}/{}", address["local"].as_str().expect("text"), address["prefixlen"])
            })
            .collect();
        assert_eq!(global, ["10.89.0.2/24", "fd12:3456:789a::2/64"]);
        assert_eq!(found["addr_info"][0]["broadcast"], "10.89.0.255");
        for (family, gateway) in [("-4", "10.89.0.1"), ("-6", "fd12:3456:789a::1")] {
            let routes = json(&["ip", "-j", family, "route", "show", "default"]);
            assert_eq!(routes[0]["gateway"], gateway);
            assert_eq!(routes[0]["metric"], 100);
            assert_eq!(routes.as_array().map(Vec::len), Some(1), "{routes}");
        }
        let neighbours = [("10.89.0.3", "10.89.0.2"), ("fd12:3456:789a::3", "fd12:3456:789a::2")];
        for (neighbour, source) in neighbours {
            let way = &json(&["ip", "-j", "route", "get", neighbour])[0];
            assert_eq!((&way["prefsrc"], &way["metrics"][0]["mtu"]), (&json!(source), &json!(1500)), "{way}");
        }
        for further in ["10.89.0.1", "192.0.2.1", "fd12:3456:789a::1", "2001:db8::1"] {
            let way = &json(&["ip", "-j", "route", "get", further])[0];
            assert_eq!((&way["dev"], &way["metrics"]), (&json!("eth0"), &Value::Null), "{way}");
        }
        let names = interfaces(container.network.as_fd()).expect("names");
        assert_eq!(names, ["lo", "eth0"]);
        let port = &ip(&["-j", "-d", "link", "show", "v0123abcd2"])[0];
        assert_eq!(port["master"], "sbx0");
        assert_eq!(port["linkinfo"]["info_slave_data"]["state"], "forwarding");
        assert_eq!(port["linkinfo"]["info_slave_data"]["hairpin"], false);
        let addresses = &ip(&["-j", "addr", "show", "v0123abcd2"])[0]["addr_info"];
        assert_eq!(addresses.as_array().map(Vec::len), Some(0), "{addresses}");
    });
}

#[test]
fn a_bridge_may_be_made_twice_and_keeps_its_ports_and_address() {
    in_namespace("a_bridge_may_be_made_twice_and_keeps_its_ports_and_address", || {
        let mut links = bridged();
        let container = Container::set_up();
        let before = ip(&["-j", "-d", "addr", "show", "sbx0"]);
        let _station = Station::new(2).into(&mut links, &container);
        links
            .make_bridge(&Bridge { name: "sbx0", mtu: 1400, addresses: &nets(&GATEWAYS) })
            .expect("the same bridge");
        let after = ip(&["-j", "-d", "addr", "show", "sbx0"]);
        let (before, after) = (&before[0], &after[0]);
        assert_eq!(before["address"], after["address"]);
        assert_eq!((&before["mtu"], &after["mtu"]), (&65520.into(), &1400.into()));
        let data = &after["linkinfo"]["info_data"];
        assert_eq!(data["mcast_snooping"], 0);
        assert_eq!(data["stp_state"], 0);
        assert_eq!(data["forward_delay"], 0);
        let global = after["addr_info"].as_array().expect("addresses").iter();
        assert_eq!(global.filter(|address| address["scope"] == "global").count(), 2);
        assert!(container.pings("10.89.0.1"));
        assert!(links.is_up("sbx0").expect("an answer"));
        links.remove_bridge("sbx0").expect("removed");
        links.remove_bridge("sbx0").expect("nothing to remove");
        assert!(!links.is_up("sbx0").expect("an answer"));
    });
}

#[test]
fn a_container_that_is_unplugged_may_be_plugged_in_again() {
    in_namespace("a_container_that_is_unplugged_may_be_plugged_in_again", || {
        let mut links = bridged();
        let container = Container::set_up();
        for _ in 0..2 {
            let station = Station::new(2).into(&mut links, &container);
            assert!(container.pings("10.89.0.1"));
            links.unplug(&station.host_interface).expect("unplugged");
            assert_eq!(interfaces(container.network.as_fd()).expect("names"), ["lo"]);
            links.unplug(&station.host_interface).expect("nothing to unplug");
        }
    });
}

#[test]
fn others_learn_at_once_that_an_address_has_moved() {
    in_namespace("others_learn_at_once_that_an_address_has_moved", || {
        let mut links = bridged();
        let (one, two, three) = (Container::set_up(), Container::set_up(), Container::set_up());
        let _one = Station::new(2).into(&mut links, &one);
        let before = Station::new(3).into(&mut links, &two);
        assert!(one.pings("10.89.0.3") && one.pings("fd12:3456:789a::3"));
        links.unplug(&before.host_interface).expect("unplugged");
        let mut moved = Station::new(3);
        moved.mac = MacAddress([2, 0x42, 1, 2, 3, 4]);
        let _moved = moved.into(&mut links, &three);
        assert!(one.pings("10.89.0.3") && one.pings("fd12:3456:789a::3"));
    });
}

#[test]
fn of_two_networks_the_first_gives_the_default_route_until_it_is_gone() {
    in_namespace("of_two_networks_the_first_gives_the_default_route_until_it_is_gone", || {
        let mut links = bridged();
        let addresses = nets(&["10.89.1.1/24", "fd12:3456:789b::1/64"]);
        links.make_bridge(&Bridge { name: "sbx1", mtu: 1500, addresses: &addresses }).expect("a bridge");
        let container = Container::set_up();
        let second = Station {
            addresses: nets(&["10.89.1.7/24", "fd12:3456:789b::7/64"]),
            gateways: addresses.iter().map(IpNet::addr).collect(),
            ..Station::new(7)
        };
        let second = Plug { bridge: "sbx1", interface: "eth1", metric: 101, ..second.plug() };
        links.plug(container.network.as_fd(), &second).expect("plugged in");
        let first = Station::new(2).into(&mut links, &container);
        let way = |address| {
            let route = container.run(&["ip", "-j", "route", "get", address]);
            serde_json::from_str::<Value>(&route).expect("JSON")[0]["dev"].clone()
        };
        assert_eq!((way("192.0.2.1"), way("2001:db8::1")), ("eth0".into(), "eth0".into()));
        links.unplug(&first.host_interface).expect("unplugged");
        assert_eq!((way("192.0.2.1"), way("2001:db8::1")), ("eth1".into(), "eth1".into()));
    });
}

#[test]
fn a_refused_plug_says_why_and_leaves_nothing() {
    in_namespace("a_refused_plug_says_why_and_leaves_nothing", || {
        let mut links = bridged();
        let container = Container::set_up();
        let station = Station::new(2);
        let here = interfaces_here();
        let mut refused = |plug: Plug<'_>, part: &str| {
            let error = links.plug(container.network.as_fd(), &plug).expect_err(part);
            assert!(error.to_string().contains(part), "{error}");
            assert_eq!(interfaces_here(), here, "{part}");
            assert_eq!(interfaces(container.network.as_fd()).expect("names"), ["lo"], "{part}");
        };
        refused(Plug { bridge: "sbx9", ..station.plug() }, "No such device");
        refused(Plug { interface: "lo", ..station.plug() }, "already");
        refused(Plug { host_interface: "sbx0", ..station.plug() }, "already");
        refused(Plug { interface: "a/b", ..station.plug() }, "`a/b`");
        refused(Plug { interface: "more-than-fifteen", ..station.plug() }, "`more-than-fifteen`");
        let twice = [station.addresses[0], station.addresses[0]];
        refused(Plug { addresses: &twice, ..station.plug() }, "10.89.0.2/24");
        let elsewhere = ["192.0.2.1".parse().expect("an address")];
        refused(Plug { gateways: &elsewhere, ..station.plug() }, "192.0.2.1");
        let file = File::open("/proc/self/ns/user").expect("a namespace of another kind");
        assert!(links.plug(file.as_fd(), &station.plug()).is_err());
        assert!(interfaces(file.as_fd()).is_err());
        assert_eq!(interfaces_here(), here);
    });
}

#[test]
fn a_container_without_ipv6_is_plugged_in_without_it() {
    in_namespace("a_container_without_ipv6_is_plugged_in_without_it", || {
        let mut links = bridged();
        let container = Container::set_up();
        container.run(&["sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6"]);
        container.run(&["sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6"]);
        let _station = Station::new(2).into(&mut links, &container);
        assert!(container.pings("10.89.0.1"));
        assert_eq!(container.run(&["ip", "-6", "addr"]), "");
    });
}

#[test]
fn the_calling_thread_stays_in_its_namespace() {
    in_namespace("the_calling_thread_stays_in_its_namespace", || {
        let own = || fs::read_link("/proc/thread-self/ns/net").expect("a link");
        let before = own();
        let container = Container::new();
        let inside = sys::net::within(container.network.as_fd(), own).expect("entered");
        assert_ne!(inside, before);
        assert_eq!(own(), before);
        // Also meanwhile: others look there for the namespace.
        let caller = format!("/proc/self/task/{}/ns/net", rustix::thread::gettid().as_raw_nonzero());
        let meanwhile =
            sys::net::within(container.network.as_fd(), || fs::read_link(&caller).expect("a link"));
        assert_eq!(meanwhile.expect("entered"), before);
        let panicked = std::panic::catch_unwind(|| {
            let _: Result<(), _> = sys::net::within(container.network.as_fd(), || panic!("on purpose"));
        });
        assert!(panicked.is_err());
        assert_eq!(own(), before);
    });
}

#[test]
fn packets_with_the_mark_are_for_this_namespace() {
    in_namespace("packets_with_the_mark_are_for_this_namespace", || {
        let mut links = router();
        links.prepare().expect("the same again");
        for family in ["-4", "-6"] {
            let rules = ip(&["-j", family, "rule"]);
            let ours = rules.as_array().expect("rules").iter().filter(|rule| rule["fwmark"] == "0x1");
            assert_eq!(ours.map(|rule| &rule["table"]).collect::<Vec<_>>(), ["100"], "{rules}");
        }
        for address in ["192.0.2.1", "2001:db8::1"] {
            let route = ip(&["-j", "route", "get", address, "mark", "1"]);
            assert_eq!((&route[0]["type"], &route[0]["dev"]), (&"local".into(), &"lo".into()));
        }
        for (sysctl, value) in [("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")] {
            assert_eq!(fs::read_to_string(format!("/proc/sys/net/{sysctl}")).expect(sysctl).trim(), value);
        }
        TcpListener::bind("[::1]:53").expect("a port below 1024");
    });
}

#[test]
fn routes_are_those_of_other_networks() {
    in_namespace("routes_are_those_of_other_networks", || {
        let mut links = router();
        assert_eq!(routes().expect("routes"), []);
        links
            .make_bridge(&Bridge { name: "sbx0", mtu: 1500, addresses: &nets(&GATEWAYS) })
            .expect("a bridge");
        for route in [
            &["add", "default", "via", "10.89.0.9"][..],
            &["add", "128.0.0.0/1", "via", "10.89.0.9"],
            &["add", "172.20.0.0/14", "via", "10.89.0.9", "table", "52"],
            &["add", "fd99::/48", "via", "fd12:3456:789a::9"],
        ] {
            let mut command = Command::new("ip");
            done(
                {
                    command.arg("route").args(route);
                    command
                },
                route,
            );
        }
        let expected = nets(&["10.89.0.0/24", "172.20.0.0/14", "fd12:3456:789a::/64", "fd99::/48"]);
        assert_eq!(routes().expect("routes"), expected);
    });
}

#[test]
fn plugging_in_takes_a_few_milliseconds_and_frames_go_through_at_once() {
    in_namespace("plugging_in_takes_a_few_milliseconds_and_frames_go_through_at_once", || {
        let mut links = bridged();
        let container = Container::set_up();
        let station = Station::new(2);
        let (mut in_times, mut out_times) = (Vec::new(), Vec::new());
        for _ in 0..20 {
            let start = Instant::now();
            links.plug(container.network.as_fd(), &station.plug()).expect("plugged in");
            in_times.push(start.elapsed());
            let port = links.socket.ask(message::get(&station.host_interface), 0).expect("an answer");
            assert!(read::has_carrier(&port[0]));
            let start = Instant::now();
            links.unplug(&station.host_interface).expect("unplugged");
            out_times.push(start.elapsed());
        }
        in_times.sort_unstable();
        out_times.sort_unstable();
        println!("plug {:?}, median {:?}; unplug median {:?}", in_times[0], in_times[10], out_times[10]);
        assert!(in_times[0] < Duration::from_millis(10), "{in_times:?}");
    });
}
