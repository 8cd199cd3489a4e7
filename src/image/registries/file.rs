//! One file of the configuration. Whatever is wrong is told with its line.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::Reference;
use crate::error::{Error, Result};
use crate::image::auth::FILES;

/// A text of the file, and where it stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    pub value: String,
    file: String,
    line: usize,
}

impl Text {
    /// `line 3 of FILE`
    pub fn place(&self) -> String {
        format!("line {} of `{}`", self.line, self.file)
    }
}

/// `short-name-mode`. Where several registries may be meant, `Disabled` and `Permissive` are one: sbx asks nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShortNames {
    Enforcing,
    #[default]
    Permissive,
    Disabled,
}

/// What one file says.
#[derive(Debug, Default)]
pub struct Parsed {
    pub search: Option<Vec<String>>,
    pub registries: Vec<Configured>,
    /// None takes an alias of an earlier file away.
    pub aliases: BTreeMap<String, Option<Text>>,
    pub short_names: Option<ShortNames>,
    pub credential_helpers: Option<Vec<String>>,
}

/// `[[registry]]`
#[derive(Debug, Clone)]
pub struct Configured {
    pub prefix: String,
    /// None: a wildcard that changes no name.
    pub location: Option<Text>,
    pub insecure: bool,
    pub blocked: bool,
    pub mirrors: Vec<Mirror>,
    /// Where it stands, for messages.
    pub place: String,
}

/// `[[registry.mirror]]`
#[derive(Debug, Clone)]
pub struct Mirror {
    pub location: Text,
    pub insecure: bool,
    pub pull: PullFrom,
}

/// `pull-from-mirror`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PullFrom {
    #[default]
    All,
    DigestOnly,
    TagOnly,
}

