//! What is written down of a container's attempts to reach something: lines of JSON, never too many.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::refused::Target;
use crate::sys::time::Utc;

/// The same attempt within this time is counted, not told again.
const WINDOW: Duration = Duration::from_secs(10);
/// Lines for each container: so many at once, and then so many a second. The rest is counted.
const BURST: f64 = 200.0;
const A_SECOND: f64 = 10.0;
/// Attempts that are counted at a time.
const COUNTED: usize = 1024;

/// One line of a container's network log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub time: Utc,
    pub verdict: Verdict,
    /// `tcp`, `udp`, `icmp`, `dns` for a question that was not passed on, or the number of another protocol.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    /// What the name server was asked when it answered the address, or what it did not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// With the headers of IP; where a connection has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_sent: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_received: Option<u64>,
    /// How many attempts this line is for.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: u64,
}

fn one() -> u64 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands out references
fn is_one(count: &u64) -> bool {
    *count == 1
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// A connection was opened.
    Allowed,
    /// One that was allowed has ended.
    Closed,
    Refused,
    /// There were more lines than are written.
    Omitted,
}

impl Record {
    pub fn new(verdict: Verdict, protocol: &str) -> Self {
        let (name, address, port) = (None, None, None);
        Self {
            time: Utc::now(),
            verdict,
            protocol: protocol.to_owned(),
            name,
            address,
            port,
            bytes_sent: None,
            bytes_received: None,
            count: 1,
        }
    }

    /// About a connection, or the attempt to open one.
    pub fn of(verdict: Verdict, target: &Target, name: Option<String>) -> Self {
        let protocol = match target.protocol {
            6 => "tcp",
            17 => "udp",
            1 | 58 => "icmp",
            other => &other.to_string(),
        };
        Self { name, address: Some(target.address), port: target.port, ..Self::new(verdict, protocol) }
    }

    /// Without the line feed.
    pub fn line(&self) -> String {
        // Strings, numbers and addresses: nothing that could fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// For the screen: `TIME refused tcp example.org 192.0.2.7:443`.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Allowed => "allowed",
            Verdict::Closed => "closed",
            Verdict::Refused => "refused",
            Verdict::Omitted => return write!(f, "{} omitted {} lines", self.time, self.count),
        };
        write!(f, "{} {verdict} {}", self.time, self.protocol)?;
        if let Some(name) = &self.name {
            write!(f, " {name}")?;
        }
        match (self.address, self.port) {
            (Some(IpAddr::V6(address)), Some(port)) => write!(f, " [{address}]:{port}")?,
            (Some(address), Some(port)) => write!(f, " {address}:{port}")?,
            (Some(address), None) => write!(f, " {address}")?,
            (None, _) => {}
        }
        if let (Some(sent), Some(received)) = (self.bytes_sent, self.bytes_received) {
            write!(f, " sent={sent} received={received}")?;
        }
        if self.count > 1 { write!(f, " count={}", self.count) } else { Ok(()) }
    }
}

/// What makes attempts the same.
type Key = (Verdict, String, Option<String>, Option<IpAddr>, Option<u16>);

/// Keeps a container from filling a disk: the same attempt is told once in ten seconds and counted meanwhile, and
/// beyond a number of lines all are only counted.
#[derive(Debug)]
pub struct Brake {
    seen: HashMap<Key, (Instant, Record)>,
    tokens: f64,
    filled: Instant,
    omitted: u64,
    told_omitted: Instant,
}

impl Brake {
    pub fn new(now: Instant) -> Self {
        Self { seen: HashMap::new(), tokens: BURST, filled: now, omitted: 0, told_omitted: now }
    }

    /// The record, where it is to be told now.
    pub fn pass(&mut self, record: Record, now: Instant) -> Option<Record> {
        let key = (record.verdict, record.protocol.clone(), record.name.clone(), record.address, record.port);
        if let Some((_, counted)) = self.seen.get_mut(&key) {
            counted.count += record.count;
            counted.time = record.time;
            for (sum, more) in [
                (&mut counted.bytes_sent, record.bytes_sent),
                (&mut counted.bytes_received, record.bytes_received),
            ] {
                *sum = match (*sum, more) {
                    (Some(a), Some(b)) => Some(a.saturating_add(b)),
                    (a, b) => a.or(b),
                };
            }
            return None;
        }
        if self.seen.len() < COUNTED {
            let empty = Record { count: 0, bytes_sent: None, bytes_received: None, ..record.clone() };
            self.seen.insert(key, (now, empty));
        }
        self.afford(record, now)
    }

    /// What was counted and is due: all of it at the end of a container's life.
    pub fn due(&mut self, now: Instant, end: bool) -> Vec<Record> {
        let mut due = Vec::new();
        self.seen.retain(|_, (since, counted)| {
            let over = end || now.duration_since(*since) >= WINDOW;
            if over && counted.count > 0 {
                due.push(counted.clone());
            }
            !over
        });
        due.sort_by_key(|record| record.time);
        let mut due: Vec<Record> = due.into_iter().filter_map(|record| self.afford(record, now)).collect();
        if self.omitted > 0 && (end || now.duration_since(self.told_omitted) >= WINDOW) {
            let count = std::mem::take(&mut self.omitted);
            due.push(Record { count, ..Record::new(Verdict::Omitted, "") });
            self.told_omitted = now;
        }
        due
    }

    fn afford(&mut self, record: Record, now: Instant) -> Option<Record> {
        self.tokens = BURST.min(self.tokens + now.duration_since(self.filled).as_secs_f64() * A_SECOND);
        self.filled = now;
        if self.tokens < 1.0 {
            self.omitted += record.count;
            return None;
        }
        self.tokens -= 1.0;
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(last: u8) -> Record {
        let target = Target { protocol: 6, address: [192, 0, 2, last].into(), port: Some(443) };
        Record::of(Verdict::Refused, &target, None)
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let record = Record { name: Some("example.org".into()), bytes_sent: Some(3), ..refused(7) };
        let line = record.line();
        assert!(!line.contains("count") && !line.contains("bytes_received"), "{line}");
        assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record);
        let shown = record.to_string();
        assert!(shown.ends_with(" refused tcp example.org 192.0.2.7:443"), "{shown}");
    }

    #[test]
    fn the_same_attempt_is_told_once_and_then_counted() {
        let start = Instant::now();
        let mut brake = Brake::new(start);
        assert!(brake.pass(refused(1), start).is_some());
        assert!(brake.pass(refused(2), start).is_some());
        for _ in 0..5 {
            assert!(brake.pass(refused(1), start).is_none());
        }
        assert!(brake.due(start + WINDOW / 2, false).is_empty());
        let due = brake.due(start + WINDOW, false);
        assert_eq!(due.iter().map(|record| record.count).collect::<Vec<_>>(), [5]);
        assert!(brake.pass(refused(1), start + WINDOW).is_some(), "a new window");
    }

    #[test]
    fn a_flood_of_different_attempts_is_counted() {
        let start = Instant::now();
        let mut brake = Brake::new(start);
        let record = |number: u16| Record { port: Some(number), ..refused(1) };
        let told = (0..10_000).filter_map(|number| brake.pass(record(number), start)).count();
        assert_eq!(told, 200);
        let due = brake.due(start, true);
        assert_eq!((due.len(), due[0].verdict, due[0].count), (1, Verdict::Omitted, 9800));
        let later = start + Duration::from_secs(3);
        let told = (0..10_000).filter_map(|number| brake.pass(record(number), later)).count();
        assert_eq!(told, 30);
    }
}
