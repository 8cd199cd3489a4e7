//! The immutable description of one container: request, image configuration and defaults made into one
//! value, complete and checked before the first side effect, and written once as `spec.json`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::container::directory::ContainerDirectory;
use crate::container::listed::{Exact, Listed};
use crate::container::restart::Restart;
use crate::container::timezone::Timezone;
use crate::error::{Error, Result};
use crate::image::digest::Digest;
use crate::layers;
use crate::layers::store::MapKey;
use crate::pod::Membership;
use crate::sys::time::Utc;
use crate::units::creation::Creation;
use crate::volume::VolumeStore;

/// A container, complete.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// 64 lower-case hexadecimal digits.
    pub id: String,
    pub name: String,
    pub created: Utc,
    /// What the user named as the source of the root: an image as people write it, or a directory.
    pub image: String,
    pub root: Root,
    pub read_only: bool,
    /// The directory on local scratch, outside the store, where the layers lie that the container changes; none: in
    /// the container's own directory.
    pub scratch: Option<PathBuf>,
    /// File systems keep no owners here: all files seem to be the root's of the container.
    pub squashed: bool,
    pub process: Process,
    pub identity: crate::identity::Identity,
    /// Owners and users are emulated, where one ID alone is mapped.
    #[serde(default)]
    pub emulation: crate::emulation::Emulation,
    pub namespaces: Namespaces,
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    /// `--tz`; none: the time zone is the root's own.
    #[serde(default)]
    pub timezone: Option<Timezone>,
    pub mounts: Vec<Mount>,
    /// Variables whose values are secrets: in no record, and set when the command starts.
    #[serde(default)]
    pub secret_env: Vec<SecretEnv>,
    pub devices: Vec<Device>,
    pub security: Security,
    pub rlimits: Vec<Rlimit>,
    pub sysctls: BTreeMap<String, String>,
    pub oom_score_adj: Option<i32>,
    #[serde(default)]
    pub limits: crate::limits::Limits,
    /// Where its control group is made.
    #[serde(default)]
    pub placement: crate::delegation::Placement,
    pub network: crate::network::Network,
    /// Ports that the image or the user says it listens on, such as `80/tcp`: shown, not published.
    pub exposed_ports: Vec<String>,
    /// Bytes of /dev/shm.
    pub shm_size: u64,
    /// Run a small init as PID 1 that reaps and forwards signals.
    pub init: bool,
    pub stop_signal: i32,
    /// Seconds between the stop signal and SIGKILL.
    pub stop_timeout: u64,
    /// Seconds after which the container is killed; none: never.
    pub timeout: Option<u64>,
    pub log_driver: LogDriver,
    #[serde(default)]
    pub log_options: crate::logs::Options,
    #[serde(default)]
    pub health: Option<crate::container::health::Check>,
    /// `--rm`: the container's directory goes with its exit.
    pub remove_on_exit: bool,
    /// RUN of a build: what it has changed is made a layer when it has ended, and is then gone.
    #[serde(default)]
    pub becomes_layer: bool,
    #[serde(default)]
    pub restart: Restart,
    /// The command line that made it.
    #[serde(default)]
    pub creation: Creation,
    /// The pod that it is in.
    #[serde(default)]
    pub pod: Option<Membership>,
    /// IDs of the containers that are started before it.
    #[serde(default)]
    pub requires: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Notices of everything that the host could not give and what was taken instead.
    pub degraded: Vec<String>,
    /// The container is a bundle: what its author lists takes the place of sbx's own mounts, devices and files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed: Option<Box<Listed>>,
}

impl Spec {
    /// Whose all files of layers seem to be; none: they keep their owners.
    pub fn sole_owner(&self) -> Option<(u32, u32)> {
        if self.squashed { self.identity.lowest() } else { self.identity.sole_owner() }
    }

    /// IDs and names of the secrets that the container was made with.
    pub fn secrets(&self) -> impl Iterator<Item = (&str, &str)> {
        let files = self.mounts.iter().flat_map(|mount| match &mount.kind {
            MountKind::Secrets(files) => files.as_slice(),
            _ => &[],
        });
        files
            .map(|file| (file.secret.as_str(), file.name.as_str()))
            .chain(self.secret_env.iter().map(|env| (env.secret.as_str(), env.name.as_str())))
    }

