//! Where crun runs: Debian's refuses a host on which control groups of version 1 and 2 are mixed, so it gets namespaces of
//! its own that have version 2 at /sys/fs/cgroup, whatever the host has there. In the user namespace that takes everybody
//! keeps his number, and crun keeps the one power that newuidmap lends it outside.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use crate::harness::{Running, Sbx, require};

/// Waits for the maps, mounts, and runs one line after the other.
const SERVER: &str = "echo $$ ready; read -r go
# A host that has version 2 at /sys/fs/cgroup allows no second one right on it, but a bound one.
mount -t cgroup2 none $1 && mount --bind $1 /sys/fs/cgroup || exit
echo mounted
while read -r number line; do
    setpriv --inh-caps=-all,+setuid,+setgid --ambient-caps=-all,+setuid,+setgid sh -c \"$line\" </dev/null
    echo \"done $number $? .\"
done";

/// Of all that is run in it.
const TIMEOUT: Duration = Duration::from_secs(600);

pub struct View<'w> {
    server: Running<'w>,
    number: u32,
}

impl<'w> View<'w> {
    pub fn new(world: &'w Sbx) -> Self {
        for program in ["newuidmap", "setpriv"] {
            require(program);
        }
        let beside = world.work().join("cgroup");
        std::fs::create_dir(&beside).expect("a directory");
        let beside = beside.to_str().expect("a plain name");
        let unshare = ["--user", "--mount", "--cgroup", "--keep-caps", "sh", "-c", SERVER, "sh", beside];
        let unshare = world.program("unshare").args(unshare).stdin_from(Stdio::piped());
        let mut server = unshare.timeout(TIMEOUT).spawn();
        server.wait_for_stdout("ready\n");
        let pid = server.stdout_now().split(' ').next().expect("a number").to_owned();
        let (user, group) = (nix::unistd::geteuid().to_string(), nix::unistd::getegid().to_string());
        let name = nix::unistd::User::from_uid(nix::unistd::geteuid())
            .expect("the user database")
            .expect("an entry")
            .name;
        for (program, own, option) in [("newuidmap", user, &[][..]), ("newgidmap", group, &["-g"])] {
            let line = world.program("getsubids").args(option).arg(&name).succeed();
            let words: Vec<&str> = line.lines().next().expect("a line").split(' ').collect();
            let map = [&pid, &own, &own, "1", words[2], words[2], words[3]];
            world.program(program).args(map).expect_code(0);
        }
        server.stdin().write_all(b"go\n").expect("the view reads");
        server.wait_for_stdout("mounted\n");
        Self { server, number: 0 }
    }

    /// Runs a line of a shell, and gives the exit code.
    pub fn run(&mut self, line: &str) -> i32 {
        self.number += 1;
        writeln!(self.server.stdin(), "{} {line}", self.number).expect("the view reads");
        let mark = format!("done {} ", self.number);
        self.server.wait_for_stdout(&mark);
        loop {
            let said = self.server.stdout_now();
            let rest = said.rsplit_once(&mark).expect("it was there").1;
            if let Some((code, _)) = rest.split_once(' ') {
                return code.parse().expect("a code");
            }
        }
    }
}
