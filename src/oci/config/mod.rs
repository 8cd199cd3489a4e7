//! `config.json` of a bundle becomes a [`Spec`]: checked as a whole before the first side effect.

mod identity;
mod linux;
mod mounts;
pub mod process;
mod raw;

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::container::directory::ContainerDirectory;
use crate::container::listed::{Hook, Hooks, Listed};
use crate::container::restart::Restart;
use crate::container::spec::{LogDriver, Namespace, Root, Security, Spec};
use crate::emulation::Emulation;
use crate::error::{Error, Result, Step};
use crate::network::{Mode, Network};
use crate::sys::time::Utc;
use crate::units::creation::Creation;

pub use mounts::names as mount_options;
pub use raw::Config;

/// The name of the file in a bundle.
pub const FILE: &str = "config.json";
/// The version of the specification that is followed.
pub const VERSION: &str = "1.2.0";

/// Bytes. podman's longest have some hundred kilobytes.
const LONGEST: u64 = 16 << 20;

/// What the command line decides of a container beside its bundle.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    pub no_pivot: bool,
    pub keeps_keyring: bool,
    /// How many descriptors after the standard streams are handed on, and how many of these are sockets that the process is
    /// told of (sd_listen_fds(3)).
    pub descriptors: u32,
    pub sockets: u32,
}

/// A container as `config.json` has it, and what of it is for the control group.
#[derive(Debug)]
pub struct Described {
    pub spec: Spec,
    pub control_group: ControlGroup,
}

/// `linux.cgroupsPath` and `linux.resources`, as they stand there.
#[derive(Debug, Clone, Default)]
pub struct ControlGroup {
    pub path: Option<String>,
    pub resources: Option<serde_json::Value>,
}

/// Reads a file of JSON, which may be anything.
///
/// # Errors
/// It is no file, too long, or not what is asked for.
pub(super) fn parse<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let failed = || format!("cannot read `{}`", path.display());
    // A FIFO would be waited for.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).step(failed)?;
    if !file.metadata().step(failed)?.is_file() {
        return Err(Error::new(failed()).because("it is no regular file"));
    }
    let mut text = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut text).step(failed)?;
    if text.len() as u64 > LONGEST {
        return Err(Error::new(failed()).because("it is longer than 16 MiB"));
    }
    from_json(&text).step(|| format!("cannot understand `{}`", path.display()))
}

/// Of a property that is there twice the last one counts: RFC 8259 leaves it open, and so do other runtimes read it.
fn from_json<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(text).or_else(|error| {
        // That one knows the place, and nothing of properties.
        let read = || serde_json::from_value(serde_json::from_slice::<serde_json::Value>(text).ok()?).ok();
        read().ok_or(error)
    })
}

/// Reads the bundle in `bundle`, an absolute path, for the container `id`; or another file, as if it were the bundle's.
///
/// # Errors
/// What is missing, wrong, or cannot be honoured here.
pub fn read(id: &str, bundle: &Path, file: Option<&Path>, choice: &Choice) -> Result<Described> {
    let file = file.map_or_else(|| bundle.join(FILE), Path::to_owned);
    let config: Config = parse(&file)?;
    interpret(config, id, bundle, choice)
        .map_err(|error| error.while_doing(format!("cannot run the bundle `{}`", bundle.display())))
}

/// The same from text: for a bundle that does not lie anywhere.
///
/// # Errors
/// As [`read`].
pub fn from_text(text: &[u8], id: &str, bundle: &Path) -> Result<Described> {
    let config = from_json(text).step(|| "cannot understand it")?;
    interpret(config, id, bundle, &Choice::default())
}

