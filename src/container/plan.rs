//! Request, image configuration and defaults become one spec: everything is decided and checked here, before
//! the first side effect.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::cli::container_options::{ContainerOptions, LogDriver as LogDriverWord};
use crate::container::capabilities::{CapSet, Capability};
use crate::container::spec::{
    Account, LogDriver, Mount, MountFlags, MountKind, Namespace, Namespaces, Process, Security, Spec,
};
use crate::container::store::Store;
use crate::container::{device, env, name, namespace, rlimit, security, signal, size, sysctl, volume};
use crate::error::{Error, Result, Step};
use crate::host::paths::Runtime;
use crate::host::proc_mask;
use crate::identity::{self, Caller, Host, Identity, Tier, Userns};
use crate::image::{Config, Source};
use crate::layers;
use crate::network;
use crate::sandbox::inroot::InRoot;

/// SIGTERM (docker-run(1), --stop-signal).
const DEFAULT_STOP_SIGNAL: &str = "TERM";

/// Directories that become tmpfs in a read-only root (podman-run(1), --read-only-tmpfs).
const READ_ONLY_TMPFS: [&str; 3] = ["/run", "/tmp", "/var/tmp"];

/// Where the container will live.
pub struct Place<'a> {
    pub store: &'a Store,
    pub runtime: &'a Runtime,
}

/// Decides a new container.
///
/// # Errors
/// The first flag that is wrong, or that this host cannot honour.
pub fn container(
    options: &ContainerOptions,
    source: Source,
    config: &Config,
    words: Vec<String>,
    place: &Place<'_>,
) -> Result<Spec> {
    let id = name::random_id()?;
    let name = match &options.name {
        Some(name) => {
            name::check(name)?;
            name.clone()
        }
        None => name::random()?,
    };
    let mut degraded = Vec::new();
    let args = command(options, config, words)?;

    let resolved = Names { store: place.store };
    let mut namespaces = Namespaces {
        pid: namespace::parse("--pid", options.pid.as_deref(), &["private"], &resolved)?,
        ipc: namespace::parse("--ipc", options.ipc.as_deref(), &["private", "shareable"], &resolved)?,
        uts: namespace::parse("--uts", options.uts.as_deref(), &["private"], &resolved)?,
        cgroup: namespace::parse("--cgroupns", options.cgroupns.as_deref(), &["private"], &resolved)?,
        time: namespace::time(options.timens.as_deref())?,
        net: Namespace::Private,
    };
    let network = network(options, place, &resolved, &mut namespaces)?;
    share_masked_proc(&mut namespaces, &mut degraded);

    let user = options.user.clone().or_else(|| config.user.clone());
    let host = Host::system();
    let caller = Caller::current(&host)?;
    let mut identity = identity(options, (&host, &caller), &source, user.as_deref(), place, &namespaces)?;
    stay_root_without_fuse(options, &source, place.store, &mut identity, &mut degraded);
    if identity.tier == Tier::Single && options.id_tier.is_none() {
        degraded.push(single_tier_notice(&identity));
    }
    let security = security(options)?;
    degraded.extend(powers_of_the_host(&identity, &security));
    let image = source.word();
    let mounts = mounts(options)?;
    let cwd = working_directory(options, config)?;
    let root = {
        let fixed = ["/proc", "/sys", "/dev"].map(Path::new);
        let points: Vec<&Path> = fixed
            .into_iter()
            .chain(mounts.iter().map(|mount| mount.target.as_path()))
            .chain([cwd.as_path()])
            .collect();
        let mut generated = vec!["/etc/resolv.conf", "/etc/hostname"];
        if !options.no_hosts {
            generated.push("/etc/hosts");
        }
        let host = layers::Host {
            store: place.store.root(),
            identity: &identity,
            read_only: options.read_only,
            mount_points: &points,
            generated: &generated,
        };
        layers::choose(source, options.storage_driver, &host, &mut degraded)?
    };
    let hostname = hostname(options, &namespaces, &id)?;
    let shared_uts = namespaces.uts != Namespace::Private;
    let (groups, keep_groups) = groups(options)?;
    let private = sysctl::Private {
        net: namespaces.net == Namespace::Private,
        ipc: namespaces.ipc == Namespace::Private,
    };
    let environment = environment(options, config, hostname.as_deref())?;
    let stop_signal = options.stop_signal.as_deref().or(config.stop_signal.as_deref());
    Ok(Spec {
        created: crate::sys::time::Utc::now().seconds(),
        image,
        root,
        read_only: options.read_only,
        process: Process {
            args,
            env: environment,
            cwd,
            user,
            groups,
            keep_groups,
            account: options.passwd.then(|| account(&identity, &caller)),
            terminal: options.tty,
            stdin: options.interactive,
            umask: options.umask.as_deref().map(umask).transpose()?,
        },
        identity,
        namespaces,
        hostname,
        domainname: match &options.domainname {
            Some(_) if shared_uts => {
                return Err(Error::new("cannot set a domain name")
                    .because("the UTS namespace is not the container's own")
                    .hint("leave out `--uts`, or `--domainname`"));
            }
            Some(domain) => {
                name::check_hostname("--domainname", domain)?;
                Some(domain.clone())
            }
            None => None,
        },
        mounts,
        devices: devices(options)?,
        security,
        rlimits: rlimit::parse_all(&options.ulimit, &rlimit::current())?,
        sysctls: sysctl::parse_all(&options.sysctl, private)?,
        oom_score_adj: options.oom_score_adj,
        network,
        shm_size: size::parse("--shm-size", &options.shm_size)?,
        init: options.init,
        stop_signal: signal::parse("--stop-signal", stop_signal.unwrap_or(DEFAULT_STOP_SIGNAL))?,
        stop_timeout: options.stop_timeout,
        timeout: (options.timeout > 0).then_some(options.timeout),
        log_driver: log_driver(options)?,
        remove_on_exit: options.rm,
        labels: pairs("--label", &options.label)?,
        annotations: pairs("--annotation", &options.annotation)?,
        degraded,
        id,
        name,
    })
}

