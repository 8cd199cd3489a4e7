//! What a container takes of the machine, as its cgroup and its network devices count it.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::container::control_group;
use crate::container::list::{Listed, Status};
use crate::container::spec::Namespace;
use crate::container::store::Store;
use crate::error::{Error, Result};
use crate::host::read_proc;
use crate::sys::time::Utc;

/// At one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub at: Utc,
    pub started: Utc,
    /// Processor time of all its processes since it started.
    pub cpu: Duration,
    /// In bytes; none: the controller is not in use.
    pub memory: Option<Memory>,
    /// Bytes received and sent since it started; none: the network is not its own.
    pub network: Option<Traffic>,
    /// Bytes read from and written to devices; none: the controller is not in use.
    pub devices: Option<Traffic>,
    /// Processes and threads.
    pub tasks: u64,
    pub pressure: Pressure,
}

/// For how many percent of the last ten seconds some of its tasks waited (psi.rst of the kernel); none: the kernel
/// does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    pub cpu: Option<f64>,
    pub memory: Option<f64>,
    pub io: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Without the cache of files that nobody uses at the moment.
    pub used: u64,
    /// That of the cgroup or, where it has none, all there is.
    pub limit: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    pub incoming: u64,
    pub outgoing: u64,
}

impl Sample {
    /// Reads that of a container that runs.
    ///
    /// # Errors
    /// It is down, or has no cgroup.
    pub fn take(store: &Store, found: &Listed) -> Result<Self> {
        let name = found.spec.as_ref().map_or(found.id.as_str(), |spec| spec.name.as_str());
        let (Status::Running { since, pid } | Status::Paused { since, pid }) = found.status else {
            return Err(Error::new(format!("container {name} is not running")));
        };
        let record = store.running_record(&found.id)?;
        let recorded = record.cgroup.ok_or_else(|| control_group::none_error(name))?;
        let group = control_group::find(&recorded).ok_or_else(|| {
            Error::new(format!("cannot find the control group of container {name}"))
                .because(format!("there is no `{}` below the cgroup file system here", recorded.display()))
        })?;
        let own_network = found.spec.as_ref().is_some_and(|spec| spec.namespaces.net != Namespace::Host);
        Ok(Self {
            at: Utc::now(),
            started: since,
            cpu: cpu(&group)?,
            memory: memory(&group),
            network: own_network.then(|| network(&read_proc(format!("/proc/{pid}/net/dev")).ok()?)).flatten(),
            devices: fs::read_to_string(group.join("io.stat")).ok().map(|text| devices(&text)),
            tasks: number(&group.join("pids.current")).unwrap_or_else(|| tasks(&group)),
            pressure: pressure(&group),
        })
    }

    /// Percent of one processor since `before`; without it, since the container started.
    pub fn cpu_percent(&self, before: Option<&Self>) -> f64 {
        // One that was started again counts anew.
        let before = before.filter(|before| before.started == self.started);
        let (cpu, since) = before.map_or((Duration::ZERO, self.started), |before| (before.cpu, before.at));
        let elapsed = seconds(self.at) - seconds(since);
        if elapsed <= 0.0 { 0.0 } else { 100.0 * self.cpu.saturating_sub(cpu).as_secs_f64() / elapsed }
    }
}

impl Memory {
    pub fn percent(self) -> f64 {
        if self.limit == 0 { 0.0 } else { 100.0 * self.used as f64 / self.limit as f64 }
    }
}

fn seconds(time: Utc) -> f64 {
    time.seconds() as f64 + f64::from(time.nanoseconds()) / 1e9
}

/// usage_usec of cpu.stat is there with and without the controller.
fn cpu(group: &Path) -> Result<Duration> {
    let path = group.join("cpu.stat");
    let text = fs::read_to_string(&path)
        .map_err(|error| Error::new(format!("cannot read `{}`", path.display())).because(error))?;
    Ok(Duration::from_micros(pairs(&text).get("usage_usec").copied().unwrap_or(0)))
}

fn memory(group: &Path) -> Option<Memory> {
    let current = number(&group.join("memory.current"))?;
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let inactive = pairs(&stat).get("inactive_file").copied().unwrap_or(0);
    let machine = machine_memory(&read_proc("/proc/meminfo").unwrap_or_default());
    // `max` is no number.
    let limit = number(&group.join("memory.max")).unwrap_or(u64::MAX).min(machine);
    Some(Memory { used: current.saturating_sub(inactive), limit })
}

