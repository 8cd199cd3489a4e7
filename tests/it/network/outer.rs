//! A small world around the containers: a network namespace with an interface, addresses of both families and
//! default routes that lead nowhere, so that no test needs or touches the machine's own network.

use std::ffi::OsStr;
use std::time::Duration;

use crate::harness::{Run, Running, Sbx, patience, require, rootfs, sbx_binary};

/// The addresses of the outer interface; pasta gives them to its container, too.
pub const INTERFACE: &str = "192.0.2.10";
/// Addresses of the outer world that are neither of its interface nor of its loopback network: servers listen there.
pub const FAR: &str = "203.0.113.7";
pub const FAR_6: &str = "2001:db8:1::7";

const SCRIPT: &str = r#"
set -e
ip link set lo up
ip link add eth0 type veth peer name eth1
ip address add 192.0.2.10/24 dev eth0
ip -6 address add 2001:db8::10/64 dev eth0 nodad
ip link set eth1 up
ip link set eth0 up
ip route add default via 192.0.2.1
ip -6 route add default via 2001:db8::1
ip address add 203.0.113.7/32 dev lo
ip -6 address add 2001:db8:1::7/128 dev lo nodad
mount --bind "$1" "$(readlink -f /etc/resolv.conf)"
echo ready
exec cat
"#;

pub struct Outer<'w> {
    world: &'w Sbx,
    process: Option<Running<'w>>,
}

impl<'w> Outer<'w> {
    /// Its resolv.conf names `server`.
    pub fn new(world: &'w Sbx, server: &str) -> Self {
        require("ip");
        require("python3");
        let resolv = world.file("outer-resolv.conf", format!("nameserver {server}\nsearch outer.example\n"));
        let patience = format!("PATIENCE = {}", patience(Duration::from_secs(1)).as_secs());
        world.file("peer.py", include_str!("peer.py").replace("PATIENCE = 1", &patience));
        let mut process = world
            .program("unshare")
            .args(["--user", "--map-root-user", "--mount", "--net", "sh", "-c", SCRIPT, "sh"])
            .arg(resolv)
            .stdin_from(std::process::Stdio::piped())
            .spawn();
        process.wait_for_stdout("ready");
        Self { world, process: Some(process) }
    }

    /// A process that is in it.
    pub fn pid(&self) -> nix::unistd::Pid {
        self.process.as_ref().expect("it runs until it is dropped").pid()
    }

    /// A program in the outer world.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Run<'w> {
        let enter = ["--preserve-credentials", "--user", "--mount", "--net", "--target"];
        self.world.program("nsenter").args(enter).arg(self.pid().to_string()).arg("--").arg(program)
    }

    /// `sbx run --rm --network NETWORK OPTIONS… --rootfs … COMMAND…`
    pub fn run(&self, network: &str, options: &[&str], command: &[&str]) -> Run<'w> {
        self.program(sbx_binary())
            .args(["run", "--rm", "--network", network])
            .args(options)
            .args(PYTHON)
            .arg("-v")
            .arg(format!("{}:/test:ro", self.world.work().display()))
            .arg("--rootfs")
            .arg(rootfs())
            .args(command)
    }

    /// `peer.py` in a container: a client.
    pub fn peer_inside(&self, network: &str, words: &[&str]) -> Run<'w> {
        self.run(network, &[], &[&["python3", "/test/peer.py"], words].concat())
    }

    /// `peer.py serve …` in a container, ready to be asked.
    pub fn serve_inside(&self, network: &str, options: &[&str], places: &[&str]) -> Running<'w> {
        let options = [&["-i"], options].concat();
        let run = self.run(network, &options, &[&["python3", "/test/peer.py", "serve"], places].concat());
        let mut running = run.stdin_from(std::process::Stdio::piped()).spawn();
        running.wait_for_stdout("ready");
        running
    }

    /// `peer.py` in the outer world: a client.
    pub fn peer(&self, words: &[&str]) -> Run<'w> {
        self.program("python3").arg(self.world.work().join("peer.py")).args(words)
    }

    /// `peer.py serve …` in the outer world.
    pub fn serve(&self, places: &[&str]) -> Server<'w> {
        let mut running = self.peer(&["serve"]).args(places).stdin_from(std::process::Stdio::piped()).spawn();
        running.wait_for_stdout("ready");
        Server(Some(running))
    }
}

impl Drop for Outer<'_> {
    fn drop(&mut self) {
        end(self.process.take());
    }
}

/// A server of the outer world; it ends when it is dropped.
pub struct Server<'w>(Option<Running<'w>>);

impl Drop for Server<'_> {
    fn drop(&mut self) {
        end(self.0.take());
    }
}

fn end(running: Option<Running<'_>>) {
    if let Some(mut running) = running {
        running.close_stdin();
        // A test that fails must not fail twice.
        if !std::thread::panicking() {
            let _ = running.finish();
        }
    }
}

/// The host's Python, shown to a container.
const PYTHON: [&str; 6] = ["-v", "/usr:/usr:ro", "-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro"];
