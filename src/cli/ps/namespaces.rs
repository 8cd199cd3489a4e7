//! `ps --ns`: the namespaces of each container's first process, by the numbers of their inodes (namespaces(7)).

use serde_json::{Map, Value, json};

use crate::output::table::Table;

/// podman's titles, and the files below `/proc/PID/ns`.
const COLUMNS: &[(&str, &str)] = &[
    ("CGROUPNS", "cgroup"),
    ("IPC", "ipc"),
    ("MNT", "mnt"),
    ("NET", "net"),
    ("PIDNS", "pid"),
    ("USERNS", "user"),
    ("UTS", "uts"),
];

pub(super) fn table<'r>(
    rows: impl IntoIterator<Item = (&'r str, &'r str, i32)>,
    with_heading: bool,
) -> String {
    let titles = ["CONTAINER ID", "NAMES", "PID"].into_iter().chain(COLUMNS.iter().map(|(title, _)| *title));
    let mut table = if with_heading { Table::new(titles) } else { Table::without_header() };
    for (id, name, pid) in rows {
        let mut cells = vec![id.to_owned(), name.to_owned(), pid.to_string()];
        cells.extend(COLUMNS.iter().map(|(_, file)| of(pid, file)));
        table.push(cells);
    }
    table.render()
}

/// `{"Ipc": "4026531839"}`, as in podman's JSON.
pub(super) fn json(pid: i32) -> Value {
    let numbers = COLUMNS.iter().map(|(_, file)| (podmans_key(file), json!(of(pid, file))));
    numbers.collect::<Map<_, _>>().into()
}

fn podmans_key(file: &str) -> String {
    match file {
        "pid" => "PidNS".to_owned(),
        "user" => "User".to_owned(),
        _ => file[..1].to_uppercase() + &file[1..],
    }
}

/// Empty for a container that is down.
fn of(pid: i32, file: &str) -> String {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/{file}")).unwrap_or_default();
    let text = link.to_string_lossy();
    text.split_once('[').map(|(_, number)| number.trim_end_matches(']').to_owned()).unwrap_or_default()
}
