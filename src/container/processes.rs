//! The processes of a running container, as /proc of the host shows them.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::container::process::ProcessRef;
use crate::error::{Error, Result, Step};
use crate::host::read_proc;
use crate::identity::IdMap;
use crate::identity::map::parse_proc;

/// Ticks of a second in what the kernel tells (time(7)): the same on every architecture that sbx is made for.
const USER_HZ: u64 = 100;

/// One process.
#[derive(Debug, Clone)]
pub struct Process {
    /// On the host.
    pub pid: i32,
    /// In the container's PID namespace.
    pub inner_pid: i32,
    /// 0: the parent is not in the container.
    pub inner_parent: i32,
    /// `KEY: VALUE` of proc_pid_status(5).
    status: HashMap<String, String>,
    /// The fields of proc_pid_stat(5) from the third on.
    stat: Vec<String>,
    pub name: String,
    /// Its words, with spaces between; the name in brackets where it has none.
    pub command: String,
    /// Since its start.
    pub age: Duration,
}

impl Process {
    /// A field of proc_pid_stat(5), by its number there.
    pub fn stat(&self, number: usize) -> i64 {
        self.stat.get(number.saturating_sub(3)).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    pub fn state(&self) -> &str {
        self.stat.first().map_or("?", String::as_str)
    }

    /// A line of proc_pid_status(5).
    pub fn status(&self, key: &str) -> &str {
        self.status.get(key).map_or("", String::as_str)
    }

    /// The numbers of such a line: of `Uid` and `Gid` the real, effective, saved and file system ID on the host.
    pub fn numbers(&self, key: &str) -> Vec<u32> {
        self.status(key).split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect()
    }

    /// Processor time.
    pub fn time(&self) -> Duration {
        let ticks = self.stat(14) + self.stat(15);
        ticks_to_time(ticks.cast_unsigned())
    }

    /// `pts/0`; `?`: none.
    pub fn terminal(&self) -> String {
        // new_encode_dev of linux/kdev_t.h; majors 136 to 143 are pseudo-terminals.
        let device = self.stat(7).cast_unsigned();
        let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
        match major {
            136..=143 => format!("pts/{}", minor + (major - 136) * 256),
            4 => format!("tty{minor}"),
            _ => "?".to_owned(),
        }
    }
}

/// The users or groups of the container's user namespace, as the host numbers them.
pub fn map_of(init: i32, file: &str) -> Result<IdMap> {
    let path = format!("/proc/{init}/{file}");
    let text = read_proc(&path).step(|| format!("cannot read `{path}`"))?;
    parse_proc(&text).map(IdMap).step(|| format!("cannot understand `{path}`"))
}

/// What is needed of every process to tell whose it is.
struct Seen {
    parent: i32,
    /// The PID in each namespace from ours down to its own.
    pids: Vec<i32>,
    status: HashMap<String, String>,
    /// Of the PID and of the user namespace; none: it is closed to us, as an init of sbx is.
    namespaces: Option<(String, String)>,
}

/// All processes of the container whose first process is `init`, by their PIDs in it. `servers` are in its user
/// namespace, but serve it.
///
/// # Errors
/// The container has ended.
pub fn of_container(init: i32, servers: &[ProcessRef]) -> Result<Vec<Process>> {
    let serves = |pid: &i32| servers.iter().any(|server| server.pid == *pid);
    let all: HashMap<i32, Seen> =
        every_pid().into_iter().filter(|pid| !serves(pid)).filter_map(|pid| Some((pid, see(pid)?))).collect();
    let ended = || Error::new("cannot list the processes of the container").because("it has ended");
    let first = all.get(&init).ok_or_else(ended)?;
    let depth = first.pids.len().saturating_sub(1);
    let mut members = members(init, &all);
    members.sort_unstable_by_key(|pid| all[pid].pids.get(depth).copied().unwrap_or(*pid));
    let inner = |pid: i32| all.get(&pid).and_then(|seen| seen.pids.get(depth)).copied();
    let chosen: HashSet<i32> = members.iter().copied().collect();
    let up = uptime();
    let found = members.into_iter().filter_map(|pid| {
        let seen = &all[&pid];
        let stat = read_proc(format!("/proc/{pid}/stat")).ok()?;
        let (head, rest) = stat.rsplit_once(") ")?;
        let name = head.split_once('(').map_or("", |(_, name)| name).to_owned();
        let stat: Vec<String> = rest.split_ascii_whitespace().map(str::to_owned).collect();
        let begun = ticks_to_time(stat.get(19).and_then(|text| text.parse().ok()).unwrap_or(0));
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).trim_end_matches('\0').replace('\0', " ");
        Some(Process {
            pid,
            inner_pid: inner(pid).unwrap_or(pid),
            inner_parent: Some(seen.parent)
                .filter(|parent| chosen.contains(parent))
                .and_then(inner)
                .unwrap_or(0),
            status: seen.status.clone(),
            command: if words.is_empty() { format!("[{name}]") } else { words },
            name,
            stat,
            age: up.saturating_sub(begun),
        })
    });
    Ok(found.collect())
}

