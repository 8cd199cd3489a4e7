//! `# check=skip=RULE,…;error=true`.

use std::collections::BTreeSet;

use super::super::ast::Dockerfile;
use super::super::complaint::Complaint;
use super::super::settings::Settings;
use super::Rule;
use crate::error::{Error, Result};

/// The build argument that takes the place of the directive.
const ARGUMENT: &str = "BUILDKIT_DOCKERFILE_CHECK";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// A warning ends the build.
    pub error: bool,
    skip_all: bool,
    skip: BTreeSet<String>,
}

impl Options {
    /// # Errors
    /// The directive is not understood.
    pub fn of(dockerfile: &Dockerfile, settings: &Settings) -> Result<Self> {
        if let Some(text) = settings.arguments.get(ARGUMENT) {
            return read(text).map_err(|why| {
                Error::new(format!("cannot use `--build-arg {ARGUMENT}={}`", text.escape_debug()))
                    .because(why)
            });
        }
        let Some(word) = &dockerfile.directives.check else { return Ok(Self::default()) };
        read(&word.text).map_err(|why| {
            Complaint::new(word.span, why)
                .hint("write `# check=skip=RULE,RULE;error=true`")
                .in_source(&dockerfile.source)
        })
    }

    pub fn skips(&self, rule: Rule) -> bool {
        self.skip_all || self.skip.contains(&rule.name().to_ascii_lowercase())
    }
}

fn read(text: &str) -> Result<Options, String> {
    let mut options = Options::default();
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').ok_or_else(|| format!("`{part}` is no `NAME=VALUE`"))?;
        match key.trim().to_ascii_lowercase().as_str() {
            "skip" => {
                let names = value.split(',').map(|name| name.trim().to_ascii_lowercase());
                options.skip.extend(names);
                options.skip_all = options.skip.contains("all");
            }
            "error" => {
                options.error = match value.trim().to_ascii_lowercase().as_str() {
                    "true" | "1" | "t" => true,
                    "false" | "0" | "f" => false,
                    _ => return Err("`error` is `true` or `false`".to_owned()),
                };
            }
            // It turns on rules that there are none of here.
            "experimental" => {}
            _ => return Err(format!("there is no `{}` to check", key.trim())),
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_skipped_by_name() {
        let options = read("skip=StageNameCasing, fromascasing;error=True").unwrap();
        assert!(options.error && options.skips(Rule::StageNameCasing) && options.skips(Rule::FromAsCasing));
        assert!(!options.skips(Rule::UndefinedVar));
        assert!(read("skip=all").unwrap().skips(Rule::UndefinedVar));
        assert!(!read("experimental=all").unwrap().error);
        for text in ["skip", "error=maybe", "other=x"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
