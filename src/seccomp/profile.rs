//! Seccomp profiles as JSON: docker's format, and `linux.seccomp` of the OCI runtime specification, which it
//! contains. A profile is hostile input: what is not understood is an error, but for system calls that no
//! architecture here has (as with docker).

use serde::Deserialize;

use crate::container::capabilities::{CapSet, Capability};
use crate::error::{Error, Result, Step};

use super::arch::{Arch, Row, row};
use super::errno;
use super::policy::{Action, Condition, Op};

/// Bytes of JSON; docker's own profile has some 13 000.
const MAX_LENGTH: usize = 1 << 20;
/// MAX_ERRNO of linux/err.h; the kernel takes no greater one.
const MAX_ERRNO: u32 = 4095;

/// A profile, read and checked, not yet resolved for a machine and a container.
#[derive(Debug, Clone)]
pub struct Profile {
    pub default: Action,
    pub architectures: Architectures,
    pub rules: Vec<Rule>,
}

/// Which architectures' programs may run beside the native ones.
#[derive(Debug, Clone)]
pub enum Architectures {
    /// `architectures`.
    List(Vec<Arch>),
    /// `archMap`: those that stand at the native one.
    Map(Vec<(Arch, Vec<Arch>)>),
}

#[derive(Debug, Clone)]
pub struct Rule {
    pub(super) rows: Vec<Row>,
    pub action: Action,
    pub conditions: Vec<Condition>,
    pub includes: Filter,
    pub excludes: Filter,
}

/// When a rule counts: every field that is set must be met (`includes`), or none may be (`excludes`).
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub capabilities: CapSet,
    pub architectures: Vec<String>,
    pub min_kernel: Option<(u32, u32)>,
}

impl Profile {
    /// Whether somebody has to answer for calls.
    pub fn notifies(&self) -> bool {
        self.default == Action::Notify || self.rules.iter().any(|rule| rule.action == Action::Notify)
    }
}

impl Rule {
    /// Whether the rule counts for this container on this machine.
    pub fn applies(&self, native: Arch, capabilities: CapSet, kernel: (u32, u32)) -> bool {
        let names = |filter: &Filter| filter.architectures.iter().any(|name| name == native.filter_name());
        let (wanted, unwanted) = (&self.includes, &self.excludes);
        wanted.capabilities.without(capabilities).is_empty()
            && (wanted.architectures.is_empty() || names(wanted))
            && wanted.min_kernel.is_none_or(|least| kernel >= least)
            && unwanted.capabilities.intersection(capabilities).is_empty()
            && !names(unwanted)
            && unwanted.min_kernel.is_none_or(|least| kernel < least)
    }
}

/// Reads a profile. Errors name the rule, by its number from 1 and its first call, and what is wrong in it.
pub fn parse(json: &[u8]) -> Result<Profile> {
    let profile = parse_with_listener(json)?;
    if profile.notifies() {
        return Err(Error::new("`SCMP_ACT_NOTIFY`: sbx hands no seccomp notifications to other programs")
            .while_doing("cannot use the seccomp profile"));
    }
    Ok(profile)
}