    /// The spec with a root that can be mounted, see [`Root::located`], and volumes that can be found.
    ///
    /// # Errors
    /// The record names no layers of sbx.
    pub fn located(&self, store: &Path, directory: &ContainerDirectory) -> Result<Cow<'_, Self>> {
        if !matches!(self.root, Root::Layers { .. }) && self.volumes().next().is_none() {
            return Ok(Cow::Borrowed(self));
        }
        let mut located = Self { root: self.root.located(store, directory)?, ..self.clone() };
        let volumes = VolumeStore::new(store);
        for mount in &mut located.mounts {
            if let MountKind::Volume(volume) = &mut mount.kind {
                volume.directory = volumes.directory(&volume.name).path().to_owned();
            }
        }
        Ok(Cow::Owned(located))
    }

    /// Its mounts of volumes.
    pub fn volumes(&self) -> impl Iterator<Item = &VolumeMount> {
        self.mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Volume(volume) => Some(volume),
            _ => None,
        })
    }

    /// The names of its volumes, each once.
    pub fn volume_names(&self) -> BTreeSet<&str> {
        self.volumes().map(|volume| volume.name.as_str()).collect()
    }

    /// Whether volumes may have to go with the container.
    pub fn has_anonymous_volumes(&self) -> bool {
        self.volumes().any(|volume| volume.origin != Origin::Named)
    }

    /// The directory that is bound as the root by the caller itself, in its own place; none where there is an
    /// upper, or somebody else's IDs would have to walk there.
    pub fn bound_root(&self) -> Option<&Path> {
        if self.listed.is_none() && (self.identity.nested.is_some() || self.identity.join.is_some()) {
            return None;
        }
        match &self.root {
            Root::Directories { lowers, driver: Driver::Bind } => lowers.first().map(PathBuf::as_path),
            Root::WritableDirectory { path } => Some(path),
            _ => None,
        }
    }
}

/// Where the root file system comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Root {
    /// The built-in image `host`: the machine's own system directories as lowers.
    Host { driver: Driver },
    /// Directories, from the lowest to the topmost, untouched below an upper layer (or one alone, bare and
    /// read-only).
    Directories { lowers: Vec<PathBuf>, driver: Driver },
    /// Unpacked layers of an image in the store, the lowest first, below an upper layer. `image` is its ID, `key` names
    /// the owners that its files have on disk ([`layers::store::MapKey`]).
    Layers { image: Digest, key: String, layers: Vec<Digest>, driver: Driver },
    /// `--rootfs-rw DIR`: changes go into the directory itself.
    WritableDirectory { path: PathBuf },
}

impl Root {
    /// How it is stacked; none: it is not.
    pub fn driver(&self) -> Option<Driver> {
        match self {
            Self::Host { driver } | Self::Directories { driver, .. } | Self::Layers { driver, .. } => {
                Some(*driver)
            }
            Self::WritableDirectory { .. } => None,
        }
    }

    /// The root with the paths of its layers, which no record holds, since a store can be moved.
    fn located(&self, store: &Path, directory: &ContainerDirectory) -> Result<Self> {
        Ok(match self {
            Self::Layers { key, layers, driver, .. } => {
                let key = MapKey::from_record(key)
                    .ok_or_else(|| Error::new(format!("cannot find layers of the kind `{key}`")))?;
                let mut lowers = layers::unpacked(store, &key, layers);
                if lowers.is_empty() {
                    // An image of no layers; overlays want one.
                    lowers.push(directory.stage());
                }
                Self::Directories { lowers, driver: *driver }
            }
            other => other.clone(),
        })
    }
}

/// How the layers are stacked; chosen by [`crate::layers`] before the spec is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    FuseOverlayfs,
    Overlay,
    /// No overlay is to be had or needed: the root is bound read-only.
    Bind,
    /// No overlay is to be had: the container has a copy of its own.
    Copy,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Process {
    pub args: Vec<String>,
    /// How many of the arguments, from the first, are the entry point.
    #[serde(default)]
    pub entry_point: usize,
    pub env: Vec<String>,
    pub cwd: PathBuf,
    /// `--user` as typed (`name`, `uid`, `name:group`, …); looked up in the container's own passwd file.
    pub user: Option<String>,
    /// `--group-add`: names or IDs, looked up in the container's own group file.
    pub groups: Vec<String>,
    /// `--group-add keep-groups`: the caller's supplementary groups are kept.
    pub keep_groups: bool,
    /// Who a user without an entry in the container's passwd file is; none: such a user gets no entry.
    pub account: Option<Account>,
    pub terminal: bool,
    pub stdin: bool,
    /// Standard input ends with the first client that was connected to it; otherwise it stays open for others.
    #[serde(default)]
    pub stdin_once: bool,
    /// HOME is not set where nobody sets it.
    #[serde(default)]
    pub without_home: bool,
    pub umask: Option<u32>,
    /// Of a bundle: takes the place of `user`, `groups` and the container's capabilities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact: Option<Box<Exact>>,
}

/// The caller, as the container's account files may name it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The caller's ID inside the container, where it has one.
    pub uid: Option<u32>,
    pub name: Option<String>,
    pub home: Option<PathBuf>,
    /// `--passwd-entry`: the line of a user that the container does not know, with `$USERNAME` and its like in it.
    #[serde(default)]
    pub passwd_entry: Option<String>,
    /// `--group-entry`
    #[serde(default)]
    pub group_entry: Option<String>,
    /// `--hostuser`: lines of the container's passwd file.
    #[serde(default)]
    pub host_users: Vec<String>,
}

