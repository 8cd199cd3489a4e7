//! `sbx info`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::Global;
use super::report::{Wanted, go_view};
use crate::Result;
use crate::container::scratch;
use crate::container::store::Store;
use crate::delegation;
use crate::doctor::ids::Ids;
use crate::doctor::layers::Drivers;
use crate::doctor::{self, Situation, Status};
use crate::host::cgroup::{self, Version};
use crate::host::helpers::Helper;
use crate::host::{filesystem, helpers, paths, proc_mask, security, system};
use crate::identity::IdMap;
use crate::image::registries::Registries;
use crate::image::store::ImageStore;
use crate::layers::storage::Abilities;
use crate::output::print;

/// Show the host, the store, and what was chosen for them
///
/// Nothing is changed or made, and no state is needed. JSON has podman's names; templates take those
/// (`.Host.Security.Rootless`, or `.host.security.rootless`) and docker's (`.SecurityOptions`, `.Driver`).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx info
  sbx info --format json
  sbx info --format '{{.Store.GraphDriverName}}'
  sbx info --format '{{.SecurityOptions}}'")]
pub struct InfoArgs {
    /// Nothing is left out without it
    #[arg(short = 'D', long, hide = true)]
    debug: bool,
    /// Print `json`, or what a Go template makes of it
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

pub fn execute(args: InfoArgs, global: &Global) -> Result<u8> {
    let InfoArgs { format, debug: _ } = args;
    let wanted = Wanted::parse(format.as_deref())?;
    let report = report(&Situation::current(global.root.clone()))?;
    print::text(&match wanted {
        None => text(&report),
        Some(wanted) => wanted.object(&report, template_view)?,
    })?;
    Ok(0)
}

/// The report in podman's shape: `host`, `store`, `version`, and `degraded`: every step down from the best.
fn report(situation: &Situation) -> Result<Value> {
    let degraded: Vec<String> = doctor::examine(situation)
        .into_iter()
        .filter(|check| check.status != Status::Ok)
        .map(|check| format!("{}: {}", check.title, check.found))
        .collect();
    Ok(json!({
        "host": host()?,
        "store": store(situation)?,
        "registries": registries(),
        "version": super::version::program(),
        "degraded": degraded,
    }))
}

fn host() -> Result<Value> {
    let system = system::read();
    let cgroup = cgroup::read();
    let way = delegation::way();
    let modules = security::read();
    let ids = Ids::read()?;
    let identity = ids.identity.as_ref();
    let maps = identity.map_or(
        Value::Null,
        |chosen| json!({ "uidmap": mappings(&chosen.host_uid_map()), "gidmap": mappings(&chosen.host_gid_map()) }),
    );
    let mut host = json!({
        "os": "linux",
        "kernel": system.kernel,
        "arch": system.arch,
        "cpus": system.cpus,
        "hostname": system.hostname,
        "memTotal": system.memory_total,
        "memFree": system.memory_free,
        "swapTotal": system.swap_total,
        "swapFree": system.swap_free,
        "uptime": system.uptime,
        "distribution": {
            "distribution": system.distribution.id,
            "version": system.distribution.version,
            "codename": system.distribution.codename,
            "name": system.distribution.pretty_name,
        },
        "cgroupVersion": cgroup_version(cgroup.version),
        "cgroupManager": way.manager(),
        "cgroupControllers": way.controllers,
        // Where containers with limits get their control groups, or why there is no place.
        "cgroupDelegation": way.described,
        "security": {
            "rootless": ids.uid != 0,
            "seccompEnabled": modules.seccomp,
            "apparmorEnabled": modules.apparmor,
            "selinuxEnabled": modules.selinux,
        },
        "idMappings": maps,
        "identity": {
            "tier": identity.ok().map(|chosen| chosen.tier),
            "mapWriter": identity.ok().map(|chosen| &chosen.writer),
            "notes": identity.map_or_else(|error| vec![error.to_string()], |chosen| chosen.notes.clone()),
        },
        "outerContainer": proc_mask::outer_container(),
        "libc": crate::sys::probe::libc_version(),
    });
    for helper in helpers::with_versions() {
        host[key_of(helper.name)] = describe(&helper);
    }
    Ok(host)
}

fn key_of(helper: &str) -> &str {
    if helper == "fuse-overlayfs" { "fuseOverlayfs" } else { helper }
}

fn describe(helper: &Helper) -> Value {
    json!({ "executable": helper.path, "version": helper.version })
}

fn cgroup_version(version: Version) -> &'static str {
    match version {
        Version::None => "none",
        // Podman and docker call a hybrid host v1, too: that is where the controllers are.
        Version::V1 | Version::Hybrid => "v1",
        Version::V2 => "v2",
    }
}

fn mappings(map: &IdMap) -> Vec<Value> {
    map.0
        .iter()
        .map(|line| json!({ "container_id": line.inside, "host_id": line.outside, "size": line.count }))
        .collect()
}

