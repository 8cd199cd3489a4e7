//! `--filter` of `images` and of the prunes.

use jiff::Timestamp;

use crate::container::label::{self, LabelFilter};
use crate::container::moment;
use crate::error::{Error, Result};
use crate::image::pattern;
use crate::image::reference::Reference;
use crate::image::store::{Entry, ImageStore};
use crate::image::usage::Usage;

/// Different keys all have to hold; of the same key one, but of labels all.
#[derive(Debug, Default)]
pub struct Filters {
    dangling: Option<bool>,
    containers: Option<bool>,
    read_only: Option<bool>,
    references: Vec<String>,
    ids: Vec<String>,
    labels: Vec<LabelFilter>,
    before: Vec<String>,
    since: Vec<String>,
    until: Option<Timestamp>,
}

/// The keys, for messages and help.
pub const KEYS: &str = "dangling, reference, label, label!, before, since, until, id, containers, readonly";
/// Those that a prune takes.
pub const PRUNE_KEYS: &str = "dangling, label, label!, until";

impl Filters {
    /// Reads `KEY=VALUE`s.
    ///
    /// # Errors
    /// A key that is not known, or a value that is none of the key's.
    pub fn parse(texts: &[String]) -> Result<Self> {
        let mut filters = Self::default();
        for text in texts {
            filters.add(text)?;
        }
        Ok(filters)
    }

    /// The same for a prune, which takes fewer keys.
    ///
    /// # Errors
    /// As [`Filters::parse`].
    pub fn parse_for_prune(texts: &[String]) -> Result<Self> {
        for text in texts {
            let key = text.split_once('=').map_or(text.as_str(), |(key, _)| key);
            if !PRUNE_KEYS.split(", ").any(|known| known == key) {
                return Err(wrong(text).hint(format!("there are: {PRUNE_KEYS}")));
            }
        }
        Self::parse(texts)
    }

    pub fn dangling(&self) -> Option<bool> {
        self.dangling
    }

    /// For a prune, which has decided that itself.
    #[must_use]
    pub fn without_dangling(self) -> Self {
        Self { dangling: None, ..self }
    }

    /// The time before which things were made that a prune may take.
    pub fn until(&self) -> Option<Timestamp> {
        self.until
    }

    /// Whether labels fit.
    pub fn labels_fit<'l>(&self, value_of: impl Fn(&str) -> Option<&'l str>) -> bool {
        label::all_fit(&self.labels, value_of)
    }

    fn add(&mut self, text: &str) -> Result<()> {
        let Some((key, value)) = text.split_once('=') else {
            return Err(wrong(text).because("it is not `KEY=VALUE`"));
        };
        match key {
            "dangling" => self.dangling = Some(truth(text, value)?),
            "containers" => self.containers = Some(truth(text, value)?),
            "readonly" => self.read_only = Some(truth(text, value)?),
            "reference" => self.references.push(value.to_owned()),
            "id" => self.ids.push(value.trim_start_matches("sha256:").to_owned()),
            "before" => self.before.push(value.to_owned()),
            "since" | "after" => self.since.push(value.to_owned()),
            "until" => self.until = Some(moment::parse(text, value, Timestamp::now())?),
            // `label!=x` is `label!` `x`, and is so read by docker.
            "label" | "label!" => self.labels.push(LabelFilter::new(value, key == "label")),
            _ => return Err(wrong(text).hint(format!("there are: {KEYS}"))),
        }
        Ok(())
    }

    /// The entries that all filters let through.
    ///
    /// # Errors
    /// An image that `before` or `since` names is not there.
    pub fn apply(&self, store: &ImageStore, entries: Vec<Entry>, usage: &Usage) -> Result<Vec<Entry>> {
        let before = self.made(store, "before", &self.before)?;
        let since = self.made(store, "since", &self.since)?;
        let fits = |entry: &Entry| {
            self.dangling.is_none_or(|wanted| entry.is_dangling() == wanted)
                && self.containers.is_none_or(|wanted| usage.of(&entry.id).is_empty() != wanted)
                // All of the store can be changed by its owner.
                && self.read_only.is_none_or(|wanted| !wanted)
                && any(&self.references, |pattern| {
                    entry.reference.as_ref().is_some_and(|name| pattern::fits(pattern, name))
                })
                && any(&self.ids, |id| entry.id.hex().starts_with(id.as_str()))
                && any(&before, |time| entry.created < *time)
                && any(&since, |time| entry.created > *time)
                && self.until.is_none_or(|until| entry.created.is_none_or(|created| created < until))
                && self.entry_labels_fit(store, entry)
        };
        Ok(entries.into_iter().filter(fits).collect())
    }

    fn entry_labels_fit(&self, store: &ImageStore, entry: &Entry) -> bool {
        if self.labels.is_empty() {
            return true;
        }
        store.image(&entry.manifest).is_ok_and(|image| {
            let labels = &image.config.config.labels;
            self.labels_fit(|key| labels.get(key).map(String::as_str))
        })
    }

    /// When the images were made.
    fn made(&self, store: &ImageStore, key: &str, words: &[String]) -> Result<Vec<Option<Timestamp>>> {
        let each = words.iter().map(|word| {
            let failed = || wrong(&format!("{key}={word}"));
            let image = store.find(word).map_err(|error| error.while_doing(failed().message()))?;
            let image = image.ok_or_else(|| failed().because("there is no such image"))?;
            Ok(image.config.created.as_deref().and_then(|text| text.parse().ok()))
        });
        each.collect()
    }
}

fn any<T>(wanted: &[T], fits: impl Fn(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(fits)
}

pub(crate) fn truth(text: &str, value: &str) -> Result<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" => Ok(true),
        "false" | "f" | "0" => Ok(false),
        _ => Err(wrong(text).because("it is neither `true` nor `false`")),
    }
}

pub(crate) fn wrong(text: &str) -> Error {
    Error::new(format!("cannot filter by `{}`", text.escape_debug()))
}

/// Whether an argument of `images` means the image: a name with or without its tag, or a pattern.
pub fn is_meant(argument: &str, name: Option<&Reference>, id: &crate::image::digest::Digest) -> bool {
    name.is_some_and(|name| pattern::fits(argument, name))
        || (argument.len() >= 3 && id.hex().starts_with(argument.trim_start_matches("sha256:")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_that_mean_nothing_are_refused() {
        for (text, cause) in [
            ("dangling", "KEY=VALUE"),
            ("dangling=maybe", "neither"),
            ("colour=red", "cannot filter by `colour=red`"),
            ("until=soon", "neither"),
        ] {
            let error = Filters::parse(&[text.to_owned()]).unwrap_err();
            assert!(error.to_string().contains(cause), "{error}");
        }
        assert!(Filters::parse_for_prune(&["reference=x".to_owned()]).is_err());
        assert!(Filters::parse_for_prune(&["label!=x".to_owned()]).is_ok());
    }

    #[test]
    fn labels_all_have_to_fit() {
        let filters =
            Filters::parse(&["label=a".to_owned(), "label=b=1".to_owned(), "label!=c".to_owned()]).unwrap();
        let with = |labels: &[(&'static str, &'static str)]| {
            let labels = labels.to_vec();
            filters
                .labels_fit(move |key| labels.iter().find(|(name, _)| *name == key).map(|(_, value)| *value))
        };
        assert!(with(&[("a", "x"), ("b", "1")]));
        assert!(!with(&[("a", "x"), ("b", "2")]));
        assert!(!with(&[("a", "x"), ("b", "1"), ("c", "")]));
        assert!(!with(&[("b", "1")]));
    }
}
