//! What a builder made of a case, as lines that can be compared, kept and read.

use std::collections::BTreeMap;

/// Facts about an image: a path and what is there, or a field of the configuration and its value.
pub type Facts = BTreeMap<String, String>;

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub enum Outcome {
    Made(Facts),
    /// What the builder said.
    Failed(String),
}

impl Outcome {
    /// What is compared: that a build failed, and not its words.
    pub fn facts(&self) -> Facts {
        match self {
            Self::Made(facts) => facts.clone(),
            Self::Failed(_) => Facts::from([("fails".to_owned(), "yes".to_owned())]),
        }
    }

    /// For the eye: without the facts that hold for the base image, too.
    pub fn shown(&self, base: &Facts) -> String {
        match self {
            Self::Failed(said) => format!("failed: {said}"),
            Self::Made(facts) => {
                let new = facts.iter().filter(|(key, value)| base.get(*key) != Some(value));
                let gone = base.keys().filter(|key| !facts.contains_key(*key));
                let gone = gone.filter(|key| !key.starts_with("/bin/")).map(|key| format!("{key} absent"));
                let lines: Vec<String> =
                    new.map(|(key, value)| format!("{key} {value}")).chain(gone).collect();
                lines.join("\n")
            }
        }
    }
}
