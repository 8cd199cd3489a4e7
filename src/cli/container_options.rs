//! The options that describe a container.

use crate::cli::health_options::HealthOptions;
use crate::cli::limit_options::{ControlGroupOptions, LimitOptions};
use crate::cli::transfer::options::{PlatformOptions, RegistryOptions, TrustOption};
use crate::container::duration;
use crate::container::restart::Restart;
use crate::emulation;
use crate::identity::{MapArg, Tier, Userns};
use crate::image::transfer::ensure::Policy;
use crate::layers;
use crate::logs;

/// `--image-volume`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ImageVolume {
    #[default]
    #[value(alias = "anonymous")]
    Bind,
    Tmpfs,
    Ignore,
}

/// Options of a container, as typed.
#[derive(Debug, Clone, clap::Args)]
pub struct ContainerOptions {
    /// Name the container; default: a random one.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Remove the container that has the name, by force, and take its place.
    #[arg(long, requires = "name")]
    pub replace: bool,
    /// Write the container's ID to a new file.
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<std::path::PathBuf>,
    /// Remove the container when it ends.
    #[arg(long)]
    pub rm: bool,
    /// Start the container again when it ends: no, `on-failure[:N]`, always, unless-stopped.
    #[arg(long, value_name = "POLICY", default_value = "no")]
    pub restart: Restart,
    /// Set by `run --detach`: nobody's standard input is the container's.
    #[arg(skip)]
    pub detach: bool,
    /// Set a label.
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Put the container into a pod.
    #[arg(long, value_name = "POD")]
    pub pod: Option<String>,
    /// Put the container into the pod whose ID is in this file.
    #[arg(long, value_name = "FILE", conflicts_with = "pod")]
    pub pod_id_file: Option<std::path::PathBuf>,
    /// Containers that are started before this one.
    #[arg(long, value_name = "CONTAINER", value_delimiter = ',')]
    pub requires: Vec<String>,
    /// Set an annotation.
    #[arg(long, value_name = "KEY=VALUE")]
    pub annotation: Vec<String>,

    #[command(flatten)]
    pub health: HealthOptions,
    #[command(flatten)]
    pub limits: LimitOptions,
    #[command(flatten)]
    pub control_group: ControlGroupOptions,

    /// When to ask the registry for the image.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t, help_heading = "Image")]
    pub pull: Policy,
    #[command(flatten)]
    pub platform: PlatformOptions,
    #[command(flatten)]
    pub registry: RegistryOptions,
    #[command(flatten)]
    pub trust: TrustOption,

