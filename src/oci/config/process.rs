//! `process` (config.md, Process): of `config.json`, and the whole of a `process.json`.

use std::collections::HashMap;
use std::path::Path;

use rustix::thread::CpuSet;

use super::raw;
use crate::container::capabilities::{CapSet, Capability};
use crate::container::listed::{Affinity, CapabilitySets, Exact, Scheduler};
use crate::container::rlimit;
use crate::container::spec::{Process, Rlimit};
use crate::error::{Error, Result};

/// What a process is, and what of it belongs to the container in other runs.
#[derive(Debug, Clone)]
pub struct Described {
    pub process: Process,
    pub rlimits: Vec<Rlimit>,
    pub no_new_privileges: bool,
    pub oom_score_adj: Option<i32>,
}

/// Reads a process.
///
/// # Errors
/// What is missing, wrong, or cannot be honoured.
pub fn read(raw: raw::Process) -> Result<Described> {
    interpret(raw).map_err(|error| error.while_doing("cannot use `process`"))
}

fn interpret(raw: raw::Process) -> Result<Described> {
    if raw.args.is_empty() {
        return Err(Error::new("`args` is empty").because("the specification asks for a command"));
    }
    if !raw.cwd.is_absolute() {
        return Err(Error::new(format!("`cwd` is `{}`", raw.cwd.display()))
            .because("the specification asks for an absolute path"));
    }
    if raw.args.iter().chain(&raw.env).any(|word| word.contains('\0')) {
        return Err(Error::new("an argument or variable holds a NUL byte"));
    }
    let env = environment(raw.env)?;
    for (name, value) in [("apparmorProfile", &raw.apparmor_profile), ("selinuxLabel", &raw.selinux_label)] {
        if !value.is_empty() {
            return Err(Error::new(format!("`{name}` is not supported"))
                .because("sbx does not set labels of security modules")
                .hint(format!("leave out `{name}`")));
        }
    }
    let capabilities = match &raw.capabilities {
        Some(raw) => sets(raw),
        None => CapabilitySets::default(),
    };
    let exact = Exact {
        uid: raw.user.uid,
        gid: raw.user.gid,
        groups: raw.user.additional_gids,
        capabilities,
        affinity: raw.exec_cpu_affinity.as_ref().map(affinity).transpose()?,
        io_priority: raw.io_priority.as_ref().map(io_priority).transpose()?,
        scheduler: raw.scheduler.as_ref().map(scheduler).transpose()?,
        keeps_keyring: false,
        descriptors: 0,
        console: raw.console_size.and_then(|size| {
            Some((u16::try_from(size.height).ok()?, u16::try_from(size.width).ok()?))
                .filter(|size| *size != (0, 0))
        }),
    };
    Ok(Described {
        process: Process {
            args: raw.args,
            entry_point: 0,
            env,
            cwd: raw.cwd,
            user: None,
            groups: Vec::new(),
            keep_groups: false,
            account: None,
            terminal: raw.terminal,
            stdin: true,
            stdin_once: false,
            without_home: false,
            umask: Some(raw.user.umask.unwrap_or(0o022) & 0o7777),
            exact: Some(Box::new(exact)),
        },
        rlimits: rlimits(&raw.rlimits)?,
        no_new_privileges: raw.no_new_privileges,
        oom_score_adj: raw.oom_score_adj,
    })
}

/// The list as programs can use it: whoever asks for a variable that is there twice gets the first, and who wrote the list
/// means the last.
///
/// # Errors
/// One that has no name or no value.
pub fn environment(listed: Vec<String>) -> Result<Vec<String>> {
    let mut env: Vec<String> = Vec::with_capacity(listed.len());
    let mut places = HashMap::with_capacity(listed.len());
    for entry in listed {
        let name = match entry.split_once('=') {
            Some((name, _)) if !name.is_empty() => name.to_owned(),
            _ => {
                return Err(Error::new(format!("`env` has `{}`", entry.escape_debug()))
                    .because("a variable has a name, `=` and a value (environ(7))"));
            }
        };
        match places.get(&name) {
            Some(place) => env[*place] = entry,
            None => {
                places.insert(name, env.len());
                env.push(entry);
            }
        }
    }
    Ok(env)
}

fn sets(raw: &raw::Capabilities) -> CapabilitySets {
    let all = CapSet::all();
    let set = |names: &[String]| {
        names.iter().fold(CapSet::EMPTY, |set, name| match capability(name) {
            // The specification wants what cannot be granted to be told of, and no more.
            Some(capability) if all.contains(capability) => set.with(capability),
            _ => {
                ::log::warn!("this kernel does not know the capability `{name}`");
                set
            }
        })
    };
    let granted = |asked: CapSet, possible: CapSet, set: &str, needed: &str| {
        let granted = asked.intersection(possible);
        for name in asked.without(granted).names() {
            ::log::warn!("`{name}` cannot be {set}: it is not {needed}");
        }
        granted
    };
    let permitted = set(&raw.permitted);
    let inheritable = set(&raw.inheritable);
    CapabilitySets {
        bounding: set(&raw.bounding),
        // capset(2)
        effective: granted(set(&raw.effective), permitted, "effective", "permitted"),
        permitted,
        inheritable,
        // prctl(2), PR_CAP_AMBIENT_RAISE
        ambient: granted(
            set(&raw.ambient),
            permitted.intersection(inheritable),
            "ambient",
            "permitted and inheritable",
        ),
    }
}

