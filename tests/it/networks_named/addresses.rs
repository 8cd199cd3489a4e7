//! The addresses of networks, and what containers ask of them.

use serde_json::{Value, json};

use super::{document, make, sleeper};
use crate::harness::{Sbx, sbx, sbx_by_all_names};

fn subnet(world: &Sbx, name: &str) -> String {
    world.sbx(["network", "inspect", "-f", "{{range .IPAM.Config}}{{.Subnet}} {{end}}", name]).succeed()
}

#[test]
fn a_network_has_what_was_asked_for() {
    let world = sbx();
    make(
        &world,
        &[
            "--subnet=10.210.0.0/24",
            "--gateway=10.210.0.254",
            "--ip-range=10.210.0.128/25",
            "--aux-address=printer=10.210.0.9",
            "--subnet=fd12:3456::/64",
            "--dns=192.0.2.53",
            "-o=com.docker.network.driver.mtu=1400",
            "--opt=isolate=false",
            "--interface-name=br-shop",
            "shop",
        ],
    );
    let shop = document(&world, &["network", "inspect", "shop"]);
    assert_eq!(
        shop["IPAM"]["Config"],
        json!([
            {
                "Subnet": "10.210.0.0/24",
                "Gateway": "10.210.0.254",
                "IPRange": "10.210.0.128/25",
                "AuxiliaryAddresses": { "printer": "10.210.0.9" },
            },
            { "Subnet": "fd12:3456::/64", "Gateway": "fd12:3456::1" },
        ])
    );
    assert_eq!(
        shop["subnets"][0]["lease_range"],
        json!({ "start_ip": "10.210.0.128", "end_ip": "10.210.0.255" })
    );
    for (field, value) in [
        ("EnableIPv4", json!(true)),
        ("EnableIPv6", json!(true)),
        ("Internal", json!(false)),
        ("network_interface", json!("br-shop")),
        ("network_dns_servers", json!(["192.0.2.53"])),
        ("options", json!({ "isolate": "false", "mtu": "1400" })),
    ] {
        assert_eq!(shop[field], value, "{field}");
    }
    sleeper(&world, &["create"], &["--network=shop:ip=10.210.0.9"]).expect_code(125).stderr_has("`printer`");

    make(&world, &["--internal", "--disable-dns", "--ipv6", "back"]);
    let back = document(&world, &["network", "inspect", "back"]);
    assert_eq!((&back["internal"], &back["dns_enabled"]), (&json!(true), &json!(false)));
    assert!(subnet(&world, "back").contains("/64"), "{back}");
    for (options, cause) in [
        (&["--subnet=10.210.0.128/25"][..], "Pool overlaps with other one on this address space"),
        (&["--subnet=10.0.0.0/8"], "Pool overlaps"),
        (&["--interface-name=br-shop"], "the network `shop` has it"),
        (&["--subnet=10.211.0.0/24", "--gateway=10.212.0.1"], "not inside of the subnet"),
        (&["--subnet=10.211.0.0/24", "--ip-range=10.211.0.0/16"], "not inside of the subnet"),
        (&["--subnet=10.211.0.0/24", "--gateway=10.211.0.255"], "broadcast"),
        (&["--subnet=10.211.0.0/24,10.213.0.0/24"], "one subnet of IPv4"),
        (&["--internal", "--dns=192.0.2.53"], "no server outside"),
        (&["--disable-dns", "--dns=192.0.2.53"], "--disable-dns"),
    ] {
        world.sbx(["network", "create"]).args(options).arg("more").expect_code(125).stderr_has(cause);
    }
}

