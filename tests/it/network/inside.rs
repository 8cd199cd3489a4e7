//! What a container finds inside: interfaces, files, names, and what its ordinary users may do.

use crate::harness::{Sbx, require, rootfs, sbx};

fn output(world: &Sbx, options: &[&str], script: &str) -> String {
    let root = rootfs().to_str().expect("a plain name");
    let run = world.run([&["--rm"], options, &["--rootfs", root, "sh", "-c", script]].concat());
    run.expect_code(0).stdout()
}

const PRIVATE: [&str; 3] = ["none", "slirp4netns", "pasta"];

#[test]
fn the_loopback_interface_is_always_up() {
    let world = sbx();
    for network in PRIVATE {
        let script = "ip -o address show dev lo | awk '{print $4}'; ping -c 1 -q 127.0.0.1 | grep -c ' 0% packet loss'; ping -6 -c 1 -q ::1 | grep -c ' 0% packet loss'";
        assert_eq!(output(&world, &["--net", network], script), "127.0.0.1/8\n::1/128\n1\n1\n", "{network}");
    }
}

#[test]
fn none_has_the_loopback_interface_alone() {
    let world = sbx();
    assert_eq!(output(&world, &["--net", "none"], "ls /sys/class/net; ip route"), "lo\n");
}

#[test]
fn the_default_is_a_private_network_with_a_way_out() {
    let world = sbx();
    let links = output(&world, &[], "ls /sys/class/net; ip route; readlink /proc/self/ns/net");
    assert!(links.starts_with("lo\ntap0\ndefault via 10.0.2.2 dev tap0"), "{links}");
    let own = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
    assert!(!links.contains(own.to_str().expect("text")), "{links}");
}

#[test]
fn slirp_has_addresses_of_both_families() {
    let world = sbx();
    for tier in ["range", "single"] {
        // The global one comes with the router's first word, a moment later.
        let script = "for i in $(seq 100); do ip -6 route | grep -q ^default && break; sleep 0.02; done; \
            ip -o address show dev tap0";
        let addresses = output(&world, &["--id-tier", tier], script);
        assert!(addresses.contains(" 10.0.2.100/24 ") && addresses.contains(" fd00::"), "{addresses}");
        assert!(!addresses.contains("tentative"), "{addresses}");
    }
    let without =
        output(&world, &["--net", "slirp4netns:enable_ipv6=false"], "ip -6 -o address show dev tap0");
    assert!(!without.contains("fd00::"), "{without}");
    let other =
        output(&world, &["--net", "slirp4netns:cidr=10.9.8.0/24,mtu=1400"], "ip address show dev tap0");
    assert!(other.contains("10.9.8.100/24") && other.contains("mtu 1400"), "{other}");
}

/// The host's ping without the capability that its file may have: it asks for an ICMP socket (icmp(7)).
fn ping_without_privilege(world: &Sbx) -> Vec<String> {
    let copy = world.work().join("ping");
    std::fs::copy(require("ping"), &copy).expect("a copy of ping");
    let shown = format!("{}:/ping:ro", copy.display());
    ["-v", "/usr:/usr:ro", "-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro", "-v", &shown]
        .map(str::to_owned)
        .into()
}

#[test]
fn nobody_needs_privileges_to_ping() {
    let world = sbx();
    let shown = ping_without_privilege(&world);
    let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
    let script =
        "for at in 127.0.0.1 ::1 10.0.2.2; do /ping -c 1 -q -W 2 $at | grep -c ' 0% packet loss'; done";
    for options in [
        &["--cap-drop", "all"][..],
        &["--cap-drop", "all", "--user", "1000"],
        &["--cap-drop", "all", "--user", "33:33"],
        &["--cap-drop", "all", "--userns", "keep-id"],
        &["--cap-drop", "all", "--id-tier", "single"],
    ] {
        assert_eq!(output(&world, &[options, &shown].concat(), script), "1\n1\n1\n", "{options:?}");
    }
}

#[test]
fn ordinary_users_listen_on_ports_below_1024() {
    let world = sbx();
    let script =
        "id -u; (echo hello | nc -l -p 80 -w 5 >/dev/null &) ; sleep 0.1; nc -w 5 127.0.0.1 80 </dev/null";
    for network in PRIVATE {
        let options = ["--net", network, "--user", "1000", "--cap-drop", "all"];
        assert_eq!(output(&world, &options, script), "1000\nhello\n", "{network}");
    }
}

