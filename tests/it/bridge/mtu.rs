//! How large a packet may be.

use super::Place;
use crate::harness::sbx;
use crate::network::outer::FAR;

/// One that fits the narrowest, one that fits no more, and the most that the helper takes.
const SIZES: [&str; 3] = ["1200", "1473", "65000"];

fn mtu(member: &super::Member) -> String {
    member.sh("cat /sys/class/net/eth0/mtu").succeed()
}

#[test]
fn datagrams_of_every_size_pass() {
    let world = sbx();
    let place = Place::apart(&world, FAR);
    let _server = place.outer().serve(&[&format!("udp:{FAR}:7000"), &format!("tcp:{FAR}:7000")]);
    for (name, options, wanted) in [
        ("wide", &[][..], "65520"),
        ("plain", &["--opt=mtu=1500"], "1500"),
        ("narrow", &["--opt=mtu=1280"], "1280"),
    ] {
        place.create(&[options, &[name]].concat());
        let network = format!("--network={name}");
        let server = place.server(&format!("{name}-server"), &[&network], &["udp:*:7000", "tcp:*:7000"]);
        let client = place.sleeper(&format!("{name}-client"), &[&network]);
        assert_eq!(mtu(&client), wanted, "{name}");
        for size in SIZES {
            for at in [server.name.as_str(), FAR] {
                assert_eq!(
                    client.peer(&["udp", at, "7000", size]),
                    "whole",
                    "{size} bytes to {at} over {name}"
                );
            }
        }
        for at in [server.name.as_str(), FAR] {
            assert_eq!(client.peer(&["tcp", at, "7000", "1000000"]), "whole", "to {at} over {name}");
        }
    }
}

#[test]
fn an_mtu_that_cannot_be_is_refused() {
    let world = sbx();
    let place = Place::new(&world);
    for mtu in ["0", "67", "65536", "-1", "x", ""] {
        let refused = place.sbx(["network", "create", &format!("--opt=mtu={mtu}"), "odd"]);
        refused.expect_code(125).stderr_has("mtu");
    }
    place.sbx(["network", "exists", "odd"]).expect_code(1);
}

#[test]
fn bulk_data_passes_both_ways() {
    let world = sbx();
    let place = Place::new(&world);
    place.create(&["shop"]);
    let server = place.member("server", &["--network=shop"], &["iperf3", "--server", "--forceflush"]);
    server.wait_for_log("listening");
    let client = place.sleeper("client", &["--network=shop"]);
    // Both ways, four streams at once.
    for way in ["--parallel=4", "--reverse"] {
        let report = client.exec(&["iperf3", "--client=server", "--bytes=128M", "--json", way]).succeed();
        let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
        let received = report["end"]["sum_received"]["bytes"].as_u64().expect("a number");
        // What is on its way when the last byte has been sent is not counted.
        assert!(received > 64 << 20, "{received} bytes came ({way})");
    }
}
