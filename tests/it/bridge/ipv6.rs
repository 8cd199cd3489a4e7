//! Networks with IPv6.

use super::Place;
use crate::harness::sbx;

#[test]
fn a_network_can_have_addresses_of_both_families() {
    let world = sbx();
    let place = Place::new(&world);
    place.create(&["--ipv6", "shop"]);
    let network = place.document(&["network", "inspect", "shop"]);
    let subnets = network["IPAM"]["Config"].as_array().expect("subnets").clone();
    let subnets: Vec<&str> = subnets.iter().filter_map(|subnet| subnet["Subnet"].as_str()).collect();
    assert!(subnets.iter().any(|subnet| subnet.starts_with("10.")), "{network}");
    assert!(subnets.iter().any(|subnet| subnet.starts_with("fd") && subnet.ends_with("/64")), "{network}");
    assert_eq!(network["EnableIPv6"], true);

    let server = place.server("server", &["--network=shop"], &["tcp:*:7000", "udp:*:7000", "who:*:7001"]);
    let client = place.sleeper("client", &["--network=shop"]);
    let endpoint = server.endpoint("shop");
    let address = endpoint["GlobalIPv6Address"].as_str().expect("an address");
    assert_eq!(endpoint["GlobalIPv6PrefixLen"], 64);
    assert!(endpoint["IPv6Gateway"].as_str().is_some_and(|gateway| gateway.starts_with("fd")), "{endpoint}");
    assert_eq!(client.ask("server", "AAAA"), format!("NOERROR {address}"));
    assert_eq!(client.ask("server", "A"), format!("NOERROR {}", server.address("shop")));
    for how in ["tcp", "udp"] {
        assert_eq!(client.peer(&[how, address, "7000", "60000"]), "whole", "{how}");
    }
    let own = client.endpoint("shop")["GlobalIPv6Address"].clone();
    assert_eq!(client.peer(&["who", address, "7001"]), own.as_str().expect("an address"));
    client.exec(&["ping", "-6", "-c", "1", "-W", "2", "server"]).expect_code(0);
    // Usable at once: nobody waits for a duplicate that cannot be.
    let first = place.run(&["--rm", "--network=shop"], &["ip", "-6", "-o", "address", "show", "dev", "eth0"]);
    let first = first.expect_code(0).stdout();
    assert!(first.contains(" fd") && !first.contains("tentative"), "{first}");
}

#[test]
fn addresses_of_ipv6_are_as_asked() {
    let world = sbx();
    let place = Place::new(&world);
    place.create(&[
        "--subnet=fd12:3456:789a::/64",
        "--subnet=10.210.3.0/24",
        "--gateway=fd12:3456:789a::99",
        "shop",
    ]);
    let web = place.sleeper("web", &["--network=shop", "--ip6=fd12:3456:789a::42", "--ip=10.210.3.42"]);
    assert_eq!(web.endpoint("shop")["GlobalIPv6Address"], "fd12:3456:789a::42");
    assert_eq!(web.address("shop"), "10.210.3.42");
    assert_eq!(
        web.ask("2.4.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.a.9.8.7.6.5.4.3.2.1.d.f.ip6.arpa", "PTR"),
        "NOERROR web"
    );
    let route = web.sh("ip -6 route | grep ^default").succeed();
    assert!(route.contains("via fd12:3456:789a::99"), "{route}");
}

#[test]
fn a_network_without_ipv6_has_none() {
    let world = sbx();
    let place = Place::new(&world);
    place.create(&["shop"]);
    let web = place.sleeper("web", &["--network=shop"]);
    let global = web.sh("ip -6 -o address show dev eth0 scope global").succeed();
    assert_eq!(global, "");
    let refused = place.run(&["--network=shop", "--ip6=fd12::5"], &["true"]);
    refused.expect_code(125).stderr_has("fd12::5");
}
