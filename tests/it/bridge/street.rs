//! A neighbour of the host: a network namespace behind a cable, whose addresses are not the host's.

use std::process::Stdio;

use super::Place;
use crate::harness::{Run, Running};

/// The neighbour's own addresses.
pub const NEIGHBOUR: &str = "198.51.100.7";
pub const NEIGHBOUR_6: &str = "2001:db8:5::7";
/// The host's on that cable.
pub const HOST: &str = "198.51.100.1";
pub const HOST_6: &str = "2001:db8:5::1";

const HERE: &str = "
ip link add street type veth peer name eth0 netns $1
ip address add 198.51.100.1/24 dev street
ip -6 address add 2001:db8:5::1/64 dev street nodad
ip link set street up
";
const THERE: &str = "
ip address add 198.51.100.7/24 dev eth0
ip -6 address add 2001:db8:5::7/64 dev eth0 nodad
ip link set eth0 up
ip route add default via 198.51.100.1
ip -6 route add default via 2001:db8:5::1
";

pub struct Street<'p, 'w> {
    place: &'p Place<'w>,
    process: Option<Running<'w>>,
}

impl<'p, 'w> Street<'p, 'w> {
    /// Of a place that is apart.
    pub fn new(place: &'p Place<'w>) -> Self {
        let run = place.outer().program("unshare").args(["--net", "sh", "-c", "echo ready; exec cat"]);
        let mut process = run.stdin_from(Stdio::piped()).spawn();
        process.wait_for_stdout("ready");
        let street = Self { place, process: Some(process) };
        let script = format!("set -e; {HERE} nsenter --net --target $1 sh -ec '{THERE}'");
        place.outer().program("sh").args(["-c", &script, "sh", &street.pid()]).expect_code(0);
        street
    }

    /// nsenter is what stands between, and the program it became has its PID.
    fn pid(&self) -> String {
        self.process.as_ref().expect("it runs until it is dropped").pid().to_string()
    }

    /// `peer.py` at the neighbour's.
    pub fn peer(&self, words: &[&str]) -> Run<'w> {
        let enter = ["--net", "--target", &self.pid(), "python3"];
        self.place
            .outer()
            .program("nsenter")
            .args(enter)
            .arg(self.place.world.work().join("peer.py"))
            .args(words)
    }
}

impl Drop for Street<'_, '_> {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.close_stdin();
            // A test that fails must not fail twice.
            if !std::thread::panicking() {
                let _ = process.finish();
            }
        }
    }
}
