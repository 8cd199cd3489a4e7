//! `sbx system df`

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::build::cache::Cache;
use crate::cli::Global;
use crate::cli::image::Stores;
use crate::cli::image::list::{created_since, repository_and_tag};
use crate::container::list::{self, Listed};
use crate::container::spec::Spec;
use crate::container::store::{Store, short};
use crate::container::{disk as written, duration, size};
use crate::error::Result;
use crate::image::disk::{self, Disk};
use crate::image::store::ImageStore;
use crate::image::usage::Usage;
use crate::output::table::Table;
use crate::output::template::{Format, Titles};
use crate::output::{print, width};
use crate::sys::time::Utc;
use crate::volume::{self, VolumeStore};

const TITLES: Titles<'_> = &[("TotalCount", "TOTAL")];
/// More of a command makes the table wide, not clear.
const LONGEST_COMMAND: usize = 20;

/// Show what the store takes on the disk
///
/// Images: their blobs and unpacked layers, what several share once. Build Cache: the layers of earlier builds, active
/// those that images have. Orphans: what nothing needs, left by commands that were killed; `system prune` removes them. Fields for templates: Type, Total, TotalCount, Active, Size,
/// Reclaimable, RawSize, RawReclaimable.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx system df
  sbx system df -v
  sbx system df --format '{{.Type}}\\t{{.Reclaimable}}'")]
pub struct DfArgs {
    /// Print `json`, or what a Go template makes of each kind
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show each image and container
    #[arg(short, long, conflicts_with = "format")]
    verbose: bool,
}

pub fn execute(args: DfArgs, global: &Global) -> Result<u8> {
    let format = args.format.filter(|text| !text.is_empty()).map(|text| Format::parse(&text)).transpose()?;
    let stores = Stores::of(global)?;
    let usage = Usage::read(&stores.containers);
    let images = disk::of(&stores.images, &usage)?;
    let containers: Vec<Container> = list::all(&stores.containers)
        .into_iter()
        .map(|found| {
            let written = found.spec.as_ref().map_or(0, |spec| written::written(&stores.containers, spec));
            Container { found, written }
        })
        .collect();
    let volumes = Volumes::of(&stores.containers)?;
    print::text(&if args.verbose {
        verbose(&images, &containers, &volumes)
    } else {
        let orphans = stores.images.orphans()?;
        let rows = [
            images_row(&images),
            containers_row(&containers),
            volumes.row(),
            build_cache_row(&stores.images)?,
            row("Orphans", orphans.count(), 0, orphans.size(), orphans.size()),
        ];
        match format {
            Some(format) => format.list(&rows, TITLES)?,
            None => table(&rows),
        }
    })?;
    Ok(0)
}

struct Container {
    found: Listed,
    /// Bytes.
    written: u64,
}

impl Container {
    fn is_active(&self) -> bool {
        self.found.status.is_up()
    }
}

struct Volumes {
    sizes: BTreeMap<String, u64>,
    usage: volume::usage::Usage,
}

impl Volumes {
    fn of(containers: &Store) -> Result<Self> {
        let volumes = VolumeStore::of(containers);
        let sizes = volume::disk::sizes(&volumes, &volumes.names()?);
        Ok(Self { sizes, usage: volume::usage::Usage::glance(containers) })
    }

    fn links(&self, name: &str) -> usize {
        self.usage.of(name).len()
    }

    fn row(&self) -> Value {
        let unused = || self.sizes.iter().filter(|(name, _)| self.links(name) == 0);
        let active = self.sizes.len() - unused().count();
        let reclaimable = unused().map(|(_, size)| size).sum();
        row("Local Volumes", self.sizes.len(), active, self.sizes.values().sum(), reclaimable)
    }
}

fn images_row(images: &Disk) -> Value {
    let active = images.images.iter().filter(|image| image.containers > 0).count();
    row("Images", images.images.len(), active, images.size, images.reclaimable)
}

