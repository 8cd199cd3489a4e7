//! Options that users of podman and docker know and sbx does not have: each with its reason.

use clap::error::{ContextKind, ContextValue};

use crate::error::Error;

const MANIFESTS: &str = "images for several platforms are pulled, but not made yet";
const CGROUP_V1: &str =
    "it is a setting of cgroup v1, which version 2 does not have and nobody can use without root";
const WINDOWS: &str =
    "it limits containers of Windows; here there are `--cpus` and `--device-read-bps` with their kin";
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
    (MANIFESTS, &["--manifest", "--all-platforms", "--logsplit"]),
    ("a Dockerfile is built as it is, without the C preprocessor", &["--cpp-flag"]),
    (
        "sbx is the runtime itself: there are no hooks, and no flags of another",
        &["--hooks-dir", "--runtime-flag"],
    ),
    ("images are not signed yet", &["--sign-by"]),
    (
        "a build makes one image, and none of what is between",
        &["--save-stages", "--stage-labels", "--layer-label"],
    ),
    ("annotations of a base are not taken over", &["--inherit-annotations", "--unsetannotation"]),
    ("confidential workloads are disk images of virtual machines, which sbx does not make", &["--cw"]),
    (
        "what a Dockerfile may do is decided by the sandbox of its commands",
        &["--policy", "--source-policy-file"],
    ),
    (
        "the files of layers have the owners of the user's own map, and commands see just these",
        &["--userns-uid-map", "--userns-gid-map", "--userns-uid-map-user", "--userns-gid-map-group"],
    ),
    (
        "the build cache is not trimmed to a size: `sbx builder prune --filter until=24h` forgets what is old",
        &["--keep-storage", "--reserved-space", "--max-used-space", "--min-free-space"],
    ),
    ("images stay in the store until `sbx rmi` or `sbx image prune`", &["--rmi"]),
    ("encrypted layers cannot be read", &["--decryption-key"]),
    (
        "signatures are not verified yet: `NAME@sha256:…` names what nobody can change",
        &["--signature-policy"],
    ),
    ("there is no daemon, and so no socket of one", &["--use-api-socket"]),
    ("sbx sets no labels of security modules", &["--apparmor", "--process-label"]),
    ("the root of a container takes what room there is where the store is", &["--storage-opt"]),
    ("an interface has the addresses of its network alone", &["--link-local-ip"]),
    ("a container is made the same way whatever it is in: there are no init containers", &["--init-ctr"]),
    (STREAMS, &["--preserve-fds", "--preserve-fd"]),
    ("streams are attached when the container starts: `start -a`", &["--attach", "-a"]),
    ("the generated files of /etc are found at their usual places alone", &["--chrootdirs"]),
    (
        CGROUP_V1,
        &[
            "--oom-kill-disable",
            "--kernel-memory",
            "--memory-swappiness",
            "--cpu-rt-period",
            "--cpu-rt-runtime",
        ],
    ),
    (WINDOWS, &["--cpu-count", "--cpu-percent", "--io-maxbandwidth", "--io-maxiops"]),
    (
        "rules for devices take root; a container has the devices that `--device` brings in, and no others",
        &["--device-cgroup-rule"],
    ),
    ("`--userns auto`, `--uidmap` and `--gidmap` give ranges", &["--subuidname", "--subgidname"]),
    ("devices of the host are brought in one by one with `--device`", &["--gpus"]),
    ("the init of `--init` is part of sbx", &["--init-path"]),
    ("sbx has no runtime of another program below it", &["--runtime"]),
    ("the files /etc/hosts and /etc/hostname are sbx's own", &["--no-hostname", "--hosts-file"]),
    ("a container is not prepared for systemd as its command yet", &["--systemd"]),
    ("there is no cache shared between machines to be told apart", &["--rdt-class", "--intel-rdt-closid"]),
    ("hardware and personality are the host's", &["--personality"]),
];

/// Commands of podman and docker that are missing today.
const KNOWN_COMMANDS: &[(&str, &[&str])] = &[
    (MANIFESTS, &["manifest"]),
    (
        "files of compose are read by others: `podman-compose --podman-path $(command -v sbx) up`",
        &["compose"],
    ),
    ("Kubernetes files are not read", &["kube", "play"]),
    (
        "images are not mounted on the host: `sbx unshare`, `sbx cp` and `sbx export` get at their files",
        &["mount", "unmount", "umount"],
    ),
    ("processes cannot be kept in files without root (criu(8))", &["checkpoint", "restore"]),
    (
        "sbx starts what it is told to, and nothing by itself",
        &["auto-update", "machine", "farm", "swarm", "service", "stack"],
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
