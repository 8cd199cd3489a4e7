//! Which registries there are and how they are reached (containers-registries.conf(5), version 2): what a short
//! name stands for, and from where a repository is fetched.

pub mod file;
mod prefix;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, Step};
use crate::host::paths::{Surroundings, home};
use crate::image::reference::Reference;
use file::{Configured, ShortNames, Text};

const SYSTEM: &str = "/etc/containers/registries.conf";
/// Where nothing is configured, names are those of docker.
const DEFAULT_REGISTRY: &str = "docker.io";

/// All files of the configuration, as one.
#[derive(Debug, Clone, Default)]
pub struct Registries {
    search: Vec<String>,
    registries: Vec<Configured>,
    aliases: BTreeMap<String, Option<Text>>,
    short_names: ShortNames,
    credential_helpers: Vec<String>,
}

/// Where a repository can be fetched from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `quay.io`, `localhost:5000`.
    pub domain: String,
    pub path: String,
    /// http, and certificates that nobody vouches for, are allowed.
    pub insecure: bool,
}

impl Registries {
    /// The caller's files, or the system's, and the drop-ins beside them; CONTAINERS_REGISTRIES_CONF names another
    /// main file.
    ///
    /// # Errors
    /// One cannot be read or understood; file and line are named.
    pub fn load() -> Result<Self> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let config = variable("XDG_CONFIG_HOME")
            .filter(|path| path.is_absolute())
            .or_else(|| home(&Surroundings::current()).ok().map(|home| home.join(".config")));
        let named = variable("CONTAINERS_REGISTRIES_CONF").or_else(|| variable("REGISTRIES_CONFIG_PATH"));
        Self::read(named.as_deref(), config.as_deref(), Path::new(SYSTEM))
    }

    /// The files in the order in which one overrides the other: the main file that was named, else the caller's
    /// below `config`, else the system's. A main file of the caller's leaves the system's drop-ins out.
    fn read(named: Option<&Path>, config: Option<&Path>, system: &Path) -> Result<Self> {
        let own = config.map(|config| config.join("containers/registries.conf"));
        let own_counts = named.is_none() && own.as_ref().is_some_and(|own| own.exists());
        let drop_ins = |main: &Path| main.with_extension("conf.d");
        let mut files = Vec::new();
        match (named, &own) {
            // What was named has to be there.
            (Some(named), _) => files.push((named.to_owned(), true)),
            (None, Some(own)) if own_counts => files.push((own.clone(), false)),
            _ => files.push((system.to_owned(), false)),
        }
        let mut directories = Vec::new();
        if !own_counts {
            directories.push(drop_ins(system));
        }
        directories.extend(own.as_deref().map(drop_ins));
        for directory in directories {
            files.extend(listed(&directory)?.into_iter().map(|path| (path, false)));
        }
        let mut all = Self::default();
        for (path, wanted) in files {
            match fs::read_to_string(&path) {
                Ok(text) => all.override_with(file::parse(&text, &path.display().to_string())?),
                Err(error) if error.kind() == io::ErrorKind::NotFound && !wanted => {}
                Err(error) => {
                    return Err(Error::new(format!("cannot read `{}`", path.display())).because(error));
                }
            }
        }
        Ok(all)
    }

    /// What a later file says counts.
    pub fn override_with(&mut self, later: file::Parsed) {
        if let Some(search) = later.search {
            self.search = search;
        }
        if let Some(helpers) = later.credential_helpers {
            self.credential_helpers = helpers;
        }
        if let Some(short_names) = later.short_names {
            self.short_names = short_names;
        }
        for registry in later.registries {
            self.registries.retain(|known| known.prefix != registry.prefix);
            self.registries.push(registry);
        }
        self.aliases.extend(later.aliases);
    }

    /// `unqualified-search-registries`, else docker.io.
    pub fn search(&self) -> Vec<&str> {
        if self.search.is_empty() {
            return vec![DEFAULT_REGISTRY];
        }
        self.search.iter().map(String::as_str).collect()
    }

    /// `credential-helpers`
    pub fn credential_helpers(&self) -> &[String] {
        &self.credential_helpers
    }

    /// Every `[[registry]]` of the configuration.
    pub fn configured(&self) -> &[Configured] {
        &self.registries
    }

    /// What a name may stand for, in the order in which it is to be tried: its alias alone; else each of the search
    /// registries. One that names its registry stands for itself. All have a tag or a digest.
    ///
    /// # Errors
    /// The text is no name, or is ambiguous where `short-name-mode` wants it to be clear.
    pub fn resolve_short(&self, text: &str) -> Result<Vec<Reference>> {
        let names = self.candidates(text)?;
        if names.len() > 1 && self.short_names == ShortNames::Enforcing {
            let whole: Vec<String> =
                self.search.iter().map(|registry| format!("`{registry}/{text}`")).collect();
            return Err(Error::new(format!("cannot tell which image `{text}` is"))
                .because("it may come from several registries, and `short-name-mode` is `enforcing`")
                .hint(format!("write the whole name: {}", whole.join(" or "))));
        }
        Ok(names)
    }

    /// As [`Registries::resolve_short`], whatever `short-name-mode` says: of the images that are there, one may have
    /// any of these names.
    ///
    /// # Errors
    /// The text is no name.
    pub fn candidates(&self, text: &str) -> Result<Vec<Reference>> {
        let own = Reference::parse(text)?.or_latest();
        if !Reference::is_short(text) {
            return Ok(vec![own]);
        }
        let suffix_free = text.split('@').next().unwrap_or_default();
        let name = match suffix_free.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => name,
            _ => suffix_free,
        };
        let with = |repository: &str| {
            let found = Reference::parse(repository)?;
            Ok::<_, Error>(Reference { tag: own.tag.clone(), digest: own.digest.clone(), ..found })
        };
        if let Some(Some(alias)) = self.aliases.get(name) {
            return Ok(vec![with(&alias.value).map_err(|error| error.because(alias.place()))?]);
        }
        self.search().into_iter().map(|registry| with(&format!("{registry}/{name}"))).collect()
    }

    /// From where the reference can be fetched: mirrors in order, the registry itself last.
    ///
    /// # Errors
    /// The registry is blocked, or a location makes no name of a repository.
    pub fn places(&self, reference: &Reference) -> Result<Vec<Place>> {
        let Some((registry, matched)) = self.registry_of(reference) else {
            return Ok(vec![Place {
                domain: reference.domain.clone(),
                path: reference.path.clone(),
                insecure: false,
            }]);
        };
        if registry.blocked {
            return Err(Error::new(format!("refusing to use the registry of `{}`", reference.familiar()))
                .because(format!("`{}` is blocked by {}", registry.prefix, registry.place)));
        }
        let mut places = Vec::new();
        for mirror in &registry.mirrors {
            if mirror.pull.serves(reference.digest.is_some()) {
                places.push(place(reference, matched, &mirror.location, mirror.insecure)?);
            }
        }
        places.push(match &registry.location {
            Some(location) => place(reference, matched, location, registry.insecure)?,
            None => Place {
                domain: reference.domain.clone(),
                path: reference.path.clone(),
                insecure: registry.insecure,
            },
        });
        Ok(places)
    }

    /// Where the reference is pushed to: the registry itself, never a mirror.
    ///
    /// # Errors
    /// As [`Registries::places`].
    pub fn origin(&self, reference: &Reference) -> Result<Place> {
        let mut places = self.places(reference)?;
        places.pop().ok_or_else(|| Error::new(format!("there is no registry for `{reference}`")))
    }

    /// Whether http is allowed for a registry that is named alone, as `login` does; an error where it is blocked.
    ///
    /// # Errors
    /// It is blocked.
    pub fn is_insecure(&self, domain: &str) -> Result<bool> {
        // Any repository of the registry will do.
        let any = Reference { domain: domain.to_owned(), path: "x".to_owned(), tag: None, digest: None };
        Ok(self.origin(&any)?.insecure)
    }

    /// The registry with the longest matching prefix, and how much of the whole name it matched.
    fn registry_of(&self, reference: &Reference) -> Option<(&Configured, usize)> {
        let whole = reference.to_string();
        let matching = self
            .registries
            .iter()
            .filter_map(|registry| Some((registry, prefix::matched(&registry.prefix, &whole)?)));
        matching.max_by_key(|(registry, _)| registry.prefix.len())
    }
}

/// The reference with what the prefix matched replaced by the location.
fn place(reference: &Reference, matched: usize, location: &Text, insecure: bool) -> Result<Place> {
    let whole = reference.to_string();
    let replaced = format!("{}{}", location.value, &whole[matched..]);
    let found = Reference::parse(&replaced).map_err(|error| error.because(location.place()))?;
    Ok(Place { domain: found.domain, path: found.path, insecure })
}

/// The files `*.conf` of a directory, by name; none where there is no directory.
fn listed(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed = || format!("cannot read the directory `{}`", directory.display());
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(Error::new(failed()).because(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.step(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "conf") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests;
