//! Networks that can't be had: each refusal names its reason and a way on, and leaves nothing behind.

use super::outer::{FAR, Outer};
use crate::harness::{rootfs, sbx, sbx_binary};

const WAYS_ON: &str = "use `--network host` (the host's own network) or `--network none`";

/// Covers what is named with something else, then runs sbx with the words that follow.
fn covered(script: &str, network: &[&str]) -> crate::harness::Finished {
    let world = sbx();
    let outer = Outer::new(&world, FAR);
    let run = format!("set -e; {script}; exec \"$@\"");
    let finished = outer
        .program("unshare")
        .args(["--mount", "sh", "-c", &run, "sh"])
        .arg(sbx_binary())
        .args(["run", "--rm"])
        .args(network)
        .arg("--rootfs")
        .arg(rootfs())
        .arg("true")
        .finish();
    drop(outer);
    world.assert_clean();
    finished
}

const NO_DEVICE: &str = "mount -t tmpfs none /dev/net";
const NO_SLIRP: &str = "mount --bind /dev/null \"$(command -v slirp4netns)\"";
const NO_PASTA: &str = "mount --bind /dev/null \"$(command -v pasta)\"";

#[test]
fn without_the_tun_device() {
    for network in [&["--net", "slirp4netns"][..], &["--net", "pasta"], &["-p", "8080:80"]] {
        covered(NO_DEVICE, network)
            .code_is(125)
            .stderr_has("`/dev/net/tun` cannot be opened")
            .stderr_has("it does not exist")
            .stderr_has(WAYS_ON);
    }
    for network in ["host", "none"] {
        let _ = covered(NO_DEVICE, &["--net", network]).code_is(0);
    }
}

#[test]
fn the_default_goes_without_a_network_and_says_so() {
    for script in [NO_DEVICE.to_owned(), format!("{NO_SLIRP}; {NO_PASTA}")] {
        covered(&script, &[])
            .code_is(0)
            .stderr_has("Warning: the container has no network but its own loopback interface: ")
            .stderr_has("`--network host`");
    }
}

#[test]
fn without_one_helper_the_default_is_the_other() {
    let _ = covered(NO_SLIRP, &[]).code_is(0);
    covered(NO_SLIRP, &["--net", "slirp4netns"])
        .code_is(125)
        .stderr_has("`slirp4netns` is not installed")
        .stderr_has("apt install slirp4netns")
        .stderr_has(WAYS_ON);
    covered(NO_PASTA, &["--net", "pasta"])
        .code_is(125)
        .stderr_has("`pasta` is not installed")
        .stderr_has("apt install passt")
        .stderr_has(WAYS_ON);
}

#[test]
fn without_any_helper() {
    covered(&format!("{NO_SLIRP}; {NO_PASTA}"), &["-p", "8080:80"])
        .code_is(125)
        .stderr_has("neither slirp4netns nor pasta is installed")
        .stderr_has("apt install slirp4netns")
        .stderr_has(WAYS_ON);
}

#[test]
fn a_helper_that_fails_is_quoted() {
    let world = sbx();
    world.script(
        "bin/slirp4netns",
        "#!/bin/sh\n[ \"$1\" = --help ] && exec /usr/bin/slirp4netns --help\necho no such luck >&2\nexit 1\n",
    );
    let path = format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", world.work().join("bin").display());
    world
        .run(["--rm", "--rootfs"])
        .arg(rootfs())
        .arg("true")
        .env("PATH", path)
        .expect_code(125)
        .stderr_has("slirp4netns failed to connect the container")
        .stderr_has("no such luck")
        .stderr_has(WAYS_ON);
    world.assert_clean();
}

#[test]
fn privileged_host_ports_name_the_sysctl() {
    let start = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").expect("the sysctl");
    let start: u16 = start.trim().parse().expect("a number");
    assert!(
        start > 1,
        "this host gives every port to everybody: net.ipv4.ip_unprivileged_port_start={start}"
    );
    let world = sbx();
    for port in ["1:80", "1:80/udp"] {
        world
            .run(["--rm", "-p", port, "--rootfs"])
            .arg(rootfs())
            .arg("true")
            .expect_code(125)
            .stderr_has("cannot publish host port 1/")
            .stderr_has(&format!("net.ipv4.ip_unprivileged_port_start={start}"))
            .stderr_has("sysctl net.ipv4.ip_unprivileged_port_start=1");
    }
    world.assert_clean();
}

#[test]
fn flags_that_a_network_cannot_honour() {
    let world = sbx();
    for (words, message) in [
        (&["--net", "none", "-p", "80"][..], "cannot use `--publish` with `--network none`"),
        (&["--net", "host", "--mac-address", "02:42:ac:11:00:02"], "cannot use `--mac-address`"),
        (&["--net", "none", "--net", "host"], "cannot connect the container to `none` and other networks"),
        (&["--net", "bridge:colour=red"], "no option `colour=red`"),
        (&["--net", "container:nobody"], "no container with the name or ID `nobody`"),
        (&["--net", "none", "--add-host", "up:host-gateway"], "host-gateway"),
        (&["--dns", "example.org"], "invalid name server `example.org`"),
        (&["-p", "80:80", "-p", "80:81"], "host port 80/tcp is published twice"),
        (&["-p", "70000:80"], "70000"),
        (&["-p", "192.0.2.99:8080:80"], "this host does not have that address"),
        (&["--hostname", "a b"], "--hostname"),
    ] {
        world
            .run(["--rm"])
            .args(words)
            .arg("--rootfs")
            .arg(rootfs())
            .arg("true")
            .expect_code(125)
            .stdout_is("")
            .stderr_has(message);
    }
    world.assert_clean();
}
