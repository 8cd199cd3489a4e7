//! `--ulimit NAME=SOFT[:HARD]` (getrlimit(2)).

use std::collections::BTreeMap;

use nix::sys::resource::{Resource, getrlimit};

use super::spec::Rlimit;
use crate::error::{Error, Result};

pub const UNLIMITED: u64 = u64::MAX;

const NAMES: &[(&str, Resource)] = &[
    ("as", Resource::RLIMIT_AS),
    ("core", Resource::RLIMIT_CORE),
    ("cpu", Resource::RLIMIT_CPU),
    ("data", Resource::RLIMIT_DATA),
    ("fsize", Resource::RLIMIT_FSIZE),
    ("locks", Resource::RLIMIT_LOCKS),
    ("memlock", Resource::RLIMIT_MEMLOCK),
    ("msgqueue", Resource::RLIMIT_MSGQUEUE),
    ("nice", Resource::RLIMIT_NICE),
    ("nofile", Resource::RLIMIT_NOFILE),
    ("nproc", Resource::RLIMIT_NPROC),
    ("rss", Resource::RLIMIT_RSS),
    ("rtprio", Resource::RLIMIT_RTPRIO),
    ("rttime", Resource::RLIMIT_RTTIME),
    ("sigpending", Resource::RLIMIT_SIGPENDING),
    ("stack", Resource::RLIMIT_STACK),
];

/// The caller's limits by RLIMIT_* number: soft and hard.
pub type Current = BTreeMap<u32, (u64, u64)>;

/// Asks the kernel for the limits of this process.
pub fn current() -> Current {
    NAMES.iter().filter_map(|(_, resource)| Some((*resource as u32, getrlimit(*resource).ok()?))).collect()
}

/// Reads every `--ulimit`; a later one replaces an earlier one of the same name. `host` alone stands for
/// all limits of the caller.
///
/// # Errors
/// Names what is wrong, and the caller's hard limit where more than that is asked for: without root
/// nobody can raise it.
pub fn parse_all(flags: &[String], current: &Current) -> Result<Vec<Rlimit>> {
    let mut limits = BTreeMap::new();
    for text in flags {
        if text == "host" {
            limits.extend(current.iter().map(|(resource, limits)| (*resource, *limits)));
        } else {
            let limit = parse(text, current)?;
            limits.insert(limit.resource, (limit.soft, limit.hard));
        }
    }
    Ok(limits.into_iter().map(|(resource, (soft, hard))| Rlimit { resource, soft, hard }).collect())
}

fn parse(text: &str, current: &Current) -> Result<Rlimit> {
    let wrong = |cause: String| Error::new(format!("cannot use `--ulimit {text}`")).because(cause);
    let form = "write `--ulimit NAME=SOFT[:HARD]`, such as `--ulimit nofile=1024:4096`; -1 is unlimited";
    let Some((name, values)) = text.split_once('=') else {
        return Err(wrong("`=` is missing".to_owned()).hint(form));
    };
    let key = name.strip_prefix("RLIMIT_").unwrap_or(name);
    let Some((_, resource)) = NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(key)) else {
        let known: Vec<&str> = NAMES.iter().map(|(known, _)| *known).collect();
        return Err(wrong(format!("`{name}` is not a limit: {} are", known.join(", "))).hint(form));
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let number = |text: &str| {
        value(text).ok_or_else(|| wrong(format!("`{text}` is neither a number nor -1")).hint(form))
    };
    let (soft, hard) = (number(soft)?, number(hard)?);
    if soft > hard {
        return Err(wrong(format!("the soft limit {} is above the hard limit {}", show(soft), show(hard)))
            .hint("give the larger of the two as the hard limit"));
    }
    let resource = *resource as u32;
    if let Some((_, most)) = current.get(&resource)
        && hard > *most
    {
        return Err(wrong(format!(
            "your own hard limit of `{key}` is {}, and {} is more",
            show(*most),
            show(hard)
        ))
        .hint("ask for less, or let an administrator raise it in /etc/security/limits.conf"));
    }
    Ok(Rlimit { resource, soft, hard })
}

fn value(text: &str) -> Option<u64> {
    match text {
        "-1" | "unlimited" => Some(UNLIMITED),
        _ if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}

fn show(value: u64) -> String {
    if value == UNLIMITED { "unlimited".to_owned() } else { value.to_string() }
}

/// The number of a limit by that name.
pub fn number(name: &str) -> Option<u32> {
    let key = name.strip_prefix("RLIMIT_")?;
    let (_, resource) = NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(key))?;
    Some(*resource as u32)
}

/// `RLIMIT_NOFILE`, as podman names limits.
pub fn name(resource: u32) -> Option<String> {
    let (name, _) = NAMES.iter().find(|(_, known)| *known as u32 == resource)?;
    Some(format!("RLIMIT_{}", name.to_ascii_uppercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOFILE: u32 = Resource::RLIMIT_NOFILE as u32;
    const CORE: u32 = Resource::RLIMIT_CORE as u32;

    fn limits() -> Current {
        Current::from([(NOFILE, (1024, 4096)), (CORE, (0, UNLIMITED))])
    }

    fn read(flags: &[&str]) -> Result<Vec<Rlimit>> {
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        parse_all(&flags, &limits())
    }

    #[test]
    fn one_or_two_values() {
        for (text, resource, soft, hard) in [
            ("nofile=100", NOFILE, 100, 100),
            ("nofile=100:200", NOFILE, 100, 200),
            ("NOFILE=0:4096", NOFILE, 0, 4096),
            ("RLIMIT_NOFILE=1", NOFILE, 1, 1),
            ("core=-1", CORE, UNLIMITED, UNLIMITED),
            ("core=0:unlimited", CORE, 0, UNLIMITED),
        ] {
            assert_eq!(read(&[text]).unwrap(), [Rlimit { resource, soft, hard }], "{text}");
        }
    }

    #[test]
    fn later_flags_replace_earlier_ones() {
        assert_eq!(read(&["nofile=1", "nofile=2"]).unwrap().len(), 1);
        let limits = read(&["host", "nofile=2"]).unwrap();
        assert!(limits.contains(&Rlimit { resource: CORE, soft: 0, hard: UNLIMITED }));
        assert!(limits.contains(&Rlimit { resource: NOFILE, soft: 2, hard: 2 }));
    }

    #[test]
    fn wrong_limits_are_refused_by_part() {
        for (text, cause) in [
            ("", "`=` is missing"),
            ("nofile", "`=` is missing"),
            ("=1", "`` is not a limit"),
            ("files=1", "`files` is not a limit: as, core"),
            ("nofile=", "`` is neither"),
            ("nofile=1:", "`` is neither"),
            ("nofile=-2", "`-2` is neither"),
            ("nofile=+1", "`+1` is neither"),
            ("nofile=1:2:3", "`2:3` is neither"),
            ("nofile=18446744073709551616", "is neither"),
            ("nofile=2:1", "the soft limit 2 is above the hard limit 1"),
            ("nofile=-1:1", "the soft limit unlimited is above"),
            ("nofile=1:4097", "your own hard limit of `nofile` is 4096, and 4097 is more"),
            ("nofile=-1", "4096, and unlimited is more"),
        ] {
            let error = read(&[text]).unwrap_err();
            assert!(error.message().contains("--ulimit") && error.message().contains(text));
            assert!(error.causes()[0].contains(cause), "{text}: {error}");
        }
    }

    #[test]
    fn the_kernel_knows_every_name() {
        assert_eq!(current().len(), NAMES.len());
    }
}
