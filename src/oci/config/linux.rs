//! What is Linux's own (config-linux.md) and belongs to the whole container.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{mounts, raw};
use crate::container::capabilities::{CapSet, Capability};
use crate::container::listed::{FilterOptions, ListedMount, Node, NodeKind};
use crate::container::spec::{Namespace, Namespaces, Seccomp};
use crate::container::sysctl;
use crate::error::{Error, Result, Step};
use crate::identity::Identity;

/// All but the user namespace, and the mount namespace that is joined; none: a new one.
///
/// # Errors
/// A kind that is none, or is listed twice; no mount namespace.
pub(super) fn namespaces(linux: &raw::Linux) -> Result<(Namespaces, Option<PathBuf>)> {
    let host = || Namespace::Host;
    let mut read =
        Namespaces { pid: host(), ipc: host(), uts: host(), net: host(), cgroup: host(), time: host() };
    let mut seen: Vec<&str> = Vec::new();
    let mut mounts = Namespace::Host;
    for namespace in &linux.namespaces {
        let kind = namespace.kind.as_str();
        let wrong = |cause: &str| Error::new(format!("cannot use the namespace `{kind}`")).because(cause);
        if seen.contains(&kind) {
            return Err(wrong("it is listed twice"));
        }
        seen.push(kind);
        let choice = chosen(namespace)?;
        match kind {
            "pid" => read.pid = choice,
            "ipc" => read.ipc = choice,
            "uts" => read.uts = choice,
            "network" => read.net = choice,
            "cgroup" => read.cgroup = choice,
            "time" => read.time = choice,
            "mount" => mounts = choice,
            "user" => {}
            _ => return Err(wrong("there is none of this type")),
        }
    }
    match mounts {
        Namespace::Private => Ok((read, None)),
        Namespace::Path(path) => Ok((read, Some(path))),
        _ => Err(Error::new("there is no mount namespace among `linux.namespaces`")
            .because("without one the container's mounts would be the caller's")
            .hint("list one of the type `mount`")),
    }
}

/// What a mount namespace that is joined asks of the rest.
///
/// # Errors
/// The kernel or the others in the namespace stand against it.
pub(super) fn check_joined_mounts(path: &Path, identity: &Identity, mounts: &[ListedMount]) -> Result<()> {
    let failed = || Error::new(format!("cannot join the mount namespace of `{}`", path.display()));
    if identity.join.is_none() {
        return Err(failed()
            .because(
                "the container has a new user namespace, and who is in one may neither join nor change the mount \
                 namespace of another (mount_namespaces(7))",
            )
            .hint("join the user namespace that it belongs to, too: the type `user` with its path and without mappings"));
    }
    let unbindable =
        |mount: &&ListedMount| mount.propagation.iter().any(|(flag, _)| *flag == libc::MS_UNBINDABLE);
    if let Some(mount) = mounts.iter().find(unbindable) {
        return Err(failed()
            .because(format!(
                "`{}` is to be unbindable, and the mounts come to that namespace as a copy",
                mount.destination.display()
            ))
            .hint("leave out `unbindable`"));
    }
    Ok(())
}

/// One namespace that is listed.
pub(super) fn chosen(namespace: &raw::Namespace) -> Result<Namespace> {
    match &namespace.path {
        None => Ok(Namespace::Private),
        Some(path) if path.as_os_str().is_empty() => Ok(Namespace::Private),
        Some(path) if path.is_absolute() => Ok(Namespace::Path(path.clone())),
        Some(path) => {
            Err(Error::new(format!("cannot join the {} namespace `{}`", namespace.kind, path.display()))
                .because("the specification asks for an absolute path"))
        }
    }
}

