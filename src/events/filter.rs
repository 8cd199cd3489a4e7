//! `--filter` of `events`.

use super::{Action, Event, Kind};
use crate::error::{Error, Result};
use crate::image::reference::Reference;

/// Different keys all have to hold; of the same key one, but of labels all.
#[derive(Debug, Default)]
pub struct Filters {
    containers: Vec<String>,
    events: Vec<String>,
    images: Vec<String>,
    labels: Vec<(String, Option<String>)>,
    networks: Vec<String>,
    pods: Vec<String>,
    kinds: Vec<Kind>,
    volumes: Vec<String>,
}

/// The keys, for messages and help.
pub const KEYS: &str = "container, event, image, label, network, pod, type, volume";

impl Filters {
    /// Reads `KEY=VALUE`s.
    ///
    /// # Errors
    /// A key that is not known, or an event or a type that there is not.
    pub fn parse(texts: &[String]) -> Result<Self> {
        let mut filters = Self::default();
        for text in texts {
            let wrong = || Error::new(format!("cannot filter by `{}`", text.escape_debug()));
            let (key, value) =
                text.split_once('=').ok_or_else(|| wrong().because("it is not `KEY=VALUE`"))?;
            let value = value.to_owned();
            match key.to_ascii_lowercase().as_str() {
                "container" => filters.containers.push(value),
                "event" | "status" if Action::is_known(&value) || value.starts_with("health_status") => {
                    filters.events.push(value);
                }
                "event" | "status" => {
                    return Err(wrong().because(format!("there is no event `{}`", value.escape_debug())));
                }
                "image" => filters.images.push(value),
                "label" => filters.labels.push(match value.split_once('=') {
                    Some((name, wanted)) => (name.to_owned(), Some(wanted.to_owned())),
                    None => (value, None),
                }),
                "network" => filters.networks.push(value),
                "pod" => filters.pods.push(value),
                "type" => filters.kinds.push(
                    Kind::parse(&value)
                        .ok_or_else(|| wrong().hint(format!("there are: {}", Kind::words())))?,
                ),
                "volume" => filters.volumes.push(value),
                _ => return Err(wrong().hint(format!("there are: {KEYS}"))),
            }
        }
        Ok(filters)
    }

    /// Whether all filters let the event through.
    pub fn fit(&self, event: &Event) -> bool {
        let pod = event.details.get("podId").map(String::as_str).unwrap_or_default();
        let health = || event.details.get("health_status").map(String::as_str).unwrap_or_default();
        any(&self.kinds, |kind| *kind == event.kind)
            && any(&self.events, |word| {
                event.action.is(word)
                    || (event.action == Action::HealthStatus
                        && *word == format!("health_status: {}", health()))
            })
            && any(&self.containers, |word| event.kind == Kind::Container && is_named(event, word))
            && any(&self.images, |word| match event.kind {
                Kind::Image => {
                    is_image(&event.name, word)
                        || starts(event.id.trim_start_matches("sha256:"), word.trim_start_matches("sha256:"))
                }
                _ => !event.image.is_empty() && is_image(&event.image, word),
            })
            && any(&self.pods, |word| match event.kind {
                Kind::Pod => is_named(event, word),
                _ => starts(pod, word),
            })
            && any(&self.volumes, |word| event.kind == Kind::Volume && is_named(event, word))
            && any(&self.networks, |word| event.kind == Kind::Network && is_named(event, word))
            && self.labels.iter().all(|(name, wanted)| {
                event
                    .labels
                    .get(name)
                    .is_some_and(|found| wanted.as_ref().is_none_or(|wanted| wanted == found))
            })
    }
}

fn any<T>(wanted: &[T], fits: impl Fn(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(fits)
}

fn is_named(event: &Event, word: &str) -> bool {
    event.name == word || starts(&event.id, word)
}

fn starts(id: &str, word: &str) -> bool {
    !word.is_empty() && id.starts_with(word)
}

/// Whether a word means the image, with or without its tag, as docker has it.
fn is_image(image: &str, word: &str) -> bool {
    if image == word {
        return true;
    }
    let (Ok(image), Ok(word)) = (Reference::parse(image), Reference::parse(word)) else { return false };
    if word.tag.is_none() && word.digest.is_none() {
        return image.repository() == word.repository();
    }
    image.or_latest() == word.or_latest()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(filters: &[&str], event: &Event) -> bool {
        let texts: Vec<String> = filters.iter().map(|&text| text.to_owned()).collect();
        Filters::parse(&texts).unwrap().fit(event)
    }

    fn started() -> Event {
        let mut event = Event::new(Kind::Container, Action::Start, "abc123", "web").with("podId", "fed987");
        event.image = "debian:12".to_owned();
        event.labels.insert("a".to_owned(), "1".to_owned());
        event.labels.insert("b".to_owned(), "2".to_owned());
        event
    }

    #[test]
    fn keys_hold_together_and_values_by_themselves() {
        let event = started();
        for yes in [
            &[][..],
            &["event=start"],
            &["event=stop", "event=start"],
            &["container=web"],
            &["container=abc"],
            &["type=container", "event=start", "container=web"],
            &["label=a"],
            &["label=a=1", "label=b=2"],
            &["image=debian"],
            &["image=docker.io/library/debian:12"],
            &["pod=fed9"],
        ] {
            assert!(fits(yes, &event), "{yes:?}");
        }
        for no in [
            &["event=stop"][..],
            &["container=we"],
            &["container="],
            &["type=image"],
            &["type=container", "event=died"],
            &["label=a", "label=c"],
            &["label=a=2"],
            &["image=debian:11"],
            &["image=alpine"],
            &["volume=web"],
            &["pod=web"],
        ] {
            assert!(!fits(no, &event), "{no:?}");
        }
    }

    #[test]
    fn both_dialects_have_their_words() {
        let event = Event::new(Kind::Container, Action::Remove, "abc", "web");
        assert!(fits(&["event=destroy"], &event) && fits(&["event=remove"], &event));
        let event =
            Event::new(Kind::Container, Action::HealthStatus, "abc", "web").with("health_status", "healthy");
        assert!(fits(&["event=health_status"], &event) && fits(&["event=health_status: healthy"], &event));
        assert!(!fits(&["event=health_status: unhealthy"], &event));
        let event = Event::image(Action::Pull, "sha256:00ff", "docker.io/library/debian:12");
        assert!(fits(&["image=debian:12"], &event) && fits(&["image=00f"], &event));
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (text, cause) in [
            ("event", "KEY=VALUE"),
            ("event=explode", "no event `explode`"),
            ("type=moon", "container, image"),
            ("colour=red", "container, event"),
        ] {
            let error = Filters::parse(&[text.to_owned()]).unwrap_err();
            assert!(error.report().contains(cause), "{}", error.report());
        }
    }
}