fn capability(name: &str) -> Option<Capability> {
    // The specification has the names of capabilities(7), complete.
    name.to_ascii_uppercase().starts_with("CAP_").then(|| Capability::parse(name).ok())?
}

/// Adds capabilities for `exec --cap`. What is inheritable or ambient would pass to the programs of other users, too.
///
/// # Errors
/// A name that is none.
pub fn add_capabilities(exact: &mut Exact, names: &[String]) -> Result<()> {
    let sets = &mut exact.capabilities;
    for name in names {
        let capability = Capability::parse(name)?;
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            *set = set.with(capability);
        }
    }
    Ok(())
}

fn rlimits(raw: &[raw::Rlimit]) -> Result<Vec<Rlimit>> {
    let mut read: Vec<Rlimit> = Vec::with_capacity(raw.len());
    for limit in raw {
        let wrong = |cause: &str| Error::new(format!("cannot use the limit `{}`", limit.kind)).because(cause);
        let resource = rlimit::number(&limit.kind).ok_or_else(|| wrong("there is no such limit"))?;
        if limit.soft > limit.hard {
            return Err(wrong("its soft value is above the hard one"));
        }
        if read.iter().any(|earlier| earlier.resource == resource) {
            return Err(wrong("it is listed twice"));
        }
        read.push(Rlimit { resource, soft: limit.soft, hard: limit.hard });
    }
    Ok(read)
}

/// ioprio_set(2): the class above, the level in the lower 13 bits.
fn io_priority(raw: &raw::IoPriority) -> Result<i32> {
    let wrong = |cause: &str| {
        Error::new("cannot use `ioPriority`").because(cause).hint("ioprio_set(2) tells of both")
    };
    let class = match raw.class.as_str() {
        "IOPRIO_CLASS_RT" => 1,
        "IOPRIO_CLASS_BE" => 2,
        "IOPRIO_CLASS_IDLE" => 3,
        other => return Err(wrong(&format!("there is no class `{other}`"))),
    };
    if !(0..=7).contains(&raw.priority) {
        return Err(wrong(&format!("the priority {} is not between 0 and 7", raw.priority)));
    }
    Ok(class << 13 | raw.priority)
}

fn affinity(raw: &raw::Affinity) -> Result<Affinity> {
    let read = |name: &str, list: &str| {
        processors(list).ok_or_else(|| {
            Error::new(format!("`execCPUAffinity.{name}` is `{}`", list.escape_debug()))
                .because(format!("it is no list of processors below {}", CpuSet::MAX_CPU))
                .hint("write numbers and ranges with commas between them, such as `0-3,7`")
        })
    };
    Ok(Affinity { initial: read("initial", &raw.initial)?, last: read("final", &raw.last)? })
}

/// The numbers of a list such as `0-3,7`.
fn processors(list: &str) -> Option<Vec<u16>> {
    let number = |text: &str| {
        let number = text.trim().parse::<u16>().ok()?;
        (usize::from(number) < CpuSet::MAX_CPU).then_some(number)
    };
    let mut read = Vec::new();
    for part in list.split(',').filter(|_| !list.trim().is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let range = number(first)?..=number(last)?;
        if range.is_empty() {
            return None;
        }
        read.extend(range);
    }
    read.sort_unstable();
    read.dedup();
    Some(read)
}

fn scheduler(raw: &raw::Scheduler) -> Result<Scheduler> {
    const POLICIES: &[(&str, u32)] = &[
        ("SCHED_OTHER", 0),
        ("SCHED_FIFO", 1),
        ("SCHED_RR", 2),
        ("SCHED_BATCH", 3),
        ("SCHED_ISO", 4),
        ("SCHED_IDLE", 5),
        ("SCHED_DEADLINE", 6),
    ];
    const FLAGS: &[(&str, u64)] = &[
        ("SCHED_FLAG_RESET_ON_FORK", 0x01),
        ("SCHED_FLAG_RECLAIM", 0x02),
        ("SCHED_FLAG_DL_OVERRUN", 0x04),
        ("SCHED_FLAG_KEEP_POLICY", 0x08),
        ("SCHED_FLAG_KEEP_PARAMS", 0x10),
        ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
        ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
    ];
    let wrong = |cause: String| {
        Error::new("cannot use `scheduler`").because(cause).hint("sched_setattr(2) tells of it")
    };
    let policy = POLICIES.iter().find(|(name, _)| *name == raw.policy);
    let (_, policy) = policy.ok_or_else(|| wrong(format!("there is no policy `{}`", raw.policy)))?;
    let mut flags = 0;
    for flag in &raw.flags {
        let found = FLAGS.iter().find(|(name, _)| name == flag);
        flags |= found.ok_or_else(|| wrong(format!("there is no flag `{flag}`")))?.1;
    }
    Ok(Scheduler {
        policy: *policy,
        flags,
        nice: raw.nice,
        priority: raw.priority,
        runtime: raw.runtime,
        deadline: raw.deadline,
        period: raw.period,
    })
}

/// A `process.json`.
///
/// # Errors
/// It cannot be read, or as [`read`].
pub fn from_file(path: &Path) -> Result<Described> {
    super::parse(path)
        .and_then(read)
        .map_err(|error| error.while_doing(format!("cannot use the process of `{}`", path.display())))
}