fn interpret(config: Config, id: &str, bundle: &Path, choice: &Choice) -> Result<Described> {
    check_version(&config.oci_version)?;
    let raw_process = config.process.ok_or_else(|| Error::new("there is no `process`"))?;
    let mut described = process::read(raw_process)?;
    if let Some(exact) = &mut described.process.exact {
        exact.keeps_keyring = choice.keeps_keyring;
        exact.descriptors = choice.descriptors;
    }
    if choice.sockets > 0 {
        let env = &mut described.process.env;
        env.retain(|entry| !["LISTEN_FDS=", "LISTEN_PID="].iter().any(|name| entry.starts_with(name)));
        // As other runtimes say it, too: the process is the first one of the container.
        env.extend([format!("LISTEN_FDS={}", choice.sockets), "LISTEN_PID=1".to_owned()]);
    }
    let root = config.root.ok_or_else(|| Error::new("there is no `root`"))?;
    if root.path.as_os_str().is_empty() {
        return Err(Error::new("`root.path` is empty"));
    }
    let mut linux = config.linux;
    let (namespaces, joined_mounts) = linux::namespaces(&linux)?;
    let identity = identity::decide(&linux, &described.process)?;
    let (hostname, domainname) =
        (named("hostname", config.hostname)?, named("domainname", config.domainname)?);
    if namespaces.uts == Namespace::Host && (hostname.is_some() || domainname.is_some()) {
        return Err(Error::new("cannot set the hostname")
            .because("the container has no UTS namespace of its own")
            .hint("list one of the type `uts`, or leave out `hostname` and `domainname`"));
    }
    let sysctls = linux::sysctls(&linux.sysctl, &namespaces)?;
    let (seccomp, filter) = linux::seccomp(linux.seccomp.take())?;
    linux::refuse_the_rest(&linux)?;
    let capabilities =
        described.process.exact.as_ref().map(|exact| exact.capabilities.bounding).unwrap_or_default();
    linux::check_device_rules(linux.resources.as_ref(), &identity, capabilities)?;
    let listed = Listed {
        bundle: bundle.to_owned(),
        mounts: config.mounts.iter().map(|mount| mounts::read(mount, bundle)).collect::<Result<_>>()?,
        joined_mounts,
        devices: linux.devices.into_iter().map(linux::device).collect::<Result<_>>()?,
        root_propagation: linux::root_propagation(&linux.rootfs_propagation)?,
        personality: linux.personality.as_ref().map(linux::personality).transpose()?,
        time_offsets: linux::time_offsets(&linux.time_offsets, &namespaces)?,
        no_pivot: choice.no_pivot,
        filter,
        hooks: hooks(config.hooks)?,
    };
    if let Some(path) = &listed.joined_mounts {
        linux::check_joined_mounts(path, &identity, &listed.mounts)?;
    }
    let spec = Spec {
        id: id.to_owned(),
        name: id.to_owned(),
        created: Utc::now(),
        image: bundle.display().to_string(),
        root: Root::WritableDirectory { path: bundle.join(&root.path) },
        read_only: root.readonly,
        scratch: None,
        squashed: false,
        process: described.process,
        identity,
        emulation: Emulation::Off,
        namespaces,
        hostname,
        domainname,
        timezone: None,
        mounts: Vec::new(),
        secret_env: Vec::new(),
        devices: Vec::new(),
        security: Security {
            privileged: false,
            capabilities,
            seccomp,
            no_new_privileges: described.no_new_privileges,
            masked_paths: absolute("maskedPaths", linux.masked_paths)?,
            read_only_paths: absolute("readonlyPaths", linux.readonly_paths)?,
        },
        rlimits: described.rlimits,
        limits: crate::limits::Limits::default(),
        placement: crate::delegation::Placement::default(),
        sysctls,
        oom_score_adj: described.oom_score_adj,
        network: Network::of(Mode::None),
        exposed_ports: Vec::new(),
        shm_size: 0,
        init: false,
        stop_signal: libc::SIGTERM,
        stop_timeout: 0,
        timeout: None,
        log_driver: LogDriver::None,
        log_options: crate::logs::Options::default(),
        health: None,
        remove_on_exit: false,
        becomes_layer: false,
        restart: Restart::default(),
        creation: Creation::default(),
        pod: None,
        requires: Vec::new(),
        labels: std::collections::BTreeMap::new(),
        annotations: config.annotations,
        degraded: Vec::new(),
        listed: Some(Box::new(listed)),
    };
    Ok(Described {
        spec,
        control_group: ControlGroup { path: linux.cgroups_path, resources: linux.resources },
    })
}