/// Looks containers up for `container:NAME`.
struct Names<'a> {
    store: &'a Store,
}

impl namespace::Containers for Names<'_> {
    fn running(&self, word: &str) -> Result<String> {
        let id = self.store.find(word)?;
        self.store.running_record(&id)?;
        Ok(id)
    }
}

/// Entry point and arguments: the image's, the flag's, the words typed.
fn command(options: &ContainerOptions, config: &Config, words: Vec<String>) -> Result<Vec<String>> {
    let mut args = match &options.entrypoint {
        Some(text) if text.starts_with('[') => serde_json::from_str(text).map_err(|error| {
            Error::new(format!("cannot use `--entrypoint {text}`"))
                .because(error)
                .hint("write one command, or a JSON array of strings such as `[\"sh\", \"-c\"]`")
        })?,
        Some(text) if text.is_empty() => Vec::new(),
        Some(text) => vec![text.clone()],
        None => config.entrypoint.clone(),
    };
    if !words.is_empty() {
        args.extend(words);
    } else if options.entrypoint.is_none() {
        args.extend(config.command.iter().cloned());
    }
    if args.is_empty() {
        return Err(Error::new("cannot run a container without a command")
            .because("no command specified, and the source of the root names none")
            .hint("add one: `sbx run --rootfs DIR COMMAND`"));
    }
    Ok(args)
}

fn network(
    options: &ContainerOptions,
    place: &Place<'_>,
    names: &Names<'_>,
    namespaces: &mut Namespaces,
) -> Result<network::Network> {
    let request = network::Request {
        networks: options.network.clone(),
        publish: options.publish.clone(),
        dns: options.dns.clone(),
        dns_search: options.dns_search.clone(),
        dns_options: options.dns_option.clone(),
        add_hosts: options.add_host.clone(),
        mac_address: options.mac_address.clone(),
        no_hosts: options.no_hosts,
        hostname: options.hostname.is_some(),
    };
    let plan = network::plan(&request, &network::cache(&place.runtime.path))?;
    for warning in &plan.warnings {
        log::warn!("{warning}");
    }
    use namespace::Containers;
    namespaces.net = match &plan.network.mode {
        network::Mode::Host => Namespace::Host,
        network::Mode::Path(path) => Namespace::Path(path.clone()),
        network::Mode::Container(word) => Namespace::Container(names.running(word)?),
        network::Mode::None | network::Mode::Slirp4netns(_) | network::Mode::Pasta(_) => Namespace::Private,
    };
    Ok(plan.network)
}