fn build_cache_row(images: &ImageStore) -> Result<Value> {
    let kept = Cache::new(images.root()).layers()?;
    let kept: BTreeMap<_, _> = kept.into_iter().map(|made| (made.diff_id, made.size)).collect();
    let mut of_images = BTreeSet::new();
    for entry in images.list()? {
        if let Ok(image) = images.image(&entry.manifest) {
            of_images.extend(image.config.rootfs.diff_ids);
        }
    }
    let unused = || kept.iter().filter(|(diff_id, _)| !of_images.contains(*diff_id));
    let reclaimable = unused().map(|(_, size)| size).sum();
    Ok(row("Build Cache", kept.len(), kept.len() - unused().count(), kept.values().sum(), reclaimable))
}

fn containers_row(containers: &[Container]) -> Value {
    let sum = |wanted: &dyn Fn(&&Container) -> bool| {
        containers.iter().filter(wanted).map(|container| container.written).sum()
    };
    let active = containers.iter().filter(|container| container.is_active()).count();
    row("Containers", containers.len(), active, sum(&|_| true), sum(&|container| !container.is_active()))
}

fn row(kind: &str, total: usize, active: usize, bytes: u64, reclaimable: u64) -> Value {
    let shown = size::decimal(reclaimable);
    let reclaimable_text = match (reclaimable.saturating_mul(100)).checked_div(bytes) {
        Some(percent) => format!("{shown} ({percent}%)"),
        None => shown,
    };
    json!({
        "Type": kind,
        "Total": total,
        "TotalCount": total,
        "Active": active,
        "Size": size::decimal(bytes),
        "Reclaimable": reclaimable_text,
        "RawSize": bytes,
        "RawReclaimable": reclaimable,
    })
}

fn table(rows: &[Value]) -> String {
    let mut table = Table::new(["type", "total", "active", "size", "reclaimable"]);
    let cell = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for row in rows {
        table.push(["Type", "Total", "Active", "Size", "Reclaimable"].map(|field| cell(&row[field])));
    }
    table.render()
}

fn verbose(images: &Disk, containers: &[Container], volumes: &Volumes) -> String {
    let now = Utc::now().seconds();
    let mut of_images = Table::new([
        "repository",
        "tag",
        "image id",
        "created",
        "size",
        "shared size",
        "unique size",
        "containers",
    ]);
    for image in &images.images {
        let (repository, tag) = repository_and_tag(&image.entry);
        of_images.push([
            repository,
            tag,
            image.entry.id.short().to_owned(),
            created_since(image.entry.created, now),
            size::decimal(image.shared.saturating_add(image.unique)),
            size::decimal(image.shared),
            size::decimal(image.unique),
            image.containers.to_string(),
        ]);
    }
    let mut of_containers = Table::new([
        "container id",
        "image",
        "command",
        "local volumes",
        "size",
        "created",
        "status",
        "names",
    ]);
    for container in containers {
        let spec = container.found.spec.as_ref();
        let text = |of: &dyn Fn(&Spec) -> String| spec.map(of).unwrap_or_default();
        of_containers.push([
            short(&container.found.id).to_owned(),
            text(&|spec| spec.image.clone()),
            text(&|spec| width::shorten(&spec.process.args.join(" "), LONGEST_COMMAND)),
            text(&|spec| spec.volume_names().len().to_string()),
            size::decimal(container.written),
            text(&|spec| duration::ago(spec.created.seconds(), now)),
            container.found.status.name().to_owned(),
            text(&|spec| spec.name.clone()),
        ]);
    }
    let mut of_volumes = Table::new(["volume name", "links", "size"]);
    for (name, size) in &volumes.sizes {
        of_volumes.push([name.clone(), volumes.links(name).to_string(), size::decimal(*size)]);
    }
    format!(
        "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}",
        of_images.render(),
        of_containers.render(),
        of_volumes.render()
    )
}
