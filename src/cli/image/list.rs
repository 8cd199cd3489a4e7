//! `sbx images`, `sbx image ls`

use std::collections::{BTreeMap, BTreeSet};

use clap::ValueEnum;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Stores;
use crate::cli::Global;
use crate::cli::dialect::{self, Dialect};
use crate::container::duration::ago;
use crate::container::size;
use crate::error::Result;
use crate::image::digest::Digest;
use crate::image::filter::{self, Filters};
use crate::image::store::Entry;
use crate::image::usage::Usage;
use crate::output::print;
use crate::output::table::Table;
use crate::output::template::{Format, Titles};
use crate::sys::time::Utc;

/// What docker shows where there is no name.
pub(crate) const NONE: &str = "<none>";

pub(crate) const TITLES: Titles<'_> = &[
    ("ID", "IMAGE ID"),
    ("Id", "IMAGE ID"),
    ("ParentId", "PARENT ID"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("VirtualSize", "VIRTUAL SIZE"),
    ("RepoTags", "REPO TAGS"),
    ("RepoDigests", "REPO DIGESTS"),
];

/// List images
///
/// The newest first, each name in a line. The size is that of the unpacked layers. Fields for templates: ID, Id,
/// ParentId, Repository, Tag, Digest, CreatedSince, CreatedAt, Created, Size, VirtualSize, SharedSize, UniqueSize,
/// Containers, Labels, Names, RepoTags, RepoDigests, ReadOnly.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Filters (`--filter KEY=VALUE`, again for more): dangling, reference, label, label!, before, since,
until, id, containers, readonly.

Examples:
  sbx images
  sbx images debian
  sbx images -f dangling=true -q
  sbx images -f 'reference=quay.io/*/*:1.*' --digests
  sbx images --format '{{.Repository}}:{{.Tag}}\\t{{.Size}}'"
)]
pub struct ListArgs {
    /// List intermediate images, too: sbx keeps none
    #[arg(short, long)]
    all: bool,
    /// Show the digests of manifests
    #[arg(long)]
    digests: bool,
    /// List only images that fit
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print `json`, or what a Go template makes of each image
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Leave out the heading
    #[arg(short, long, visible_alias = "no-heading")]
    noheading: bool,
    /// Print whole IDs
    #[arg(long)]
    no_trunc: bool,
    /// Print IDs alone
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
    /// What comes first
    #[arg(long, value_enum, default_value_t)]
    sort: Sort,
    /// Names, with or without a tag, IDs, or patterns
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Sort {
    #[default]
    Created,
    Id,
    Repository,
    Size,
    Tag,
}

pub fn execute(args: &ListArgs, global: &Global) -> Result<u8> {
    let filters = Filters::parse(&args.filter)?;
    let text = args.format.as_deref().filter(|text| !text.is_empty());
    let format = text.map(Format::parse).transpose()?;
    let stores = Stores::of(global)?;
    // All of the containers are read only where they are asked for.
    let counted = text.is_some_and(|text| text.contains("json") || text.contains("Containers"))
        || args.filter.iter().any(|filter| filter.starts_with("containers"));
    let usage = if counted { Usage::read(&stores.containers) } else { Usage::default() };
    let mut entries = stores.images.list()?;
    if !args.digests {
        leave_out_other_manifests(&mut entries);
    }
    let mut entries = filters.apply(&stores.images, entries, &usage)?;
    entries.retain(|entry| {
        let meant = |word: &String| filter::is_meant(word, entry.reference.as_ref(), &entry.id);
        args.images.is_empty() || args.images.iter().any(meant)
    });
    sort(&mut entries, args.sort);
    let labelled = text.is_some_and(|text| text.contains("json") || text.contains("Labels"));
    let labels = |entry: &Entry| {
        let image = if labelled { stores.images.image(&entry.manifest).ok() } else { None };
        image.map(|image| image.config.config.labels).unwrap_or_default()
    };
    let now = Utc::now().seconds();
    print::text(&match (format, text.map(str::trim)) {
        (Some(_), Some("json" | "{{json .}}")) if dialect::current() == Dialect::Docker => {
            let row = |entry: &Entry| template_row(entry, &usage, &labels(entry), now, args.no_trunc);
            entries.iter().map(|entry| format!("{}\n", row(entry))).collect()
        }
        (Some(format), Some("json")) => format.list(&whole_images(&entries, &usage, labels), TITLES)?,
        (Some(format), _) => {
            let row = |entry: &Entry| template_row(entry, &usage, &labels(entry), now, args.no_trunc);
            format.list(&entries.iter().map(row).collect::<Vec<_>>(), TITLES)?
        }
        _ if args.quiet => ids(&entries, args.no_trunc),
        _ => table(&entries, now, args),
    })?;
    Ok(0)
}

/// An image that has a name is not `<none>` besides, whatever other manifests there are of it: the same image of a
/// registry and of an archive.
fn leave_out_other_manifests(entries: &mut Vec<Entry>) {
    let named: BTreeSet<Digest> =
        entries.iter().filter(|entry| entry.reference.is_some()).map(|entry| entry.id.clone()).collect();
    entries.retain(|entry| entry.reference.is_some() || !named.contains(&entry.id));
}

fn sort(entries: &mut [Entry], by: Sort) {
    match by {
        // They come so.
        Sort::Created => {}
        Sort::Id => entries.sort_by(|a, b| a.id.cmp(&b.id)),
        Sort::Repository => entries.sort_by_key(repository_and_tag),
        Sort::Size => entries.sort_by_key(|entry| entry.size),
        Sort::Tag => entries.sort_by_key(|entry| repository_and_tag(entry).1),
    }
}

/// An image with several names once.
fn ids(entries: &[Entry], whole: bool) -> String {
    let mut seen = BTreeSet::new();
    let new = entries.iter().filter(|entry| seen.insert(&entry.id));
    new.map(|entry| shown_id(&entry.id, whole) + "\n").collect()
}

fn table(entries: &[Entry], now: u64, args: &ListArgs) -> String {
    let mut header = vec!["repository", "tag", "image id", "created", "size"];
    if args.digests {
        header.insert(2, "digest");
    }
    let mut table = if args.noheading { Table::without_header() } else { Table::new(header) };
    for entry in entries {
        let (repository, tag) = repository_and_tag(entry);
        let mut row = vec![
            repository,
            tag,
            shown_id(&entry.id, args.no_trunc),
            created_since(entry.created, now),
            size::decimal(entry.size),
        ];
        if args.digests {
            row.insert(2, entry.manifest.digest.to_string());
        }
        table.push(row);
    }
    table.render()
}

/// What stands in the first two columns. Where the tag is gone the repository still tells what the image was.
pub(crate) fn repository_and_tag(entry: &Entry) -> (String, String) {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| NONE.to_owned());
    match &entry.reference {
        Some(name) => (name.familiar_repository(), or_none(name.tag.clone())),
        None => {
            let known = entry
                .repo_digests
                .first()
                .and_then(|text| crate::image::reference::Reference::parse(text).ok());
            (or_none(known.map(|name| name.familiar_repository())), NONE.to_owned())
        }
    }
}