/// One namespace of the container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Namespace {
    #[default]
    Private,
    Host,
    /// A file of nsfs, such as /proc/PID/ns/net.
    Path(PathBuf),
    /// The namespace of a running container, by its full ID.
    Container(String),
}

/// All but the user namespace (which is [`crate::identity::Identity`]) and the mount namespace (always private).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Namespaces {
    pub pid: Namespace,
    pub ipc: Namespace,
    pub uts: Namespace,
    pub net: Namespace,
    pub cgroup: Namespace,
    /// Private only on request; `Host` by default.
    pub time: Namespace,
}

/// mount_namespaces(7), SHARED SUBTREES.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Propagation {
    Private,
    Slave,
    Shared,
    Unbindable,
}

/// Mount flags that every kind takes. `None` keeps what the source has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MountFlags {
    pub read_only: bool,
    pub no_exec: bool,
    pub no_suid: bool,
    pub no_dev: bool,
}

/// One mount that the user asked for (`-v`, `--mount`, `--tmpfs`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute, inside the container; `..` and symlinks are resolved inside the root at mount time.
    pub target: PathBuf,
    pub flags: MountFlags,
    pub kind: MountKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountKind {
    Bind(Bind),
    Volume(VolumeMount),
    Tmpfs {
        /// Bytes; none: the kernel's default of half the memory.
        size: Option<u64>,
        mode: Option<u32>,
        /// Copy what the image has at the target into the new tmpfs.
        copy_up: bool,
    },
    /// A tmpfs with secrets, or one secret on a file.
    Secrets(Vec<SecretFile>),
    Devpts,
    Mqueue,
    Proc,
    Sysfs,
    Cgroup,
}

impl MountKind {
    /// How a directory or file of the host is bound, a volume's too.
    pub fn bind(&self) -> Option<&Bind> {
        match self {
            Self::Bind(bind) => Some(bind),
            Self::Volume(volume) => Some(&volume.bind),
            _ => None,
        }
    }
}

/// A directory of [`crate::volume`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    pub name: String,
    pub origin: Origin,
    /// A file or directory in it, which is mounted instead of all of it.
    pub subpath: Option<PathBuf>,
    /// On its first use the volume gets what the image has at the target.
    pub copy: bool,
    /// What it is made with, if it is made for this container.
    pub labels: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
    /// Its source is known when the container starts.
    pub bind: Bind,
    /// `<store>/volumes/<name>`, once it is known.
    #[serde(skip)]
    pub directory: PathBuf,
    #[serde(skip)]
    pub first_use: Option<FirstUse>,
}

/// Whose a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The user gave it a name: it is made where it is missing, and never goes with a container.
    Named,
    /// Made for this container, with a random name.
    Anonymous,
    /// Another container has it (`--volumes-from`).
    Shared,
}

/// The container that is being started is the first to have a volume, and fills it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstUse {
    /// With what the image has at the target.
    pub copy: bool,
    /// Who gets the directory; none: the image's owner, or else the container's user.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

/// A secret as a file; its data is in a file of its own ([`crate::secret::copies`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretFile {
    /// The ID.
    pub secret: String,
    pub name: String,
    /// Below the target of the mount; empty: the target is the file.
    pub path: PathBuf,
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

/// A secret as a variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretEnv {
    pub variable: String,
    /// The ID.
    pub secret: String,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Absolute on the host.
    pub source: PathBuf,
    pub recursive: bool,
    pub propagation: Propagation,
    /// Propagation applies to the mounts below, too (the r-forms).
    pub recursive_propagation: bool,
    /// `U`: chown the source to the container's user.
    pub chown: bool,
    /// `O`: changes go to a throw-away upper over the source.
    pub overlay: bool,
    /// `idmap`: an ID-mapped mount (refused by the kernel for most file systems without root).
    pub idmap: bool,
}

/// `--device HOST[:CONTAINER[:rwm]]`: the host's node is bound; what may be done with it is what the caller may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub host: PathBuf,
    pub container: PathBuf,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Security {
    pub privileged: bool,
    pub capabilities: crate::container::capabilities::CapSet,
    pub seccomp: Seccomp,
    pub no_new_privileges: bool,
    pub masked_paths: Vec<PathBuf>,
    pub read_only_paths: Vec<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seccomp {
    Default,
    Unconfined,
    /// A profile in docker's JSON format: its text, read when the container was made.
    Profile(String),
}

/// getrlimit(2); `u64::MAX` is unlimited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// The RLIMIT_* number.
    pub resource: u32,
    pub soft: u64,
    pub hard: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    /// `TIMESTAMP stdout|stderr F|P TEXT`, a line each.
    K8sFile,
    JsonFile,
    None,
    /// The caller's streams are the container's; nothing is kept.
    Passthrough,
}
