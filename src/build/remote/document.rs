//! The image that a cache is elsewhere.
//!
//! ```text
//! configuration: "rootfs": { "diff_ids": […] }, "sbx.build-cache": { "records": [{ "key": …, "layer": 3 }, { "key": … }] }
//! ```
//!
//! `layer` counts the layers of the manifest; a record without one is of a step that changed no file. An image that is
//! run has its own records there with `--cache-to type=inline`.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::build::cache::Record;
use crate::error::{Error, Result, Step};
use crate::image::digest::Digest;
use crate::image::documents::{self, Descriptor, ImageConfig, Manifest, RootFs, media_type};
use crate::image::transfer::made::Made;

const FIELD: &str = "sbx.build-cache";

/// Steps with their layers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Bundle {
    /// RFC 3339.
    pub created: Option<String>,
    #[serde(with = "pairs")]
    pub records: BTreeMap<Digest, Record>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Field {
    records: Vec<Item>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Item {
    key: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layer: Option<usize>,
}

impl Bundle {
    /// What an image has; none of it is there to be trusted.
    ///
    /// # Errors
    /// It is no cache, or not sound.
    pub fn read(what: &str, manifest: &[u8], config: &[u8]) -> Result<Self> {
        let failed = || format!("cannot use the cache of `{what}`");
        let manifest: Manifest = documents::parse(what, manifest)?;
        let mut config: ImageConfig = documents::parse(what, config)?;
        let field = config.other.remove(FIELD).ok_or_else(|| {
            Error::new(failed())
                .because("it is an image that holds no steps of a build")
                .hint("`--cache-to` makes a cache")
        })?;
        let field: Field = serde_json::from_value(field).step(failed)?;
        let refused = |why: &str| Error::new(failed()).because(why.to_owned());
        if manifest.layers.len() != config.rootfs.diff_ids.len() {
            return Err(refused("its manifest and its configuration have different layers"));
        }
        let mut records = BTreeMap::new();
        for item in field.records {
            let layer = match item.layer {
                None => None,
                Some(at) => {
                    let blob = manifest
                        .layers
                        .get(at)
                        .ok_or_else(|| refused("a step has a layer that is not there"))?;
                    if !media_type::is_layer(&blob.media_type) {
                        return Err(refused("a step has a layer of a kind that is not known"));
                    }
                    // What else a descriptor may say is not for images of this machine.
                    let blob = Descriptor::new(&blob.media_type, blob.digest.clone(), blob.size);
                    Some(Made { blob, diff_id: config.rootfs.diff_ids[at].clone(), size: 0 })
                }
            };
            records.entry(item.key).or_insert(Record { layer });
        }
        Ok(Self { created: config.created, records })
    }

    /// Whether it was made before a time; one that does not say when is as old as can be.
    pub fn is_older_than(&self, oldest: Option<SystemTime>) -> bool {
        let Some(oldest) = oldest else { return false };
        let created = self.created.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        created.is_none_or(|created| SystemTime::from(created) < oldest)
    }
}

/// The layers of records, each once, and the configuration that says whose they are.
pub fn of_records(records: &[(Digest, Record)], created: String) -> (Vec<Descriptor>, ImageConfig) {
    let mut layers: Vec<&Made> = Vec::new();
    for layer in records.iter().filter_map(|(_, record)| record.layer.as_ref()) {
        if !layers.iter().any(|known| known.diff_id == layer.diff_id) {
            layers.push(layer);
        }
    }
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
    let mut config = ImageConfig {
        architecture: "unknown".to_owned(),
        os: "unknown".to_owned(),
        created: Some(created),
        rootfs: RootFs { kind: "layers".to_owned(), diff_ids: diff_ids.clone() },
        ..ImageConfig::default()
    };
    note(&mut config, records, &diff_ids);
    (layers.into_iter().map(|layer| layer.blob.clone()).collect(), config)
}

/// Writes into a configuration which of its layers are of which step; steps of other layers are left out.
pub fn note(config: &mut ImageConfig, records: &[(Digest, Record)], diff_ids: &[Digest]) {
    let place = |made: &Made| diff_ids.iter().position(|diff_id| *diff_id == made.diff_id);
    let items = records.iter().filter_map(|(key, record)| match &record.layer {
        None => Some(Item { key: key.clone(), layer: None }),
        Some(made) => place(made).map(|at| Item { key: key.clone(), layer: Some(at) }),
    });
    let field = Field { records: items.collect() };
    if let Ok(value) = serde_json::to_value(field) {
        config.other.insert(FIELD.to_owned(), value);
    }
}

/// JSON has no digests for keys of objects.
mod pairs {
    use super::*;

    pub fn serialize<S: serde::Serializer>(
        records: &BTreeMap<Digest, Record>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(records)
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<Digest, Record>, D::Error> {
        Ok(Vec::<(Digest, Record)>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::transfer::archive::docker::manifest;

    fn made(text: &str) -> Made {
        let blob = Descriptor::new(media_type::OCI_LAYER, Digest::of(text.as_bytes()), 7);
        Made { blob, diff_id: Digest::of(format!("diff of {text}").as_bytes()), size: 0 }
    }

    fn documents(records: &[(Digest, Record)]) -> (Vec<u8>, Vec<u8>) {
        let (layers, config) = of_records(records, "2023-11-14T22:13:20Z".to_owned());
        let config = serde_json::to_vec(&config).unwrap();
        let descriptor = Descriptor::new(media_type::OCI_CONFIG, Digest::of(&config), config.len() as u64);
        (serde_json::to_vec(&manifest(descriptor, layers)).unwrap(), config)
    }

    #[test]
    fn what_is_written_is_read() {
        let key = |text: &str| Digest::of(text.as_bytes());
        let records = [
            (key("a"), Record { layer: Some(made("1")) }),
            (key("b"), Record { layer: None }),
            (key("c"), Record { layer: Some(made("1")) }),
            (key("d"), Record { layer: Some(made("2")) }),
        ];
        let (manifest, config) = documents(&records);
        let bundle = Bundle::read("x", &manifest, &config).unwrap();
        assert_eq!(bundle.records, records.into_iter().collect());
        let text = serde_json::to_string(&bundle).unwrap();
        assert_eq!(serde_json::from_str::<Bundle>(&text).unwrap(), bundle);
        let time = |seconds| Some(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds));
        assert!(!bundle.is_older_than(None) && !bundle.is_older_than(time(1_600_000_000)));
        assert!(bundle.is_older_than(time(1_800_000_000)) && Bundle::default().is_older_than(time(0)));
    }

    #[test]
    fn what_is_not_sound_is_refused() {
        let (manifest, config) = documents(&[(Digest::of(b"k"), Record { layer: Some(made("1")) })]);
        let with = |from: &str, to: &str| {
            let text = String::from_utf8(config.clone()).unwrap();
            assert!(text.contains(from), "{text}");
            Bundle::read("x", &manifest, text.replace(from, to).as_bytes())
        };
        assert!(with("\"layer\":0", "\"layer\":1").is_err());
        assert!(with("\"layer\":0", "\"layer\":-1").is_err());
        assert!(with("sbx.build-cache", "other").is_err());
        assert!(with("\"diff_ids\":[", "\"diff_ids\":[\"sha256:00\",").is_err());
        assert!(with("\"key\":\"sha256:", "\"key\":\"../").is_err());
        assert!(Bundle::read("x", b"{", &config).is_err());
        let other = String::from_utf8(manifest).unwrap().replace(media_type::OCI_LAYER, "text/html");
        assert!(Bundle::read("x", other.as_bytes(), &config).is_err());
    }
}
