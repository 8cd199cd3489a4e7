//! `--filter` of `ps` and of the commands that act on several containers at once.

use std::path::Path;

use jiff::Timestamp;
use regex_lite::Regex;

use crate::container::label::{self, LabelFilter};
use crate::container::list::{Listed, Status};
use crate::container::moment;
use crate::container::restart::Restart;
use crate::container::spec::{MountKind, Spec};
use crate::container::store::{Store, is_id};
use crate::error::Result;
use crate::image::digest::Digest;
use crate::image::filter::wrong;
use crate::image::reference::Reference;
use crate::image::store::ImageStore;
use crate::image::usage;
use crate::sys::time::Utc;

/// The keys, for messages and help.
pub const KEYS: &str = "id, name, label, label!, status, exited, ancestor, volume, network, pod, restart-policy, health, before, since, until";
/// Those that a prune takes.
pub const PRUNE_KEYS: &str = "label, label!, until";

/// Different keys all have to hold; of the same key one, but of labels all.
#[derive(Debug, Default)]
pub struct Filters {
    ids: Vec<String>,
    names: Vec<Regex>,
    labels: Vec<LabelFilter>,
    states: Vec<String>,
    exit_codes: Vec<i32>,
    ancestors: Vec<String>,
    volumes: Vec<String>,
    networks: Vec<String>,
    pods: Vec<String>,
    before: Vec<String>,
    since: Vec<String>,
    until: Option<Utc>,
    restart_policies: Vec<&'static str>,
    healths: Vec<String>,
}

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

    /// Whether it is asked for states by name, so that all containers are meant and not only those that run.
    pub fn name_states(&self) -> bool {
        !self.states.is_empty() || !self.exit_codes.is_empty()
    }

    fn add(&mut self, text: &str) -> Result<()> {
        let Some((key, value)) = text.split_once('=') else {
            return Err(wrong(text).because("it is not `KEY=VALUE`"));
        };
        match key {
            "id" => self.ids.push(value.to_ascii_lowercase()),
            "name" => self.names.push(pattern(text, value)?),
            "label" | "label!" => self.labels.push(LabelFilter::new(value, key == "label")),
            "status" => self.states.push(state(text, value)?.to_owned()),
            "exited" => self
                .exit_codes
                .push(value.parse().map_err(|_| wrong(text).because("it is no exit code such as `0`"))?),
            "ancestor" => self.ancestors.push(value.to_owned()),
            "volume" => self.volumes.push(value.to_owned()),
            "network" => self.networks.push(value.to_owned()),
            "pod" => self.pods.push(value.to_owned()),
            "before" => self.before.push(value.to_owned()),
            "since" | "after" => self.since.push(value.to_owned()),
            "until" => {
                let time = moment::parse(text, value, Timestamp::now())?;
                // Nothing is older than the epoch.
                self.until =
                    Some(Utc::at(time.as_second(), u32::try_from(time.subsec_nanosecond()).unwrap_or(0)));
            }
            "health" => match value {
                "starting" | "healthy" | "unhealthy" | "none" => self.healths.push(value.to_owned()),
                _ => return Err(wrong(text).hint("there are: starting, healthy, unhealthy, none")),
            },
            "restart-policy" => {
                let policy: Restart = value
                    .parse()
                    .map_err(|_| wrong(text).hint("there are: no, on-failure, always, unless-stopped"))?;
                self.restart_policies.push(policy.name());
            }
            _ => return Err(wrong(text).hint(format!("there are: {KEYS}"))),
        }
        Ok(())
    }

    /// The containers that all filters let through.
    ///
    /// # Errors
    /// A container that `before` or `since` names is not there, or the list of images is damaged.
    pub fn apply(&self, store: &Store, containers: Vec<Listed>) -> Result<Vec<Listed>> {
        let before = created(store, "before", &self.before)?;
        let since = created(store, "since", &self.since)?;
        let ancestors = ancestors(store, &self.ancestors)?;
        let networks = networks(store, &self.networks);
        let fits = |container: &Listed| {
            any(&self.ids, |id| container.id.starts_with(id.as_str()))
                && any(&self.states, |state| state == container.status.name())
                && any(&self.healths, |health| {
                    container.health.as_ref().map_or("none", |found| found.status.name()) == health
                })
                && any(&self.exit_codes, |code| exited_with(container.status) == Some(*code))
                && self.spec_fits(container.spec.as_ref(), &ancestors, &networks)
                && any(&before, |time| container.spec.as_ref().is_some_and(|spec| spec.created < *time))
                && any(&since, |time| container.spec.as_ref().is_some_and(|spec| spec.created > *time))
        };
        Ok(containers.into_iter().filter(fits).collect())
    }

    /// What of a container's spec decides. A container without one fits where nothing is asked of it.
    fn spec_fits(&self, spec: Option<&Spec>, ancestors: &[Ancestor], networks: &[String]) -> bool {
        let Some(spec) = spec else {
            let asked = [
                self.restart_policies.len(),
                self.pods.len(),
                self.volumes.len(),
                self.names.len(),
                self.labels.len(),
                ancestors.len(),
                networks.len(),
            ];
            return asked.iter().all(|count| *count == 0) && self.until.is_none();
        };
        any(&self.names, |pattern| {
            pattern.is_match(&spec.name) || pattern.is_match(&format!("/{}", spec.name))
        }) && label::all_fit(&self.labels, |key| spec.labels.get(key).map(String::as_str))
            && any(ancestors, |ancestor| ancestor.is_of(spec))
            && any(&self.volumes, |volume| has_mount(spec, volume))
            && any(&self.pods, |word| is_in_pod(spec, word))
            && any(&self.restart_policies, |policy| *policy == spec.restart.name())
            && any(networks, |network| is_in_network(spec, network))
            && self.until.is_none_or(|until| spec.created < until)
    }
}

