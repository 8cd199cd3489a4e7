//! Subordinate IDs: whether the caller has ranges, and helpers that may map them. Together they decide the
//! identity tier.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::packages::PackageManager;
use super::{Check, Situation};
use crate::host::programs;
use crate::identity::{MapLine, Tier};

/// Less than this leaves IDs of usual images unmapped (nobody is 65534).
const ENOUGH: u32 = 65536;

/// What decides the tier.
#[derive(Debug, Clone)]
pub struct Ids {
    pub uid: u32,
    pub gid: u32,
    /// The caller's name, or ID where there is no name.
    pub user: String,
    pub uid_ranges: Ranges,
    pub gid_ranges: Ranges,
    /// Where the helpers are, or what keeps them from working.
    pub helpers: Result<String, Flaw>,
}

/// The subordinate IDs of the caller in one file: first ID and count of each range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranges {
    pub file: PathBuf,
    pub ranges: Vec<(u32, u32)>,
}

impl Ranges {
    fn total(&self) -> u32 {
        self.ranges.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }
}

/// Why helpers can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    NotFound(&'static str),
    NoPrivilege(PathBuf),
    NosuidMount(PathBuf),
    NoNewPrivileges,
}

impl Ids {
    pub fn read() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let user = user_name(&passwd, uid).unwrap_or_else(|| uid.to_string());
        let ranges = |file: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            Ranges { file: file.into(), ranges: ranges_of(&text, &user, uid) }
        };
        Self {
            uid,
            gid: rustix::process::getegid().as_raw(),
            uid_ranges: ranges("/etc/subuid"),
            gid_ranges: ranges("/etc/subgid"),
            helpers: helpers(),
            user,
        }
    }

    fn has_ranges(&self) -> bool {
        self.uid_ranges.total() > 0 && self.gid_ranges.total() > 0
    }

    /// The tier that is chosen, and why no higher one.
    pub fn tier(&self) -> (Tier, Option<String>) {
        if self.uid == 0 {
            return (Tier::Root, None);
        }
        if !self.has_ranges() {
            return (Tier::Single, Some(format!("{} has no subordinate IDs", self.user)));
        }
        match &self.helpers {
            Ok(_) => (Tier::Range, None),
            Err(flaw) => (Tier::Single, Some(flaw.describe())),
        }
    }

    /// The canonical maps of the tier: of users and of groups.
    pub fn maps(&self) -> (Vec<MapLine>, Vec<MapLine>) {
        let tier = self.tier().0;
        let map = |own: u32, ranges: &Ranges| {
            if tier == Tier::Root && ranges.ranges.is_empty() {
                return vec![MapLine { inside: 0, outside: 0, count: u32::MAX }];
            }
            let mut lines = vec![MapLine { inside: 0, outside: own, count: 1 }];
            if tier != Tier::Single {
                let mut inside = 1;
                for (outside, count) in &ranges.ranges {
                    lines.push(MapLine { inside, outside: *outside, count: *count });
                    inside += count;
                }
            }
            lines
        };
        (map(self.uid, &self.uid_ranges), map(self.gid, &self.gid_ranges))
    }
}

impl Flaw {
    pub fn describe(&self) -> String {
        match self {
            Self::NotFound(name) => format!("`{name}` is not found"),
            Self::NoPrivilege(path) => {
                format!("`{}` has neither the set-user-ID bit of root nor a file capability", path.display())
            }
            Self::NosuidMount(path) => format!("`{}` lies on a file system mounted nosuid", path.display()),
            Self::NoNewPrivileges => "this process may not gain privileges (no_new_privs is set)".to_owned(),
        }
    }

    fn mend(&self, packages: PackageManager) -> String {
        match self {
            Self::NotFound(_) => packages.install("newuidmap"),
            Self::NoPrivilege(path) => format!("sudo chown root {0} && sudo chmod u+s {0}", path.display()),
            Self::NosuidMount(_) => "sudo mount -o remount,suid the file system, or install the helpers on \
                                     another one"
                .to_owned(),
            Self::NoNewPrivileges => "start sbx without NoNewPrivileges=yes of its service, or without \
                                      `--security-opt no-new-privileges` of the outer container"
                .to_owned(),
        }
    }
}

fn user_name(passwd: &str, uid: u32) -> Option<String> {
    let uid = uid.to_string();
    let mut entries = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    entries.find(|fields| fields.get(2) == Some(&uid.as_str())).map(|fields| fields[0].to_owned())
}

/// subuid(5): `OWNER:START:COUNT`, the owner a name or an ID.
fn ranges_of(text: &str, user: &str, uid: u32) -> Vec<(u32, u32)> {
    let uid = uid.to_string();
    let ranges = text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next().filter(|owner| *owner == user || *owner == uid)?;
        let start = fields.next()?.trim().parse().ok()?;
        let count: u32 = fields.next()?.trim().parse().ok()?;
        (!owner.is_empty() && count > 0).then_some((start, count))
    });
    ranges.collect()
}

fn helpers() -> Result<String, Flaw> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if status.lines().any(|line| line.strip_prefix("NoNewPrivs:").is_some_and(|value| value.trim() == "1")) {
        return Err(Flaw::NoNewPrivileges);
    }
    if let Some(shim) = programs::find("newuidmap-shim")
        && inspect(&shim).is_ok()
    {
        return Ok(shim.display().to_string());
    }
    let mut found = Vec::new();
    for name in ["newuidmap", "newgidmap"] {
        let path = programs::find(name).ok_or(Flaw::NotFound(name))?;
        inspect(&path)?;
        found.push(path.display().to_string());
    }
    Ok(found.join(", "))
}

