//! Options of `sbx build` that the commands of RUN get: those of `sbx run`.

use crate::cli::limit_options::{ControlGroupOptions, LimitOptions};
use crate::error::{Error, Result};
use crate::{layers, limits};

/// What the commands of RUN are run with.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Commands of RUN")]
pub struct RunOptions {
    /// Network of RUN: none, host, private, or what else `sbx run --network` takes
    #[arg(long, visible_alias = "net", value_name = "MODE")]
    pub network: Option<String>,
    /// Add a line to /etc/hosts of RUN: `NAME:IP`
    #[arg(long, value_name = "NAME:IP")]
    add_host: Vec<String>,
    /// Leave /etc/hosts as the base has it
    #[arg(long, conflicts_with = "add_host")]
    no_hosts: bool,
    /// Name server of RUN
    #[arg(long, value_name = "IP")]
    dns: Vec<String>,
    /// Search domain of RUN
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// DNS option of RUN's resolv.conf
    #[arg(long, value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Pass the caller's proxy variables on to RUN; they are in no image
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, action = clap::ArgAction::Set)]
    http_proxy: Option<bool>,
    /// Resource limit of RUN: `NAME=SOFT[:HARD]`
    #[arg(long, value_name = "LIMIT")]
    ulimit: Vec<String>,
    /// Size of /dev/shm of RUN
    #[arg(long, value_name = "SIZE")]
    shm_size: Option<String>,
    /// Bind a directory for RUN: `SOURCE:TARGET[:OPTIONS]`
    #[arg(short, long, alias = "transient-mount", value_name = "SOURCE:TARGET")]
    volume: Vec<String>,
    /// Bring in a device: `HOST[:CONTAINER[:rwm]]`
    #[arg(long, value_name = "DEVICE")]
    device: Vec<String>,
    /// Add a capability
    #[arg(long, value_name = "CAP", value_delimiter = ',')]
    cap_add: Vec<String>,
    /// Drop a capability
    #[arg(long, value_name = "CAP", value_delimiter = ',')]
    cap_drop: Vec<String>,
    /// seccomp=FILE|unconfined, no-new-privileges, mask=PATHS, unmask=ALL|PATHS
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Add a supplementary group
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// User namespace of RUN: `container` or `host`, which are the same without root
    #[arg(long, value_name = "MODE")]
    userns: Option<String>,
    /// IPC namespace of RUN: private, host, ns:PATH
    #[arg(long, value_name = "MODE")]
    ipc: Option<String>,
    /// PID namespace of RUN: private, host, ns:PATH
    #[arg(long, value_name = "MODE")]
    pid: Option<String>,
    /// UTS namespace of RUN: private, host, ns:PATH
    #[arg(long, value_name = "MODE")]
    uts: Option<String>,
    /// Cgroup namespace of RUN: private, host, ns:PATH
    #[arg(long, value_name = "MODE")]
    cgroupns: Option<String>,
    #[command(flatten)]
    limits: LimitOptions,
    /// Where the control groups of RUN are made: a slice of systemd, or a path below what is delegated to you
    #[arg(long, value_name = "PARENT", help_heading = "Limits")]
    cgroup_parent: Option<String>,
    /// How the layers below RUN are stacked
    #[arg(long, value_name = "DRIVER", value_enum, default_value_t)]
    storage_driver: layers::Choice,
    /// Pass standard input on to the commands of RUN
    #[arg(long)]
    stdin: bool,
    /// What a Dockerfile may ask for beyond the default: `security.insecure`, `network.host`
    #[arg(long, value_name = "ENTITLEMENT", value_delimiter = ',')]
    pub allow: Vec<String>,
}

impl RunOptions {
    /// The words of `sbx run`.
    pub fn words(&self) -> Vec<String> {
        // docker writes `NAME=IP`, too.
        let add_host = self.add_host.iter().map(|host| match host.contains(':') {
            true => host.clone(),
            false => host.replacen('=', ":", 1),
        });
        let add_host: Vec<String> = add_host.collect();
        let lists = [
            ("--add-host", &add_host),
            ("--dns", &self.dns),
            ("--dns-search", &self.dns_search),
            ("--dns-option", &self.dns_option),
            ("--ulimit", &self.ulimit),
            ("--volume", &self.volume),
            ("--device", &self.device),
            ("--cap-add", &self.cap_add),
            ("--cap-drop", &self.cap_drop),
            ("--security-opt", &self.security_opt),
            ("--group-add", &self.group_add),
        ];
        let single = [
            ("--shm-size", &self.shm_size),
            ("--ipc", &self.ipc),
            ("--pid", &self.pid),
            ("--uts", &self.uts),
            ("--cgroupns", &self.cgroupns),
            ("--cgroup-parent", &self.cgroup_parent),
        ];
        let mut words: Vec<String> = Vec::new();
        for (flag, values) in lists {
            words.extend(values.iter().map(|value| format!("{flag}={value}")));
        }
        for (flag, value) in single {
            words.extend(value.iter().map(|value| format!("{flag}={value}")));
        }
        words.extend(self.limits.words());
        let driver = match self.storage_driver {
            layers::Choice::Auto => None,
            layers::Choice::FuseOverlayfs => Some("--storage-driver=fuse-overlayfs"),
            layers::Choice::Overlay => Some("--storage-driver=overlay"),
        };
        words.extend(driver.map(str::to_owned));
        words.extend(self.http_proxy.map(|passed| format!("--http-proxy={passed}")));
        let switches = [("--no-hosts", self.no_hosts), ("--interactive", self.stdin)];
        words.extend(switches.iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| (*flag).to_owned()));
        words
    }

    /// # Errors
    /// A limit is none that a control group can have.
    pub fn check_limits(&self) -> Result<()> {
        let group = ControlGroupOptions { cgroup_parent: self.cgroup_parent.clone(), ..Default::default() };
        limits::plan(&self.limits, &group).map(|_| ())
    }

    /// The mode of `--network`; none: the default.
    pub fn network(&self) -> Option<String> {
        self.network.clone().filter(|mode| mode != "default")
    }

    /// What `--allow` allows, and `--network host` with it.
    ///
    /// # Errors
    /// The word is not known, or the namespace is another than that of the layers.
    pub fn check(&self) -> Result<Allowed> {
        if let Some(mode) = self.userns.as_deref().filter(|mode| !matches!(*mode, "" | "host" | "container"))
        {
            return Err(Error::new(format!("cannot honour `--userns={}`", mode.escape_debug()))
                .because(
                    "the files of layers have the owners of the user's own map, and commands see just these",
                )
                .hint("`USER` in the Dockerfile chooses who runs a command"));
        }
        let mut allowed = Allowed { insecure: false, host_network: self.network.as_deref() == Some("host") };
        for word in &self.allow {
            match word.as_str() {
                "security.insecure" => allowed.insecure = true,
                "network.host" => allowed.host_network = true,
                _ => {
                    return Err(Error::new(format!("cannot use `--allow {}`", word.escape_debug()))
                        .hint("there are: security.insecure, network.host"));
                }
            }
        }
        Ok(allowed)
    }
}

/// What instructions may ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowed {
    /// `RUN --security=insecure`.
    pub insecure: bool,
    /// `RUN --network=host`.
    pub host_network: bool,
}