/// The same of a container whose author names who answers for calls (`SCMP_ACT_NOTIFY`).
pub fn parse_with_listener(json: &[u8]) -> Result<Profile> {
    if json.len() > MAX_LENGTH {
        return Err(Error::new("the seccomp profile is longer than 1 MiB"));
    }
    let raw: RawProfile = serde_json::from_slice(json).step(|| "cannot read the seccomp profile")?;
    raw.check().map_err(|error| error.while_doing("cannot use the seccomp profile"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
struct RawProfile {
    default_action: String,
    default_errno_ret: Option<u32>,
    default_errno: Option<String>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<RawArchMap>>,
    flags: Option<Vec<String>>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    syscalls: Option<Vec<RawRule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
struct RawArchMap {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
struct RawRule {
    name: Option<String>,
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u32>,
    errno: Option<String>,
    args: Option<Vec<RawArgument>>,
    includes: Option<RawFilter>,
    excludes: Option<RawFilter>,
    #[serde(rename = "comment")]
    _comment: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
struct RawArgument {
    index: u32,
    value: u64,
    value_two: Option<u64>,
    op: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
struct RawFilter {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

impl RawProfile {
    fn check(self) -> Result<Profile> {
        let listener = self.listener_path.or(self.listener_metadata).filter(|text| !text.is_empty());
        if listener.is_some() {
            return Err(Error::new("`listenerPath`: sbx hands no seccomp notifications to other programs"));
        }
        if let Some(flag) = self.flags.unwrap_or_default().first() {
            return Err(Error::new(format!("`flags`: sbx sets no seccomp flag such as `{flag}`")));
        }
        let default = action(&self.default_action, self.default_errno_ret, self.default_errno.as_deref())
            .map_err(|error| error.while_doing("`defaultAction`"))?;
        let architectures = match (self.architectures, self.arch_map) {
            (Some(_), Some(_)) => {
                return Err(Error::new("`architectures` and `archMap` exclude each other"));
            }
            (list, None) => Architectures::List(architectures(&list.unwrap_or_default())?),
            (None, Some(map)) => Architectures::Map(arch_map(&map)?),
        };
        let rules = self.syscalls.unwrap_or_default();
        let rules = rules.into_iter().enumerate().map(|(at, rule)| rule.check(at + 1));
        Ok(Profile { default, architectures, rules: rules.collect::<Result<_>>()? })
    }
}

fn arch_map(map: &[RawArchMap]) -> Result<Vec<(Arch, Vec<Arch>)>> {
    let mut checked = Vec::with_capacity(map.len());
    for entry in map {
        let subs = architectures(entry.sub_architectures.as_deref().unwrap_or_default())?;
        if let Some(arch) = architecture(&entry.architecture)? {
            checked.push((arch, subs));
        }
    }
    Ok(checked)
}

fn architectures(names: &[String]) -> Result<Vec<Arch>> {
    names.iter().filter_map(|name| architecture(name).transpose()).collect()
}

/// None for an architecture that exists, but not here.
fn architecture(name: &str) -> Result<Option<Arch>> {
    Arch::from_oci(name).ok_or_else(|| {
        Error::new(format!("unknown architecture `{name}`")).hint("they look like `SCMP_ARCH_X86_64`")
    })
}

impl RawRule {
    fn check(self, number: usize) -> Result<Rule> {
        let names = match (self.name.as_ref(), self.names.as_ref()) {
            (Some(name), None) => std::slice::from_ref(name),
            (None, Some(names)) => names.as_slice(),
            (Some(_), Some(_)) => {
                return Err(Error::new(format!("rule {number}: `name` and `names` exclude each other")));
            }
            (None, None) => &[],
        };
        let Some(first) = names.first() else {
            return Err(Error::new(format!("rule {number}: no system call is named")));
        };
        self.content(names).map_err(|error| error.while_doing(format!("rule {number} (`{first}`)")))
    }

    fn content(&self, names: &[String]) -> Result<Rule> {
        Ok(Rule {
            rows: rows(names),
            action: action(&self.action, self.errno_ret, self.errno.as_deref())?,
            conditions: self.args.iter().flatten().map(RawArgument::check).collect::<Result<_>>()?,
            includes: self.includes.as_ref().map_or_else(|| Ok(Filter::default()), RawFilter::check)?,
            excludes: self.excludes.as_ref().map_or_else(|| Ok(Filter::default()), RawFilter::check)?,
        })
    }
}

impl RawArgument {
    fn check(&self) -> Result<Condition> {
        if self.index > 5 {
            return Err(Error::new(format!("argument {}: a system call has arguments 0 to 5", self.index)));
        }
        let (op, mask, value) = match self.op.as_str() {
            "SCMP_CMP_EQ" => (Op::Eq, u64::MAX, self.value),
            "SCMP_CMP_NE" => (Op::Ne, u64::MAX, self.value),
            "SCMP_CMP_LT" => (Op::Lt, u64::MAX, self.value),
            "SCMP_CMP_LE" => (Op::Le, u64::MAX, self.value),
            "SCMP_CMP_GT" => (Op::Gt, u64::MAX, self.value),
            "SCMP_CMP_GE" => (Op::Ge, u64::MAX, self.value),
            // As with libseccomp, bits outside the mask count on neither side.
            "SCMP_CMP_MASKED_EQ" => (Op::Eq, self.value, self.value_two.unwrap_or(0) & self.value),
            other => {
                return Err(Error::new(format!("unknown comparison `{other}`"))
                    .hint("they are SCMP_CMP_EQ, NE, LT, LE, GT, GE and MASKED_EQ"));
            }
        };
        Ok(Condition { argument: self.index as u8, mask, op, value })
    }
}

impl RawFilter {
    fn check(&self) -> Result<Filter> {
        let mut capabilities = CapSet::EMPTY;
        for name in self.caps.iter().flatten() {
            capabilities = capabilities.with(Capability::parse(name)?);
        }
        let architectures = self.arches.clone().unwrap_or_default();
        if let Some(unknown) = architectures.iter().find(|name| !Arch::knows_filter_name(name)) {
            return Err(Error::new(format!("unknown architecture `{unknown}`"))
                .hint("here they look like `amd64`, `arm64`, `x86`"));
        }
        let min_kernel = self.min_kernel.as_deref().filter(|text| !text.is_empty());
        Ok(Filter { capabilities, architectures, min_kernel: min_kernel.map(kernel).transpose()? })
    }
}

/// A call named twice is one call; an unknown one none.
fn rows(names: &[String]) -> Vec<Row> {
    let mut rows: Vec<Row> = names.iter().filter_map(|name| row(name)).collect();
    rows.sort_unstable();
    rows.dedup();
    rows
}

fn kernel(text: &str) -> Result<(u32, u32)> {
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    text.split_once('.')
        .and_then(|(major, minor)| Some((number(major)?, number(minor)?)))
        .ok_or_else(|| Error::new(format!("`minKernel` is `{text}` and should look like `4.8`")))
}

/// `errno_ret` is the number, `name` podman's addition, the name of the same number.
fn action(word: &str, errno_ret: Option<u32>, name: Option<&str>) -> Result<Action> {
    let name = name.filter(|name| !name.is_empty());
    let named =
        name.map(|name| errno::number(name).ok_or_else(|| Error::new(format!("unknown errno `{name}`"))));
    let errno = match (errno_ret, named.transpose()?) {
        (Some(number), Some(named)) if number != u32::from(named) => {
            return Err(Error::new(format!(
                "`errnoRet` is {number}, and `{}` is {named}",
                name.unwrap_or("")
            )));
        }
        (Some(number), _) if number > MAX_ERRNO => {
            return Err(Error::new(format!("`errnoRet` is {number}, and {MAX_ERRNO} is the greatest errno")));
        }
        (Some(number), _) => Some(number as u16),
        (None, named) => named,
    };
    // The specification: an errno with an action that takes none is an error; without one it is EPERM.
    let data = errno.unwrap_or(libc::EPERM as u16);
    let action = match word {
        "SCMP_ACT_ERRNO" => return Ok(Action::Errno(data)),
        "SCMP_ACT_TRACE" => return Ok(Action::Trace(data)),
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        "SCMP_ACT_NOTIFY" => Action::Notify,
        other => {
            return Err(Error::new(format!("unknown action `{other}`")).hint(
                "they are SCMP_ACT_ALLOW, ERRNO, KILL, KILL_THREAD, KILL_PROCESS, TRAP, TRACE, LOG and NOTIFY",
            ));
        }
    };
    match errno {
        Some(errno) => Err(Error::new(format!("`{word}` takes no errno, and {errno} is given"))),
        None => Ok(action),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X86_64: Arch = Arch::X86_64;

    fn refused(json: &str) -> String {
        parse(json.as_bytes()).map(|profile| format!("{profile:?}")).unwrap_err().report()
    }

    fn rule(json: &str) -> Rule {
        let json = format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{json}]}}"#);
        parse(json.as_bytes()).unwrap_or_else(|error| panic!("{}", error.report())).rules.remove(0)
    }

    #[test]
    fn every_field_of_dockers_format_is_read() {
        let profile = parse(
            br#"{
                "defaultAction": "SCMP_ACT_ERRNO",
                "defaultErrnoRet": 38,
                "defaultErrno": "ENOSYS",
                "archMap": [
                    {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
                    {"architecture": "SCMP_ARCH_S390X", "subArchitectures": ["SCMP_ARCH_S390"]},
                    {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": null}
                ],
                "syscalls": [
                    {
                        "names": ["mount", "no_such_call", "read"],
                        "action": "SCMP_ACT_TRACE",
                        "errnoRet": 7,
                        "comment": "why",
                        "args": [
                            {"index": 5, "value": 18446744073709551615, "op": "SCMP_CMP_GE"},
                            {"index": 0, "value": 240, "valueTwo": 16, "op": "SCMP_CMP_MASKED_EQ"}
                        ],
                        "includes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["amd64", "ppc64le"], "minKernel": "4.8"},
                        "excludes": {}
                    },
                    {"name": "write", "action": "SCMP_ACT_KILL", "args": null}
                ]
            }"#,
        )
        .unwrap();
        assert_eq!(profile.default, Action::Errno(38));
        let Architectures::Map(map) = &profile.architectures else { panic!("{profile:?}") };
        assert_eq!(*map, [(Arch::X86_64, vec![Arch::X86]), (Arch::Riscv64, vec![])]);
        let [mount, write] = profile.rules.as_slice() else { panic!("{profile:?}") };
        assert_eq!(mount.rows, [row("mount").unwrap(), row("read").unwrap()]);
        assert_eq!(mount.action, Action::Trace(7));
        assert_eq!(
            mount.conditions,
            [
                Condition { argument: 5, mask: u64::MAX, op: Op::Ge, value: u64::MAX },
                Condition { argument: 0, mask: 240, op: Op::Eq, value: 16 },
            ]
        );
        assert_eq!(mount.includes.capabilities.names(), ["CAP_SYS_ADMIN"]);
        assert_eq!(mount.includes.min_kernel, Some((4, 8)));
        assert_eq!((write.rows.as_slice(), write.action), (&[row("write").unwrap()][..], Action::KillThread));
    }

    #[test]
    fn the_specifications_form_is_read() {
        let profile = parse(
            br#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"],
                 "flags": [], "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 2}]}"#,
        )
        .unwrap();
        assert_eq!(
            profile.resolve(X86_64, CapSet::DEFAULT, (6, 1)).unwrap().architectures,
            [Arch::X86_64, Arch::X32]
        );
        assert_eq!(profile.rules[0].action, Action::Errno(2));
    }

    #[test]
    fn rules_apply_by_capability_architecture_and_kernel() {
        let applies = |filter: &str, caps, kernel| {
            rule(&format!(r#"{{"names": ["mount"], "action": "SCMP_ACT_ALLOW", {filter}}}"#))
                .applies(X86_64, caps, kernel)
        };
        let (some, none) = (CapSet::DEFAULT, CapSet::EMPTY);
        assert!(applies(r#""includes": {"caps": ["KILL", "CAP_CHOWN"]}"#, some, (6, 1)));
        assert!(!applies(r#""includes": {"caps": ["KILL", "SYS_ADMIN"]}"#, some, (6, 1)));
        assert!(!applies(r#""excludes": {"caps": ["KILL", "SYS_ADMIN"]}"#, some, (6, 1)));
        assert!(applies(r#""excludes": {"caps": ["KILL", "SYS_ADMIN"]}"#, none, (6, 1)));
        assert!(applies(r#""includes": {"arches": ["arm", "amd64"]}"#, none, (6, 1)));
        assert!(!applies(r#""includes": {"arches": ["arm", "x86"]}"#, none, (6, 1)));
        assert!(!applies(r#""excludes": {"arches": ["amd64"]}"#, none, (6, 1)));
        for (kernel, reached) in [((4, 7), false), ((4, 8), true), ((4, 10), true), ((5, 0), true)] {
            assert_eq!(applies(r#""includes": {"minKernel": "4.8"}"#, none, kernel), reached, "{kernel:?}");
            assert_eq!(applies(r#""excludes": {"minKernel": "4.8"}"#, none, kernel), !reached, "{kernel:?}");
        }
    }

    #[test]
    fn an_errno_without_number_is_eperm_and_may_be_a_name() {
        let action = |json: &str| rule(&format!(r#"{{"names": ["mount"], {json}}}"#)).action;
        assert_eq!(action(r#""action": "SCMP_ACT_ERRNO""#), Action::Errno(1));
        assert_eq!(action(r#""action": "SCMP_ACT_ERRNO", "errnoRet": 0"#), Action::Errno(0));
        assert_eq!(action(r#""action": "SCMP_ACT_ERRNO", "errno": "EINVAL""#), Action::Errno(22));
        assert_eq!(
            action(r#""action": "SCMP_ACT_ERRNO", "errnoRet": 1, "errno": "EPERM""#),
            Action::Errno(1)
        );
        assert_eq!(action(r#""action": "SCMP_ACT_KILL_PROCESS""#), Action::KillProcess);
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let in_rule =
            |json: &str| refused(&format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{json}]}}"#));
        let with =
            |json: &str| in_rule(&format!(r#"{{"names":["mount"],"action":"SCMP_ACT_ERRNO",{json}}}"#));
        for (report, named) in [
            (refused(""), "EOF"),
            (refused("[]"), "expected an object"),
            (refused("{}"), "defaultAction"),
            (refused(&"[".repeat(100_000)), "cannot read"),
            (refused(&" ".repeat(MAX_LENGTH + 1)), "longer than 1 MiB"),
            (refused(r#"{"defaultAction": "SCMP_ACT_ALOW"}"#), "unknown action `SCMP_ACT_ALOW`"),
            (refused(r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#), "notifications"),
            (refused(r#"{"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}"#), "takes no errno"),
            (refused(r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}"#), "4095"),
            (
                refused(r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "EWHAT"}"#),
                "unknown errno `EWHAT`",
            ),
            (refused(r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscals": []}"#), "unknown field `syscals`"),
            (
                refused(r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"]}"#),
                "FLAG_LOG",
            ),
            (refused(r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}"#), "listenerPath"),
            (refused(r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["amd64"]}"#), "`amd64`"),
            (
                refused(r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": [], "archMap": []}"#),
                "exclude each other",
            ),
            (in_rule(r#"{"action": "SCMP_ACT_LOG"}"#), "rule 1: no system call"),
            (in_rule(r#"{"names": [], "action": "SCMP_ACT_LOG"}"#), "rule 1: no system call"),
            (in_rule(r#"{"name": "a", "names": ["b"], "action": "SCMP_ACT_LOG"}"#), "exclude each other"),
            (
                in_rule(r#"{"names": ["mount"], "action": "ALLOW"}"#),
                "rule 1 (`mount`): unknown action `ALLOW`",
            ),
            (with(r#""arg": []"#), "unknown field `arg`"),
            (with(r#""args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]"#), "argument 6"),
            (with(r#""args": [{"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}]"#), "`-1`"),
            (with(r#""args": [{"index": 0, "value": 0, "op": "EQ"}]"#), "unknown comparison `EQ`"),
            (with(r#""includes": {"caps": ["CAP_SYS_ADMIM"]}"#), "did you mean `CAP_SYS_ADMIN`"),
            (with(r#""excludes": {"arches": ["amd46"]}"#), "`amd46`"),
            (with(r#""excludes": {"minKernel": "4"}"#), "`minKernel` is `4`"),
            (with(r#""excludes": {"minKernel": "+4.+8"}"#), "minKernel"),
            (with(r#""errnoRet": 1, "errno": "ENOSYS""#), "`ENOSYS` is 38"),
        ] {
            assert!(report.contains(named), "{named} is not in: {report}");
        }
    }

    #[test]
    fn a_small_file_does_not_take_all_memory() {
        let names = super::super::table::NAMES.join(r#"",""#);
        let condition = r#"{"index":0,"value":1,"op":"SCMP_CMP_EQ"}"#;
        let rule = format!(
            r#"{{"names":["{names}"],"action":"SCMP_ACT_ALLOW","args":[{}]}}"#,
            vec![condition; 20_000].join(",")
        );
        let json = format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{rule}]}}"#);
        let profile = parse(json.as_bytes()).unwrap();
        let error = profile.resolve(X86_64, CapSet::DEFAULT, (6, 1)).unwrap_err();
        assert!(error.report().contains("too many rules"), "{}", error.report());
    }

    #[test]
    fn a_program_too_long_for_the_kernel_is_refused() {
        let condition = |value| format!(r#"{{"index": 0, "value": {value}, "op": "SCMP_CMP_EQ"}}"#);
        let rules: Vec<String> = (0..5000)
            .map(|value| {
                format!(r#"{{"names":["mount"],"action":"SCMP_ACT_ALLOW","args":[{}]}}"#, condition(value))
            })
            .collect();
        let json = format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{}]}}"#, rules.join(","));
        let choice = crate::container::spec::Seccomp::Profile(json);
        let error = super::super::program(&choice, CapSet::DEFAULT, (6, 1)).unwrap_err();
        assert!(error.report().contains("the kernel takes 4096"), "{}", error.report());
    }
}
