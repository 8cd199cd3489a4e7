//! `sbx oci events`

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::pread;
use serde_json::{Value, json};

use crate::container::duration;
use crate::container::process::ProcessRef;
use crate::error::{Result, Step};
use crate::oci::freeze;
use crate::oci::state::{Container, Root, Status};
use crate::output::print::{self, Reader};

/// Tell what a container takes, a line of JSON each time, and when memory runs out
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx oci events --stats web
  sbx oci events --interval 10s web")]
pub struct EventsArgs {
    /// How often, such as `5s`
    #[arg(long, value_name = "TIME", default_value = "5s")]
    interval: String,
    /// Once
    #[arg(long)]
    stats: bool,
    /// The container's ID
    #[arg(value_name = "ID")]
    id: String,
}

pub fn execute(args: &EventsArgs, root: &Root) -> Result<u8> {
    let container = root.find(&args.id)?;
    let interval = duration::parse("--interval", &args.interval)?.max(Duration::from_millis(10));
    let group = freeze::group(&container)?;
    // Nothing counts memory where there is no such file.
    let events = File::open(group.join("memory.events")).ok();
    let mut killed = oom_kills(events.as_ref());
    let mut due = Instant::now();
    loop {
        // That it has ended, once its last word has been told.
        let has_ended = container.status() == Status::Stopped;
        let now = oom_kills(events.as_ref());
        if now > killed {
            killed = now;
            tell(&container, "oom", None)?;
        }
        if has_ended {
            return Ok(0);
        }
        if Instant::now() >= due {
            if tell(&container, "stats", Some(statistics(&group)))? == Reader::Gone || args.stats {
                return Ok(0);
            }
            due = Instant::now() + interval;
        }
        wait(&container, events.as_ref(), due.saturating_duration_since(Instant::now()))?;
    }
}

/// Until memory runs out, the container ends, or the time is over.
fn wait(container: &Container, events: Option<&File>, time: Duration) -> Result<()> {
    let Some(process) = container.init().and_then(ProcessRef::open) else { return Ok(()) };
    let mut polled = vec![PollFd::new(&process, PollFlags::IN)];
    // kernfs tells changes since the last reading with POLLPRI.
    polled.extend(events.map(|file| PollFd::new(file, PollFlags::PRI)));
    let time = Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: i64::from(time.subsec_nanos()) };
    match poll(&mut polled, Some(&time)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(std::io::Error::from(errno)).step(|| "cannot wait for events of the container"),
    }
}

fn tell(container: &Container, kind: &str, data: Option<Value>) -> Result<Reader> {
    let mut event = json!({ "type": kind, "id": container.state.id });
    if let Some(data) = data {
        event["data"] = data;
    }
    print::line(&serde_json::to_string(&event).step(|| "cannot write JSON")?)
}

fn read(group: &Path, file: &str) -> String {
    std::fs::read_to_string(group.join(file)).unwrap_or_default()
}

/// One value of a file of lines `key value`.
fn value(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

fn oom_kills(events: Option<&File>) -> u64 {
    let mut text = [0_u8; 4096];
    let length = events.map_or(0, |file| pread(file, &mut text[..], 0).unwrap_or(0));
    value(&String::from_utf8_lossy(&text[..length]), "oom_kill")
}

/// In the form of runc, as far as version 2 says it; nanoseconds and bytes.
fn statistics(group: &Path) -> Value {
    let cpu = read(group, "cpu.stat");
    let number = |file: &str| read(group, file).trim().parse::<u64>().ok();
    let memory = json!({
        "usage": number("memory.current").unwrap_or(0),
        "limit": number("memory.max"),
        "failcnt": value(&read(group, "memory.events"), "max"),
    });
    json!({
        "cpu": {
            "usage": {
                "total": value(&cpu, "usage_usec") * 1000,
                "user": value(&cpu, "user_usec") * 1000,
                "kernel": value(&cpu, "system_usec") * 1000,
            },
            "throttling": {
                "periods": value(&cpu, "nr_periods"),
                "throttledPeriods": value(&cpu, "nr_throttled"),
                "throttledTime": value(&cpu, "throttled_usec") * 1000,
            },
        },
        "memory": { "usage": memory },
        "pids": { "current": number("pids.current").unwrap_or(0), "limit": number("pids.max") },
    })
}
