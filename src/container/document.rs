//! A container as `inspect` shows it: docker's fields, as far as its records tell.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::container::control_group;
use crate::container::disk;
use crate::container::health;
use crate::container::list::{self, Listed, Status};
use crate::container::signal;
use crate::container::spec::{LogDriver, Mount, MountKind, Namespace, Origin, SecretFile, Spec};
use crate::container::store::Store;
use crate::delegation::Mode;
use crate::error::{Error, Result};
use crate::image::usage;
use crate::limits;
use crate::sys::time::Utc;
use crate::volume::VolumeStore;
use crate::volume::record::DRIVER;

mod host;
mod network;

pub use network::endpoint_id;

/// docker's way to say never.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// The whole document.
///
/// # Errors
/// The container is gone, or its record damaged.
pub fn of(store: &Store, id: &str, with_size: bool) -> Result<Value> {
    let listed = list::one(store, id).ok_or_else(|| {
        Error::new(format!("container {} is not there any more", crate::container::store::short(id)))
    })?;
    let Some(spec) = &listed.spec else { return store.read_spec(id).map(|_| Value::Null) };
    let process = &spec.process;
    let (path, args) = process.args.split_first().map_or(("", &[][..]), |(path, args)| (path.as_str(), args));
    let mut document = json!({
        "Id": id,
        "Created": spec.created,
        "Path": path,
        "Args": args,
        "State": state(store, &listed),
        "Image": usage::image_of(spec).map(|id| id.to_string()).unwrap_or_default(),
        "ImageName": spec.image,
        "Name": spec.name,
        "RestartCount": listed.state.as_ref().map_or(0, |state| state.restarts),
        "Platform": "linux",
        "Mounts": mounts(store, spec),
        "Config": config(spec),
        "HostConfig": host_config(store, spec),
        "NetworkSettings": network::settings(&listed, spec),
        "Driver": driver(spec),
        "GraphDriver": host::graph_driver(store, spec),
        "LogPath": log_path(store, spec),
        "HostnamePath": "",
        "HostsPath": "",
        "ResolvConfPath": "",
        "EffectiveCaps": spec.security.capabilities.names(),
        "BoundingCaps": spec.security.capabilities.names(),
        "OCIRuntime": "sbx",
        "Namespace": "",
        "IsInfra": false,
        "Pod": spec.pod.as_ref().map(|pod| pod.id.as_str()).unwrap_or_default(),
        "Dependencies": host::dependencies(spec),
        "AppArmorProfile": "",
        "MountLabel": "",
        "ProcessLabel": "",
    });
    for (path, target) in store.directory_of(spec).generated_files() {
        let field = match target {
            "/etc/hostname" => "HostnamePath",
            "/etc/hosts" => "HostsPath",
            _ => "ResolvConfPath",
        };
        if path.exists() {
            document[field] = json!(path.display().to_string());
        }
    }
    if with_size {
        let written = disk::written(store, spec);
        document["SizeRw"] = json!(written);
        document["SizeRootFs"] = json!(written.saturating_add(host::image_size(store, spec)));
    }
    Ok(document)
}

fn state(store: &Store, listed: &Listed) -> Value {
    let moment = |at: Option<Utc>| at.map_or_else(|| NEVER.to_owned(), |at| at.to_string());
    let recorded = listed.state.clone().unwrap_or_default();
    let status = listed.status.name();
    let cgroup = store.running_record(&listed.id).ok().and_then(|record| record.cgroup);
    let group = cgroup.as_deref().filter(|_| listed.status.is_up()).and_then(control_group::find);
    let oom_killed = match &group {
        Some(group) => control_group::oom_kills_in(group) > 0,
        None => recorded.oom_killed,
    };
    let (pid, code, started, finished) = match listed.status {
        Status::Created => (0, recorded.exit_code, None, None),
        Status::Running { since, pid } | Status::Paused { since, pid } => (pid, 0, Some(since), None),
        Status::Restarting { code, at } => (0, code, recorded.started_at, Some(at)),
        Status::Exited { code, at } => (0, code, recorded.started_at, at),
        Status::Removing | Status::Dead => (0, 0, None, None),
    };
    let mut state = json!({
        "Status": status,
        "Running": listed.status.is_up(),
        "Paused": status == "paused",
        "Restarting": status == "restarting",
        "OOMKilled": oom_killed,
        "Dead": status == "dead",
        "Pid": pid,
        "ExitCode": code,
        "Error": if matches!(status, "exited" | "created") { recorded.error.unwrap_or_default() } else { String::new() },
        "StartedAt": moment(started),
        "FinishedAt": moment(finished),
        "CgroupPath": group.and(cgroup).map(|path| format!("/{}", path.display())).unwrap_or_default(),
        // Null for a container without checks, so that templates can ask for it.
        "Health": null,
    });
    if let Some(health) = &listed.health {
        state["Health"] = json!(health);
        // podman's older name.
        state["Healthcheck"] = json!(health);
    }
    state
}