fn inspect(helper: &Path) -> Result<(), Flaw> {
    let of_root = fs::metadata(helper).is_ok_and(|status| status.mode() & 0o4000 != 0 && status.uid() == 0);
    let mut attribute = [0_u8; 24];
    if !of_root && rustix::fs::getxattr(helper, c"security.capability", &mut attribute).is_err() {
        return Err(Flaw::NoPrivilege(helper.to_owned()));
    }
    match crate::host::filesystem::of(helper) {
        Ok(found) if found.nosuid => Err(Flaw::NosuidMount(helper.to_owned())),
        _ => Ok(()),
    }
}

pub(super) fn checks(situation: &Situation) -> Vec<Check> {
    judge(&Ids::read(), situation.packages)
}

const STOPS: &str =
    "users and groups inside containers: one ID is mapped, files of others are stored as yours";

fn judge(ids: &Ids, packages: PackageManager) -> Vec<Check> {
    vec![
        ranges("subuid", "subordinate user IDs", &ids.uid_ranges, ids, "--add-subuids"),
        ranges("subgid", "subordinate group IDs", &ids.gid_ranges, ids, "--add-subgids"),
        helper_programs(ids, packages),
    ]
}

fn ranges(id: &'static str, title: &'static str, ranges: &Ranges, ids: &Ids, option: &str) -> Check {
    let file = ranges.file.display();
    let total = ranges.total();
    let mend =
        format!("sudo usermod {option} 100000-165535 {} (a range that nobody else has in {file})", ids.user);
    if total >= ENOUGH {
        return Check::ok(id, title, format!("{total} for {}", ids.user));
    }
    if total > 0 {
        let stops = format!("IDs inside containers from {} on", total + 1);
        return Check::ok(id, title, format!("only {total} for {} in {file}", ids.user)).warn(stops, mend);
    }
    if ids.uid == 0 {
        let stops = "the separation of root inside from root outside: they are the same user";
        return Check::ok(id, title, format!("none for {} in {file}", ids.user)).warn(stops, mend);
    }
    Check::ok(id, title, format!("none for {} in {file}", ids.user)).warn(STOPS, mend)
}

fn helper_programs(ids: &Ids, packages: PackageManager) -> Check {
    let check = |found: String| Check::ok("newuidmap", "newuidmap and newgidmap", found);
    match &ids.helpers {
        Ok(found) => check(found.clone()),
        Err(flaw) if ids.uid == 0 => check(format!("{}; not needed by root", flaw.describe())),
        Err(flaw) => check(flaw.describe()).warn(STOPS, flaw.mend(packages)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    fn ids(uid: u32, count: u32, helpers: Result<String, Flaw>) -> Ids {
        let ranges = |file: &str| Ranges {
            file: file.into(),
            ranges: if count == 0 { Vec::new() } else { vec![(100_000, count)] },
        };
        Ids {
            uid,
            gid: uid,
            user: "ada".to_owned(),
            uid_ranges: ranges("/etc/subuid"),
            gid_ranges: ranges("/etc/subgid"),
            helpers,
        }
    }

    #[test]
    fn ranges_are_the_callers_by_name_or_by_id() {
        let text = "ada:100000:65536\nbob:200000:65536\n1000:300000:10\nada:x:1\nada:1\n";
        assert_eq!(ranges_of(text, "ada", 1000), [(100_000, 65536), (300_000, 10)]);
        assert_eq!(user_name("root:x:0:0::/:\nada:x:1000:1::/:\n", 1000).as_deref(), Some("ada"));
    }

    #[test]
    fn the_tier_steps_down_with_its_reason() {
        assert_eq!(ids(1000, 65536, Ok(String::new())).tier(), (Tier::Range, None));
        let (tier, why) = ids(1000, 0, Ok(String::new())).tier();
        assert_eq!((tier, why.as_deref()), (Tier::Single, Some("ada has no subordinate IDs")));
        let (tier, why) = ids(1000, 65536, Err(Flaw::NoNewPrivileges)).tier();
        assert_eq!(tier, Tier::Single);
        assert!(why.unwrap().contains("no_new_privs"));
        assert_eq!(ids(0, 0, Err(Flaw::NotFound("newuidmap"))).tier(), (Tier::Root, None));
    }

    #[test]
    fn maps_follow_the_tier() {
        let line = |inside, outside, count| MapLine { inside, outside, count };
        assert_eq!(ids(1000, 65536, Ok(String::new())).maps().0, [line(0, 1000, 1), line(1, 100_000, 65536)]);
        assert_eq!(ids(1000, 0, Ok(String::new())).maps().0, [line(0, 1000, 1)]);
        assert_eq!(ids(0, 0, Ok(String::new())).maps().0, [line(0, 0, u32::MAX)]);
    }

    #[test]
    fn a_missing_range_or_helper_is_a_warning_with_its_command() {
        let checks = judge(&ids(1000, 0, Err(Flaw::NotFound("newuidmap"))), PackageManager::Apt);
        assert!(checks.iter().all(|check| check.status == Status::Warning), "{checks:?}");
        assert!(
            checks[0].mend.as_deref().unwrap().starts_with("sudo usermod --add-subuids 100000-165535 ada")
        );
        assert!(checks[1].mend.as_deref().unwrap().contains("--add-subgids"));
        assert_eq!(checks[2].mend.as_deref(), Some("sudo apt-get install uidmap"));
        let small = judge(&ids(1000, 1000, Ok("/usr/bin/newuidmap".to_owned())), PackageManager::Apt);
        assert_eq!(small[0].stops_working.as_deref(), Some("IDs inside containers from 1001 on"));
        assert_eq!(small[2].status, Status::Ok);
    }
}