pub(crate) fn shown_id(id: &Digest, whole: bool) -> String {
    if whole { id.to_string() } else { id.short().to_owned() }
}

pub(crate) fn created_since(created: Option<Timestamp>, now: u64) -> String {
    // Builders that want the same image twice say the year 1.
    match created.map(Timestamp::as_second) {
        Some(seconds @ 0..) => ago(seconds.cast_unsigned(), now),
        _ => "N/A".to_owned(),
    }
}

pub(crate) fn created_at(created: Option<Timestamp>) -> String {
    created.map_or_else(|| "N/A".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string())
}

fn template_row(
    entry: &Entry,
    usage: &Usage,
    labels: &BTreeMap<String, String>,
    now: u64,
    whole: bool,
) -> Value {
    let (repository, tag) = repository_and_tag(entry);
    let id = shown_id(&entry.id, whole);
    let size = size::decimal(entry.size);
    let names: Vec<String> = entry.reference.iter().map(|name| name.familiar()).collect();
    json!({
        "ID": id,
        "Id": id,
        "ParentId": "",
        "Repository": repository,
        "Tag": tag,
        "Digest": entry.manifest.digest,
        "Created": created_since(entry.created, now),
        "CreatedSince": created_since(entry.created, now),
        "CreatedAt": created_at(entry.created),
        "Size": size,
        "VirtualSize": size,
        // docker counts these for `system df` alone.
        "SharedSize": "N/A",
        "UniqueSize": "N/A",
        "Containers": usage.of(&entry.id).len().to_string(),
        "Labels": labels,
        "Names": names,
        "RepoTags": names,
        "RepoDigests": entry.repo_digests,
        "ReadOnly": false,
    })
}

/// podman's JSON: an image once, with all its names.
fn whole_images(
    entries: &[Entry],
    usage: &Usage,
    labels: impl Fn(&Entry) -> BTreeMap<String, String>,
) -> Vec<Value> {
    let mut images: Vec<(&Entry, Vec<String>)> = Vec::new();
    for entry in entries {
        let name = entry.reference.as_ref().filter(|name| name.tag.is_some()).map(|name| name.familiar());
        match images.iter_mut().find(|(known, _)| known.id == entry.id) {
            Some((_, names)) => names.extend(name),
            None => images.push((entry, name.into_iter().collect())),
        }
    }
    let each = images.into_iter().map(|(entry, names)| {
        json!({
            "Id": entry.id.hex(),
            "ParentId": "",
            "RepoTags": names,
            "RepoDigests": entry.repo_digests,
            "Names": names,
            "Digest": entry.manifest.digest,
            "Digests": [entry.manifest.digest],
            "Size": entry.size,
            "VirtualSize": entry.size,
            "SharedSize": 0,
            "Created": entry.created.map_or(0, Timestamp::as_second),
            "CreatedAt": entry.created.map(|time| time.to_string()),
            "Containers": usage.of(&entry.id).len(),
            "Labels": labels(entry),
            "Dangling": entry.is_dangling(),
            "ReadOnly": false,
        })
    });
    each.collect()
}
