//! Subordinate IDs: whether the caller has ranges, helpers that may map them, and which identity tier
//! [`crate::identity`] makes of it.

use super::packages::PackageManager;
use super::{Check, Situation};
use crate::error::Result;
use crate::host::programs;
use crate::identity::subid::{Kind, free_range, ranges_of};
use crate::identity::{
    Caller, Host, IdRange, Identity, MapWriter, Obstacle, Request, Tier, helpers, plan_on,
};

/// With less, IDs of usual images can't be mapped: nobody is 65534, and the caller is 0.
const ENOUGH: u32 = 65535;

/// What decides the tier, and the tier.
#[derive(Debug)]
pub struct Ids {
    pub uid: u32,
    /// The caller's name, or ID where there is no name.
    label: String,
    uid_ranges: Result<Vec<IdRange>, Obstacle>,
    gid_ranges: Result<Vec<IdRange>, Obstacle>,
    writer: Result<MapWriter, Vec<Obstacle>>,
    /// What `sbx run` would take without a flag.
    pub identity: Result<Identity>,
}

impl Ids {
    /// # Errors
    /// The kernel does not tell who the caller is.
    pub fn read() -> Result<Self> {
        let host = Host::system();
        let caller = Caller::current(&host)?;
        let uids = ranges_of(&host, &caller, Kind::User);
        let gids = ranges_of(&host, &caller, Kind::Group);
        let by_name_service = [&uids, &gids]
            .iter()
            .any(|found| found.as_ref().is_ok_and(|subordinate| subordinate.needs_name_service));
        Ok(Self {
            uid: caller.uid,
            label: caller.label(),
            uid_ranges: uids.map(|subordinate| subordinate.ranges),
            gid_ranges: gids.map(|subordinate| subordinate.ranges),
            writer: helpers::find_writer(&host, &caller, !by_name_service).map(|(writer, _)| writer),
            identity: plan_on(&host, &Request::default(), &caller),
        })
    }

    fn tier(&self) -> Option<Tier> {
        self.identity.as_ref().ok().map(|identity| identity.tier)
    }
}

pub(super) fn checks(situation: &Situation) -> Vec<Check> {
    match Ids::read() {
        Ok(ids) => judge(&ids, situation.packages),
        Err(error) => {
            vec![tier_check(error.to_string()).missing("every container", error.hints().join("; "))]
        }
    }
}

const STOPS: &str =
    "users and groups inside containers: one ID is mapped, files of others are stored as yours";

fn judge(ids: &Ids, packages: PackageManager) -> Vec<Check> {
    vec![
        ranges("subuid", "subordinate user IDs", &ids.uid_ranges, ids, "--add-subuids"),
        ranges("subgid", "subordinate group IDs", &ids.gid_ranges, ids, "--add-subgids"),
        writer(ids, packages),
        tier(ids),
    ]
}

fn ranges(
    id: &'static str,
    title: &'static str,
    ranges: &Result<Vec<IdRange>, Obstacle>,
    ids: &Ids,
    option: &str,
) -> Check {
    let check = |found: String| Check::ok(id, title, found);
    let mend = || {
        let free = free_range(&std::fs::read_to_string(format!("/etc/{id}")).unwrap_or_default());
        format!("sudo usermod {option} {}-{} {}", free.start, free.end() - 1, ids.label)
    };
    let total = match ranges {
        Ok(ranges) => ranges.iter().fold(0_u32, |sum, range| sum.saturating_add(range.count)),
        Err(obstacle) if ids.tier() == Some(Tier::Root) => {
            let stops = "the separation of root inside from root outside: their files are the same";
            return check(obstacle.to_string()).warn(stops, mend());
        }
        Err(obstacle) => {
            return check(obstacle.to_string()).warn(STOPS, obstacle.mend.clone().unwrap_or_else(mend));
        }
    };
    if total >= ENOUGH {
        return check(format!("{total} for {}", ids.label));
    }
    check(format!("only {total} for {}", ids.label))
        .warn(format!("IDs inside containers from {} on", total.saturating_add(1)), mend())
}