fn mounts(store: &Store, spec: &Spec) -> Vec<Value> {
    let volumes = VolumeStore::of(store);
    let shown = spec.mounts.iter().filter(|mount| !matches!(mount.kind, MountKind::Secrets(_)));
    shown.map(|one| mount(one, &volumes)).collect()
}

fn mount(mount: &Mount, volumes: &VolumeStore) -> Value {
    let (kind, source) = match &mount.kind {
        MountKind::Bind(bind) => ("bind", bind.source.clone()),
        MountKind::Volume(volume) => ("volume", volumes.directory(&volume.name).data()),
        MountKind::Tmpfs { .. } | MountKind::Secrets(_) => ("tmpfs", PathBuf::new()),
        MountKind::Devpts => ("devpts", PathBuf::new()),
        MountKind::Mqueue => ("mqueue", PathBuf::new()),
        MountKind::Proc => ("proc", PathBuf::new()),
        MountKind::Sysfs => ("sysfs", PathBuf::new()),
        MountKind::Cgroup => ("cgroup", PathBuf::new()),
    };
    let propagation = mount.kind.bind().map_or(json!(""), |bind| {
        let letter = if bind.recursive_propagation { "r" } else { "" };
        json!(format!(
            "{letter}{}",
            serde_json::to_value(bind.propagation).unwrap_or_default().as_str().unwrap_or("")
        ))
    });
    let mut document = json!({
        "Type": kind,
        "Source": source.display().to_string(),
        "Destination": mount.target.display().to_string(),
        "Mode": "",
        "Options": options(mount),
        "RW": !mount.flags.read_only,
        "Propagation": propagation,
    });
    if let MountKind::Volume(volume) = &mount.kind {
        document["Name"] = json!(volume.name);
        document["Driver"] = json!(DRIVER);
        if let Some(path) = &volume.subpath {
            document["SubPath"] = json!(path.display().to_string());
        }
    }
    document
}

/// podman's list of what a bind is mounted with.
fn options(mount: &Mount) -> Vec<&'static str> {
    let Some(bind) = mount.kind.bind() else { return Vec::new() };
    let flags =
        [(mount.flags.no_suid, "nosuid"), (mount.flags.no_dev, "nodev"), (mount.flags.no_exec, "noexec")];
    let kind = if bind.recursive { "rbind" } else { "bind" };
    flags.into_iter().filter(|(set, _)| *set).map(|(_, word)| word).chain([kind]).collect()
}

/// podman's list of those that are files.
fn secrets(mount: &Mount) -> Vec<Value> {
    let MountKind::Secrets(files) = &mount.kind else { return Vec::new() };
    let shown = |file: &SecretFile| json!({ "Name": file.name, "ID": file.secret, "UID": file.uid, "GID": file.gid, "Mode": file.mode });
    files.iter().map(shown).collect()
}

fn config(spec: &Spec) -> Value {
    let hidden = spec.secret_env.iter().map(|env| format!("{}=*******", env.variable));
    let mut config = json!({
        "Hostname": spec.hostname.as_deref().unwrap_or(crate::container::store::short(&spec.id)),
        "Domainname": spec.domainname.as_deref().unwrap_or_default(),
        "User": spec.process.user.as_deref().unwrap_or_default(),
        "Tty": spec.process.terminal,
        "OpenStdin": spec.process.stdin,
        "Env": spec.process.env.iter().cloned().chain(hidden).collect::<Vec<_>>(),
        "Secrets": spec.mounts.iter().flat_map(secrets).collect::<Vec<_>>(),
        "Entrypoint": entry_point(spec).0,
        "Cmd": entry_point(spec).1,
        "Image": spec.image,
        "CreateCommand": spec.creation.words,
        "AttachStdin": false,
        "AttachStdout": false,
        "AttachStderr": false,
        "StdinOnce": spec.process.stdin_once,
        "ExposedPorts": network::exposed(spec),
        "Volumes": volumes(spec),
        "OnBuild": null,
        "Healthcheck": spec.health.as_ref().map(check),
        "Umask": format!("{:04o}", spec.process.umask.unwrap_or(0o022)),
        "WorkingDir": spec.process.cwd.display().to_string(),
        "Labels": spec.labels,
        "Annotations": spec.annotations,
        "StopSignal": signal::name(spec.stop_signal),
        "StopTimeout": spec.stop_timeout,
        "Timeout": spec.timeout.unwrap_or(0),
    });
    if let Some(check) = &spec.health {
        config["HealthcheckOnFailureAction"] = json!(check.on_failure);
    }
    config
}