/// A network with a name is meant by that, or by the beginning of its ID.
fn is_in_network(spec: &Spec, word: &str) -> bool {
    let by_id = |id: &str| !word.is_empty() && id.starts_with(word);
    spec.network.names().iter().any(|name| name == word)
        || spec.network.memberships.iter().any(|of| by_id(&of.id))
}

fn is_in_pod(spec: &Spec, word: &str) -> bool {
    spec.pod.as_ref().is_some_and(|pod| pod.name == word || (!word.is_empty() && pod.id.starts_with(word)))
}

fn any<T>(wanted: &[T], fits: impl Fn(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(fits)
}

/// A name is a regular expression, as it is to docker and podman: `web` is found in `web-1`, `^web$` is not.
fn pattern(text: &str, value: &str) -> Result<Regex> {
    Regex::new(value).map_err(|error| wrong(text).because(error).hint("a name is a regular expression here"))
}

/// The states by which sbx can find a container: docker's; and podman's words for the same.
fn state<'v>(text: &str, value: &'v str) -> Result<&'v str> {
    match value {
        "created" | "running" | "paused" | "restarting" | "exited" | "removing" | "dead" => Ok(value),
        "configured" | "initialized" => Ok("created"),
        "stopped" => Ok("exited"),
        // A state that takes milliseconds and is not told apart.
        "stopping" => Ok(value),
        _ => Err(wrong(text).hint("there are: created, running, paused, restarting, exited, removing, dead")),
    }
}

fn exited_with(status: Status) -> Option<i32> {
    match status {
        Status::Exited { code, .. } => Some(code),
        _ => None,
    }
}

fn has_mount(spec: &Spec, word: &str) -> bool {
    let path = Path::new(word);
    spec.mounts.iter().any(|mount| {
        let source = match &mount.kind {
            MountKind::Bind(bind) => bind.source == path,
            MountKind::Volume(volume) => volume.name == word,
            _ => false,
        };
        source || mount.target == path
    })
}

/// When the containers were made that `before` or `since` name.
fn created(store: &Store, key: &str, words: &[String]) -> Result<Vec<Utc>> {
    let each = words.iter().map(|word| {
        let spec = store.find(word).and_then(|id| store.read_spec(&id));
        Ok(spec.map_err(|error| error.while_doing(wrong(&format!("{key}={word}")).message()))?.created)
    });
    each.collect()
}

