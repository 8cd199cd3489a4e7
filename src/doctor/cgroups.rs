//! Whether the caller was given a cgroup to freeze containers, to count what they take and to set limits in.

use super::{Check, Situation};
use crate::host::cgroup::{self, Cgroup, Version};

/// What limits of memory, processors and processes need.
const WANTED: &[&str] = &["cpu", "memory", "pids"];

pub(super) fn checks(situation: &Situation) -> Vec<Check> {
    vec![delegation(&cgroup::read(), situation)]
}

fn delegation(cgroup: &Cgroup, situation: &Situation) -> Check {
    let check = |found: String| Check::ok("cgroup-delegation", "cgroup delegation", found);
    let stops = "`sbx pause`, `sbx stats`, and resource limits, which are not there yet";
    if cgroup.version != Version::V2 {
        let found = match cgroup.version {
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
    let Some(delegated) = &cgroup.delegated else {
        let mend = if situation.privileged {
            "start the outer container with a writable /sys/fs/cgroup (`--cgroupns private`, `-v \
             /sys/fs/cgroup:/sys/fs/cgroup:rw`)"
        } else {
            "systemd-run --user --scope -p Delegate=yes sbx run …"
        };
        return check("nothing is delegated to this session".to_owned()).warn(stops, mend);
    };
    let lacking: Vec<_> =
        WANTED.iter().filter(|name| !cgroup.controllers.iter().any(|c| c == *name)).collect();
    let found = format!("{} with {}", delegated.display(), cgroup.controllers.join(" "));
    if lacking.is_empty() {
        return check(found);
    }
    let lacking = lacking.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let mend = "sudo mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate=cpu cpuset io \
                memory pids\\n' | sudo tee /etc/systemd/system/user@.service.d/delegate.conf && sudo systemctl \
                daemon-reload";
    check(found).warn(format!("limits by these controllers: {lacking}"), mend)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::Status;
    use super::super::packages::PackageManager;
    use super::*;
    use crate::host::paths::Surroundings;

    fn judge(version: Version, delegated: Option<&str>, controllers: &[&str]) -> Check {
        let cgroup = Cgroup {
            version,
            own: None,
            delegated: delegated.map(PathBuf::from),
            controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
        };
        let packages = PackageManager::Apt;
        let situation =
            Situation { surroundings: Surroundings::current(), root: None, privileged: false, packages };
        delegation(&cgroup, &situation)
    }

    #[test]
    fn limits_need_version_2_a_delegation_and_its_controllers() {
        assert!(judge(Version::Hybrid, Some("/x"), &[]).found.contains("hybrid"));
        let session = judge(Version::V2, None, &[]);
        assert!(session.mend.unwrap().starts_with("systemd-run --user --scope"));
        let some = judge(Version::V2, Some("/x"), &["memory", "pids"]);
        assert_eq!(some.stops_working.as_deref(), Some("limits by these controllers: cpu"));
        assert_eq!(judge(Version::V2, Some("/x"), &["cpu", "io", "memory", "pids"]).status, Status::Ok);
    }
}