/// Where an outer container hides parts of /proc, the kernel refuses a new one (user_namespaces(7)).
fn share_masked_proc(namespaces: &mut Namespaces, degraded: &mut Vec<String>) {
    if namespaces.pid == Namespace::Private && !proc_mask::masked().is_empty() {
        namespaces.pid = Namespace::Host;
        degraded.push(
            "the processes of the host are shared (`--pid host`): parts of /proc are hidden here, so that the \
             kernel refuses a /proc of the container's own"
                .to_owned(),
        );
    }
}

fn identity(
    options: &ContainerOptions,
    (host, caller): (&Host, &Caller),
    source: &Source,
    user: Option<&str>,
    place: &Place<'_>,
    namespaces: &Namespaces,
) -> Result<Identity> {
    let in_use = match &options.userns {
        Some(Userns::Auto(_)) => blocks_in_use(place.store),
        _ => Vec::new(),
    };
    let image_user = match &options.userns {
        Some(Userns::ImageUser) => image_user(source, user)?,
        _ => None,
    };
    let request = identity::Request {
        tier: options.id_tier,
        userns: options.userns.clone(),
        uid_maps: options.uidmap.clone(),
        gid_maps: options.gidmap.clone(),
        image_user,
        in_use,
    };
    let mut identity = identity::plan_on(host, &request, caller)?;
    join_users_of(&mut identity, options, namespaces, &Names { store: place.store })?;
    Ok(identity)
}

/// One line for all reasons; `sbx doctor` has the mends.
fn single_tier_notice(identity: &Identity) -> String {
    format!(
        "one user and one group are mapped, and files of others are stored as the caller's: {} (`sbx doctor` tells \
         how to mend it)",
        identity.notes.join("; ")
    )
}

/// Root's default is a range of its own below the canonical map, for which layers need fuse-overlayfs; where
/// that is missing, root is root outside, too, as it is without a range.
fn stay_root_without_fuse(
    options: &ContainerOptions,
    source: &Source,
    store: &Store,
    identity: &mut Identity,
    degraded: &mut Vec<String>,
) {
    let asked = options.userns.is_some() || !options.uidmap.is_empty() || !options.gidmap.is_empty();
    let stacked = !matches!(source, Source::WritableDirectory(_));
    if asked || identity.nested.is_none() || !stacked {
        return;
    }
    if let Err(missing) = layers::fuse_overlayfs::usable(store.root()) {
        identity.nested = None;
        degraded.push(format!(
            "root's subordinate range is not used, and files that root inside makes are root's outside: {}",
            missing.causes().join(": ")
        ));
    }
}

/// How the container's account files would name the caller.
fn account(identity: &Identity, caller: &Caller) -> Account {
    let uid = match identity.join {
        None => identity.host_uid_map().to_container(caller.uid),
        Some(_) => None,
    };
    let home = crate::host::paths::home(&crate::host::paths::Surroundings::current()).ok();
    Account { uid, name: caller.user_name.clone(), home }
}

