//! What a test left behind: its processes by their mark, mounts and files by the test's directory.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use super::prerequisites::patience;
use super::world::Sbx;

/// Time for helpers to follow the container that they served.
const SETTLE: Duration = Duration::from_secs(5);

#[derive(Default)]
pub struct Leftovers {
    pub processes: Vec<Process>,
    /// Mount points, of this process's mount namespace, that mention the test's directory.
    pub mounts: Vec<PathBuf>,
    /// Containers in the store and what sbx keeps of running ones.
    pub records: Vec<PathBuf>,
}

pub struct Process {
    pub pid: Pid,
    pub command: String,
}

impl Leftovers {
    pub(super) fn find(world: &Sbx) -> Self {
        Self {
            processes: marked(world.mark()),
            mounts: mounts_mentioning(world.directory()),
            records: records(world),
        }
    }

    /// Looks again until `good` or five seconds are over.
    pub(super) fn settle(world: &Sbx, good: impl Fn(&Self) -> bool) -> Self {
        let deadline = Instant::now() + patience(SETTLE);
        loop {
            let left = Self::find(world);
            if good(&left) || Instant::now() > deadline {
                return left;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.processes.is_empty() && self.mounts.is_empty() && self.records.is_empty()
    }

    /// Kills the processes and detaches the mounts, deepest first.
    pub(super) fn end(&self) {
        for process in &self.processes {
            // Gone meanwhile is as good.
            let _ = signal::kill(process.pid, Signal::SIGKILL);
        }
        for mount in self.mounts.iter().rev() {
            let ended = std::process::Command::new("fusermount3").arg("-uz").arg(mount).output();
            if !ended.is_ok_and(|output| output.status.success()) {
                let _ = nix::mount::umount2(mount, nix::mount::MntFlags::MNT_DETACH);
            }
        }
    }
}

impl fmt::Display for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for process in &self.processes {
            writeln!(f, "process {}: {}", process.pid, process.command)?;
        }
        for mount in &self.mounts {
            writeln!(f, "mount {}", mount.display())?;
        }
        for record in &self.records {
            writeln!(f, "record {}", record.display())?;
        }
        Ok(())
    }
}

/// Every process, in whatever namespace and of whatever user, that a command of the world started.
fn marked(mark: u64) -> Vec<Process> {
    let mark = mark.to_string();
    let pids = fs::read_dir("/proc")
        .expect("cannot read /proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
        let soft = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max file locks"))
            .and_then(|rest| rest.split_whitespace().next());
        soft == Some(&mark)
    })
    .filter(|pid| !is_others_zombie(*pid))
    .map(|pid| Process { pid: Pid::from_raw(pid), command: command_line(pid) })
    .collect()
}

/// A dead child that the test has not waited for yet is the test's own business, and one that PID 1 has not,
/// which in some containers takes it seconds, is that process's.
fn is_others_zombie(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    let zombie = fields.next() == Some("Z");
    let parent = fields.next().and_then(|parent| parent.parse().ok());
    zombie && [Some(1), Some(std::process::id())].contains(&parent)
}

fn command_line(pid: i32) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if words.is_empty() {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        return format!("[{}]", name.trim_end());
    }
    words
        .split(|byte| *byte == 0)
        .map(String::from_utf8_lossy)
        .collect::<Vec<_>>()
        .join(" ")
        .trim_end()
        .to_owned()
}

/// proc_pid_mountinfo(5): the fifth field is the mount point, with `\040` for a space.
fn mounts_mentioning(directory: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").expect("cannot read /proc/self/mountinfo");
    let directory = directory.to_str().expect("the test's directory has a plain name");
    text.lines()
        .filter(|line| line.contains(directory))
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(point.replace("\\040", " ")))
        .collect()
}

fn records(world: &Sbx) -> Vec<PathBuf> {
    let runtime = world.runtime().join("sbx");
    let places = [
        world.store().join("containers"),
        world.store().join("running"),
        world.store().join("removed"),
        runtime.join("containers"),
        runtime.join("running"),
    ];
    let entries = places.iter().filter_map(|place| fs::read_dir(place).ok()).flatten();
    entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::sbx;
    use super::*;

    #[test]
    fn a_process_that_left_its_session_and_environment_is_found() {
        let mut world = sbx();
        world.allow_leftovers();
        let script = "env -i setsid sleep 1000 >/dev/null 2>&1 &";
        world.program("sh").args(["-c", script]).expect_code(0);
        let left = Leftovers::settle(&world, |left| left.processes.iter().any(|p| p.command == "sleep 1000"));
        assert_eq!(left.processes.len(), 1, "{left}");
        assert!(sbx().leftovers().processes.is_empty());
        left.end();
        assert!(Leftovers::settle(&world, Leftovers::is_empty).is_empty());
    }

    #[test]
    fn a_leaking_test_fails() {
        let leak = std::panic::catch_unwind(|| {
            let world = sbx();
            world.program("sh").args(["-c", "setsid sleep 1000 >/dev/null 2>&1 &"]).expect_code(0);
        });
        let text = leak.expect_err("the leak went unseen").downcast::<String>().expect("a message");
        assert!(text.contains("sleep 1000"), "{text}");
    }

    #[test]
    fn a_container_left_in_the_store_is_a_leftover() {
        let world = sbx();
        assert!(world.leftovers().is_empty());
        fs::create_dir_all(world.store().join("containers/0123")).expect("a directory");
        assert_eq!(world.leftovers().records, [world.store().join("containers/0123")]);
    }
}
