//! Request, image configuration and defaults become one spec: everything is decided and checked here, before
//! the first side effect.

mod accounts;
mod groups;
mod users;
mod volumes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::cli::container_options::ContainerOptions;
use crate::container::capabilities::CapSet;
use crate::container::restart::Restart;
use crate::container::scratch::{self, Uppers};
use crate::container::spec::{LogDriver, Namespace, Namespaces, Process, Security, Spec};
use crate::container::store::Store;
use crate::container::timezone::Timezone;
use crate::container::{device, env, health, links, name, namespace, rlimit, security, signal, size, sysctl};
use crate::emulation;
use crate::error::{Error, Result};
use crate::host::paths::Runtime;
use crate::host::proc_mask;
use crate::identity::{Identity, Tier};
use crate::image::{Config, Source};
use crate::layers;
use crate::limits;
use crate::logs;
use crate::network;
use crate::pod::Membership;
use crate::seccomp;
use crate::secret::{self, SecretStore};
use crate::units::creation::Creation;

/// SIGTERM (docker-run(1), --stop-signal).
const DEFAULT_STOP_SIGNAL: &str = "TERM";

/// Where the container will live.
pub struct Place<'a> {
    pub store: &'a Store,
    pub runtime: &'a Runtime,
}

/// A new container, and what is kept for it.
pub struct Decided {
    pub spec: Spec,
    /// Its host ports, until they are bound by whoever forwards them.
    pub reserved: network::Reserved,
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
) -> Result<Decided> {
    let id = name::random_id()?;
    let name = match &options.name {
        Some(name) => {
            name::check(name)?;
            name.clone()
        }
        None => name::random()?,
    };
    let mut degraded = Vec::new();
    let pod = groups::pod(options, place.store)?;
    let (limits, placement) = limits::plan(&options.limits, &groups::control_group(options, pod.as_ref()))?;
    let (args, entry_point) = command(options, config, words)?;

    let resolved = Names { store: place.store };
    let mut namespaces = Namespaces {
        pid: namespace::parse("--pid", options.pid.as_deref(), &["private"], &resolved)?,
        ipc: namespace::parse("--ipc", options.ipc.as_deref(), &["private", "shareable"], &resolved)?,
        uts: namespace::parse("--uts", options.uts.as_deref(), &["private"], &resolved)?,
        cgroup: namespace::parse("--cgroupns", options.cgroupns.as_deref(), &["private"], &resolved)?,
        time: namespace::time(options.timens.as_deref())?,
        net: Namespace::Private,
    };
    let exposed_ports = network::exposed::all(&config.exposed_ports, &options.expose)?;
    let (network, reserved) = network(options, &exposed_ports, place, &resolved, &mut namespaces)?;
    share_masked_proc(&mut namespaces, &mut degraded);

    let user = options.user.clone().or_else(|| config.user.clone());
    let (mut identity, account) =
        users::decide(options, &source, user.as_deref(), place, &namespaces, &mut degraded)?;
    let security = security(options)?;
    degraded.extend(users::powers_of_the_host(&identity, &security));
    let image = source.word();
    let mut mounts = volumes::mounts(options, config, place.store)?;
    let secrets = secret::option::parse_all(&options.secret, &SecretStore::new(place.store.root()))?;
    mounts.extend(secrets.mounts);
    users::check_overlays(&identity, &mounts)?;
    degraded.extend(volumes::without_owners(&mounts, place.store, &identity));
    let cwd = working_directory(options, config)?;
    let uppers = uppers(options, &source, place.store, &identity, &mut degraded)?;
    let squashed = identity.tier != Tier::Single && keeps_no_owners(&source, &uppers);
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
            uppers: uppers.scratch.as_deref().unwrap_or(place.store.root()),
            squashed,
            identity: &identity,
            read_only: options.read_only,
            mount_points: &points,
            generated: &generated,
        };
        layers::choose(source, options.storage_driver, &host, &mut degraded)?
    };
    users::keep_the_root_server_out_of_reach(&root, &namespaces, &security, &mut identity);
    let emulation = emulation::choice::decide(
        options.emulate_root,
        &identity,
        &root,
        seccomp::running_kernel(),
        &mut degraded,
    )?;
    let hostname = hostname(options, &namespaces, &id)?;
    let shared_uts = namespaces.uts != Namespace::Private;
    let (groups, keep_groups) = groups(options)?;
    let private = sysctl::Private {
        net: namespaces.net == Namespace::Private,
        ipc: namespaces.ipc == Namespace::Private,
    };
    let timezone = options.tz.as_deref().map(Timezone::parse).transpose()?;
    let environment = environment(options, config, hostname.as_deref())?;
    let labels = labels(options, config)?;
    let facts = logs::options::Facts {
        id: &id,
        name: &name,
        image: &image,
        labels: &labels,
        environment: &environment,
    };
    let (log_driver, log_options) = log(options, &facts)?;
    let stop_signal = options.stop_signal.as_deref().or(config.stop_signal.as_deref());
    let spec = Spec {
        created: crate::sys::time::Utc::now(),
        image,
        root,
        read_only: options.read_only,
        scratch: uppers.scratch,
        squashed,
        process: Process {
            args,
            entry_point,
            env: environment,
            cwd,
            user,
            groups,
            keep_groups,
            account: options.passwd.then(|| accounts::complete(account, options)).transpose()?,
            terminal: options.tty,
            stdin: options.interactive,
            stdin_once: options.interactive && !options.detach,
            without_home: options.unsetenv_all || options.unsetenv.iter().any(|name| name == "HOME"),
            umask: options.umask.as_deref().map(umask).transpose()?,
            exact: None,
        },
        identity,
        emulation,
        namespaces,
        hostname,
        timezone,
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
        secret_env: secrets.variables,
        devices: devices(options)?,
        security,
        rlimits: rlimit::parse_all(&options.ulimit, &rlimit::current())?,
        sysctls: sysctl::parse_all(&options.sysctl, private)?,
        oom_score_adj: options.oom_score_adj,
        limits,
        placement,
        network,
        exposed_ports,
        shm_size: size::parse("--shm-size", &options.shm_size)?,
        init: options.init,
        stop_signal: signal::parse("--stop-signal", stop_signal.unwrap_or(DEFAULT_STOP_SIGNAL))?,
        stop_timeout: options.stop_timeout,
        timeout: (options.timeout > 0).then_some(options.timeout),
        log_driver,
        log_options,
        health: health::plan::decide(&options.health, config.health.as_ref())?,
        remove_on_exit: options.rm,
        becomes_layer: false,
        restart: restart(options)?,
        creation: Creation::current(),
        pod: pod.map(|pod| Membership { id: pod.id, name: pod.name }),
        requires: groups::required(options, place.store)?,
        labels,
        annotations: pairs("--annotation", &options.annotation)?,
        degraded,
        listed: None,
        id,
        name,
    };
    Ok(Decided { spec, reserved })
}

