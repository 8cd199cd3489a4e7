//! `sbx inspect`

use serde_json::Value;

use crate::cli::container::Place;
use crate::cli::dialect::{self, Dialect};
use crate::cli::failures::Failures;
use crate::cli::image::Stores;
use crate::cli::{Global, network, pod};
use crate::container::document;
use crate::container::list;
use crate::error::{EXIT_SBX, Error, Result, Step};
use crate::image::document::{of as image_document, without_unset};
use crate::output::print;
use crate::output::template::Format;
use crate::volume::usage::Usage;
use crate::volume::{VolumeStore, removal};

/// Show all that is known of containers, images, volumes, networks and pods, as JSON
///
/// A word that names several means the first of these kinds. The fields are docker's, and podman's where docker has none.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx inspect web
  sbx inspect -f '{{.State.ExitCode}}' web
  sbx inspect --type image debian:12")]
pub struct InspectArgs {
    /// Print `json`, or what a Go template makes of each
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Count what containers have written, too
    #[arg(short, long)]
    size: bool,
    /// Look for this kind alone
    #[arg(short, long = "type", value_name = "KIND", value_enum, default_value_t)]
    kind: Kind,
    /// Show the container that was made last
    #[arg(short, long, conflicts_with = "names")]
    latest: bool,
    /// Names or IDs
    #[arg(required_unless_present = "latest", value_name = "CONTAINER|IMAGE|VOLUME")]
    names: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Kind {
    #[default]
    All,
    Container,
    Image,
    Volume,
    Network,
    Pod,
}

pub fn execute(args: &InspectArgs, global: &Global) -> Result<u8> {
    let stores = Stores::of(global)?;
    let latest = args.latest.then(|| latest(&stores)).transpose()?;
    let (words, kind) = match &latest {
        Some(id) => (std::slice::from_ref(id), Kind::Container),
        None => (args.names.as_slice(), args.kind),
    };
    show(words, kind, args.format.as_deref(), args.size, global)
}

/// The container that was made last.
fn latest(stores: &Stores) -> Result<String> {
    let newest = list::all(&stores.containers).into_iter().next();
    newest.map(|container| container.id).ok_or_else(|| Error::new("there is no container"))
}

/// Shows what there is and fails for the rest.
///
/// # Errors
/// The template is unsound, or something that was named does not exist.
pub(crate) fn show(
    words: &[String],
    kind: Kind,
    format: Option<&str>,
    size: bool,
    global: &Global,
) -> Result<u8> {
    let text = format.map(str::trim).filter(|text| !text.is_empty());
    let format = text.filter(|text| *text != "json").map(Format::parse).transpose()?;
    let stores = Stores::of(global)?;
    let mut failures = Failures::default();
    let mut found = Vec::new();
    for word in words {
        match look(&stores, word, kind, size, global) {
            Ok(document) => found.push(document),
            Err(error) => failures.add(error),
        }
    }
    print::text(&match format {
        Some(format) => format.list(&found, &[])?,
        None => json(found.into_iter().map(shown).collect())?,
    })?;
    failures.finish()
}

fn look(stores: &Stores, word: &str, kind: Kind, size: bool, global: &Global) -> Result<Value> {
    if matches!(kind, Kind::All | Kind::Container) {
        match stores.containers.find(word) {
            Ok(id) => return container(stores, &id, size),
            Err(error) if kind == Kind::Container => return Err(error),
            Err(_) => {}
        }
    }
    if matches!(kind, Kind::All | Kind::Image)
        && let Some(image) = stores.images.find(word)?
    {
        return Ok(image_document(&stores.images, &image));
    }
    let volumes = VolumeStore::of(&stores.containers);
    if matches!(kind, Kind::All | Kind::Volume)
        && let Some(record) = volumes.read(word)
    {
        let users = Usage::glance(&stores.containers).of(word).len();
        return Ok(crate::volume::document::of(&volumes, &record, users));
    }
    if kind == Kind::Volume {
        return Err(removal::missing(word).exit_code(EXIT_SBX));
    }
    if matches!(kind, Kind::All | Kind::Network | Kind::Pod) {
        let place = Place::of(global)?;
        let network = if kind == Kind::Pod { None } else { network::inspect::document(&place, word)? };
        let found = match network {
            None if kind != Kind::Network => pod::inspect::document(&place, word)?,
            network => network,
        };
        if let Some(document) = found {
            return Ok(document);
        }
    }
    let what = match kind {
        Kind::Image => "image",
        Kind::Network => "network",
        Kind::Pod => "pod",
        _ => "container, image, volume, network or pod",
    };
    // Scripts look for docker's and podman's words.
    Err(Error::new(format!("no such object: \"{}\"", word.escape_debug()))
        .because(format!("there is no {what} of that name or ID"))
        .hint("`sbx ps -a` lists the containers, `sbx images -a` the images"))
}

/// Of images, docker leaves out what they do not set.
fn shown(document: Value) -> Value {
    if document.get("State").is_some() { document } else { without_unset(document) }
}

fn container(stores: &Stores, id: &str, size: bool) -> Result<Value> {
    let mut document = document::of(&stores.containers, id, size)?;
    if dialect::current() == Dialect::Docker {
        // From the time when containers were linked to one another.
        document["Name"] = format!("/{}", document["Name"].as_str().unwrap_or_default()).into();
        for mount in document["Mounts"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut)
        {
            mount.remove("Options");
        }
    }
    Ok(document)
}

/// An array with docker's indentation.
fn json(documents: Vec<Value>) -> Result<String> {
    use serde::Serialize;
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    Value::Array(documents).serialize(&mut serializer).step(|| "cannot print JSON")?;
    text.push(b'\n');
    String::from_utf8(text).step(|| "cannot print JSON")
}
