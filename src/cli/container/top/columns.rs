//! The columns that podman's `top` has words for.

use std::time::Duration;

use crate::container::processes::Process;
use crate::container::user::{group_entries, passwd_entries};
use crate::host::read_proc;
use crate::identity::IdMap;

/// Who is who in the container.
pub struct Accounts {
    pub users: IdMap,
    pub groups: IdMap,
    /// The texts of its files.
    pub passwd: Vec<u8>,
    pub group: Vec<u8>,
}

pub struct Column {
    words: &'static [&'static str],
    pub title: &'static str,
    pub cell: fn(&Process, &Accounts) -> String,
}

const COLUMNS: &[Column] = &[
    column(&["user", "euser", "uname"], "USER", |process, accounts| accounts.user(id(process, "Uid", 1))),
    column(&["ruser"], "RUSER", |process, accounts| accounts.user(id(process, "Uid", 0))),
    column(&["uid", "euid"], "UID", |process, accounts| accounts.uid(id(process, "Uid", 1))),
    column(&["group", "egroup"], "GROUP", |process, accounts| accounts.group(id(process, "Gid", 1))),
    column(&["rgroup"], "RGROUP", |process, accounts| accounts.group(id(process, "Gid", 0))),
    column(&["gid", "egid"], "GID", |process, accounts| accounts.gid(id(process, "Gid", 1))),
    column(&["groups"], "GROUPS", |process, accounts| {
        let groups = process.numbers("Groups");
        groups.into_iter().map(|gid| accounts.group(gid)).collect::<Vec<_>>().join(",")
    }),
    column(&["huser"], "HUSER", |process, _| host_user(id(process, "Uid", 1))),
    column(&["hgroup"], "HGROUP", |process, _| host_group(id(process, "Gid", 1))),
    column(&["pid"], "PID", |process, _| process.inner_pid.to_string()),
    column(&["ppid"], "PPID", |process, _| process.inner_parent.to_string()),
    column(&["hpid"], "HPID", |process, _| process.pid.to_string()),
    column(&["pgid", "pgrp"], "PGID", |process, _| {
        process.status("NSpgid").split_ascii_whitespace().next_back().unwrap_or("0").to_owned()
    }),
    column(&["pcpu", "%cpu"], "%CPU", |process, _| {
        let (time, age) = (process.time().as_secs_f64(), process.age.as_secs_f64());
        format!("{:.3}", if age > 0.0 { 100.0 * time / age } else { 0.0 })
    }),
    column(&["etime"], "ELAPSED", |process, _| span(process.age)),
    column(&["time", "cputime"], "TIME", |process, _| span(process.time())),
    column(&["tty", "tt"], "TTY", |process, _| process.terminal()),
    column(&["args", "command", "cmd"], "COMMAND", |process, _| process.command.clone()),
    column(&["comm", "ucmd"], "COMMAND", |process, _| process.name.clone()),
    column(&["state", "stat", "s"], "STATE", |process, _| process.state().to_owned()),
    column(&["nice", "ni"], "NI", |process, _| process.stat(19).to_string()),
    column(&["vsz", "vsize"], "VSZ", |process, _| (process.stat(23) / 1024).to_string()),
    column(&["rss"], "RSS", |process, _| process.status("VmRSS").trim_end_matches(" kB").to_owned()),
    column(&["seccomp"], "SECCOMP", |process, _| {
        let mode = process.status("Seccomp");
        match mode {
            "0" => "disabled",
            "1" => "strict",
            "2" => "filter",
            other => other,
        }
        .to_owned()
    }),
    column(&["capeff"], "EFFECTIVE CAPS", |process, _| capabilities(process, "CapEff")),
    column(&["capprm"], "PERMITTED CAPS", |process, _| capabilities(process, "CapPrm")),
    column(&["capbnd"], "BOUNDING CAPS", |process, _| capabilities(process, "CapBnd")),
    column(&["capinh"], "INHERITED CAPS", |process, _| capabilities(process, "CapInh")),
    column(&["capamb"], "AMBIENT CAPS", |process, _| capabilities(process, "CapAmb")),
];

/// podman's.
const DEFAULT: &[&str] = &["user", "pid", "ppid", "pcpu", "etime", "tty", "time", "args"];