pub(super) fn sysctls(
    listed: &BTreeMap<String, String>,
    namespaces: &Namespaces,
) -> Result<BTreeMap<String, String>> {
    let private =
        sysctl::Private { net: namespaces.net != Namespace::Host, ipc: namespaces.ipc != Namespace::Host };
    listed
        .iter()
        .map(|(name, value)| {
            let wrong = |cause: String| Error::new(format!("cannot set the sysctl `{name}`")).because(cause);
            sysctl::checked((name, value), private, sysctl::Asker::Bundle, &wrong)
        })
        .collect()
}

pub(super) fn root_propagation(word: &str) -> Result<Option<u64>> {
    if word.is_empty() {
        return Ok(None);
    }
    let (flag, below) = mounts::propagation(word).ok_or_else(|| {
        Error::new(format!("`rootfsPropagation` is `{word}`"))
            .hint("there are: shared, slave, private, unbindable, each also with `r` before it")
    })?;
    Ok(Some(flag | if below { libc::MS_REC } else { 0 }))
}

/// personality(2): the numbers of PER_LINUX and PER_LINUX32.
pub(super) fn personality(raw: &raw::Personality) -> Result<u32> {
    if let Some(flag) = raw.flags.first() {
        return Err(Error::new(format!("`personality` has the flag `{flag}`"))
            .because("the specification knows none yet"));
    }
    match raw.domain.as_str() {
        "LINUX" => Ok(0),
        "LINUX32" => Ok(8),
        other => {
            Err(Error::new(format!("`personality` has the domain `{other}`"))
                .hint("there are: LINUX, LINUX32"))
        }
    }
}

/// Lines of /proc/PID/timens_offsets (time_namespaces(7)).
pub(super) fn time_offsets(
    offsets: &BTreeMap<String, raw::Offset>,
    namespaces: &Namespaces,
) -> Result<Vec<String>> {
    if !offsets.is_empty() && namespaces.time != Namespace::Private {
        return Err(Error::new("`timeOffsets` need a new time namespace")
            .hint("list one of the type `time` without a path"));
    }
    let line = |(clock, offset): (&String, &raw::Offset)| match clock.as_str() {
        "monotonic" | "boottime" if offset.nanosecs < 1_000_000_000 => {
            Ok(format!("{clock} {} {}", offset.secs, offset.nanosecs))
        }
        "monotonic" | "boottime" => {
            Err(Error::new(format!("the offset of the clock `{clock}` has a second or more of nanoseconds")))
        }
        other => Err(Error::new(format!("`timeOffsets` has the clock `{other}`"))
            .hint("there are: monotonic, boottime")),
    };
    offsets.iter().map(line).collect()
}

pub(super) fn device(raw: raw::Device) -> Result<Node> {
    let wrong =
        |cause: &str| Error::new(format!("cannot use the device `{}`", raw.path.display())).because(cause);
    if !raw.path.is_absolute() {
        return Err(wrong("its path is not absolute"));
    }
    let kind = match raw.kind.as_str() {
        "c" | "u" => NodeKind::Character,
        "b" => NodeKind::Block,
        "p" => NodeKind::Fifo,
        other => return Err(wrong(&format!("there is no type `{other}`"))),
    };
    let (Some(major), Some(minor)) = (match kind {
        NodeKind::Fifo => (Some(0), Some(0)),
        _ => (raw.major, raw.minor),
    }) else {
        return Err(wrong("`major` and `minor` are missing"));
    };
    // makedev(3): 12 bits and 20 bits in the kernel.
    let number = |number: i64, most: u32| u32::try_from(number).ok().filter(|number| *number <= most);
    let (Some(major), Some(minor)) = (number(major, 0xfff), number(minor, 0xf_ffff)) else {
        return Err(wrong("there is no such major or minor number"));
    };
    let mode = raw.file_mode.map(|mode| mode & 0o7777);
    Ok(Node { path: raw.path, kind, major, minor, mode, uid: raw.uid, gid: raw.gid })
}

