//! One event, and the words that podman and docker have for it.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::container::spec::Spec;

/// What something happened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Container,
    Image,
    Network,
    Pod,
    Secret,
    System,
    Volume,
}

impl Kind {
    const ALL: [Self; 7] =
        [Self::Container, Self::Image, Self::Network, Self::Pod, Self::Secret, Self::System, Self::Volume];

    pub fn word(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Network => "network",
            Self::Pod => "pod",
            Self::Secret => "secret",
            Self::System => "system",
            Self::Volume => "volume",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    pub fn words() -> String {
        Self::ALL.map(Self::word).join(", ")
    }
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Attach,
    Build,
    Checkpoint,
    Commit,
    Connect,
    Copy,
    Create,
    /// The first process of a container ended, by itself or not: `exitCode`.
    Died,
    Disconnect,
    Exec,
    ExecDied,
    Export,
    HealthStatus,
    Import,
    Kill,
    Load,
    Mount,
    Oom,
    Pause,
    Prune,
    Pull,
    Push,
    Remove,
    Rename,
    Resize,
    Restart,
    Save,
    Start,
    Stop,
    Tag,
    Unmount,
    Unpause,
    Untag,
    Update,
}

/// Each with podman's word and docker's.
const WORDS: &[(Action, &str, &str)] = &[
    (Action::Attach, "attach", "attach"),
    (Action::Build, "build", "build"),
    (Action::Checkpoint, "checkpoint", "checkpoint"),
    (Action::Commit, "commit", "commit"),
    (Action::Connect, "connect", "connect"),
    (Action::Copy, "copy", "copy"),
    (Action::Create, "create", "create"),
    (Action::Died, "died", "die"),
    (Action::Disconnect, "disconnect", "disconnect"),
    (Action::Exec, "exec", "exec_start"),
    (Action::ExecDied, "exec_died", "exec_die"),
    (Action::Export, "export", "export"),
    (Action::HealthStatus, "health_status", "health_status"),
    (Action::Import, "import", "import"),
    (Action::Kill, "kill", "kill"),
    (Action::Load, "loadfromarchive", "load"),
    (Action::Mount, "mount", "mount"),
    (Action::Oom, "oom", "oom"),
    (Action::Pause, "pause", "pause"),
    (Action::Prune, "prune", "prune"),
    (Action::Pull, "pull", "pull"),
    (Action::Push, "push", "push"),
    (Action::Remove, "remove", "destroy"),
    (Action::Rename, "rename", "rename"),
    (Action::Resize, "resize", "resize"),
    (Action::Restart, "restart", "restart"),
    (Action::Save, "save", "save"),
    (Action::Start, "start", "start"),
    (Action::Stop, "stop", "stop"),
    (Action::Tag, "tag", "tag"),
    (Action::Unmount, "unmount", "unmount"),
    (Action::Unpause, "unpause", "unpause"),
    (Action::Untag, "untag", "untag"),
    (Action::Update, "update", "update"),
];

impl Action {
    pub fn podman(self) -> &'static str {
        WORDS.iter().find(|(action, ..)| *action == self).map_or("", |(_, podman, _)| podman)
    }

    /// docker's word, which for images that go is another.
    pub fn docker(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Self::Remove, Kind::Image) => "delete",
            (Self::Remove, Kind::Secret) => "remove",
            _ => WORDS.iter().find(|(action, ..)| *action == self).map_or("", |(.., docker)| docker),
        }
    }

    /// Whether a word of either means it.
    pub fn is(self, word: &str) -> bool {
        match self {
            Self::Remove => ["remove", "destroy", "delete"].contains(&word),
            Self::Exec => ["exec", "exec_create", "exec_start"].contains(&word),
            _ => WORDS
                .iter()
                .any(|(action, podman, docker)| *action == self && (*podman == word || *docker == word)),
        }
    }

    pub fn is_known(word: &str) -> bool {
        WORDS.iter().any(|(action, ..)| action.is(word))
    }
}

/// Something that happened, as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Nanoseconds since the epoch.
    pub time: i64,
    pub kind: Kind,
    pub action: Action,
    /// Of an image `sha256:…`; a volume's is its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What a container was made from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// What else belongs to it, under docker's names: `exitCode`, `signal`, `oldName`, `execID`, `podId`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Event {
    /// Something that happens now.
    pub fn new(kind: Kind, action: Action, id: impl Into<String>, name: impl Into<String>) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            time: i64::try_from(now.as_nanos()).unwrap_or(i64::MAX),
            kind,
            action,
            id: id.into(),
            name: name.into(),
            image: String::new(),
            details: BTreeMap::new(),
            labels: BTreeMap::new(),
        }
    }

    /// Something that happens to a container now.
    pub fn container(action: Action, spec: &Spec) -> Self {
        Self {
            image: spec.image.clone(),
            labels: spec.labels.clone(),
            ..Self::new(Kind::Container, action, &spec.id, &spec.name)
        }
    }

    /// Something that happens to an image now.
    pub fn image(action: Action, id: impl std::fmt::Display, name: impl Into<String>) -> Self {
        Self::new(Kind::Image, action, id.to_string(), name)
    }

    /// With a detail more: `exitCode`, `signal`, `oldName` and the like.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.details.insert(name.to_owned(), value.to_string());
        self
    }

    #[must_use]
    pub fn with_labels(mut self, labels: &BTreeMap<String, String>) -> Self {
        self.labels = labels.clone();
        self
    }

    /// The line that is recorded. Labels of an image may be of any length, and a reader has to hold a line: what is
    /// too long to be of use to anybody is left out.
    pub(super) fn line(&self) -> serde_json::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)?;
        if line.len() >= LONGEST_LINE {
            let mut shorter = self.clone();
            shorter.labels.clear();
            line = serde_json::to_vec(&shorter)?;
        }
        line.push(b'\n');
        Ok(line)
    }

    /// None where the line is torn, or of a version that has more words.
    pub fn parse(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }
}

/// Bytes of a line, at most.
pub(super) const LONGEST_LINE: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_has_words_and_is_found_by_them() {
        for (action, podman, docker) in WORDS {
            assert_eq!(action.podman(), *podman);
            assert!(action.is(podman) && action.is(docker), "{podman}");
            assert!(Action::is_known(podman) && Action::is_known(docker));
        }
        assert!(Action::Remove.is("destroy") && Action::Died.is("die") && Action::Exec.is("exec_create"));
        assert_eq!(Action::Remove.docker(Kind::Image), "delete");
        assert_eq!(Action::Remove.docker(Kind::Container), "destroy");
        assert!(!Action::is_known("explode"));
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let event = Event::new(Kind::Volume, Action::Create, "data", "data").with("driver", "local");
        let line = event.line().unwrap();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(Event::parse(&line).unwrap(), event);
        assert!(Event::parse(&line[..line.len() / 2]).is_none());
        assert!(Event::parse(b"{\"time\":1,\"kind\":\"moon\",\"action\":\"start\"}").is_none());
    }

    #[test]
    fn labels_without_end_are_left_out() {
        let mut event = Event::new(Kind::Image, Action::Pull, "sha256:0", "big");
        event.labels.insert("long".to_owned(), "x".repeat(LONGEST_LINE));
        let line = event.line().unwrap();
        assert!(line.len() < 1000);
        assert_eq!(Event::parse(&line).unwrap().name, "big");
    }
}