/// As podman has it: `search`, and each configured registry by its prefix.
fn registries() -> Value {
    let registries = match Registries::load() {
        Ok(registries) => registries,
        // Told, and no reason to tell nothing of the rest.
        Err(error) => {
            log::warn!("{error}");
            return Value::Null;
        }
    };
    let mut described = json!({ "search": registries.search() });
    for registry in registries.configured() {
        let mirrors = registry.mirrors.iter();
        let mirrors =
            mirrors.map(|mirror| json!({ "Location": mirror.location.value, "Insecure": mirror.insecure }));
        described[registry.prefix.as_str()] = json!({
            "Prefix": registry.prefix,
            "Location": registry.location.as_ref().map_or(registry.prefix.as_str(), |location| &location.value),
            "Insecure": registry.insecure,
            "Blocked": registry.blocked,
            "Mirrors": mirrors.collect::<Vec<_>>(),
        });
    }
    described
}

/// The mirrors of docker.io, which are all that docker knows.
fn docker_mirrors(registries: &Value) -> Vec<&Value> {
    let mirrors = registries["docker.io"]["Mirrors"].as_array();
    mirrors.into_iter().flatten().map(|mirror| &mirror["Location"]).collect()
}

fn store(situation: &Situation) -> Result<Value> {
    let store = paths::store(situation.root.as_deref(), &situation.surroundings)?;
    let containers = Store::new(store.clone());
    let ids = containers.ids();
    let image_store = ImageStore::new(&store);
    // A list that is damaged is no reason to tell nothing of the rest.
    let images = match image_store.list() {
        Ok(entries) => entries.iter().map(|entry| &entry.id).collect::<BTreeSet<_>>().len(),
        Err(error) => {
            log::warn!("{error}");
            0
        }
    };
    let records: Vec<_> = ids.iter().filter_map(|id| containers.running_record(id).ok()).collect();
    let paused = records.iter().filter(|record| record.paused).count();
    let runtime = paths::runtime(&situation.surroundings).map(|runtime| runtime.path);
    let lies_on = filesystem::of(paths::nearest_existing(&store)).ok();
    let backing = lies_on.as_ref().map(|found| found.name.as_str());
    let ids_found = Ids::read()?;
    let foreseen = ids_found.identity.as_ref().ok().map(|identity| scratch::foresee(&store, identity));
    let (abilities, uppers) = foreseen.unzip();
    let abilities = abilities.flatten();
    let keeps = |found: fn(&Abilities) -> bool| abilities.as_ref().map(found);
    let beside_scratch = uppers.as_ref().and_then(|uppers| uppers.scratch.as_deref()?.parent());
    let (driver, reason) = match abilities.as_ref().and_then(Abilities::unfit_for_overlay) {
        Some(reason) => ("fuse-overlayfs", reason),
        None => Drivers::read(beside_scratch.unwrap_or(&store)).chosen(),
    };
    Ok(json!({
        "graphRoot": display(&store),
        "runRoot": runtime.as_deref().map_or(Value::Null, display),
        "containerStore": {
            "number": ids.len(),
            "paused": paused,
            "running": records.len() - paused,
            "stopped": ids.len() - records.len(),
        },
        "imageStore": { "number": images },
        "imagePath": display(&image_store.layout()),
        "layerPath": display(&store.join("layers")),
        "volumePath": display(&store.join("volumes")),
        "graphDriverName": driver,
        "graphDriverReason": reason,
        "graphStatus": {
            "Backing Filesystem": backing,
            "Keeps Owners": keeps(|found| found.owners),
            "Keeps Attributes": keeps(|found| found.attributes),
            "Keeps Whiteouts": keeps(|found| found.whiteouts),
            "Has Locks": keeps(|found| found.locks),
        },
        "scratchRoot": uppers.as_ref().and_then(|uppers| uppers.scratch.as_deref()).map_or(Value::Null, display),
        "scratchReason": uppers.and_then(|uppers| uppers.reason),
        "graphRootAllocated": lies_on.as_ref().map(|found| found.size),
        "graphRootUsed": lies_on.as_ref().map(|found| found.size.saturating_sub(found.free)),
    }))
}

fn display(path: &Path) -> Value {
    Value::String(path.display().to_string())
}

/// What templates see: docker's names at the top, and the report under Go's names and its own.
fn template_view(report: &Value) -> Value {
    let mut view = go_view(report);
    let (host, store) = (&report["host"], &report["store"]);
    let docker = json!({
        "Name": host["hostname"],
        "ServerVersion": report["version"]["Version"],
        "Containers": store["containerStore"]["number"],
        "ContainersPaused": store["containerStore"]["paused"],
        "ContainersRunning": store["containerStore"]["running"],
        "ContainersStopped": store["containerStore"]["stopped"],
        "Images": store["imageStore"]["number"],
        "OSType": host["os"],
        "OperatingSystem": host["distribution"]["name"],
        "OSVersion": host["distribution"]["version"],
        "KernelVersion": host["kernel"],
        "Architecture": std::env::consts::ARCH,
        "NCPU": host["cpus"],
        "MemTotal": host["memTotal"],
        "CgroupDriver": host["cgroupManager"],
        "CgroupVersion": host["cgroupVersion"].as_str().map(|version| version.trim_start_matches('v')),
        "Driver": store["graphDriverName"],
        "DriverStatus": [["Backing Filesystem", store["graphStatus"]["Backing Filesystem"]]],
        "RegistryConfig": { "Mirrors": docker_mirrors(&report["registries"]) },
        "DockerRootDir": store["graphRoot"],
        "SecurityOptions": security_options(host),
        // Asked for by name to find GPUs: there is none, which docker prints as `<no value>`.
        "Runtimes": { "nvidia": null },
        "Warnings": report["degraded"],
    });
    if let (Value::Object(view), Value::Object(docker), Value::Object(report)) = (&mut view, docker, report) {
        view.extend(docker);
        view.extend(report.clone());
    }
    view
}