const fn column(
    words: &'static [&'static str],
    title: &'static str,
    cell: fn(&Process, &Accounts) -> String,
) -> Column {
    Column { words, title, cell }
}

/// The columns that words mean, with commas or spaces between them; none: one of them means no column.
pub fn parse(words: &[String]) -> Option<Vec<&'static Column>> {
    let words: Vec<&str> =
        words.iter().flat_map(|word| word.split([',', ' '])).filter(|word| !word.is_empty()).collect();
    let words = if words.is_empty() { DEFAULT } else { &words[..] };
    let find = |word: &&str| {
        let word = word.to_ascii_lowercase();
        COLUMNS.iter().find(|column| column.words.contains(&word.as_str()))
    };
    words.iter().map(find).collect()
}

fn id(process: &Process, key: &str, which: usize) -> u32 {
    process.numbers(key).get(which).copied().unwrap_or(u32::MAX)
}

impl Accounts {
    fn uid(&self, host: u32) -> String {
        self.users.to_container(host).map_or_else(|| "?".to_owned(), |uid| uid.to_string())
    }

    fn gid(&self, host: u32) -> String {
        self.groups.to_container(host).map_or_else(|| "?".to_owned(), |gid| gid.to_string())
    }

    fn user(&self, host: u32) -> String {
        let Some(uid) = self.users.to_container(host) else { return "?".to_owned() };
        let found = passwd_entries(&self.passwd).find(|entry| entry.uid == uid);
        found.map_or_else(|| uid.to_string(), |entry| harmless(entry.name))
    }

    fn group(&self, host: u32) -> String {
        let Some(gid) = self.groups.to_container(host) else { return "?".to_owned() };
        let found = group_entries(&self.group).find(|entry| entry.gid == gid);
        found.map_or_else(|| gid.to_string(), |entry| harmless(entry.name))
    }
}

/// A name of an image, which may hold anything.
fn harmless(name: &[u8]) -> String {
    crate::output::harmless::lines(&String::from_utf8_lossy(name))
}

fn host_user(uid: u32) -> String {
    let text = read_proc("/etc/passwd").unwrap_or_default();
    let found = passwd_entries(text.as_bytes()).find(|entry| entry.uid == uid);
    found.map_or_else(|| uid.to_string(), |entry| harmless(entry.name))
}

fn host_group(gid: u32) -> String {
    let text = read_proc("/etc/group").unwrap_or_default();
    let found = group_entries(text.as_bytes()).find(|entry| entry.gid == gid);
    found.map_or_else(|| gid.to_string(), |entry| harmless(entry.name))
}

/// Names with commas; `full`: all that the kernel knows.
fn capabilities(process: &Process, key: &str) -> String {
    use crate::container::capabilities::CapSet;
    let Ok(bits) = u64::from_str_radix(process.status(key), 16) else { return "?".to_owned() };
    let set = CapSet(bits);
    if set.is_empty() {
        return "none".to_owned();
    }
    if set == CapSet::all() {
        return "full".to_owned();
    }
    let names = set.names();
    names.iter().map(|name| name.trim_start_matches("CAP_")).collect::<Vec<_>>().join(",")
}

/// In Go's notation, whole seconds.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_columns_or_options_of_ps() {
        let titles = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            parse(&words).map(|columns| columns.iter().map(|column| column.title).collect::<Vec<_>>())
        };
        let all = ["USER", "PID", "PPID", "%CPU", "ELAPSED", "TTY", "TIME", "COMMAND"];
        assert_eq!(titles(&[]).unwrap(), all);
        assert_eq!(titles(&["pid,hpid", "HUSER args"]).unwrap(), ["PID", "HPID", "HUSER", "COMMAND"]);
        assert_eq!(titles(&["-ef"]), None);
        assert_eq!(titles(&["aux"]), None);
        assert_eq!(titles(&["pid", "-o"]), None);
    }

    #[test]
    fn times_are_written_as_go_does() {
        let shown = |seconds| span(Duration::from_secs(seconds));
        assert_eq!([shown(0), shown(59), shown(61), shown(3661)], ["0s", "59s", "1m1s", "1h1m1s"]);
    }
}
