//! An image as `inspect` shows it: docker's fields, and podman's where docker has none.

use serde_json::{Map, Value, json};

use crate::image::documents::{RunConfig, chain_ids};
use crate::image::reference::Reference;
use crate::image::store::{Image, ImageStore};

/// The whole document.
pub fn of(store: &ImageStore, image: &Image) -> Value {
    let config = &image.config;
    let size = store.layer_sizes(image).into_iter().fold(0, u64::saturating_add);
    let diff_ids = &config.rootfs.diff_ids;
    let layers = store.layer_paths(diff_ids);
    // As docker's overlay2 names them: the topmost first.
    let lowers: Vec<String> = layers.iter().rev().map(|path| path.display().to_string()).collect();
    let comment = config.history.last().map(|entry| entry.comment.as_str()).unwrap_or_default();
    let tags = image.names.iter().filter(|name| name.tag.is_some()).map(Reference::familiar);
    let digests = image.repo_digests.iter().filter_map(|text| Reference::parse(text).ok());
    json!({
        "Id": image.id,
        "RepoTags": tags.collect::<Vec<_>>(),
        "RepoDigests": digests.map(|name| name.familiar()).collect::<Vec<_>>(),
        "Digest": image.manifest.digest,
        "Parent": "",
        "Comment": comment,
        "Created": config.created,
        "Author": config.author.as_deref().unwrap_or_default(),
        "Config": run_config(&config.config),
        "Architecture": config.architecture,
        "Variant": config.variant.as_deref().unwrap_or_default(),
        "Os": config.os,
        "Size": size,
        "VirtualSize": size,
        "User": config.config.user,
        "Labels": config.config.labels,
        "Annotations": image.document.annotations,
        "ManifestType": image.manifest.media_type,
        "GraphDriver": { "Name": "layers", "Data": { "LowerDir": lowers.join(":") } },
        "RootFS": { "Type": config.rootfs.kind, "Layers": diff_ids, "ChainIDs": chain_ids(diff_ids) },
        "Metadata": {},
        "History": config.history.iter().map(|entry| serde_json::to_value(entry).unwrap_or_default()).collect::<Vec<_>>(),
        "NamesHistory": image.names.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// Every field, empty where nothing is set, as it is to docker's templates: `{{index .Config.Labels "x"}}` and
/// `{{join .Config.Entrypoint " "}}` work with every image.
fn run_config(config: &RunConfig) -> Value {
    let mut whole = json!({
        "User": "", "Env": [], "Cmd": [], "Entrypoint": [], "WorkingDir": "", "Labels": {},
        "ExposedPorts": {}, "Volumes": {}, "OnBuild": [], "StopSignal": "", "Shell": [],
        "Healthcheck": null,
    });
    if let (Value::Object(whole), Ok(Value::Object(set))) = (&mut whole, serde_json::to_value(config)) {
        whole.extend(set);
    }
    whole
}

fn is_set(name: &str, value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::String(text) => !text.is_empty() || matches!(name, "User" | "WorkingDir"),
        _ => true,
    }
}

/// A document without what is not set, for JSON alone: docker leaves such fields of `Config` out there.
pub fn without_unset(mut document: Value) -> Value {
    if let Some(Value::Object(config)) = document.get_mut("Config") {
        let set: Map<String, Value> =
            std::mem::take(config).into_iter().filter(|(name, value)| is_set(name, value)).collect();
        *config = set;
    }
    document
}