fn pressure(group: &Path) -> Pressure {
    let some = |file: &str| {
        let text = fs::read_to_string(group.join(file)).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
        line.split_whitespace().find_map(|word| word.strip_prefix("avg10=")?.parse().ok())
    };
    Pressure { cpu: some("cpu.pressure"), memory: some("memory.pressure"), io: some("io.pressure") }
}

fn machine_memory(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: Option<u64> = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

/// Of all devices but the loopback one; proc_net(5).
fn network(text: &str) -> Option<Traffic> {
    let mut sum = Traffic::default();
    for line in text.lines().skip(2) {
        let (name, counters) = line.split_once(':')?;
        if name.trim() == "lo" {
            continue;
        }
        let counters: Vec<u64> =
            counters.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        sum.incoming = sum.incoming.saturating_add(*counters.first()?);
        sum.outgoing = sum.outgoing.saturating_add(*counters.get(8)?);
    }
    Some(sum)
}

/// `MAJOR:MINOR rbytes=N wbytes=N …` of each device.
fn devices(text: &str) -> Traffic {
    let sum = |key: &str| {
        let values = text.split_whitespace().filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok());
        values.fold(0, u64::saturating_add)
    };
    Traffic { incoming: sum("rbytes="), outgoing: sum("wbytes=") }
}

/// Where the controller does not count them.
fn tasks(group: &Path) -> u64 {
    let own = fs::read_to_string(group.join("cgroup.threads")).map_or(0, |text| text.lines().count() as u64);
    let below = fs::read_dir(group).into_iter().flatten().flatten();
    let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    below.map(|entry| tasks(&entry.path())).fold(own, u64::saturating_add)
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn pairs(text: &str) -> HashMap<&str, u64> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(key, value)| Some((key, value.trim().parse().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: i64, cpu: u64) -> Sample {
        Sample {
            at: Utc::at(at, 0),
            started: Utc::at(1000, 0),
            cpu: Duration::from_secs(cpu),
            memory: None,
            network: None,
            devices: None,
            tasks: 1,
            pressure: Pressure::default(),
        }
    }

    #[test]
    fn processor_time_is_of_one_processor_and_since_the_sample_before() {
        let (first, second) = (sample(1010, 5), sample(1012, 8));
        assert!((first.cpu_percent(None) - 50.0).abs() < 0.001);
        assert!((second.cpu_percent(Some(&first)) - 150.0).abs() < 0.001);
        let again = Sample { started: Utc::at(1011, 0), ..sample(1012, 1) };
        assert!((again.cpu_percent(Some(&first)) - 100.0).abs() < 0.001);
        assert!(sample(1000, 5).cpu_percent(None).abs() < 0.001);
    }

    #[test]
    fn controllers_are_read_where_they_are() {
        let group = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(group.path().join(name), text).unwrap();
        assert!(cpu(group.path()).is_err());
        write("cpu.stat", "usage_usec 1500000\nuser_usec 1\n");
        assert_eq!(cpu(group.path()).unwrap(), Duration::from_millis(1500));
        assert_eq!(memory(group.path()), None);
        write("memory.current", "5000\n");
        write("memory.stat", "anon 1\ninactive_file 2000\n");
        write("memory.max", "10000\n");
        let memory = memory(group.path()).unwrap();
        assert_eq!(memory, Memory { used: 3000, limit: 10000 });
        assert!((memory.percent() - 30.0).abs() < 0.001);
        write("memory.max", "max\n");
        assert!(super::memory(group.path()).unwrap().limit > 10000);
        assert_eq!(pressure(group.path()), Pressure::default());
        write("cpu.pressure", "some avg10=1.25 avg60=2.00 total=9\nfull avg10=0.50 avg60=0.00 total=1\n");
        assert_eq!(pressure(group.path()).cpu, Some(1.25));
        write("cgroup.threads", "1\n2\n");
        fs::create_dir(group.path().join("below")).unwrap();
        write("below/cgroup.threads", "3\n");
        assert_eq!(tasks(group.path()), 3);
    }

    #[test]
    fn traffic_is_summed() {
        let text = "Inter-| Receive | Transmit\n face |bytes ...|bytes\n    lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n\
                    tap0: 100 1 0 0 0 0 0 0 30 1 0 0 0 0 0 0\n  eth1:5 1 0 0 0 0 0 0 6 1 0 0 0 0 0 0\n";
        assert_eq!(network(text), Some(Traffic { incoming: 105, outgoing: 36 }));
        assert_eq!(network("a\nb\nnonsense\n"), None);
        let text = "8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=1 wbytes=2\n";
        assert_eq!(devices(text), Traffic { incoming: 11, outgoing: 22 });
    }
}
