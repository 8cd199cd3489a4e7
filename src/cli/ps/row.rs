//! A container in a listing: as a row of the table, as a template sees it, and as JSON in podman's and docker's form.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{namespaces, ports};
use crate::cli::dialect::Dialect;
use crate::container::disk;
use crate::container::duration::{ago, human};
use crate::container::list::{Listed, Status};
use crate::container::size;
use crate::container::spec::{Mount, MountKind, Spec};
use crate::container::store::{Store, short};
use crate::image::digest::Digest;
use crate::image::store::ImageStore;
use crate::image::usage;
use crate::pod::Membership;
use crate::sys::time::Utc;

/// More of a command makes the table wide, not clear.
const LONGEST_COMMAND: usize = 20;
/// Go's zero time in seconds, podman's way to say never.
const NEVER: i64 = -62_135_596_800;

/// What all rows have in common.
pub(super) struct Rows<'s> {
    pub(super) store: &'s Store,
    pub(super) images: ImageStore,
    pub(super) now: Utc,
    /// IDs and commands are not cut.
    pub(super) whole: bool,
    pub(super) sized: bool,
    pub(super) dialect: Dialect,
}

pub(super) struct Row<'c> {
    container: &'c Listed,
    now: u64,
    whole: bool,
    dialect: Dialect,
    /// Bytes of the container's upper layer; none: not asked for.
    pub(super) written: Option<u64>,
    /// Bytes of its image.
    image_size: u64,
}

impl Rows<'_> {
    pub(super) fn make<'c>(&self, containers: &'c [Listed]) -> Vec<Row<'c>> {
        let mut sizes: BTreeMap<Digest, u64> = BTreeMap::new();
        let mut row = |container: &'c Listed| {
            let spec = container.spec.as_ref().filter(|_| self.sized);
            let image = spec.and_then(usage::image_of);
            let image_size = image.map(|id| *sizes.entry(id.clone()).or_insert_with(|| self.size_of(&id)));
            Row {
                container,
                now: self.now.seconds(),
                whole: self.whole,
                dialect: self.dialect,
                written: spec.map(|spec| disk::written(self.store, spec)),
                image_size: image_size.unwrap_or(0),
            }
        };
        containers.iter().map(&mut row).collect()
    }

    /// 0 for an image that is not there any more.
    fn size_of(&self, image: &Digest) -> u64 {
        let found = self.images.find(image.as_str()).ok().flatten();
        found.map_or(0, |image| self.images.layer_sizes(&image).into_iter().fold(0, u64::saturating_add))
    }
}

