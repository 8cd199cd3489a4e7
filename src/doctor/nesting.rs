//! An outer container, and what it takes away: a fresh /proc.

use super::Check;
use crate::host::{proc_mask, userns};
use crate::sys::probe::{self, Trial, TrialError};

pub(super) fn checks(blocker: Option<&str>) -> Vec<Check> {
    let tried = probe::attempt(Trial::Proc);
    vec![
        outer(proc_mask::outer_container(), userns::read().nested),
        procfs(&proc_mask::masked(), tried, blocker),
    ]
}

fn outer(engine: Option<String>, nested: bool) -> Check {
    let check = |found: String| Check::ok("outer-container", "outer container", found);
    match (engine, nested) {
        (None, false) => check("none".to_owned()),
        (None, true) => check("none known, but this is a user namespace already".to_owned()),
        (Some(engine), _) => check(format!("{engine}: what it withholds shows in the other checks")),
    }
}

fn procfs(masked: &[String], tried: Result<(), TrialError>, blocker: Option<&str>) -> Check {
    let check = |found: String| Check::ok("procfs", "new /proc", found);
    let Err(error) = tried else {
        return check("can be mounted".to_owned());
    };
    let stops = "private PID namespaces: containers share the outer one, with its /proc";
    let error = match error {
        TrialError::NotTried(error) | TrialError::Refused(_, error) => error,
    };
    if masked.is_empty() {
        let mend = blocker.map_or_else(
            || {
                "look for what denies it: `dmesg | tail`, and the outer container's security options"
                    .to_owned()
            },
            super::mend_first,
        );
        return check(format!("refused: {}", error.kind())).warn(stops, mend);
    }
    let mend = "start the outer container with `--security-opt systempaths=unconfined` (docker), \
                `--security-opt unmask=ALL` (podman), or `procMount: Unmasked` (Kubernetes)";
    check(format!("refused, because parts of /proc are masked: {}", masked.join(", "))).warn(stops, mend)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::super::Status;
    use super::*;
    use crate::sys::probe::TrialStep;

    #[test]
    fn a_masked_proc_is_told_with_what_masks_it() {
        let refused =
            || Err(TrialError::Refused(TrialStep::MountProc, io::Error::from_raw_os_error(libc::EPERM)));
        let check = procfs(&["/proc/kcore".to_owned()], refused(), None);
        assert_eq!(check.status, Status::Warning);
        assert!(check.found.ends_with("masked: /proc/kcore"), "{}", check.found);
        assert!(procfs(&[], refused(), Some("store")).mend.unwrap().contains("`store` first"));
        assert_eq!(procfs(&["/proc/kcore".to_owned()], Ok(()), None).status, Status::Ok);
    }

    #[test]
    fn an_outer_container_is_named() {
        assert_eq!(outer(None, false).found, "none");
        assert!(outer(None, true).found.contains("user namespace already"));
        assert!(outer(Some("docker".to_owned()), false).found.starts_with("docker"));
    }
}