/// Also where several are made at once.
#[test]
fn networks_do_not_overlap() {
    let world = sbx();
    std::thread::scope(|scope| {
        for number in 0..6 {
            let world = &world;
            scope.spawn(move || make(world, &[&format!("n{number}")]));
        }
        scope.spawn(|| world.sbx(["network", "inspect", "bridge"]).expect_code(0));
    });
    let mut names: Vec<String> = (0..6).map(|number| format!("n{number}")).collect();
    names.push("bridge".to_owned());
    let mut subnets: Vec<String> = names.iter().map(|name| subnet(&world, name)).collect();
    let bridges = names
        .iter()
        .map(|name| world.sbx(["network", "inspect", "-f", "{{.network_interface}}", name]).succeed());
    let mut bridges: Vec<String> = bridges.collect();
    for all in [&mut subnets, &mut bridges] {
        assert!(all.iter().all(|one| !one.is_empty()));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 7, "{all:?}");
    }
    // The host's own routes are left alone.
    let routes = std::fs::read_to_string("/proc/net/route").expect("routes");
    for subnet in subnets {
        let first: std::net::Ipv4Addr =
            subnet.split('/').next().and_then(|ip| ip.parse().ok()).expect("a subnet");
        let number = u32::from_ne_bytes(first.octets());
        assert!(!routes.contains(&format!("\t{number:08X}\t")), "{subnet} is in {routes}");
    }
}

#[test]
fn a_container_keeps_what_it_asked_of_each_network() {
    let world = sbx();
    make(&world, &["--subnet=10.210.0.0/24", "--subnet=fd12:3456::/64", "shop"]);
    make(&world, &["back"]);
    let options = [
        "--name=web",
        "--network=shop:ip=10.210.0.7,ip6=fd12:3456::7,mac=02:42:ac:11:00:02,alias=www",
        "--network=name=back,alias=db",
        "--network=bridge",
    ];
    sleeper(&world, &["create"], &options).expect_code(0).stderr_is("");
    let web = document(&world, &["inspect", "web"]);
    let networks = &web["NetworkSettings"]["Networks"];
    assert_eq!(networks.as_object().map(serde_json::Map::len), Some(3), "{networks}");
    let shop = &networks["shop"];
    assert_eq!(shop["IPAMConfig"], json!({ "IPv4Address": "10.210.0.7", "IPv6Address": "fd12:3456::7" }));
    assert_eq!((&shop["MacAddress"], &shop["Aliases"]), (&json!("02:42:ac:11:00:02"), &json!(["www"])));
    // It is down.
    assert_eq!((&shop["IPAddress"], &shop["EndpointID"]), (&json!(""), &json!("")));
    assert_eq!(
        (&networks["back"]["Aliases"], &networks["bridge"]["Aliases"]),
        (&json!(["db"]), &Value::Null)
    );
    let shown = world.sbx(["ps", "-a", "--format", "{{.Networks}}"]).succeed();
    assert_eq!(shown, "shop,back,bridge");
    for network in ["shop", "back", "bridge"] {
        let found = world.sbx(["ps", "-aq", "--filter", &format!("network={network}")]).succeed();
        assert!(!found.is_empty(), "{network}");
    }
    world.sbx(["network", "rm", "back"]).expect_code(2).stderr_has("in it: web");

    // The short options are for the only network.
    let options =
        ["--name=one", "--network=shop", "--ip=10.210.0.8", "--ip6=fd12:3456::8", "--network-alias=two"];
    sleeper(&world, &["create"], &options).expect_code(0);
    let one = document(&world, &["inspect", "one"])["NetworkSettings"]["Networks"]["shop"].clone();
    assert_eq!(one["IPAMConfig"], json!({ "IPv4Address": "10.210.0.8", "IPv6Address": "fd12:3456::8" }));
    assert_eq!(one["Aliases"], json!(["two"]));
    // podman-compose gives every container an alias.
    let aliased = sleeper(&world, &["create"], &["--network=bridge:alias=web"]).expect_code(0);
    aliased.stderr_has("no names in the network `bridge`");
}

#[test]
fn podman_and_docker_find_the_network_by_their_names() {
    let world = sbx_by_all_names();
    let id = world.sbx(["network", "inspect", "-f", "{{.Id}}", "bridge"]).succeed();
    assert_eq!(world.called("podman", &["network", "inspect", "-f", "{{.Id}}", "podman"]).succeed(), id);
    world.sbx(["network", "inspect", "podman"]).expect_code(1);
    world.called("podman", &["network", "create", "podman"]).expect_code(125).stderr_has("always there");
    // docker prints the ID.
    let made = world.called("docker", &["network", "create", "shop"]).succeed();
    assert_eq!(world.sbx(["network", "inspect", "-f", "{{.Id}}", "shop"]).succeed(), made);
}