fn host_config(store: &Store, spec: &Spec) -> Value {
    let namespaces = &spec.namespaces;
    let binds = spec.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Bind(bind) => Some(format!("{}:{}", bind.source.display(), mount.target.display())),
        MountKind::Volume(volume) => Some(format!("{}:{}", volume.name, mount.target.display())),
        _ => None,
    });
    let mut document = json!({
        "Binds": binds.collect::<Vec<_>>(),
        "NetworkMode": spec.network.shown(),
        "PortBindings": network::ports(spec),
        "RestartPolicy": host::restart_policy(spec),
        "AutoRemove": spec.remove_on_exit,
        "Privileged": spec.security.privileged,
        "ReadonlyRootfs": spec.read_only,
        "ShmSize": spec.shm_size,
        "Init": spec.init,
        "PidMode": namespace(&namespaces.pid),
        "IpcMode": namespace(&namespaces.ipc),
        "UTSMode": namespace(&namespaces.uts),
        "CgroupnsMode": namespace(&namespaces.cgroup),
        "Cgroups": if spec.placement.mode == Some(Mode::Disabled) { "disabled" } else { "default" },
        "CgroupParent": spec.placement.parent.as_deref().unwrap_or_default(),
        "OomScoreAdj": spec.oom_score_adj.unwrap_or(0),
        "Sysctls": spec.sysctls,
        "UsernsMode": host::userns_mode(spec),
        "CapAdd": host::capabilities(spec).0,
        "CapDrop": host::capabilities(spec).1,
        "Dns": spec.network.dns,
        "DnsOptions": spec.network.dns_options,
        "DnsSearch": spec.network.dns_search,
        "ExtraHosts": network::extra_hosts(spec),
        "GroupAdd": spec.process.groups,
        "Devices": host::devices(spec),
        "Ulimits": host::ulimits(spec),
        "SecurityOpt": host::security_options(spec),
        "Tmpfs": host::tmpfs(spec),
        "Links": network::links(store, spec),
        "Runtime": "sbx",
        "LogConfig": { "Type": spec.log_driver, "Config": spec.log_options.typed },
        "CapEff": spec.security.capabilities.names(),
        "MaskedPaths": spec.security.masked_paths,
        "ReadonlyPaths": spec.security.read_only_paths,
    });
    if let Value::Object(document) = &mut document {
        document.extend(limits::document::fields(&spec.limits));
    }
    document
}

fn namespace(namespace: &Namespace) -> String {
    match namespace {
        Namespace::Private => "private".to_owned(),
        Namespace::Host => "host".to_owned(),
        Namespace::Path(path) => format!("ns:{}", path.display()),
        Namespace::Container(id) => format!("container:{id}"),
    }
}

/// docker's form of a health check.
fn check(check: &health::Check) -> Value {
    json!({
        "Test": check.test,
        "Interval": check.interval,
        "Timeout": check.timeout,
        "StartPeriod": check.start_period,
        "StartInterval": check.start_interval,
        "Retries": check.retries,
    })
}

fn driver(spec: &Spec) -> Value {
    spec.root.driver().map_or(json!("none"), |driver| json!(driver))
}

/// Where the container's output is kept; empty: nowhere.
fn log_path(store: &Store, spec: &Spec) -> String {
    match spec.log_driver {
        LogDriver::None | LogDriver::Passthrough => String::new(),
        LogDriver::K8sFile | LogDriver::JsonFile => store.directory(&spec.id).log().display().to_string(),
    }
}

/// The entry point and its arguments.
fn entry_point(spec: &Spec) -> (&[String], &[String]) {
    let args = &spec.process.args;
    args.split_at(spec.process.entry_point.min(args.len()))
}

/// docker's set of the volumes that were made for the container, by the image or `-v /path`.
fn volumes(spec: &Spec) -> serde_json::Map<String, Value> {
    let anonymous = |mount: &&Mount| matches!(&mount.kind, MountKind::Volume(volume) if volume.origin == Origin::Anonymous);
    spec.mounts
        .iter()
        .filter(anonymous)
        .map(|mount| (mount.target.display().to_string(), json!({})))
        .collect()
}
