//! Options that users of podman and docker know and sbx does not have: each with its reason.

use clap::error::{ContextKind, ContextValue};

use crate::error::Error;

const LIMITS: &str = "resource limits need a delegated control group, which sbx does not manage yet";
const DETACHED: &str = "sbx runs containers in the foreground only, so far";
const IMAGES: &str = "there is no image store yet: the sources of a root are `host` and `--rootfs`";

const KNOWN: &[(&str, &str)] = &[
    ("--detach", DETACHED),
    ("-d", DETACHED),
    ("--restart", DETACHED),
    ("--health-cmd", DETACHED),
    ("--detach-keys", DETACHED),
    ("--memory", LIMITS),
    ("-m", LIMITS),
    ("--memory-swap", LIMITS),
    ("--memory-reservation", LIMITS),
    ("--cpus", LIMITS),
    ("--cpu-shares", LIMITS),
    ("--cpu-quota", LIMITS),
    ("--cpu-period", LIMITS),
    ("--cpuset-cpus", LIMITS),
    ("--cpuset-mems", LIMITS),
    ("--pids-limit", LIMITS),
    ("--blkio-weight", LIMITS),
    ("--cgroup-parent", LIMITS),
    ("--cgroups", LIMITS),
    ("--pull", IMAGES),
    ("--platform", IMAGES),
    ("--arch", IMAGES),
    ("--volumes-from", "there are no named volumes yet: bind a directory with `-v /path:/path`"),
    ("--publish-all", "the sources of today expose no ports: publish each with `-p`"),
    ("-P", "the sources of today expose no ports: publish each with `-p`"),
    ("--ip", "an address can be chosen on bridge networks only, which are not there yet"),
    ("--ip6", "an address can be chosen on bridge networks only, which are not there yet"),
    ("--network-alias", "names between containers need bridge networks, which are not there yet"),
    ("--link", "names between containers need bridge networks, which are not there yet"),
    ("--pod", "there are no pods: share namespaces with `--net container:ID` and its like"),
    ("--oom-kill-disable", "it is a setting of cgroup v1, which cannot be used without root"),
    ("--kernel-memory", "it is a setting of cgroup v1, which cannot be used without root"),
];

/// Why the option that clap does not know is not there, where there is something to say.
pub fn explain(error: &clap::Error) -> Option<Error> {
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else { return None };
    let bare = option.split('=').next().unwrap_or(option);
    let (_, reason) = KNOWN.iter().find(|(name, _)| *name == bare)?;
    Some(Error::new(format!("the option `{bare}` is not supported")).because(reason))
}