/// A name that the kernel has as a string of C.
fn named(property: &str, name: Option<String>) -> Result<Option<String>> {
    match name.filter(|name| !name.is_empty()) {
        Some(name) if name.contains('\0') => {
            Err(Error::new(format!("`{property}` is `{}`", name.escape_debug()))
                .because("it holds a NUL byte"))
        }
        name => Ok(name),
    }
}

/// Every 1.x will do: what a later one adds is an unknown property, or an invalid value.
fn check_version(version: &str) -> Result<()> {
    if version.is_empty() {
        return Err(Error::new("there is no `ociVersion`")
            .hint(format!("the specification asks for one, such as \"{VERSION}\"")));
    }
    let wrong =
        |cause: String| Error::new(format!("`ociVersion` is `{}`", version.escape_debug())).because(cause);
    // Semantic Versioning 2.0.0: three numbers, and what a release candidate or a build is called.
    let numbers: Vec<&str> = version.split(['-', '+']).next().unwrap_or_default().split('.').collect();
    let is_number = |text: &&str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    match numbers.as_slice() {
        ["1", rest @ ..] if rest.len() == 2 && rest.iter().all(is_number) => Ok(()),
        all if all.len() == 3 && all.iter().all(is_number) => {
            Err(wrong(format!("sbx follows version {VERSION} of the specification")))
        }
        _ => Err(wrong("it is no version, which has three numbers".to_owned())),
    }
}

fn absolute(name: &str, paths: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
    // One with a NUL byte would pass for one that is not there, and nothing would be hidden.
    let has_nul = |path: &Path| path.as_os_str().as_encoded_bytes().contains(&0);
    match paths.iter().find(|path| !path.is_absolute() || has_nul(path)) {
        Some(path) if has_nul(path) => Err(Error::new(format!(
            "`{}` of `{name}` holds a NUL byte",
            path.display().to_string().escape_debug()
        ))),
        Some(path) => Err(Error::new(format!("`{}` of `{name}` is not absolute", path.display()))),
        None => Ok(paths),
    }
}

fn hooks(raw: raw::Hooks) -> Result<Hooks> {
    let read = |hooks: Vec<raw::Hook>| hooks.into_iter().map(hook).collect::<Result<Vec<_>>>();
    Ok(Hooks {
        prestart: read(raw.prestart)?,
        create_runtime: read(raw.create_runtime)?,
        create_container: read(raw.create_container)?,
        start_container: read(raw.start_container)?,
        poststart: read(raw.poststart)?,
        poststop: read(raw.poststop)?,
    })
}

fn hook(raw: raw::Hook) -> Result<Hook> {
    let wrong =
        |cause: &str| Error::new(format!("cannot use the hook `{}`", raw.path.display())).because(cause);
    if !raw.path.is_absolute() {
        return Err(wrong("the specification asks for an absolute path"));
    }
    if raw.args.iter().chain(raw.env.iter().flatten()).any(|word| word.contains('\0')) {
        return Err(wrong("an argument or variable holds a NUL byte"));
    }
    let timeout = match raw.timeout {
        None => None,
        Some(seconds) => match u64::try_from(seconds) {
            Ok(seconds) if seconds > 0 => Some(seconds),
            _ => return Err(wrong("its timeout is not above zero")),
        },
    };
    Ok(Hook { path: raw.path, args: raw.args, env: raw.env, timeout })
}

/// Where the set-up looks for what a container has besides its root: nothing, of a bundle.
pub fn directory(state: &Path) -> ContainerDirectory {
    ContainerDirectory::new(state.to_owned())
}

#[cfg(test)]
mod tests;