/// The profile in the form that [`crate::seccomp::profile`] reads, and what is not part of the filter.
pub(super) fn seccomp(
    raw: Option<serde_json::Map<String, serde_json::Value>>,
) -> Result<(Seccomp, FilterOptions)> {
    const FLAGS: &[(&str, u64)] = &[
        ("SECCOMP_FILTER_FLAG_TSYNC", libc::SECCOMP_FILTER_FLAG_TSYNC),
        ("SECCOMP_FILTER_FLAG_LOG", libc::SECCOMP_FILTER_FLAG_LOG),
        ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW),
        ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV),
    ];
    let Some(mut profile) = raw else { return Ok((Seccomp::Unconfined, FilterOptions::default())) };
    let failed = || "cannot use `linux.seccomp`";
    let mut options = FilterOptions::default();
    let words: Option<Vec<String>> =
        profile.remove("flags").map(serde_json::from_value).transpose().step(failed)?.flatten();
    for word in words.unwrap_or_default() {
        let (_, flag) = FLAGS
            .iter()
            .find(|(name, _)| *name == word)
            .ok_or_else(|| Error::new(failed()).because(format!("there is no flag `{word}`")))?;
        options.flags |= flag;
    }
    let mut text = |key: &str| -> Result<String> {
        let value: Option<Option<String>> =
            profile.remove(key).map(serde_json::from_value).transpose().step(failed)?;
        Ok(value.flatten().unwrap_or_default())
    };
    options.metadata = text("listenerMetadata")?;
    options.listener = Some(text("listenerPath")?).filter(|path| !path.is_empty()).map(Into::into);
    if !options.metadata.is_empty() && options.listener.is_none() {
        return Err(Error::new(failed())
            .because("it has `listenerMetadata` and no `listenerPath`")
            .hint("name the socket of who gets it, or leave it out"));
    }
    let json = serde_json::to_string(&profile).step(failed)?;
    let notifies = crate::seccomp::profile::parse_with_listener(json.as_bytes())?.notifies();
    if notifies && options.listener.is_none() {
        return Err(Error::new(failed())
            .because("it has the action SCMP_ACT_NOTIFY and no `listenerPath`")
            .hint("name the socket of who answers for these calls"));
    }
    if !notifies {
        // As the specification has it, nobody is asked for then.
        options.listener = None;
    }
    Ok((Seccomp::Profile(json), options))
}

/// Rules for devices are passed over where nobody can make a device: in every user namespace but the first. There, who
/// may make devices would reach those of the host.
pub(super) fn check_device_rules(
    resources: Option<&serde_json::Value>,
    identity: &Identity,
    bounding: CapSet,
) -> Result<()> {
    let rules = resources.and_then(|resources| resources.get("devices")).and_then(|rules| rules.as_array());
    let asked = rules.is_some_and(|rules| !rules.is_empty());
    if !asked || identity.join != Some(Namespace::Host) || !bounding.contains(Capability::MKNOD) {
        return Ok(());
    }
    let is_first = crate::host::read_proc("/proc/self/uid_map")
        .is_ok_and(|map| map.split_ascii_whitespace().eq(["0", "0", "4294967295"]));
    if !is_first {
        return Ok(());
    }
    Err(Error::new("cannot enforce the rules for devices in `resources.devices`")
        .because("sbx sets none, and with CAP_MKNOD the container would reach the devices of the host")
        .hint("leave out CAP_MKNOD, or list a user namespace"))
}

/// What cannot be honoured.
pub(super) fn refuse_the_rest(linux: &raw::Linux) -> Result<()> {
    // An empty one asks for nothing.
    if linux.intel_rdt.as_ref().is_some_and(|asked| asked.as_object().is_none_or(|asked| !asked.is_empty())) {
        return Err(Error::new("`intelRdt` is not supported")
            .because("the file system of resctrl is root's, and sbx does not manage it"));
    }
    if !linux.mount_label.is_empty() {
        return Err(Error::new("`mountLabel` is not supported")
            .because("sbx does not set labels of security modules")
            .hint("leave out `mountLabel`"));
    }
    Ok(())
}