#[test]
fn a_nested_map_has_the_default_network() {
    let world = sbx();
    let uid = nix::unistd::geteuid();
    let script = "id -u; ls /sys/class/net";
    assert_eq!(output(&world, &["--userns", "keep-id"], script), format!("{uid}\nlo\ntap0\n"));
    require("pasta");
    let pasta = output(&world, &["--userns", "keep-id", "--net", "pasta"], "ls /sys/class/net | wc -l");
    assert_eq!(pasta, "2\n");
}

#[test]
fn names_are_as_asked() {
    let world = sbx();
    let script =
        "hostname; cat /etc/hostname; cat /proc/sys/kernel/domainname; echo $HOSTNAME; grep box /etc/hosts";
    let options = ["--hostname", "box", "--domainname", "example.org", "--name", "names"];
    assert_eq!(output(&world, &options, script), "box\nbox\nexample.org\nbox\n10.0.2.100\tbox names\n");
    let own =
        output(&world, &["--net", "none"], "hostname; ping -c 1 -q $(hostname) | grep -c ' 0% packet loss'");
    let (name, rest) = own.split_once('\n').expect("two lines");
    assert!(name.len() == 12 && name.bytes().all(|byte| byte.is_ascii_hexdigit()), "{own}");
    assert_eq!(rest, "1\n", "its own name leads to itself");
}

#[test]
fn resolv_conf_is_as_asked() {
    let world = sbx();
    let options = [
        "--dns",
        "192.0.2.1",
        "--dns",
        "2001:db8::1",
        "--dns-search",
        "a.example",
        "--dns-search",
        "b.example",
        "--dns-option",
        "ndots:3",
        "--dns-option",
        "timeout:1",
    ];
    for network in PRIVATE {
        assert_eq!(
            output(&world, &[&["--net", network][..], &options].concat(), "cat /etc/resolv.conf"),
            "nameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch a.example b.example\noptions ndots:3 timeout:1\n"
        );
    }
    assert!(!output(&world, &["--dns-search", "."], "cat /etc/resolv.conf").contains("search"));
}

#[test]
fn hosts_are_as_asked() {
    let world = sbx();
    let options =
        ["--add-host", "db:192.0.2.5", "--add-host", "six:2001:db8::5", "--add-host", "up:host-gateway"];
    let script = "head -3 /etc/hosts; nslookup() { :; }; ping -c 1 -W 1 -q db | head -1";
    let text = output(&world, &options, script);
    assert!(text.starts_with("192.0.2.5\tdb\n2001:db8::5\tsix\n"), "{text}");
    assert!(text.contains("\tup\n") && text.contains("PING db (192.0.2.5)"), "{text}");
    assert_eq!(output(&world, &["--no-hosts"], "cat /etc/hosts"), "127.0.0.1 localhost\n", "the root's own");
}

#[test]
fn the_generated_files_can_be_changed_inside_and_belong_to_the_container() {
    let world = sbx();
    let script = "echo 192.0.2.9 new >>/etc/hosts && grep -c new /etc/hosts; id -u; stat -c %u /etc/hosts";
    assert_eq!(output(&world, &[], script), "1\n0\n0\n");
    assert!(!output(&world, &[], "cat /etc/hosts").contains("new"));
}

mod as_root {
    use super::super::outer::{FAR, Outer};
    use super::output;
    use crate::harness::{require_root, sbx};

    #[test]
    fn root_has_the_same_default_network() {
        require_root();
        let world = sbx();
        for (network, device) in [("slirp4netns", "tap0"), ("pasta", "eth0")] {
            let links = output(&world, &["--net", network], "ls /sys/class/net");
            assert!(
                links.contains("lo\n") && links.lines().count() == 2,
                "{network} makes {device}: {links}"
            );
        }
        let script = "ping -c 1 -q -W 2 10.0.2.2 | grep -c ' 0% packet loss'";
        assert_eq!(output(&world, &["--user", "0"], script), "1\n");
    }

    #[test]
    fn root_publishes_ports_below_1024() {
        require_root();
        let world = sbx();
        let outer = Outer::new(&world, FAR);
        for helper in ["slirp4netns", "pasta"] {
            let mut inside = outer.serve_inside(helper, &["-p", "80:8080"], &["tcp:*:8080"]);
            outer.peer(&["tcp", "127.0.0.1", "80"]).expect_code(0).stdout_is("whole\n");
            inside.close_stdin();
            inside.finish().code_is(0);
        }
    }
}
