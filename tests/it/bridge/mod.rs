//! Bridge networks: who is reached by which name and at which address, who is not, and how they come and go.
//!
//! Most tests run on the machine's own network; those that need every port, or clients and servers beyond the host, have a
//! host of their own ([`Place::apart`]).

mod ipv6;
mod isolation;
mod life;
mod many_addresses;
mod mtu;
mod names;
mod ports;
mod several_networks;
mod spoofing;
mod street;
mod web;

use std::ffi::OsStr;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Run, Sbx, require, sbx_binary, services_rootfs};
use crate::network::outer::Outer;

/// Where sbx runs: on the machine's network, or in a namespace that is the host.
pub struct Place<'w> {
    world: &'w Sbx,
    outer: Option<Outer<'w>>,
}

impl<'w> Place<'w> {
    pub fn new(world: &'w Sbx) -> Self {
        require("slirp4netns");
        require("nft");
        world.file("peer.py", include_str!("../network/peer.py"));
        Self { world, outer: None }
    }

    /// The host is a namespace of the test's own ([`Outer`]) whose resolv.conf names `server`.
    pub fn apart(world: &'w Sbx, server: &str) -> Self {
        Self { outer: Some(Outer::new(world, server)), ..Self::new(world) }
    }

    pub fn outer(&self) -> &Outer<'w> {
        self.outer.as_ref().expect("a host of its own")
    }

    /// A program on the host.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Run<'w> {
        match &self.outer {
            Some(outer) => outer.program(program),
            None => self.world.program(program),
        }
    }

    /// `peer.py` on the host.
    pub fn peer(&self, words: &[&str]) -> Run<'w> {
        self.program("python3").arg(self.world.work().join("peer.py")).args(words)
    }

    /// `sbx WORDS…`
    pub fn sbx<A: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = A>) -> Run<'w> {
        self.program(sbx_binary()).args(words)
    }

    /// `sbx network create WORDS…`
    #[track_caller]
    pub fn create(&self, words: &[&str]) {
        self.sbx(["network", "create"]).args(words).expect_code(0).stderr_is("");
    }

    /// The first document of `sbx WORDS…`.
    #[track_caller]
    pub fn document(&self, words: &[&str]) -> Value {
        let text = self.sbx(words).succeed();
        let documents: Value = serde_json::from_str(&text).expect("JSON");
        documents[0].clone()
    }

    /// `sbx run OPTIONS… --rootfs … COMMAND…`: nginx, redis, Python and busybox, with what the test has for it at /test.
    pub fn run(&self, options: &[&str], command: &[&str]) -> Run<'w> {
        let shown = format!("{}:/test:ro", self.world.work().display());
        // A namespace of the test's own maps one ID, and sbx would warn of that.
        let map: &[&str] = if self.outer.is_some() { &["--id-tier=single"] } else { &[] };
        let run =
            self.sbx(["run", "--stop-timeout=0"]).args(map).args(options).args(["-v", &shown, "--rootfs"]);
        run.arg(services_rootfs()).args(command)
    }

    /// A container in the background that sleeps until it is removed.
    #[track_caller]
    pub fn sleeper(&self, name: &str, options: &[&str]) -> Member<'_, 'w> {
        self.member(name, options, &["sleep", "100000"])
    }

    /// One with `peer.py serve PLACES…`, once that listens.
    #[track_caller]
    pub fn server(&self, name: &str, options: &[&str], places: &[&str]) -> Member<'_, 'w> {
        // What serves ends with its standard input.
        let script = format!("tail -f /dev/null | exec python3 /test/peer.py serve {}", places.join(" "));
        let member = self.member(name, options, &["sh", "-c", &script]);
        member.wait_for_log("ready");
        member
    }

    #[track_caller]
    pub fn member(&self, name: &str, options: &[&str], command: &[&str]) -> Member<'_, 'w> {
        let options = [&["-d", "--name", name], options].concat();
        self.run(&options, command).expect_code(0).stderr_is("");
        Member { place: self, name: name.to_owned() }
    }
}

/// A container in the background; it is removed by force when it goes.
pub struct Member<'p, 'w> {
    place: &'p Place<'w>,
    pub name: String,
}

impl<'w> Member<'_, 'w> {
    /// `sbx exec NAME COMMAND…`
    pub fn exec(&self, command: &[&str]) -> Run<'w> {
        self.place.sbx(["exec", &self.name]).args(command)
    }

    pub fn sh(&self, script: &str) -> Run<'w> {
        self.exec(&["sh", "-c", script])
    }

    /// `peer.py` inside; what it printed.
    #[track_caller]
    pub fn peer(&self, words: &[&str]) -> String {
        let words = [&["python3", "/test/peer.py"], words].concat();
        self.exec(&words).succeed()
    }

    /// What a name server says; without one, the first of the container's resolv.conf.
    #[track_caller]
    pub fn ask(&self, name: &str, kind: &str) -> String {
        let server = self.sh("awk '/^nameserver/ {print $2; exit}' /etc/resolv.conf").succeed();
        self.peer(&["ask", &server, name, kind])
    }

    /// The container's part of `sbx inspect`.
    #[track_caller]
    pub fn endpoint(&self, network: &str) -> Value {
        self.place.document(&["inspect", &self.name])["NetworkSettings"]["Networks"][network].clone()
    }

    /// Its IPv4 address in a network.
    #[track_caller]
    pub fn address(&self, network: &str) -> String {
        let endpoint = self.endpoint(network);
        let address = endpoint["IPAddress"].as_str().filter(|address| !address.is_empty());
        address.unwrap_or_else(|| panic!("no address in {network}: {endpoint}")).to_owned()
    }

    #[track_caller]
    pub fn mac(&self, network: &str) -> String {
        self.endpoint(network)["MacAddress"].as_str().expect("a MAC address").to_owned()
    }

    /// The place of a published port on the host, such as `127.0.0.1:40001`.
    #[track_caller]
    pub fn port(&self, inside: &str) -> (String, String) {
        let place = self.place.sbx(["port", &self.name, inside]).succeed();
        let first = place.lines().next().expect("a place");
        let (host, port) = first.rsplit_once(':').expect("host and port");
        (host.to_owned(), port.to_owned())
    }

    pub fn log(&self) -> String {
        self.place.sbx(["logs", &self.name]).finish().stdout()
    }

    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        wait_until(&format!("{} says {text:?}", self.name), || self.log().contains(text));
    }

    /// The PID of its monitor: the parent of its first process.
    #[track_caller]
    pub fn monitor(&self) -> nix::unistd::Pid {
        let first = self.place.sbx(["inspect", "-f", "{{.State.Pid}}", &self.name]).succeed();
        let status = std::fs::read_to_string(format!("/proc/{first}/status")).expect("it runs");
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("a parent");
        nix::unistd::Pid::from_raw(parent.trim().parse().expect("a PID"))
    }
}

impl Drop for Member<'_, '_> {
    fn drop(&mut self) {
        // A test may have removed it.
        drop(self.place.sbx(["rm", "-f", "-t", "0", &self.name]).finish());
    }
}

/// Ten seconds at most.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "it never came to this: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The processes of the shared namespace that this world has now, by the beginning of their names.
pub fn holders(world: &Sbx) -> Vec<nix::unistd::Pid> {
    let processes = world.leftovers().processes;
    let named = processes.into_iter().filter(|process| {
        let name = std::fs::read_to_string(format!("/proc/{}/comm", process.pid)).unwrap_or_default();
        ["sbx-bridge", "sbx-network"].contains(&name.trim_end())
    });
    named.map(|process| process.pid).collect()
}
