//! Whether the caller was given a cgroup to freeze containers, to count what they take and to set limits in.

use super::{Check, Situation};
use crate::delegation::{self, DROP_IN, Kind, Way};
use crate::host::cgroup::{self, Version};

/// What limits of memory, processors and processes need.
const WANTED: &[&str] = &["cpu", "memory", "pids"];

pub(super) fn checks(situation: &Situation) -> Vec<Check> {
    vec![delegation(cgroup::read().version, &delegation::way(), situation)]
}

fn delegation(version: Version, way: &Way, situation: &Situation) -> Check {
    let check = |found: String| Check::ok("cgroup-delegation", "cgroup delegation", found);
    let stops = "`sbx pause`, `sbx stats`, and limits such as `--memory`";
    if version != Version::V2 {
        let found = match version {
            Version::None => "no cgroup file system at /sys/fs/cgroup",
            Version::V1 => "version 1, which can't be delegated to users",
            Version::Hybrid | Version::V2 => {
                "hybrid: the controllers are on version 1, which can't be delegated"
            }
        };
        let mend = "boot with the kernel parameters `systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all`; in a \
                    container, that is the outer host's to do";
        return check(found.to_owned()).warn(stops, mend);
    }
    if way.kind == Kind::None {
        let mend = if situation.privileged {
            "start the outer container with a writable /sys/fs/cgroup (`--cgroupns private`, `-v \
             /sys/fs/cgroup:/sys/fs/cgroup:rw`)"
        } else {
            "log in with a session of systemd's (Debian: apt install dbus-user-session), which has \
             `$XDG_RUNTIME_DIR/bus`"
        };
        return check("nothing is delegated to this session".to_owned()).warn(stops, mend);
    }
    let lacking: Vec<_> = WANTED.iter().filter(|name| !way.controllers.iter().any(|c| c == *name)).collect();
    let found = format!("{}, with {}", way.described, way.controllers.join(" "));
    if lacking.is_empty() {
        return check(found);
    }
    let lacking = lacking.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    check(found).warn(format!("limits by these controllers: {lacking}"), DROP_IN)
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::super::packages::PackageManager;
    use super::*;
    use crate::host::paths::Surroundings;

    fn judge(version: Version, kind: Kind, controllers: &[&str]) -> Check {
        let controllers = controllers.iter().map(|name| (*name).to_owned()).collect();
        let way = Way { kind, controllers, described: "a place".to_owned() };
        let packages = PackageManager::Apt;
        let situation =
            Situation { surroundings: Surroundings::current(), root: None, privileged: false, packages };
        delegation(version, &way, &situation)
    }

    #[test]
    fn limits_need_version_2_a_delegation_and_its_controllers() {
        assert!(judge(Version::Hybrid, Kind::Files, &[]).found.contains("hybrid"));
        let session = judge(Version::V2, Kind::None, &[]);
        assert!(session.mend.unwrap().contains("dbus-user-session"));
        let some = judge(Version::V2, Kind::Systemd, &["memory", "pids"]);
        assert_eq!(some.stops_working.as_deref(), Some("limits by these controllers: cpu"));
        assert_eq!(judge(Version::V2, Kind::Systemd, &["cpu", "io", "memory", "pids"]).status, Status::Ok);
    }
}
