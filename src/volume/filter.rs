//! `--filter` of `volume ls` and `volume prune`.

use jiff::Timestamp;

use super::Record;
use super::document::SCOPE;
use super::record::DRIVER;
use crate::container::moment;
use crate::error::Result;
use crate::image::filter;

/// Different keys all have to hold; of the same key one, but of labels all.
#[derive(Debug, Default)]
pub struct Filters {
    dangling: Option<bool>,
    anonymous: Option<bool>,
    all: bool,
    names: Vec<String>,
    drivers: Vec<String>,
    scopes: Vec<String>,
    options: Vec<String>,
    since: Option<Timestamp>,
    /// Labels and `until`, as images have them.
    common: filter::Filters,
}

/// The keys, for messages and help.
pub const KEYS: &str = "dangling, anonymous, name, label, label!, driver, opt, scope, since, until";
/// Those that a prune takes.
pub const PRUNE_KEYS: &str = "all, anonymous, name, label, label!, opt, since, until";

impl Filters {
    /// Reads `KEY=VALUE`s for `ls`.
    ///
    /// # Errors
    /// A key that is not known, or a value that is none of the key's.
    pub fn parse(texts: &[String]) -> Result<Self> {
        Self::read(texts, KEYS)
    }

    /// The same for a prune.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_for_prune(texts: &[String]) -> Result<Self> {
        Self::read(texts, PRUNE_KEYS)
    }

    fn read(texts: &[String], keys: &str) -> Result<Self> {
        let mut filters = Self::default();
        let mut common = Vec::new();
        for text in texts {
            let Some((key, value)) = text.split_once('=') else {
                return Err(filter::wrong(text).hint("write KEY=VALUE"));
            };
            let known = if key == "after" { "since" } else { key };
            if !keys.split(", ").any(|other| other == known) {
                return Err(filter::wrong(text).hint(format!("there are: {keys}")));
            }
            let value = value.to_owned();
            match known {
                "dangling" => filters.dangling = Some(filter::truth(text, &value)?),
                "anonymous" => filters.anonymous = Some(filter::truth(text, &value)?),
                "all" => filters.all = filter::truth(text, &value)?,
                "name" => filters.names.push(value),
                "driver" => filters.drivers.push(value),
                "scope" => filters.scopes.push(value),
                "opt" => filters.options.push(value),
                "since" => {
                    let since = moment::parse(&format!("--filter {text}"), &value, Timestamp::now())?;
                    filters.since = Some(since);
                }
                _ => common.push(text.clone()),
            }
        }
        filters.common = filter::Filters::parse(&common)?;
        Ok(filters)
    }

    /// Whether it has to be known which volumes are in use.
    pub fn asks_for_users(&self) -> bool {
        self.dangling.is_some()
    }

    /// `all=true` of a prune, or `anonymous=false`: volumes with names, too.
    pub fn takes_named(&self) -> bool {
        self.all || self.anonymous == Some(false)
    }

    /// Whether the volume, with this number of containers, is let through.
    pub fn fit(&self, record: &Record, users: usize) -> bool {
        let created = record.created_at();
        self.dangling.is_none_or(|wanted| (users == 0) == wanted)
            && self.anonymous.is_none_or(|wanted| record.anonymous == wanted)
            && any(&self.names, |part| name_fits(part, &record.name))
            && any(&self.drivers, |driver| driver == DRIVER)
            && any(&self.scopes, |scope| scope == SCOPE)
            && any(&self.options, |option| option_fits(option, record))
            && self.since.is_none_or(|since| created.is_some_and(|created| created > since))
            && self.common.until().is_none_or(|until| created.is_none_or(|created| created < until))
            && self.common.labels_fit(|key| record.labels.get(key).map(String::as_str))
    }
}

fn any<T>(wanted: &[T], fits: impl Fn(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(fits)
}

/// A part of the name, or with `^` and `$` its beginning or end.
fn name_fits(part: &str, name: &str) -> bool {
    match (part.strip_prefix('^'), part.strip_suffix('$')) {
        (Some(start), Some(_)) => start.strip_suffix('$') == Some(name),
        (Some(start), None) => name.starts_with(start),
        (None, Some(end)) => name.ends_with(end),
        (None, None) => name.contains(part),
    }
}

fn option_fits(option: &str, record: &Record) -> bool {
    let (key, value) = option.split_once('=').map_or((option, None), |(key, value)| (key, Some(value)));
    record.options.get(key).is_some_and(|found| value.is_none_or(|value| value == found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(filters: &[&str], record: &Record, users: usize) -> bool {
        let filters: Vec<String> = filters.iter().map(|text| (*text).to_owned()).collect();
        Filters::parse(&filters).unwrap().fit(record, users)
    }

    #[test]
    fn volumes_are_told_apart() {
        let mut record = Record { created: "2024-05-06T07:08:09Z".to_owned(), ..Record::new("web_data") };
        record.labels.insert("a".to_owned(), "1".to_owned());
        record.options.insert("type".to_owned(), "tmpfs".to_owned());
        for yes in [
            &["dangling=true"][..],
            &["name=data"],
            &["name=x", "name=web"],
            &["name=^web"],
            &["name=^web_data$"],
            &["label=a", "label=a=1", "label!=b"],
            &["driver=local", "scope=local"],
            &["opt=type", "opt=x"],
            &["opt=type=tmpfs"],
            &["until=2025-01-01", "since=2024-01-01"],
            &["anonymous=false"],
        ] {
            assert!(fits(yes, &record, 0), "{yes:?}");
        }
        for no in [
            &["dangling=false"][..],
            &["name=nothing"],
            &["name=^data"],
            &["name=web$"],
            &["label=a", "label=b"],
            &["driver=nfs"],
            &["opt=type=nfs"],
            &["until=2024-01-01"],
            &["after=2025-01-01"],
            &["anonymous=true"],
        ] {
            assert!(!fits(no, &record, 0), "{no:?}");
        }
        assert!(fits(&["dangling=false"], &record, 1));
    }

    #[test]
    fn a_prune_takes_other_keys_than_a_listing() {
        let prune = |text: &str| Filters::parse_for_prune(&[text.to_owned()]);
        assert!(prune("all=true").unwrap().takes_named() && prune("anonymous=false").unwrap().takes_named());
        assert!(!prune("label=x").unwrap().takes_named());
        assert!(prune("dangling=true").is_err() && Filters::parse(&["all=1".to_owned()]).is_err());
        assert!(Filters::parse(&["colour=red".to_owned()]).unwrap_err().hints()[0].contains("dangling"));
        assert!(Filters::parse(&["name".to_owned()]).is_err());
    }
}