impl Row<'_> {
    fn spec(&self) -> Option<&Spec> {
        self.container.spec.as_ref()
    }

    pub(super) fn id(&self) -> &str {
        &self.container.id
    }

    pub(super) fn shown_id(&self) -> &str {
        if self.whole { self.id() } else { short(self.id()) }
    }

    pub(super) fn image(&self) -> &str {
        self.spec().map(|spec| spec.image.as_str()).unwrap_or_default()
    }

    pub(super) fn name(&self) -> &str {
        self.spec().map(|spec| spec.name.as_str()).unwrap_or_default()
    }

    pub(super) fn created(&self) -> Option<Utc> {
        self.spec().map(|spec| spec.created)
    }

    /// When its last life began.
    pub(super) fn started(&self) -> Option<Utc> {
        match self.container.status {
            Status::Running { since, .. } | Status::Paused { since, .. } => Some(since),
            _ => self.container.state.as_ref().and_then(|state| state.started_at),
        }
    }

    fn finished(&self) -> Option<Utc> {
        match self.container.status {
            Status::Exited { at, .. } => at,
            Status::Restarting { at, .. } => Some(at),
            _ => None,
        }
    }

    pub(super) fn whole_command(&self) -> String {
        self.spec().map(|spec| spec.process.args.join(" ")).unwrap_or_default()
    }

    fn command(&self) -> String {
        let mut text = self.whole_command();
        if !self.whole && text.chars().count() > LONGEST_COMMAND {
            text = text.chars().take(LONGEST_COMMAND - 1).chain(['…']).collect();
        }
        if self.dialect == Dialect::Docker { format!("\"{text}\"") } else { text }
    }

    /// `Up 5 minutes`, `Exited (137) 3 seconds ago`.
    pub(super) fn status(&self) -> String {
        let up = |since: Utc| {
            format!("Up {}", human(Duration::from_secs(self.now.saturating_sub(since.seconds()))))
        };
        match self.container.status {
            Status::Created => "Created".to_owned(),
            Status::Running { since, .. } => match self.container.shown_health() {
                Some(health) => format!("{} ({health})", up(since)),
                None => up(since),
            },
            Status::Paused { since, .. } => up(since) + " (Paused)",
            Status::Restarting { code, at } => {
                format!("Restarting ({code}) {}", ago(at.seconds(), self.now))
            }
            Status::Exited { code, at: Some(at) } => {
                format!("Exited ({code}) {}", ago(at.seconds(), self.now))
            }
            Status::Exited { code, at: None } => format!("Exited ({code})"),
            Status::Removing => "Removal In Progress".to_owned(),
            Status::Dead => "Dead".to_owned(),
        }
    }

    pub(super) fn pid(&self) -> i32 {
        match self.container.status {
            Status::Running { pid, .. } | Status::Paused { pid, .. } => pid,
            _ => 0,
        }
    }

    fn exit_code(&self) -> i32 {
        match self.container.status {
            Status::Exited { code, .. } | Status::Restarting { code, .. } => code,
            _ => 0,
        }
    }

    fn running_for(&self) -> String {
        self.created().map(|at| ago(at.seconds(), self.now)).unwrap_or_default()
    }

    fn pod(&self) -> Option<&Membership> {
        self.spec()?.pod.as_ref()
    }

    fn ports(&self) -> String {
        self.spec().map(|spec| ports::shown(&spec.network.ports, &spec.exposed_ports)).unwrap_or_default()
    }

    /// As docker shows it: `12B (virtual 7.8MB)`.
    pub(super) fn size(&self) -> String {
        match self.written {
            None => "0B".to_owned(),
            Some(written) => {
                let all = size::decimal(written.saturating_add(self.image_size));
                format!("{} (virtual {all})", size::decimal(written))
            }
        }
    }

    fn mounts(&self) -> impl Iterator<Item = &Mount> {
        self.spec().map(|spec| spec.mounts.as_slice()).unwrap_or_default().iter()
    }

    fn volumes(&self) -> usize {
        self.mounts().filter(|mount| matches!(mount.kind, MountKind::Volume(_))).count()
    }

    fn networks(&self) -> Vec<String> {
        self.spec().map(|spec| spec.network.names()).unwrap_or_default()
    }

    fn labels(&self) -> Map<String, Value> {
        let labels = self.spec().map(|spec| &spec.labels);
        labels.into_iter().flatten().map(|(key, value)| (key.clone(), json!(value))).collect()
    }

    pub(super) fn cells(&self) -> Vec<String> {
        let (id, image, name) = (self.shown_id().to_owned(), self.image().to_owned(), self.name().to_owned());
        vec![id, image, self.command(), self.running_for(), self.status(), self.ports(), name]
    }

    /// The ID and name of its pod.
    pub(super) fn pod_cells(&self) -> [String; 2] {
        let Some(pod) = self.pod() else { return [String::new(), String::new()] };
        [if self.whole { pod.id.clone() } else { short(&pod.id).to_owned() }, pod.name.clone()]
    }

    /// What templates see.
    pub(super) fn view(&self) -> Value {
        let image_id = self.spec().and_then(usage::image_of);
        let image_id = image_id.as_ref().map(|id| if self.whole { id.hex() } else { id.short() });
        let labels = match self.dialect {
            Dialect::Docker => json!(joined(&self.labels())),
            _ => Value::Object(self.labels()),
        };
        json!({
            "ID": self.shown_id(),
            "Id": self.id(),
            "Image": self.image(),
            "ImageID": image_id.unwrap_or_default(),
            "Command": self.command(),
            "CreatedAt": self.created().map(go_time).unwrap_or_default(),
            "Created": self.running_for(),
            "CreatedHuman": self.running_for(),
            "RunningFor": self.running_for(),
            "Status": self.status(),
            "Health": self.container.health.as_ref().map(|health| health.status.name()).unwrap_or_default(),
            "State": self.container.status.name(),
            "Ports": self.ports(),
            "Names": self.name(),
            "Labels": labels,
            // `.Label "KEY"` asks here.
            "Label": self.labels(),
            "Mounts": self.mounts().map(shown_mount).collect::<Vec<_>>().join(","),
            "LocalVolumes": self.volumes().to_string(),
            "Networks": self.networks().join(","),
            "Size": self.size(),
            "Pid": self.pid(),
            "Pod": self.pod().map(|pod| pod.id.as_str()).unwrap_or_default(),
            "PodName": self.pod().map(|pod| pod.name.as_str()).unwrap_or_default(),
            "ExitCode": self.exit_code(),
            "Exited": self.container.status.name() == "exited",
            "ExitedAt": seconds(self.finished()),
            "StartedAt": seconds(self.started()),
            "Restarts": self.restarts(),
            "AutoRemove": self.spec().is_some_and(|spec| spec.remove_on_exit),
            "IsInfra": false,
            "Platform": "linux",
        })
    }

    fn restarts(&self) -> u32 {
        self.container.state.as_ref().map_or(0, |state| state.restarts)
    }

    pub(super) fn json(&self, with_namespaces: bool) -> Value {
        if self.dialect == Dialect::Docker { self.docker_json() } else { self.podman_json(with_namespaces) }
    }

    /// docker's fields, all of them texts.
    fn docker_json(&self) -> Value {
        let view = self.view();
        let fields = [
            "Command",
            "CreatedAt",
            "ID",
            "Image",
            "Labels",
            "LocalVolumes",
            "Mounts",
            "Names",
            "Networks",
            "Platform",
            "Ports",
            "RunningFor",
            "Size",
            "State",
            "Status",
        ];
        fields.iter().map(|field| ((*field).to_owned(), view[*field].clone())).collect::<Map<_, _>>().into()
    }

    /// podman's fields (podman-ps(1), --format).
    fn podman_json(&self, with_namespaces: bool) -> Value {
        let spec = self.spec();
        let image_id = spec.and_then(usage::image_of);
        let mut row = json!({
            "AutoRemove": spec.is_some_and(|spec| spec.remove_on_exit),
            "Command": spec.map(|spec| &spec.process.args),
            "Created": seconds(self.created()),
            "CreatedAt": self.running_for(),
            "Exited": self.container.status.name() == "exited",
            "ExitedAt": seconds(self.finished()),
            "ExitCode": self.exit_code(),
            "ExposedPorts": self.exposed(),
            "Id": self.id(),
            "Image": self.image(),
            "ImageID": image_id.as_ref().map(Digest::hex).unwrap_or_default(),
            "IsInfra": false,
            "Labels": self.labels(),
            "Mounts": self.mounts().map(|mount| mount.target.display().to_string()).collect::<Vec<_>>(),
            "Names": [self.name()],
            "Namespaces": if with_namespaces { namespaces::json(self.pid()) } else { json!({}) },
            "Networks": self.networks(),
            "Pid": self.pid(),
            "Pod": self.pod().map(|pod| pod.id.as_str()).unwrap_or_default(),
            "PodName": self.pod().map(|pod| pod.name.as_str()).unwrap_or_default(),
            "Ports": self.podman_ports(),
            "Restarts": self.restarts(),
            "Size": null,
            "StartedAt": seconds(self.started()),
            "State": self.container.status.name(),
            "Status": self.status(),
        });
        if let Some(written) = self.written {
            row["Size"] = json!({ "rootFsSize": written.saturating_add(self.image_size), "rwSize": written });
        }
        row
    }

    fn podman_ports(&self) -> Value {
        let mappings = self.spec().map(|spec| spec.network.ports.as_slice()).unwrap_or_default();
        let port = |run: &ports::Run<'_>| {
            json!({
                "host_ip": run.first.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
                "container_port": run.first.container_port,
                "host_port": run.first.host_port,
                "range": run.count,
                "protocol": run.first.protocol.to_string(),
            })
        };
        ports::runs(mappings).iter().map(port).collect()
    }

    /// `{"80": ["tcp"]}`
    fn exposed(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut exposed: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for port in self.spec().map(|spec| spec.exposed_ports.as_slice()).unwrap_or_default() {
            let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
            exposed.entry(number).or_default().push(protocol);
        }
        exposed
    }
}

/// What is mounted, as docker lists it: sources, and names of volumes.
fn shown_mount(mount: &Mount) -> String {
    match &mount.kind {
        MountKind::Bind(bind) => bind.source.display().to_string(),
        MountKind::Volume(volume) => volume.name.clone(),
        _ => mount.target.display().to_string(),
    }
}

/// `a=b,c=d`
fn joined(labels: &Map<String, Value>) -> String {
    let each = labels.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    each.collect::<Vec<_>>().join(",")
}

fn seconds(time: Option<Utc>) -> i64 {
    time.map_or(NEVER, |time| time.seconds().cast_signed())
}

/// As Go prints times: `2026-01-02 03:04:05 +0000 UTC`.
fn go_time(time: Utc) -> String {
    let text = time.to_string();
    let (day, rest) = text.split_once('T').unwrap_or((&text, ""));
    format!("{day} {} +0000 UTC", rest.get(..8).unwrap_or(rest))
}