/// A namespace of another container belongs to that container's user namespace, which has to be entered.
fn join_users_of(
    identity: &mut Identity,
    options: &ContainerOptions,
    namespaces: &Namespaces,
    names: &Names<'_>,
) -> Result<()> {
    use namespace::Containers;
    let mut all = [&namespaces.pid, &namespaces.ipc, &namespaces.uts, &namespaces.net, &namespaces.cgroup]
        .into_iter()
        .filter(|namespace| matches!(namespace, Namespace::Container(_)));
    let joined = all.next();
    if all.any(|other| Some(other) != joined) {
        return Err(Error::new("cannot join namespaces of two containers")
            .because("the namespaces of a container belong to its user namespace, and there is one to be in")
            .hint("name the same container in each of the flags"));
    }
    if let Some(Namespace::Container(word)) = &identity.join {
        identity.join = Some(Namespace::Container(names.running(word)?));
    }
    let Some(joined) = joined else { return Ok(()) };
    match &identity.join {
        Some(own) if own == joined => Ok(()),
        None if options.userns.is_none() && options.uidmap.is_empty() && options.gidmap.is_empty() => {
            identity.join = Some(joined.clone());
            identity.nested = None;
            Ok(())
        }
        _ => Err(Error::new("cannot join a container's namespace with a user namespace of another kind")
            .because("the namespaces of a container belong to its user namespace")
            .hint("leave out `--userns`, `--uidmap` and `--gidmap`")),
    }
}

fn blocks_in_use(store: &Store) -> Vec<(u32, u32)> {
    store
        .running_ids()
        .iter()
        .filter_map(|id| store.read_spec(id).ok())
        .filter(|spec| spec.identity.exclusive)
        .filter_map(|spec| spec.identity.nested.map(|nested| nested.blocks()))
        .flatten()
        .collect()
}

/// The user that the container will have, in numbers, looked up before anything is mounted.
fn image_user(source: &Source, user: Option<&str>) -> Result<Option<(u32, u32)>> {
    let topmost = match source {
        Source::Host => Path::new("/"),
        Source::Directories(lowers) => lowers.last().map_or(Path::new("/"), PathBuf::as_path),
        Source::WritableDirectory(path) => path,
    };
    let root = InRoot::open(topmost)?;
    let read = |path| root.read(Path::new(path), super::user::MAX_FILE as u64 + 1).unwrap_or_default();
    let resolved = super::user::resolve(user, &[], &read("/etc/passwd"), &read("/etc/group"), None)?;
    Ok(Some((resolved.uid, resolved.gid)))
}

fn mounts(options: &ContainerOptions) -> Result<Vec<Mount>> {
    let cwd = match std::env::current_dir() {
        // It may have been removed, which matters to relative paths alone.
        Err(_) if options.volume.is_empty() && options.mount.is_empty() => PathBuf::from("/"),
        found => found.step(|| "cannot find the working directory")?,
    };
    let context = volume::Context { cwd: &cwd, selinuxfs: Path::new("/sys/fs/selinux") };
    let mut mounts = volume::parse_all(&options.volume, &options.mount, &options.tmpfs, context)?;
    mounts.iter().try_for_each(volume::check_source)?;
    if options.read_only && options.read_only_tmpfs {
        for target in READ_ONLY_TMPFS.map(PathBuf::from) {
            if !mounts.iter().any(|mount| mount.target == target) {
                let flags = MountFlags { no_suid: true, no_dev: true, ..MountFlags::default() };
                let kind = MountKind::Tmpfs { size: None, mode: None, copy_up: true };
                mounts.push(Mount { target, flags, kind });
            }
        }
    }
    Ok(mounts)
}

fn working_directory(options: &ContainerOptions, config: &Config) -> Result<PathBuf> {
    let text = options.workdir.as_deref().or(config.working_dir.as_deref()).unwrap_or("/");
    if !text.starts_with('/') {
        return Err(Error::new(format!("cannot use `{text}` as the working directory"))
            .because("it is not an absolute path")
            .hint(format!("write `-w /{text}`")));
    }
    Ok(PathBuf::from(text))
}

/// The host's own name where its network is shared, since programs look it up there.
fn hostname(options: &ContainerOptions, namespaces: &Namespaces, id: &str) -> Result<Option<String>> {
    if namespaces.uts != Namespace::Private {
        return match &options.hostname {
            Some(_) => Err(Error::new("cannot set a hostname")
                .because("the UTS namespace is not the container's own")
                .hint("leave out `--uts`, or `--hostname`")),
            None => Ok(None),
        };
    }
    if let Some(hostname) = &options.hostname {
        name::check_hostname("--hostname", hostname)?;
        return Ok(Some(hostname.clone()));
    }
    if namespaces.net == Namespace::Host {
        return Ok(Some(rustix::system::uname().nodename().to_string_lossy().into_owned()));
    }
    Ok(Some(id[..12].to_owned()))
}