/// Where the layer goes that the container changes.
fn uppers(
    options: &ContainerOptions,
    source: &Source,
    store: &Store,
    identity: &Identity,
    degraded: &mut Vec<String>,
) -> Result<Uppers> {
    let only_the_directory = options.volume.is_empty() && options.mount.is_empty();
    if matches!(source, Source::WritableDirectory(_)) && only_the_directory {
        return Ok(Uppers { scratch: None, owners: true, reason: None });
    }
    let uppers = scratch::choose(options.scratch.as_deref(), store.root(), identity)?;
    match (&uppers.scratch, &uppers.reason) {
        (Some(scratch), Some(reason)) => {
            log::info!("what the container changes is kept in `{}`: {reason}", scratch.display());
        }
        (None, Some(reason)) => degraded.push(format!(
            "what the container changes is kept in the store, though {reason}: name a local directory with `--scratch \
             DIR` or SBX_SCRATCH"
        )),
        _ => {}
    }
    Ok(uppers)
}

fn keeps_no_owners(source: &Source, uppers: &Uppers) -> bool {
    let squashed_layers = matches!(source, Source::Image(image) if image.key.is_squashed());
    let stacked = !matches!(source, Source::WritableDirectory(_) | Source::Host);
    stacked && (squashed_layers || !uppers.owners)
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

/// Entry point and arguments: the image's, the flag's, the words typed; and how many of them are the entry point.
fn command(options: &ContainerOptions, config: &Config, words: Vec<String>) -> Result<(Vec<String>, usize)> {
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
    let entry_point = args.len();
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
    Ok((args, entry_point))
}

fn network(
    options: &ContainerOptions,
    exposed_ports: &[String],
    place: &Place<'_>,
    names: &Names<'_>,
    namespaces: &mut Namespaces,
) -> Result<(network::Network, network::Reserved)> {
    let mut publish = options.publish.clone();
    if options.publish_all {
        publish.extend(network::exposed::unpublished(exposed_ports, &publish)?);
    }
    let networks = match options.network.as_slice() {
        // docker's usual network, where links are at home.
        [] if !options.link.is_empty() => vec![network::named::BUILT_IN.to_owned()],
        asked => asked.to_vec(),
    };
    let request = network::Request {
        networks,
        aliases: options.network_alias.clone(),
        publish,
        allow: options.net_allow.clone(),
        dns: options.dns.clone(),
        dns_search: options.dns_search.clone(),
        dns_options: options.dns_option.clone(),
        add_hosts: options.add_host.clone(),
        ip: options.ip,
        ip6: options.ip6,
        mac_address: options.mac_address.clone(),
        no_hosts: options.no_hosts,
        hostname: options.hostname.is_some(),
    };
    let mut plan = {
        let networks = network::named::NamedNetworks::new(place.store.root());
        network::plan(&request, &network::cache(&place.runtime.path), &networks)?
    };
    if let Some(link) = options.link.first().filter(|_| plan.network.mode != network::Mode::Bridge) {
        return Err(Error::new(format!("cannot use `--link {link}` with `--network {}`", plan.network.mode))
            .because("it is no network that others can be in"));
    }
    plan.network.links = links::parse_all(&options.link, &plan.network, place.store)?;
    for warning in &plan.warnings {
        log::warn!("{warning}");
    }
    use namespace::Containers;
    namespaces.net = match &plan.network.mode {
        network::Mode::Host => Namespace::Host,
        network::Mode::Path(path) => Namespace::Path(path.clone()),
        network::Mode::Container(word) => Namespace::Container(
            names.running(word).map_err(|e| e.while_doing(format!("cannot use `--net container:{word}`")))?,
        ),
        network::Mode::None
        | network::Mode::Slirp4netns(_)
        | network::Mode::Pasta(_)
        | network::Mode::Bridge => Namespace::Private,
    };
    Ok((plan.network, plan.reserved))
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

/// The flag's beat the image's.
fn labels(options: &ContainerOptions, config: &Config) -> Result<BTreeMap<String, String>> {
    let mut labels = config.labels.clone();
    for path in &options.label_file {
        let (_, text) = env::read_file(path).map_err(|error| error.while_doing(label_file(path)))?;
        let text =
            String::from_utf8(text).map_err(|_| Error::new(label_file(path)).because("it is not UTF-8"))?;
        let lines =
            text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let lines: Vec<String> = lines.map(str::to_owned).collect();
        labels.extend(pairs("--label-file", &lines)?);
    }
    labels.extend(pairs("--label", &options.label)?);
    Ok(labels)
}

fn label_file(path: &str) -> String {
    format!("cannot use `--label-file {path}`")
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
    let defaults = env::Defaults {
        hostname,
        home: None,
        terminal: options.tty,
        all_of_caller: options.env_host,
        proxies: options.http_proxy,
        unset: &options.unsetenv,
        unset_all: options.unsetenv_all,
        merged: &options.env_merge,
    };
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

fn log(options: &ContainerOptions, facts: &logs::options::Facts<'_>) -> Result<(LogDriver, logs::Options)> {
    let (driver, kept) = logs::options::parse(options.log_driver, &options.log_opt, facts)?;
    let standard = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let passed = if options.interactive { &standard[..] } else { &standard[1..] };
    if driver == LogDriver::Passthrough && (options.tty || passed.iter().any(rustix::termios::isatty)) {
        return Err(Error::new("cannot use `--log-driver passthrough` with a terminal")
            .because("the container could type into the terminal of its caller")
            .hint("redirect the streams, or use `--log-driver none`"));
    }
    Ok((driver, kept))
}

fn restart(options: &ContainerOptions) -> Result<Restart> {
    if options.rm && options.restart != Restart::No {
        return Err(Error::new(format!("cannot use `--rm` with `--restart {}`", options.restart))
            .because("a container cannot be removed and started again when it ends")
            .hint("leave one of them out"));
    }
    Ok(options.restart)
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
