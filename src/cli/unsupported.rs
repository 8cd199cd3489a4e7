//! Options that users of podman and docker know and sbx does not have: each with its reason.

use clap::error::{ContextKind, ContextValue};

use crate::error::Error;

const LIMITS: &str = "resource limits need a delegated control group, which sbx does not manage yet";
const MANIFESTS: &str = "images for several platforms are pulled, but not made yet";
const BUILD_CACHE: &str = "the cache of builds is in the store, and is not brought elsewhere yet";
const CGROUP_V1: &str = "it is a setting of cgroup v1, which cannot be used without root";
const HEALTH: &str = "a container has one health check: `--health-start-period` and `--health-start-interval` are for \
                      its start";
const STREAMS: &str = "the streams of a container in the foreground are always the caller's";

/// Sorted by reason: what is missing today, then what will never be there.
const KNOWN: &[(&str, &[&str])] = &[
    (
        "no notifications go to systemd: its units follow the process (`sbx generate systemd`)",
        &["--sdnotify"],
    ),
    (
        HEALTH,
        &[
            "--health-startup-cmd",
            "--health-startup-interval",
            "--health-startup-retries",
            "--health-startup-success",
            "--health-startup-timeout",
        ],
    ),
    (
        LIMITS,
        &[
            "--memory",
            "-m",
            "--memory-swap",
            "--memory-swappiness",
            "--memory-reservation",
            "--cpus",
            "--cpu-count",
            "--cpu-percent",
            "--cpu-shares",
            "-c",
            "--cpu-quota",
            "--cpu-period",
            "--cpu-rt-period",
            "--cpu-rt-runtime",
            "--cpuset-cpus",
            "--cpuset-mems",
            "--pids-limit",
            "--blkio-weight",
            "--blkio-weight-device",
            "--device-read-bps",
            "--device-read-iops",
            "--device-write-bps",
            "--device-write-iops",
            "--device-cgroup-rule",
            "--io-maxbandwidth",
            "--io-maxiops",
            "--cgroup-parent",
            "--cgroup-conf",
            "--cgroups",
        ],
    ),
    (BUILD_CACHE, &["--cache-from", "--cache-to", "--cache-ttl"]),
    ("builds do not forward SSH agents yet", &["--ssh"]),
    ("each step is a layer of its own: layers are not squashed yet", &["--squash", "--squash-all"]),
    ("an image is pushed with `sbx push` when it is built", &["--push"]),
    ("provenance and inventories are not written yet", &["--provenance", "--sbom", "--attest"]),
    ("images stay in the store until `sbx rmi` or `sbx image prune`", &["--rmi"]),
    ("encrypted layers cannot be read", &["--decryption-key"]),
    (
        "signatures are not verified yet: `NAME@sha256:…` names what nobody can change",
        &["--signature-policy"],
    ),
    ("there is no daemon, and so no socket of one", &["--use-api-socket"]),
    ("the root of a container takes what room there is where the store is", &["--storage-opt"]),
    ("an interface has the addresses of its network alone", &["--link-local-ip"]),
    ("a container is made the same way whatever it is in: there are no init containers", &["--init-ctr"]),
    (STREAMS, &["--preserve-fds", "--preserve-fd"]),
    ("streams are attached when the container starts: `start -a`", &["--attach", "-a"]),
    ("the generated files of /etc are found at their usual places alone", &["--chrootdirs"]),
    (CGROUP_V1, &["--oom-kill-disable", "--kernel-memory"]),
    ("`--userns auto`, `--uidmap` and `--gidmap` give ranges", &["--subuidname", "--subgidname"]),
    ("devices of the host are brought in one by one with `--device`", &["--gpus"]),
    ("the init of `--init` is part of sbx", &["--init-path"]),
    ("sbx has no runtime of another program below it", &["--runtime", "--isolation"]),
    ("the files /etc/hosts and /etc/hostname are sbx's own", &["--no-hostname", "--hosts-file"]),
    ("systemd needs a delegated control group, which sbx does not manage yet", &["--systemd"]),
    ("there is no cache shared between machines to be told apart", &["--rdt-class", "--intel-rdt-closid"]),
    ("hardware and personality are the host's", &["--personality"]),
];

/// Commands of podman and docker that are missing today.
const KNOWN_COMMANDS: &[(&str, &[&str])] = &[
    (MANIFESTS, &["manifest"]),
    (
        "Kubernetes files are not read; `podman-compose` called with the path of sbx reads those of compose",
        &["compose", "kube", "play"],
    ),
];

/// Why the command is not there, where there is something to say.
pub fn explain_command(command: &str) -> Option<Error> {
    let (reason, _) = KNOWN_COMMANDS.iter().find(|(_, names)| names.contains(&command))?;
    Some(
        Error::new(format!("there is no command `{command}`"))
            .because(reason)
            .hint("`sbx --help` lists the commands"),
    )
}

/// Why the option that clap does not know is not there, where there is something to say.
pub fn explain(error: &clap::Error) -> Option<Error> {
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else { return None };
    let bare = option.split('=').next().unwrap_or(option);
    let (reason, _) = KNOWN.iter().find(|(_, names)| names.contains(&bare))?;
    Some(Error::new(format!("the option `{bare}` is not supported")).because(reason))
}
