//! An example of a `config.json`, for `spec` and `bundle`.

use serde_json::{Value, json};

use crate::identity::Identity;

/// The lowest version of the specification that has all that is written here: some runtimes refuse later ones than they know.
const VERSION: &str = "1.0.2";

/// Paths of the kernel's file systems that tell of the host, or change it.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Whose IDs the bundle has.
pub enum Users<'a> {
    /// Nobody's but those of who runs it: root.
    Host,
    /// The caller is root in it, and there is nobody else.
    Caller { uid: u32, gid: u32 },
    /// The canonical maps of this host.
    Canonical(&'a Identity),
}

/// What runs in it, if not a shell.
pub struct Command<'a> {
    pub args: &'a [String],
    pub env: &'a [String],
    pub cwd: &'a str,
    pub terminal: bool,
    pub uid: u32,
    pub gid: u32,
    pub groups: &'a [u32],
    pub capabilities: &'a [String],
    pub no_new_privileges: bool,
}

/// A bundle that runc, crun and sbx run alike.
pub fn config(command: &Command<'_>, users: &Users<'_>, read_only: bool) -> Value {
    let rootless = !matches!(users, Users::Host);
    let capabilities = command.capabilities;
    let mut user = json!({ "uid": command.uid, "gid": command.gid });
    if !command.groups.is_empty() {
        user["additionalGids"] = json!(command.groups);
    }
    let mut namespaces = vec!["pid", "ipc", "uts", "mount", "cgroup"];
    if rootless {
        namespaces.push("user");
    } else {
        namespaces.push("network");
    }
    let namespaces: Vec<Value> = namespaces.into_iter().map(|kind| json!({ "type": kind })).collect();
    let mut linux = json!({
        "namespaces": namespaces,
        "maskedPaths": MASKED,
        "readonlyPaths": READ_ONLY,
    });
    match users {
        Users::Host => {
            linux["resources"] = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
        }
        Users::Caller { uid, gid } => {
            linux["uidMappings"] = json!([{ "containerID": 0, "hostID": uid, "size": 1 }]);
            linux["gidMappings"] = json!([{ "containerID": 0, "hostID": gid, "size": 1 }]);
        }
        Users::Canonical(identity) => {
            let lines = |map: &crate::identity::IdMap| {
                let line = |line: &crate::identity::MapLine| json!({ "containerID": line.inside, "hostID": line.outside, "size": line.count });
                map.0.iter().map(line).collect::<Vec<_>>()
            };
            linux["uidMappings"] = json!(lines(&identity.uid_map));
            linux["gidMappings"] = json!(lines(&identity.gid_map));
        }
    }
    json!({
        "ociVersion": VERSION,
        "process": {
            "terminal": command.terminal,
            "user": user,
            "args": command.args,
            "env": command.env,
            "cwd": command.cwd,
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": command.no_new_privileges,
        },
        "root": { "path": "rootfs", "readonly": read_only },
        "hostname": "sbx",
        "mounts": mounts(users),
        "linux": linux,
    })
}

fn mounts(users: &Users<'_>) -> Value {
    let sys = match users {
        // A sysfs shows a network namespace, and these have the caller's.
        Users::Host => json!({
            "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"],
        }),
        _ => json!({
            "destination": "/sys", "type": "none", "source": "/sys",
            "options": ["rbind", "nosuid", "noexec", "nodev", "ro"],
        }),
    };
    let mut terminals = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    let has_tty = match users {
        Users::Host => true,
        Users::Caller { .. } => false,
        Users::Canonical(identity) => identity.gid_map.to_host(5).is_some(),
    };
    if has_tty {
        terminals.push("gid=5");
    }
    json!([
        { "destination": "/proc", "type": "proc", "source": "proc" },
        { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
          "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
        { "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": terminals },
        { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
          "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
        { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
          "options": ["nosuid", "noexec", "nodev"] },
        sys,
        { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
          "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] },
    ])
}