    /// Take this directory as the root, below a layer that takes all changes. Given again, the later
    /// directory lies above.
    #[arg(long, value_name = "DIR", help_heading = "Root file system")]
    pub rootfs: Vec<std::path::PathBuf>,
    /// Take this directory as the root, and change it.
    #[arg(long, value_name = "DIR", conflicts_with = "rootfs", help_heading = "Root file system")]
    pub rootfs_rw: Option<std::path::PathBuf>,
    /// Refuse writes to the root; /run, /tmp and /var/tmp become tmpfs.
    #[arg(long, help_heading = "Root file system")]
    pub read_only: bool,
    /// With `--read-only`: whether /run, /tmp and /var/tmp become tmpfs.
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, action = clap::ArgAction::Set, help_heading = "Root file system")]
    pub read_only_tmpfs: bool,
    /// Keep what the container changes in this local directory; default: in the store, or, where that is on a network
    /// file system, in $SLURM_TMPDIR, $TMPDIR or /var/tmp (environment: SBX_SCRATCH).
    #[arg(long, value_name = "DIR", help_heading = "Root file system")]
    pub scratch: Option<std::path::PathBuf>,
    /// How the layers are stacked.
    #[arg(long, value_name = "DRIVER", value_enum, default_value_t, help_heading = "Root file system")]
    pub storage_driver: layers::Choice,

    /// What the volumes of an image become: anonymous volumes that hold what the image has there (anonymous, bind),
    /// empty tmpfs, or nothing special.
    #[arg(long, value_name = "KIND", value_enum, default_value_t, help_heading = "Mounts and devices")]
    pub image_volume: ImageVolume,
    /// Bind a directory or file of the host, or mount a volume: `SOURCE:TARGET[:OPTIONS]`, `NAME:TARGET[:OPTIONS]`,
    /// or TARGET alone for a new volume; options: ro, rw, U, O, idmap, exec, suid, dev and their no-forms, nocopy,
    /// rbind, bind, private, slave, shared, unbindable and their r-forms, z, Z.
    #[arg(short, long, value_name = "SOURCE:TARGET", help_heading = "Mounts and devices")]
    pub volume: Vec<String>,
    /// Mount what another container has mounted, volumes and directories of the host: `CONTAINER[:ro]`.
    #[arg(long, value_name = "CONTAINER", help_heading = "Mounts and devices")]
    pub volumes_from: Vec<String>,
    /// Driver of new volumes: local.
    #[arg(long, value_name = "DRIVER", help_heading = "Mounts and devices")]
    pub volume_driver: Option<String>,
    /// Mount: `type=TYPE,source=PATH|NAME,target=PATH,…`; types: bind, volume, tmpfs, devpts, mqueue, proc, sysfs, cgroup.
    #[arg(long, value_name = "OPTIONS", help_heading = "Mounts and devices")]
    pub mount: Vec<String>,
    /// Mount a tmpfs: `TARGET[:OPTIONS]`, with size=, mode=, ro and the like.
    #[arg(long, value_name = "TARGET", help_heading = "Mounts and devices")]
    pub tmpfs: Vec<String>,
    /// Bring in a device: `HOST[:CONTAINER[:rwm]]`.
    #[arg(long, value_name = "DEVICE", help_heading = "Mounts and devices")]
    pub device: Vec<String>,
    /// Size of /dev/shm.
    #[arg(long, value_name = "SIZE", default_value = "64m", help_heading = "Mounts and devices")]
    pub shm_size: String,

    /// User that runs the command: `NAME|UID[:GROUP|GID]`.
    #[arg(short, long, value_name = "USER", help_heading = "Identity")]
    pub user: Option<String>,
    /// Add a supplementary group; `keep-groups` keeps those of the caller.
    #[arg(long, value_name = "GROUP", help_heading = "Identity")]
    pub group_add: Vec<String>,
    /// Whether a user that the container's passwd file lacks is added to it.
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, action = clap::ArgAction::Set, help_heading = "Identity")]
    pub passwd: bool,
    /// The line that is added for such a user: seven fields, with $USERNAME, $UID, $GID, $NAME and $HOME.
    #[arg(long, value_name = "LINE", help_heading = "Identity")]
    pub passwd_entry: Option<String>,
    /// The line that is added for its group: four fields, with $GROUPNAME and $GID.
    #[arg(long, value_name = "LINE", help_heading = "Identity")]
    pub group_entry: Option<String>,
    /// Add a user of the host to the container's passwd file, by name or number.
    #[arg(long, value_name = "USER", help_heading = "Identity")]
    pub hostuser: Vec<String>,
    /// User namespace: host, `keep-id[:uid=,gid=]`, `auto[:size=]`, nomap, image-user, container:ID, ns:PATH.
    #[arg(long, value_name = "MODE", help_heading = "Identity")]
    pub userns: Option<Userns>,
    /// Map user IDs: `CONTAINER:FROM[:AMOUNT]`.
    #[arg(long, value_name = "MAP", help_heading = "Identity")]
    pub uidmap: Vec<MapArg>,
    /// Map group IDs: `CONTAINER:FROM[:AMOUNT]`.
    #[arg(long, value_name = "MAP", help_heading = "Identity")]
    pub gidmap: Vec<MapArg>,
    /// Where the IDs come from: range, root or single; default: the best there is.
    #[arg(long, value_name = "TIER", help_heading = "Identity")]
    pub id_tier: Option<Tier>,

    /// Whether changes of owner and user are recorded where one ID alone is mapped, as apt-get, chown and su
    /// need it: auto (where the root can be changed), always, never.
    #[arg(
        long,
        value_name = "WHEN",
        value_enum,
        default_value_t,
        hide_possible_values = true,
        help_heading = "Identity"
    )]
    pub emulate_root: emulation::Choice,

    /// PID namespace: private, host, container:ID, ns:PATH.
    #[arg(long, value_name = "MODE", help_heading = "Namespaces")]
    pub pid: Option<String>,
    /// IPC namespace: private, shareable, host, container:ID, ns:PATH.
    #[arg(long, value_name = "MODE", help_heading = "Namespaces")]
    pub ipc: Option<String>,
    /// UTS namespace: private, host, container:ID, ns:PATH.
    #[arg(long, value_name = "MODE", help_heading = "Namespaces")]
    pub uts: Option<String>,
    /// Cgroup namespace: private, host, container:ID, ns:PATH.
    #[arg(long, value_name = "MODE", help_heading = "Namespaces")]
    pub cgroupns: Option<String>,
    /// Time namespace: host, private.
    #[arg(long, value_name = "MODE", help_heading = "Namespaces")]
    pub timens: Option<String>,
    /// Hostname in the container; default: the first twelve digits of its ID.
    #[arg(short = 'h', long, value_name = "NAME", help_heading = "Namespaces")]
    pub hostname: Option<String>,
    /// NIS domain name in the container.
    #[arg(long, value_name = "NAME", help_heading = "Namespaces")]
    pub domainname: Option<String>,

    /// Network: none, host, `slirp4netns[:OPTIONS]`, `pasta[:OPTIONS]`, private, container:ID, ns:PATH; or bridge or the
    /// name of one that `sbx network create` made, again for more of these, with
    /// `:ip=IP,ip6=IP,mac=MAC,alias=NAME,interface_name=NAME`.
    #[arg(long, visible_alias = "net", value_name = "MODE", help_heading = "Network")]
    pub network: Vec<String>,
    /// Another name of the container in its network.
    #[arg(long, visible_alias = "net-alias", value_name = "NAME", help_heading = "Network")]
    pub network_alias: Vec<String>,
    /// Reach this and nothing else: `HOST[:PORT[-PORT]][/tcp|/udp]`; HOST is a name, `*.NAME` for all below it, an
    /// address or a CIDR range. Enforced outside of the container, by the addresses that its name server has answered:
    /// others at the same address are reached, too. `sbx logs --network` shows what was tried.
    #[arg(long, value_name = "HOST", help_heading = "Network")]
    pub net_allow: Vec<String>,
    /// Publish a port: `[IP:][HOST:]CONTAINER[/tcp|/udp]`, ranges too; without HOST a random one. The server
    /// sees the client's own address in bridge networks and with pasta; slirp4netns shows its own.
    #[arg(short, long, value_name = "PORT", help_heading = "Network")]
    pub publish: Vec<String>,
    /// Publish every port that the image or `--expose` names, to a random port of the host.
    #[arg(short = 'P', long, help_heading = "Network")]
    pub publish_all: bool,
    /// Name a port that the container listens on: `PORT[-PORT][/tcp|/udp|/sctp]`; it is not published.
    #[arg(long, value_name = "PORT", help_heading = "Network")]
    pub expose: Vec<String>,
    /// DNS server.
    #[arg(long, value_name = "IP", help_heading = "Network")]
    pub dns: Vec<String>,
    /// DNS search domain.
    #[arg(long, value_name = "DOMAIN", help_heading = "Network")]
    pub dns_search: Vec<String>,
    /// DNS option of resolv.conf.
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION", help_heading = "Network")]
    pub dns_option: Vec<String>,
    /// Add a line to /etc/hosts: `NAME:IP`, or `NAME:host-gateway`.
    #[arg(long, value_name = "NAME:IP", help_heading = "Network")]
    pub add_host: Vec<String>,
    /// Leave /etc/hosts as the image has it.
    #[arg(long, conflicts_with = "add_host", help_heading = "Network")]
    pub no_hosts: bool,
    /// Find another container of the same network by its name and as ALIAS, with docker's variables in the network
    /// `bridge`; it has to run.
    #[arg(long, value_name = "CONTAINER[:ALIAS]", help_heading = "Network")]
    pub link: Vec<String>,
    /// IPv4 address of the container in its network.
    #[arg(long, value_name = "IP", help_heading = "Network")]
    pub ip: Option<std::net::Ipv4Addr>,
    /// IPv6 address of the container in its network.
    #[arg(long, value_name = "IP", help_heading = "Network")]
    pub ip6: Option<std::net::Ipv6Addr>,
    /// MAC address of the container's interface.
    #[arg(long, value_name = "MAC", help_heading = "Network")]
    pub mac_address: Option<String>,

    /// Add a capability.
    #[arg(long, value_name = "CAP", value_delimiter = ',', help_heading = "Privileges")]
    pub cap_add: Vec<String>,
    /// Drop a capability.
    #[arg(long, value_name = "CAP", value_delimiter = ',', help_heading = "Privileges")]
    pub cap_drop: Vec<String>,
    /// All capabilities of the user namespace, all devices that the caller may open, nothing masked, no filter.
    #[arg(long, help_heading = "Privileges")]
    pub privileged: bool,
    /// seccomp=FILE|unconfined, no-new-privileges, mask=PATHS, unmask=ALL|PATHS, systempaths=unconfined,
    /// label=disable, apparmor=unconfined.
    #[arg(long, value_name = "OPTION", help_heading = "Privileges")]
    pub security_opt: Vec<String>,
    /// Resource limit: `NAME=SOFT[:HARD]`, or `host` for those of the caller.
    #[arg(long, value_name = "LIMIT", help_heading = "Privileges")]
    pub ulimit: Vec<String>,
    /// Kernel setting of the container's namespaces: `NAME=VALUE`.
    #[arg(long, value_name = "SETTING", help_heading = "Privileges")]
    pub sysctl: Vec<String>,
    /// How likely the kernel is to kill the container when memory runs out, -1000 to 1000.
    #[arg(long, value_name = "SCORE", allow_hyphen_values = true, value_parser = clap::value_parser!(i32).range(-1000..=1000), help_heading = "Privileges")]
    pub oom_score_adj: Option<i32>,

    /// Set an environment variable: `NAME=VALUE`, or `NAME` to pass the caller's on.
    #[arg(short, long, value_name = "NAME=VALUE", help_heading = "Command")]
    pub env: Vec<String>,
    /// Read environment variables from a file.
    #[arg(long, value_name = "FILE", help_heading = "Command")]
    pub env_file: Vec<String>,
    /// Read labels from a file of `KEY=VALUE` lines.
    #[arg(long, value_name = "FILE", help_heading = "Command")]
    pub label_file: Vec<String>,
    /// Pass all of your environment on, below what image and options set.
    #[arg(long, help_heading = "Command")]
    pub env_host: bool,
    /// Set a variable from those of the image: `NAME=${NAME}:more`.
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Command")]
    pub env_merge: Vec<String>,
    /// Leave out a variable of the image or of sbx.
    #[arg(long, value_name = "NAME", help_heading = "Command")]
    pub unsetenv: Vec<String>,
    /// Leave out all variables of the image and of sbx.
    #[arg(long, help_heading = "Command")]
    pub unsetenv_all: bool,
    /// Pass http_proxy, https_proxy, ftp_proxy and no_proxy on, in small letters and capitals.
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, action = clap::ArgAction::Set, help_heading = "Command")]
    pub http_proxy: bool,
    /// Time zone: a name such as Europe/Berlin, or `local` for the host's.
    #[arg(long, value_name = "ZONE", help_heading = "Command")]
    pub tz: Option<String>,
    /// Give a secret to the container: `NAME[,type=mount|env,target=,uid=,gid=,mode=]`; a file in /run/secrets unless
    /// told otherwise.
    #[arg(long, value_name = "SECRET", help_heading = "Command")]
    pub secret: Vec<String>,
    /// Working directory, made where it is missing.
    #[arg(short, long, visible_alias = "cwd", value_name = "DIR", help_heading = "Command")]
    pub workdir: Option<String>,
    /// Replace the entry point of the image: a command, or a JSON array of words.
    #[arg(long, value_name = "COMMAND", help_heading = "Command")]
    pub entrypoint: Option<String>,
    /// File mode mask of the command, in octal digits; default: 0022.
    #[arg(long, value_name = "MASK", help_heading = "Command")]
    pub umask: Option<String>,
    /// Run a small init as PID 1 that reaps orphans and forwards signals.
    #[arg(long, help_heading = "Command")]
    pub init: bool,
    /// Signal that asks the command to end; default: TERM.
    #[arg(long, value_name = "SIGNAL", help_heading = "Command")]
    pub stop_signal: Option<String>,
    /// Seconds between the stop signal and SIGKILL, or a time such as `1m30s`.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = |text: &str| duration::seconds("--stop-timeout", text), help_heading = "Command")]
    pub stop_timeout: u64,
    /// Kill the container after this many seconds, or a time such as `2h`; 0: never.
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = |text: &str| duration::seconds("--timeout", text), help_heading = "Command")]
    pub timeout: u64,
    /// Connect standard input; without it the command reads nothing.
    #[arg(short, long, help_heading = "Command")]
    pub interactive: bool,
    /// Give the container a terminal.
    #[arg(short, long, help_heading = "Command")]
    pub tty: bool,
    /// How the output is kept: k8s-file; json-file (docker's); local (k8s-file in five files of 20 MiB); none;
    /// passthrough (the caller's own streams).
    #[arg(long, value_name = "DRIVER", default_value = "k8s-file", help_heading = "Command")]
    pub log_driver: logs::options::Driver,
    /// Set an option of the log: max-size, max-file (files in all), path, and for `sbx logs --details` tag, labels, env.
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Command")]
    pub log_opt: Vec<String>,
}
