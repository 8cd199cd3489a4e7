//! The web application of README.md, line by line: nginx in front of a service in front of redis, names only.

use super::Place;
use crate::harness::{Sbx, images, repository, require, sbx, sbx_binary};

/// The lines of the code block in README.md that makes the network `shop`.
fn lines() -> Vec<String> {
    let readme = std::fs::read_to_string(repository().join("README.md")).expect("README.md can be read");
    let block = readme.split("```").find(|block| block.contains("sbx network create shop"));
    let lines = block.expect("README.md has the lines").lines().skip(1);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// As a shell in the repository runs it, with the `sbx` of this build; with another port of the host, since others run at
/// the same time.
fn shell(world: &Sbx, line: &str, port: u16) -> crate::harness::Finished {
    let line = line.replace("8080", &port.to_string());
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", world.work().join("bin").display());
    world.program("sh").args(["-c", &line]).env("PATH", path).directory(repository()).finish()
}

#[test]
fn the_web_application_of_the_readme_runs() {
    require("curl");
    let world = sbx();
    std::fs::create_dir(world.work().join("bin")).expect("a directory");
    std::os::unix::fs::symlink(sbx_binary(), world.work().join("bin/sbx")).expect("a symlink");
    let port = std::net::TcpListener::bind("0.0.0.0:0")
        .and_then(|socket| socket.local_addr())
        .expect("a port")
        .port();
    let lines = lines();
    let [image, network, database, service, front, visit] = &lines[..] else {
        panic!("other lines: {lines:#?}")
    };
    // The image takes a minute and the network: this one is of the same packages.
    assert!(
        image.contains("nginx-light,python3-redis,redis-server")
            && image.ends_with("| sbx import - services")
    );
    world.put_image(&images().services(), "localhost/services:latest");
    for line in [network, database, service, front] {
        let done = shell(&world, line, port).code_is(0);
        assert_eq!(done.stderr(), "", "{line}");
    }
    let (command, comment) = visit.split_once('#').expect("what it prints");
    let mut said = String::new();
    super::wait_until("the application answers", || {
        said = shell(&world, command, port).stdout();
        said.starts_with("visit 1,")
    });
    let gateway = said.trim_end().rsplit(' ').next().expect("an address");
    assert_eq!(said, comment.trim_start().replace("10.89.0.1", gateway) + "\n");
    let place = Place::new(&world);
    let config = place.document(&["network", "inspect", "shop"])["IPAM"]["Config"][0].clone();
    assert_eq!(config["Gateway"], gateway, "a client on the host appears as the gateway");

    // Names lead to whoever has them: another database, at whatever address.
    place.sbx(["rm", "-f", "-t", "0", "db"]).expect_code(0);
    let _other = place.sleeper("stranger", &["--network=shop"]);
    let _ = shell(&world, database, port).code_is(0);
    super::wait_until("the new database counts", || {
        shell(&world, command, port).stdout().starts_with("visit 1,")
    });
    // Nothing of it has an address in it.
    for file in ["examples/web/app.py", "examples/web/nginx.conf"] {
        let text = std::fs::read_to_string(repository().join(file)).expect("the file");
        assert!(!text.contains("10."), "{file}");
    }
    place.sbx(["rm", "-f", "-t", "0", "--all"]).expect_code(0);
}