fn groups(options: &ContainerOptions) -> Result<(Vec<String>, bool)> {
    let keep = options.group_add.iter().any(|group| group == "keep-groups");
    if keep && options.group_add.len() > 1 {
        return Err(Error::new("cannot use `--group-add keep-groups` together with other groups")
            .because("the groups of the caller are kept by leaving the list alone"));
    }
    Ok((if keep { Vec::new() } else { options.group_add.clone() }, keep))
}

fn environment(options: &ContainerOptions, config: &Config, hostname: Option<&str>) -> Result<Vec<String>> {
    let files = options.env_file.iter().map(|path| env::read_file(path)).collect::<Result<Vec<_>>>()?;
    let defaults = env::Defaults { hostname, home: None, terminal: options.tty };
    env::merge(&config.env, &files, &options.env, &env::of_caller(), defaults)
}

fn umask(text: &str) -> Result<u32> {
    u32::from_str_radix(text, 8).ok().filter(|mask| *mask <= 0o777).ok_or_else(|| {
        Error::new(format!("cannot use `--umask {text}`")).hint("write octal digits up to 0777, such as 0022")
    })
}

fn devices(options: &ContainerOptions) -> Result<Vec<super::spec::Device>> {
    let mut devices = Vec::new();
    for text in &options.device {
        devices.extend(device::resolve(&device::parse(text)?)?);
    }
    Ok(devices)
}

fn security(options: &ContainerOptions) -> Result<Security> {
    let chosen = security::parse_all(&options.security_opt, options.privileged)?;
    Ok(Security {
        privileged: options.privileged,
        capabilities: CapSet::from_add_drop(&options.cap_add, &options.cap_drop, options.privileged)?,
        seccomp: chosen.seccomp,
        no_new_privileges: chosen.no_new_privileges,
        masked_paths: chosen.masked_paths,
        read_only_paths: chosen.read_only_paths,
    })
}

/// Files of /proc and /sys look at the user ID alone: covers that can be taken off protect nothing from the host's
/// own root.
fn powers_of_the_host(identity: &Identity, security: &Security) -> Option<String> {
    let uncovered = !security.read_only_paths.iter().any(|path| path == Path::new("/proc/sys"))
        || security.capabilities.contains(Capability::SYS_ADMIN);
    let root_of_the_host =
        identity.host_uid_map().to_host(0) == Some(0) && rustix::process::getuid().is_root();
    (uncovered && root_of_the_host).then(|| {
        "root in the container is root of the host by its ID and can change the settings of the host's kernel: give \
         root subordinate IDs (`usermod --add-subuids 100000-165535 --add-subgids 100000-165535 root`), or leave out \
         `--privileged`, SYS_ADMIN and unmasked paths"
            .to_owned()
    })
}

fn log_driver(options: &ContainerOptions) -> Result<LogDriver> {
    let driver = match options.log_driver {
        LogDriverWord::K8sFile => LogDriver::K8sFile,
        LogDriverWord::None => LogDriver::None,
        LogDriverWord::Passthrough => LogDriver::Passthrough,
    };
    let standard = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let passed = if options.interactive { &standard[..] } else { &standard[1..] };
    if driver == LogDriver::Passthrough && (options.tty || passed.iter().any(rustix::termios::isatty)) {
        return Err(Error::new("cannot use `--log-driver passthrough` with a terminal")
            .because("the container could type into the terminal of its caller")
            .hint("redirect the streams, or use `--log-driver none`"));
    }
    Ok(driver)
}

fn pairs(flag: &str, texts: &[String]) -> Result<BTreeMap<String, String>> {
    texts
        .iter()
        .map(|text| {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            if key.is_empty() {
                return Err(Error::new(format!("cannot use `{flag} {text}`")).hint("write KEY=VALUE"));
            }
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}