/// In docker's words. Every container is in a user and a cgroup namespace of its own.
fn security_options(host: &Value) -> Vec<&'static str> {
    let mut options = Vec::new();
    if host["security"]["seccompEnabled"] == true {
        options.push("name=seccomp,profile=builtin");
    }
    if host["security"]["rootless"] == true {
        options.push("name=rootless");
    }
    options.extend(["name=userns", "name=cgroupns"]);
    options
}

/// The report as indented `key: value` lines, which is YAML.
fn text(report: &Value) -> String {
    let mut text = String::new();
    for part in ["host", "store", "registries", "version", "degraded"] {
        if let Some(value) = report.get(part) {
            write_entry(&mut text, 0, part, value);
        }
    }
    text
}

fn write_entry(text: &mut String, depth: usize, key: &str, value: &Value) {
    let _ = write!(text, "{:1$}{2}:", "", depth * 2, inline(&Value::from(key)));
    match value {
        Value::Object(fields) => {
            text.push('\n');
            for (key, value) in fields {
                write_entry(text, depth + 1, key, value);
            }
        }
        Value::Array(items) if items.is_empty() => text.push_str(" []\n"),
        Value::Array(items) => {
            text.push('\n');
            for item in items {
                let _ = writeln!(text, "{:1$}- {2}", "", depth * 2, inline(item));
            }
        }
        scalar => {
            let _ = writeln!(text, " {}", inline(scalar));
        }
    }
}

/// One line: strings that YAML would read as something else are quoted as JSON has them.
fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => {
            let plain = !text.is_empty()
                && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/')
                && !text.contains(": ")
                && !text.contains(" #")
                && !text.ends_with(':')
                && !text.contains(char::is_control)
                && text.parse::<f64>().is_err();
            if plain { text.clone() } else { value.to_string() }
        }
        Value::Object(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|(key, value)| format!("{key}: {}", inline(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_find_podmans_and_dockers_names() {
        let report = json!({
            "host": {
                "os": "linux", "cpus": 2, "cgroupVersion": "v2",
                "security": { "selinuxEnabled": false, "seccompEnabled": true, "rootless": true },
                "idMappings": { "uidmap": [{ "container_id": 0, "host_id": 1000, "size": 1 }] },
            },
            "store": { "graphDriverName": "overlay", "graphStatus": { "Backing Filesystem": "ext4" } },
            "version": { "Version": "1" }, "degraded": [],
        });
        let view = template_view(&report);
        assert_eq!(view["Host"]["Security"]["SELinuxEnabled"], false);
        assert_eq!(view["Host"]["OS"], "linux");
        assert_eq!(view["Host"]["IDMappings"]["UIDMap"][0]["HostID"], 1000);
        assert_eq!(view["Store"]["GraphDriverName"], "overlay");
        assert_eq!(view["SecurityOptions"][0], "name=seccomp,profile=builtin");
        assert_eq!((&view["NCPU"], &view["CgroupVersion"]), (&json!(2), &json!("2")));
        assert_eq!(view["Driver"], "overlay");
        assert_eq!(view["host"]["os"], "linux");
    }

    #[test]
    fn the_text_is_indented_and_quotes_what_yaml_would_misread() {
        let report = json!({
            "host": { "a": "x", "b": { "c": 1 }, "d": [{ "e": 1 }] },
            "store": { "n": "6.1", "path": "/x" }, "version": {}, "degraded": ["t: f"],
        });
        assert_eq!(
            text(&report),
            "host:\n  a: x\n  b:\n    c: 1\n  d:\n  - {e: 1}\nstore:\n  n: \"6.1\"\n  path: /x\nversion:\n\
             degraded:\n- \"t: f\"\n"
        );
    }

    #[test]
    fn every_key_of_this_hosts_report_can_be_told() {
        let dir = tempfile::tempdir().unwrap();
        let situation = Situation::current(Some(dir.path().join("store")));
        let report = report(&situation).unwrap();
        assert_eq!(report["store"]["graphRoot"], dir.path().join("store").display().to_string());
        assert!(report["host"]["memTotal"].as_u64().unwrap() > 0);
        assert_eq!(report["host"]["idMappings"]["uidmap"][0]["container_id"], 0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "info leaves nothing");
    }
}