impl PullFrom {
    pub fn serves(self, by_digest: bool) -> bool {
        match self {
            Self::All => true,
            Self::DigestOnly => by_digest,
            Self::TagOnly => !by_digest,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Raw {
    unqualified_search_registries: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    registry: Vec<Spanned<RawRegistry>>,
    #[serde(default)]
    aliases: BTreeMap<String, Spanned<String>>,
    short_name_mode: Option<ShortNames>,
    credential_helpers: Option<Vec<String>>,
    /// Version 1 had this table.
    registries: Option<Spanned<toml::Table>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawRegistry {
    prefix: Option<Spanned<String>>,
    location: Option<Spanned<String>>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<RawMirror>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawMirror {
    location: Spanned<String>,
    #[serde(default)]
    insecure: bool,
    pull_from_mirror: Option<Spanned<PullFrom>>,
}

/// Reads the text of the file `name`. Keys that are not known are passed over, as every reader of these files does.
///
/// # Errors
/// It is no TOML, or says what cannot be; with the line.
pub fn parse(text: &str, name: &str) -> Result<Parsed> {
    let source = Source { text, name };
    let raw: Raw = toml::from_str(text)
        .map_err(|error| source.refused(error.span().map_or(0, |span| span.start), error.message()))?;
    if let Some(old) = raw.registries {
        return Err(source
            .refused(old.span().start, "`[registries]` is the format of version 1")
            .hint("write `unqualified-search-registries = [\"docker.io\"]` and `[[registry]]` instead"));
    }
    let mut parsed = Parsed {
        short_names: raw.short_name_mode,
        credential_helpers: raw.credential_helpers,
        ..Parsed::default()
    };
    if let Some(helpers) = &parsed.credential_helpers
        && let Some(wrong) = helpers.iter().find(|helper| *helper != FILES && helper.contains('/'))
    {
        return Err(source.refused(0, &format!("`{wrong}` in `credential-helpers` is no name of a helper")));
    }
    if let Some(search) = raw.unqualified_search_registries {
        let mut names = Vec::new();
        for registry in search {
            names.push(source.host(&registry)?);
        }
        parsed.search = Some(names);
    }
    for registry in raw.registry {
        parsed.registries.push(source.registry(registry)?);
    }
    for (alias, target) in raw.aliases {
        if !Reference::is_short(&alias) || Reference::parse(&alias).is_err() || alias.contains([':', '@']) {
            return Err(source.refused(target.span().start, &format!("`{alias}` is no short name")));
        }
        let target = source.text(target);
        if !target.value.is_empty() {
            let named = Reference::parse(&target.value).map_err(|error| error.because(target.place()))?;
            if Reference::is_short(&target.value) || named.tag.is_some() || named.digest.is_some() {
                let at = source.offset(target.line);
                return Err(source.refused(at, "an alias stands for a registry and a repository in it alone"));
            }
        }
        parsed.aliases.insert(alias, Some(target).filter(|target| !target.value.is_empty()));
    }
    Ok(parsed)
}

struct Source<'a> {
    text: &'a str,
    name: &'a str,
}

impl Source<'_> {
    fn line(&self, offset: usize) -> usize {
        self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
    }

    fn offset(&self, line: usize) -> usize {
        self.text.split_inclusive('\n').take(line - 1).map(str::len).sum()
    }

    fn refused(&self, offset: usize, why: &str) -> Error {
        let (first, more) = why.split_once('\n').unwrap_or((why, ""));
        Error::new(format!("cannot use line {} of `{}`", self.line(offset), self.name))
            .because(format!("{first}{}{more}", if more.is_empty() { "" } else { ", " }))
            .hint("the format is described in containers-registries.conf(5)")
    }

    fn text(&self, value: Spanned<String>) -> Text {
        let line = self.line(value.span().start);
        Text { value: value.into_inner(), file: self.name.to_owned(), line }
    }

    /// A registry without a repository.
    fn host(&self, value: &Spanned<String>) -> Result<String> {
        let name = value.get_ref().trim_end_matches('/');
        let whole = format!("{name}/x");
        if name.contains('/') || Reference::is_short(&whole) || Reference::parse(&whole).is_err() {
            return Err(self.refused(value.span().start, &format!("`{name}` is no name of a registry")));
        }
        Ok(name.to_owned())
    }

    /// A location without its scheme, which no location may have.
    fn location(&self, value: Spanned<String>) -> Result<Text> {
        let start = value.span().start;
        let mut text = self.text(value);
        text.value.truncate(text.value.trim_end_matches('/').len());
        if text.value.contains("://") {
            return Err(self
                .refused(start, &format!("the location `{}` has a scheme", text.value))
                .hint("leave it out; `insecure = true` allows http"));
        }
        // What is left of a name is appended to it.
        let whole = format!("{}/x", text.value);
        if Reference::is_short(&whole) || Reference::parse(&whole).is_err() {
            let why = format!("the location `{}` does not begin with the name of a registry", text.value);
            return Err(self.refused(start, &why));
        }
        Ok(text)
    }

    fn registry(&self, registry: Spanned<RawRegistry>) -> Result<Configured> {
        let start = registry.span().start;
        let raw = registry.into_inner();
        let location = raw
            .location
            .filter(|location| !location.get_ref().is_empty())
            .map(|location| self.location(location))
            .transpose()?;
        let prefix = raw.prefix.map(Spanned::into_inner).filter(|prefix| !prefix.is_empty());
        let prefix = match (prefix, &location) {
            (Some(prefix), None) if !prefix.starts_with("*.") => {
                return Err(self.refused(start, &format!("the registry `{prefix}` has no location")));
            }
            (Some(prefix), _) => prefix.trim_end_matches('/').to_owned(),
            (None, Some(location)) => location.value.clone(),
            (None, None) => return Err(self.refused(start, "a registry has neither prefix nor location")),
        };
        let mut mirrors = Vec::new();
        for mirror in raw.mirror {
            let pull = match mirror.pull_from_mirror {
                Some(pull) if raw.mirror_by_digest_only && *pull.get_ref() != PullFrom::All => {
                    let why = "`mirror-by-digest-only` and `pull-from-mirror` exclude each other";
                    return Err(self.refused(pull.span().start, why));
                }
                _ if raw.mirror_by_digest_only => PullFrom::DigestOnly,
                Some(pull) => pull.into_inner(),
                None => PullFrom::All,
            };
            let location = self.location(mirror.location)?;
            mirrors.push(Mirror { location, insecure: mirror.insecure, pull });
        }
        Ok(Configured {
            prefix,
            location,
            insecure: raw.insecure,
            blocked: raw.blocked,
            mirrors,
            place: format!("line {} of `{}`", self.line(start), self.name),
        })
    }
}
