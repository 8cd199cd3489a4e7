//! `sbx pod create`

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::cli::Global;
use crate::cli::container::Place;
use crate::container::name;
use crate::delegation::{self, Placement};
use crate::error::{Error, Result, Step};
use crate::events::Action;
use crate::output::print;

/// Make a pod
///
/// Containers come into it with `--pod`. Its ID is printed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx pod create --infra=false --share= site
  sbx pod create --infra=false --share= --label env=test site
  sbx pod create --infra=false --share= --cgroup-parent site.slice site")]
pub struct CreateArgs {
    /// Whether a container holds the namespaces that all others share; sbx knows false alone
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, action = clap::ArgAction::Set)]
    infra: bool,
    /// Which namespaces are shared; sbx knows none alone: `--share=`
    #[arg(long, value_name = "NAMESPACES")]
    share: Option<String>,
    /// Set a label
    #[arg(short, long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Name of the pod; default: a random one
    #[arg(short, long = "name", value_name = "NAME")]
    name_option: Option<String>,
    /// Write the pod's ID to a new file
    #[arg(long, value_name = "FILE")]
    pod_id_file: Option<PathBuf>,
    /// Ports of a pod are those of its shared network, which sbx does not make: publish those of each container
    #[arg(short, long, value_name = "PORT", hide = true)]
    publish: Vec<String>,
    /// Where its containers have their control groups: a slice of systemd, or a path below what is delegated to you
    #[arg(long, value_name = "PARENT")]
    cgroup_parent: Option<String>,
    /// Limits of a pod as a whole are those of such a slice
    #[arg(
        short = 'm',
        long = "memory",
        value_name = "LIMIT",
        aliases = [
            "memory-swap", "memory-reservation", "memory-high", "cpus", "cpu-quota", "cpu-period", "cpu-shares", "cpu-weight",
            "cpuset-cpus", "cpuset-mems", "pids-limit", "blkio-weight", "blkio-weight-device", "device-read-bps",
            "device-write-bps", "device-read-iops", "device-write-iops",
        ],
        short_alias = 'c',
        allow_hyphen_values = true,
        hide = true
    )]
    limits: Vec<String>,
    /// What podman's infra container has, and with it all that share with that
    #[arg(
        long = "hostname",
        value_name = "VALUE",
        aliases = [
            "add-host", "device", "dns", "dns-option", "dns-search", "gidmap", "infra-command",
            "infra-conmon-pidfile", "infra-image", "infra-name", "ip", "ip6", "mac-address", "network", "network-alias", "pid",
            "security-opt", "shm-size", "sysctl", "uidmap", "userns", "uts", "volume", "volumes-from",
        ],
        short_alias = 'v',
        hide = true
    )]
    shared: Vec<String>,
    /// Take the pod of this name away first, with its containers
    #[arg(long)]
    replace: bool,
    /// Name of the pod
    #[arg(value_name = "NAME", conflicts_with = "name_option")]
    name: Option<String>,
}

pub fn execute(args: &CreateArgs, global: &Global) -> Result<u8> {
    refuse_sharing(args)?;
    refuse_limits(args)?;
    let labels = labels(&args.label)?;
    let place = Place::of(global)?;
    let name = match args.name.as_ref().or(args.name_option.as_ref()) {
        Some(name) => name.clone(),
        None => name::random()?,
    };
    let pods = super::pods(&place);
    if args.replace
        && let Some(old) = pods.find(&name)?.filter(|old| old.name == name)
    {
        super::remove::remove(&place, &old, Some(10))?;
    }
    crate::host::paths::create_store(place.store.root())?;
    let mut file = match &args.pod_id_file {
        Some(path) => {
            let failed = || format!("cannot write the pod's ID to `{}`", path.display());
            Some((std::fs::File::create_new(path).step(failed)?, failed()))
        }
        None => None,
    };
    let pod = pods.create(&name, labels, args.cgroup_parent.clone()).inspect_err(|_| {
        if let Some(path) = &args.pod_id_file {
            let _ = std::fs::remove_file(path);
        }
    })?;
    if let Some((file, failed)) = &mut file {
        use std::io::Write;
        file.write_all(pod.id.as_bytes()).step(|| failed.as_str())?;
    }
    super::record(&place, Action::Create, &pod);
    print::line(&pod.id)?;
    Ok(0)
}

fn refuse_sharing(args: &CreateArgs) -> Result<()> {
    let refused = |cause: &str| {
        Err(Error::new("cannot make a pod whose containers share namespaces").because(cause).hint(
            "write `--infra=false --share=`, and share with `--net container:NAME` and its like, or publish the ports \
             of each container",
        ))
    };
    match &args.share {
        Some(share) if !matches!(share.as_str(), "" | "none") => {
            return refused(&format!(
                "`--share {share}` asks for it, and sbx has no container that holds them"
            ));
        }
        _ if args.infra => {
            return refused(
                "that takes an infra container, which podman makes unless told otherwise and sbx never does",
            );
        }
        _ => {}
    }
    match args.publish.as_slice() {
        [] => {}
        _ => return refused("`--publish` asks for a network that all of them share"),
    }
    match args.shared.as_slice() {
        [] => Ok(()),
        [value, ..] => refused(&format!(
            "what is set to `{}` is of the container that holds what all of them share",
            value.escape_debug()
        )),
    }
}

/// A pod is a name: nobody is there who could keep its limits while nothing of it runs, but the user's systemd.
fn refuse_limits(args: &CreateArgs) -> Result<()> {
    if !args.limits.is_empty() {
        return Err(Error::new("cannot limit a pod")
            .because("it is a name for its containers, and has no control group of its own")
            .hint(
                "limit each container, or all together by a slice: `sbx pod create … --cgroup-parent site.slice`, and \
                 `systemctl --user set-property site.slice MemoryMax=1G CPUQuota=150%`",
            ));
    }
    let parent = Placement { parent: args.cgroup_parent.clone(), ..Placement::default() };
    delegation::check(&parent, &BTreeSet::new())
}

fn labels(texts: &[String]) -> Result<BTreeMap<String, String>> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        if key.is_empty() {
            return Err(Error::new(format!("cannot use `--label {text}`")).hint("write KEY=VALUE"));
        }
        Ok((key.to_owned(), value.to_owned()))
    };
    texts.iter().map(pair).collect()
}