/// What `ancestor` may mean: a container's image by what the user called it, by its name without a tag, by its ID, or
/// an image that the container's image was made from.
struct Ancestor {
    word: String,
    name: Option<Reference>,
    id: Option<Digest>,
    layers: Vec<Digest>,
}

fn ancestors(store: &Store, words: &[String]) -> Result<Vec<Ancestor>> {
    let images = ImageStore::new(store.root());
    let each = words.iter().map(|word| {
        // A word that means no image, or several, may still be what a container was made from.
        let image = if is_id_of_image(word) { None } else { images.find(word).unwrap_or_default() };
        Ok(Ancestor {
            word: word.clone(),
            name: Reference::parse(word).ok(),
            id: image.as_ref().map(|image| image.id.clone()),
            layers: image.map(|image| image.config.rootfs.diff_ids).unwrap_or_default(),
        })
    });
    each.collect()
}

fn is_id_of_image(word: &str) -> bool {
    is_id(word.trim_start_matches("sha256:"))
}

impl Ancestor {
    fn is_of(&self, spec: &Spec) -> bool {
        let image = usage::image_of(spec);
        let hex = self.word.trim_start_matches("sha256:");
        let by_id = image.is_some_and(|image| {
            self.id.as_ref() == Some(&image) || (hex.len() >= 3 && image.hex().starts_with(hex))
        });
        let stands_on = !self.layers.is_empty() && usage::layers_of(spec).starts_with(&self.layers);
        by_id || stands_on || self.word == spec.image || self.names(&spec.image)
    }

    fn names(&self, image: &str) -> bool {
        let (Some(wanted), Ok(image)) = (&self.name, Reference::parse(image)) else { return false };
        let without_tag = wanted.tag.is_none() && wanted.digest.is_none();
        let image = image.or_latest();
        wanted.repository() == image.repository()
            && (without_tag || (wanted.tag == image.tag && wanted.digest == image.digest))
    }
}

/// The networks as specs name them: `container:NAME` is recorded with the ID.
fn networks(store: &Store, words: &[String]) -> Vec<String> {
    let each =
        words.iter().map(|word| match word.strip_prefix("container:").map(|other| store.find(other)) {
            Some(Ok(id)) => format!("container:{id}"),
            _ => word.clone(),
        });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Result<Filters> {
        Filters::parse(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn keys_and_values_that_mean_nothing_are_refused() {
        for (text, cause) in [
            ("name", "KEY=VALUE"),
            ("colour=red", "there are: id, name"),
            ("status=asleep", "there are: created"),
            ("exited=never", "no exit code"),
            ("name=(", "regular expression"),
            ("until=soon", "neither"),
            ("health=fine", "there are: starting"),
        ] {
            let error = parse(&[text]).unwrap_err();
            assert!(error.report().contains(cause), "{}", error.report());
        }
        assert!(Filters::parse_for_prune(&["name=x".to_owned()]).is_err());
        assert!(Filters::parse_for_prune(&["label!=x".to_owned(), "until=24h".to_owned()]).is_ok());
    }

    #[test]
    fn asking_for_a_state_means_all_containers() {
        assert!(parse(&["status=exited"]).unwrap().name_states());
        assert!(parse(&["exited=0"]).unwrap().name_states());
        assert!(!parse(&["name=web", "label=a"]).unwrap().name_states());
    }

    #[test]
    fn an_ancestor_is_named_with_or_without_its_tag() {
        let ancestor = |word: &str| Ancestor {
            word: word.to_owned(),
            name: Reference::parse(word).ok(),
            id: None,
            layers: Vec::new(),
        };
        for (word, image, fits) in [
            ("debian", "debian:12", true),
            ("debian", "docker.io/library/debian", true),
            ("debian:12", "debian:12", true),
            ("debian:latest", "debian", true),
            ("debian:12", "debian:13", false),
            ("quay.io/debian", "debian", false),
            ("deb", "debian", false),
        ] {
            assert_eq!(ancestor(word).names(image), fits, "{word} {image}");
        }
    }
}