/// Who shares the namespaces of the first process; and who is closed to us and descends from one of those.
fn members(init: i32, all: &HashMap<i32, Seen>) -> Vec<i32> {
    let of_init = || {
        let own = all.get(&init)?.namespaces.clone();
        let of_child = || all.values().find(|seen| seen.parent == init && seen.namespaces.is_some());
        own.or_else(|| of_child()?.namespaces.clone())
    };
    let own = links("self");
    let mut members: HashSet<i32> = HashSet::from([init]);
    if let Some((pids, users)) = of_init() {
        // Where the PID namespace is the host's, the user namespace tells.
        let shared = own.is_none_or(|own| own.0 == pids);
        let is_member = |seen: &Seen| {
            seen.namespaces.as_ref().is_some_and(|theirs| match shared {
                true => theirs.1 == users,
                false => theirs.0 == pids,
            })
        };
        members.extend(all.iter().filter(|(_, seen)| is_member(seen)).map(|(pid, _)| *pid));
    }
    loop {
        let of_members = |(pid, seen): (&i32, &Seen)| {
            let closed = seen.namespaces.is_none() && members.contains(&seen.parent);
            (closed && !members.contains(pid)).then_some(*pid)
        };
        let more: Vec<i32> = all.iter().filter_map(of_members).collect();
        if more.is_empty() {
            return members.into_iter().collect();
        }
        members.extend(more);
    }
}

fn every_pid() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn see(pid: i32) -> Option<Seen> {
    let text = read_proc(format!("/proc/{pid}/status")).ok()?;
    let status: HashMap<String, String> = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
        .collect();
    let pids = status.get("NSpid").map_or_else(Vec::new, |text| {
        text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect()
    });
    Some(Seen {
        parent: status.get("PPid")?.parse().ok()?,
        pids,
        namespaces: links(&pid.to_string()),
        status,
    })
}

fn links(pid: &str) -> Option<(String, String)> {
    let link = |name: &str| {
        let path = Path::new("/proc").join(pid).join("ns").join(name);
        fs::read_link(path).ok()?.into_os_string().into_string().ok()
    };
    Some((link("pid")?, link("user")?))
}

fn ticks_to_time(ticks: u64) -> Duration {
    Duration::from_millis(ticks.saturating_mul(1000 / USER_HZ))
}

/// proc_uptime(5).
fn uptime() -> Duration {
    let text = read_proc("/proc/uptime").unwrap_or_default();
    let seconds = text.split_ascii_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
    Duration::from_secs_f64(f64::max(seconds, 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_described() {
        let own = std::process::id().cast_signed();
        let found = of_container(own, &[]).unwrap();
        let this = found.iter().find(|process| process.pid == own).unwrap();
        assert_eq!(this.status("Name"), this.name);
        assert_eq!(this.numbers("Uid")[1], rustix::process::geteuid().as_raw());
        assert!(this.age < Duration::from_secs(3600), "{:?}", this.age);
        assert!(this.command.contains("sbx"), "{}", this.command);
        assert!(of_container(i32::MAX, &[]).is_err());
    }
}
