//! `network connect`, `disconnect`, `reload` and `update` of containers that are on no bridge now.

use serde_json::json;

use super::{document, make, sleeper};
use crate::harness::{Sbx, sbx};

fn networks(world: &Sbx, container: &str) -> String {
    let words = ["ps", "-a", "--format", "{{.Networks}}", "--filter"];
    world.sbx(words).arg(format!("name=^{container}$")).succeed()
}

#[test]
fn a_container_that_is_down_keeps_the_networks_it_is_put_into() {
    let world = sbx();
    make(&world, &["--subnet=10.210.0.0/24", "shop"]);
    make(&world, &["back"]);
    sleeper(&world, &["create"], &["--name=web", "--network=back"]).expect_code(0);
    let connect = ["network", "connect", "--alias=www", "--ip=10.210.0.7", "--mac-address=02:42:ac:11:00:02"];
    world.sbx(connect).args(["shop", "web"]).expect_code(0).stdout_is("").stderr_is("");
    assert_eq!(networks(&world, "web"), "back,shop");
    let shop = document(&world, &["inspect", "web"])["NetworkSettings"]["Networks"]["shop"].clone();
    assert_eq!(shop["IPAMConfig"], json!({ "IPv4Address": "10.210.0.7" }));
    assert_eq!((&shop["Aliases"], &shop["MacAddress"]), (&json!(["www"]), &json!("02:42:ac:11:00:02")));
    // It is a member, and keeps the network.
    world.sbx(["network", "rm", "shop"]).expect_code(2);
    world
        .sbx(["network", "connect", "shop", "web"])
        .expect_code(125)
        .stderr_has("is already connected to network");
    world.sbx(["network", "disconnect", "back", "web"]).expect_code(0).stdout_is("").stderr_is("");
    assert_eq!(networks(&world, "web"), "shop");
    world
        .sbx(["network", "disconnect", "back", "web"])
        .expect_code(125)
        .stderr_has("is not connected to network");
    assert_eq!(world.sbx(["network", "rm", "back"]).succeed(), "back");
    // Out of the last one, too.
    world.sbx(["network", "disconnect", "shop", "web"]).expect_code(0);
    assert_eq!(networks(&world, "web"), "bridge");
    assert_eq!(document(&world, &["inspect", "web"])["NetworkSettings"]["Networks"], json!({}));
    world.sbx(["network", "rm", "shop"]).expect_code(0);
    let told = ["events", "--stream=false", "--filter=type=network", "--format={{.Status}} {{.Name}}"];
    assert_eq!(
        world.sbx(told).succeed(),
        "create shop\ncreate back\nconnect shop\ndisconnect back\nremove back\ndisconnect shop\nremove shop"
    );
}

#[test]
fn what_cannot_be_connected_says_why() {
    let world = sbx();
    make(&world, &["--subnet=10.210.0.0/24", "shop"]);
    for mode in ["none", "host", "slirp4netns:mtu=1400"] {
        let name = format!("--name=with-{}", mode.split(':').next().unwrap_or_default());
        sleeper(&world, &["create"], &[&name, &format!("--network={mode}")]).expect_code(0);
    }
    for container in ["with-none", "with-host", "with-slirp4netns"] {
        let refused = world.sbx(["network", "connect", "shop", container]).expect_code(125);
        refused.stderr_has("is not supported: invalid network mode").stderr_has("Hint: ");
    }
    sleeper(&world, &["create"], &["--name=web", "--network=shop"]).expect_code(0);
    for (words, cause) in [
        (&["connect", "nothing", "web"][..], "no such network"),
        (&["connect", "shop", "nobody"], "no container with the name or ID `nobody`"),
        (&["connect", "host", "web"], "a container's own, or the host's"),
        (&["disconnect", "nothing", "web"], "no such network"),
        (&["disconnect", "-f", "nothing", "web"], "is not connected to network"),
        (&["connect", "--ip=10.211.0.7", "shop", "with-private"], "no container"),
        (&["connect", "--link=web", "shop", "web"], "--alias"),
        (&["connect", "--gw-priority=1", "shop", "web"], "default route"),
        (&["connect", "--ip=300.1.1.1", "shop", "web"], "--ip"),
        (&["reload", "web"], "is not running"),
        (&["reload"], "no name or ID was given"),
    ] {
        world.sbx(["network"]).args(words).expect_code(125).stderr_has(cause);
    }
    sleeper(&world, &["create"], &["--name=private"]).expect_code(0);
    world
        .sbx(["network", "connect", "--ip=10.211.0.7", "shop", "private"])
        .expect_code(125)
        .stderr_has("subnet");
    assert_eq!(networks(&world, "private"), "slirp4netns");
    world.sbx(["network", "reload", "--all"]).expect_code(0).stdout_is("");
}

/// Nothing of what it is connected by can be changed while it runs.
#[test]
fn a_private_container_joins_at_its_next_start() {
    let world = sbx();
    make(&world, &["shop"]);
    sleeper(&world, &["run", "-d"], &["--name=web"]).expect_code(0);
    let connected = world.sbx(["network", "connect", "shop", "web"]).expect_code(0);
    connected.stderr_has("when it is started again").stdout_is("");
    // What docker has a container in that names no network.
    assert_eq!(networks(&world, "web"), "bridge,shop");
    world
        .sbx(["network", "reload", "web"])
        .expect_code(125)
        .stderr_has("none that `sbx network create` made");
    sleeper(&world, &["run", "-d"], &["--name=db", "--network=shop"]).expect_code(0);
    world.sbx(["exec", "web", "ping", "-c1", "-W1", "db"]).expect_code(1);
    world.sbx(["restart", "-t0", "web"]).expect_code(0).stderr_is("");
    world.sbx(["exec", "web", "ping", "-c1", "-W2", "db"]).expect_code(0);
    world.sbx(["rm", "-f", "db"]).expect_code(0);
    world.sbx(["rm", "-f", "web"]).expect_code(0);
    world.assert_clean();
}

#[test]
fn name_servers_of_a_network_are_added_and_dropped() {
    let world = sbx();
    make(&world, &["--dns=192.0.2.53", "shop"]);
    let servers = || world.sbx(["network", "inspect", "-f", "{{.network_dns_servers}}", "shop"]).succeed();
    let update = ["network", "update", "--dns-add=192.0.2.54,192.0.2.53", "--dns-drop=192.0.2.53", "shop"];
    assert_eq!(world.sbx(update).succeed(), "shop");
    assert_eq!(servers(), "[192.0.2.54 192.0.2.53]");
    make(&world, &["--internal", "back"]);
    for (words, cause) in [
        (&["shop"][..], "--dns-add"),
        (&["--dns-drop=192.0.2.99", "shop"], "not one of its servers"),
        (&["--dns-add=192.0.2.99", "back"], "internal"),
        (&["--dns-add=192.0.2.99", "bridge"], "no names"),
        (&["--dns-add=192.0.2.99", "nothing"], "no such network"),
    ] {
        world.sbx(["network", "update"]).args(words).expect_code(125).stderr_has(cause);
    }
}
