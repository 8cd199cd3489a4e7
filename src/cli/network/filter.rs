//! `--filter` of `network ls` and `network prune`.

use jiff::Timestamp;

use super::Shown;
use crate::container::label::{self, LabelFilter};
use crate::container::moment;
use crate::error::Result;
use crate::image::filter::wrong;
use crate::sys::time::Utc;

const KEYS: &str = "driver, id, label, label!, name, scope, type, until";
const PRUNE_KEYS: &str = "label, label!, until";

/// Different keys all have to hold; of the same key one, but of labels all.
#[derive(Debug, Default)]
pub struct Filters {
    drivers: Vec<String>,
    ids: Vec<String>,
    labels: Vec<LabelFilter>,
    names: Vec<String>,
    scopes: Vec<String>,
    /// Whether they were made.
    made: Vec<bool>,
    until: Option<Utc>,
}

impl Filters {
    /// Reads `KEY=VALUE`s for `ls`.
    ///
    /// # Errors
    /// A key that is not known, or a value that is none of the key's.
    pub fn parse(texts: &[String]) -> Result<Self> {
        Self::read(texts, KEYS)
    }

    /// The same for a prune, which takes fewer keys.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_for_prune(texts: &[String]) -> Result<Self> {
        Self::read(texts, PRUNE_KEYS)
    }

    fn read(texts: &[String], keys: &str) -> Result<Self> {
        let mut filters = Self::default();
        for text in texts {
            let Some((key, value)) =
                text.split_once('=').filter(|(key, _)| keys.split(", ").any(|known| known == *key))
            else {
                return Err(wrong(text).hint(format!("write KEY=VALUE; there are: {keys}")));
            };
            match key {
                "driver" => filters.drivers.push(value.to_owned()),
                "id" => filters.ids.push(value.to_owned()),
                "name" => filters.names.push(value.to_owned()),
                "scope" => filters.scopes.push(value.to_owned()),
                "type" => filters.made.push(match value {
                    "custom" => true,
                    "builtin" => false,
                    _ => return Err(wrong(text).hint("write `type=custom` or `type=builtin`")),
                }),
                "until" => {
                    let time = moment::parse(text, value, Timestamp::now())?;
                    filters.until =
                        Some(Utc::at(time.as_second(), u32::try_from(time.subsec_nanosecond()).unwrap_or(0)));
                }
                _ => filters.labels.push(LabelFilter::new(value, key == "label")),
            }
        }
        Ok(filters)
    }

    /// Whether the network is let through. What is always there was made before every moment.
    pub fn fit(&self, network: &Shown) -> bool {
        let any = |wanted: &[String], fits: &dyn Fn(&str) -> bool| {
            wanted.is_empty() || wanted.iter().any(|value| fits(value))
        };
        any(&self.drivers, &|driver| driver == network.driver)
            && any(&self.ids, &|id| network.id.starts_with(id))
            && any(&self.names, &|part| network.name.contains(part))
            && any(&self.scopes, &|scope| scope == "local")
            && (self.made.is_empty() || self.made.contains(&!Shown::is_always_there(&network.name)))
            && label::all_fit(&self.labels, |key| network.labels.get(key).map(String::as_str))
            && self.until.is_none_or(|until| network.created.is_none_or(|created| created < until))
    }
}