fn writer(ids: &Ids, packages: PackageManager) -> Check {
    let check = |found: String| Check::ok("newuidmap", "newuidmap and newgidmap", found);
    let obstacles = match &ids.writer {
        Ok(MapWriter::Shim(path)) => return check(path.display().to_string()),
        Ok(MapWriter::TwoHelpers { newuidmap, newgidmap }) => {
            return check(format!("{}, {}", newuidmap.display(), newgidmap.display()));
        }
        Ok(MapWriter::Direct) => return check("not needed: the maps are written directly".to_owned()),
        Err(obstacles) => obstacles,
    };
    let found = obstacles.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if ids.tier() == Some(Tier::Root) {
        return check(format!("not needed by root ({found})"));
    }
    let mend = if programs::find("newuidmap").is_none() {
        packages.install("newuidmap")
    } else {
        obstacles.iter().filter_map(|obstacle| obstacle.mend.clone()).collect::<Vec<_>>().join("; ")
    };
    check(found).warn(STOPS, mend)
}

fn tier_check(found: String) -> Check {
    Check::ok("identity-tier", "identity tier", found)
}

fn tier(ids: &Ids) -> Check {
    match &ids.identity {
        Ok(identity) if identity.tier == Tier::Single => {
            tier_check("single: one ID is mapped".to_owned()).warn(STOPS, "mend the checks above")
        }
        Ok(identity) => {
            let count: u64 = identity.uid_map.0.iter().map(|line| u64::from(line.count)).sum();
            tier_check(format!("{}: {count} user IDs are mapped", identity.tier))
        }
        Err(error) => tier_check(error.to_string()).missing("every container", error.hints().join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;
    use crate::identity::IdMap;

    fn ids(tier: Tier, count: u32, writer: Result<MapWriter, Vec<Obstacle>>) -> Ids {
        let ranges = || match count {
            0 => Err(Obstacle::new("`/etc/subuid` has no range for ada")),
            count => Ok(vec![IdRange::new(100_000, count)]),
        };
        let identity = Identity {
            tier,
            uid_map: IdMap::single(0, 1000),
            gid_map: IdMap::single(0, 1000),
            deny_setgroups: false,
            nested: None,
            exclusive: false,
            join: None,
            default_user: None,
            writer: MapWriter::Direct,
            notes: Vec::new(),
        };
        let (uid_ranges, gid_ranges) = (ranges(), ranges());
        Ids { uid: 1000, label: "ada".to_owned(), uid_ranges, gid_ranges, writer, identity: Ok(identity) }
    }

    fn statuses(ids: &Ids) -> Vec<Status> {
        judge(ids, PackageManager::Apt).iter().map(|check| check.status).collect()
    }

    #[test]
    fn ranges_and_a_helper_are_all_it_takes() {
        use Status::{Ok as Fine, Warning};
        let shim = || Ok(MapWriter::Shim("/usr/libexec/sbx/newuidmap-shim".into()));
        assert_eq!(statuses(&ids(Tier::Range, 65536, shim())), [Fine; 4]);
        let small = ids(Tier::Range, 1000, shim());
        assert_eq!(statuses(&small), [Warning, Warning, Fine, Fine]);
        let check = &judge(&small, PackageManager::Apt)[0];
        assert_eq!(check.stops_working.as_deref(), Some("IDs inside containers from 1001 on"));
    }

    #[test]
    fn a_missing_range_or_helper_is_a_warning_with_its_command() {
        let obstacle = Obstacle::new("no_new_privs is set").mend("start it without");
        let checks = judge(&ids(Tier::Single, 0, Err(vec![obstacle])), PackageManager::Apt);
        assert!(checks.iter().all(|check| check.status == Status::Warning), "{checks:?}");
        assert!(checks[0].mend.as_deref().unwrap().starts_with("sudo usermod --add-subuids "));
        assert!(checks[1].mend.as_deref().unwrap().contains("--add-subgids"));
        assert_eq!(checks[2].found, "no_new_privs is set");
    }

    #[test]
    fn root_needs_no_helper_but_is_warned_without_a_range() {
        use Status::{Ok as Fine, Warning};
        let found = judge(&ids(Tier::Root, 0, Err(vec![Obstacle::new("x")])), PackageManager::Apt);
        assert_eq!(
            found.iter().map(|check| check.status).collect::<Vec<_>>(),
            [Warning, Warning, Fine, Fine]
        );
        assert!(found[0].stops_working.as_deref().unwrap().contains("root outside"));
    }

    #[test]
    fn no_tier_at_all_is_missing() {
        let error = crate::Error::new("cannot make a user namespace").hint("start it with another user");
        let ids = Ids { identity: Err(error), ..ids(Tier::Single, 0, Err(Vec::new())) };
        let check = tier(&ids);
        assert_eq!(
            (check.status, check.mend.as_deref()),
            (Status::Missing, Some("start it with another user"))
        );
    }
}
