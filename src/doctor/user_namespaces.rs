//! User namespaces, and the other kinds that a container has: asked by making them.

use std::path::Path;

use super::{Check, Situation};
use crate::host::userns::{self, UserNamespaces};
use crate::sys::probe::{self, Trial, TrialError, TrialStep};

const STOPS: &str = "every container: sbx isolates with user namespaces alone";

pub(super) fn checks(situation: &Situation) -> Vec<Check> {
    let state = userns::read();
    let tried = probe::attempt(Trial::Namespaces);
    vec![
        user_namespaces(&state, tried, situation.privileged),
        other_namespaces(&userns::forbidden_kinds(Path::new("/proc"))),
    ]
}

fn user_namespaces(state: &UserNamespaces, tried: Result<(), TrialError>, privileged: bool) -> Check {
    let check = |found: String| Check::ok("user-namespaces", "user namespaces", found);
    let (step, error) = match tried {
        Ok(()) => {
            let limit =
                state.max.map_or_else(|| "no limit".to_owned(), |max| format!("at most {max} per user"));
            let nested = if state.nested { ", nested in another one" } else { "" };
            return check(format!("allowed, {limit}{nested}"));
        }
        Err(TrialError::NotTried(error)) => (TrialStep::Fork, error),
        Err(TrialError::Refused(step, error)) => (step, error),
    };
    let explained = userns::explain(&error, state, privileged);
    let found = format!("cannot {}: {}", step.describe(), explained.causes().join(": "));
    let mend = match state.obstacle(privileged) {
        Some(obstacle) => obstacle.mend(),
        None => explained.hints().join("; "),
    };
    check(found).missing(STOPS, mend)
}

fn other_namespaces(forbidden: &[&str]) -> Check {
    let check = |found: &str| Check::ok("namespace-limits", "other namespaces", found);
    if forbidden.is_empty() {
        return check("mount, PID, network, IPC, UTS and cgroup are allowed");
    }
    let names: Vec<_> = forbidden.iter().map(|kind| format!("user.max_{kind}_namespaces")).collect();
    let lines = names.iter().map(|name| format!("{name} = 15000\\n")).collect::<String>();
    check(&format!("{} is 0", names.join(", "))).missing(
        format!("containers with a private namespace of these kinds: {}", forbidden.join(", ")),
        format!("printf '{lines}' | sudo tee /etc/sysctl.d/99-sbx-limits.conf && sudo sysctl --system"),
    )
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::super::Status;
    use super::*;

    fn refused(step: TrialStep, errno: i32) -> Result<(), TrialError> {
        Err(TrialError::Refused(step, io::Error::from_raw_os_error(errno)))
    }

    fn usual() -> UserNamespaces {
        UserNamespaces { supported: true, max: Some(1000), ..UserNamespaces::default() }
    }

    #[test]
    fn what_works_is_ok_whatever_the_switches_say() {
        let state = UserNamespaces { apparmor_restriction: Some(true), ..usual() };
        let check = user_namespaces(&state, Ok(()), false);
        assert_eq!((check.status, check.found.as_str()), (Status::Ok, "allowed, at most 1000 per user"));
    }

    #[test]
    fn apparmors_restriction_is_mended_with_a_profile() {
        let state = UserNamespaces { apparmor_restriction: Some(true), ..usual() };
        let check = user_namespaces(&state, refused(TrialStep::Propagation, libc::EACCES), false);
        assert_eq!(check.status, Status::Missing);
        assert!(check.found.contains("AppArmor"), "{}", check.found);
        assert!(check.mend.unwrap().contains("doctor --apparmor-profile | sudo tee /etc/apparmor.d/sbx"));
    }

    #[test]
    fn an_outer_container_that_forbids_them_is_named() {
        let state = UserNamespaces { nested: true, ..usual() };
        let check = user_namespaces(&state, refused(TrialStep::Unshare, libc::EPERM), true);
        assert!(
            check.found.starts_with("cannot make a user namespace: Operation not permitted"),
            "{}",
            check.found
        );
        assert!(check.mend.unwrap().contains("seccomp=unconfined"));
    }

    #[test]
    fn a_limit_of_zero_names_each_sysctl() {
        assert_eq!(other_namespaces(&[]).status, Status::Ok);
        let check = other_namespaces(&["net", "ipc"]);
        assert_eq!(check.status, Status::Missing);
        let mend = check.mend.unwrap();
        assert!(mend.contains("user.max_net_namespaces = 15000\\nuser.max_ipc_namespaces = 15000"), "{mend}");
    }
}
