//! Options of `sbx build` that say what the image is to have.

use std::collections::BTreeMap;

use super::split;
use crate::build::finish::Changes;
use crate::error::{Error, Result};

/// What docker calls an annotation that is nobody's but the manifest's.
const LEVELS: [&str; 3] = ["index", "manifest-descriptor", "index-descriptor"];

/// What is changed of the image beside what the Dockerfile says.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Image")]
pub struct ImageOptions {
    /// Set a label of the image
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Leave out a label of the base
    #[arg(long, value_name = "KEY")]
    unsetlabel: Vec<String>,
    /// Whether labels of the base are kept; default: true
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, action = clap::ArgAction::Set)]
    inherit_labels: Option<bool>,
    /// Set an annotation of the image's manifest
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    /// Set a variable as ENV does, before the first instruction of each stage on an image
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Leave out a variable of the image
    #[arg(long, value_name = "NAME")]
    unsetenv: Vec<String>,
    /// Leave out the history
    #[arg(long)]
    omit_history: bool,
    /// Version of the operating system that the image needs
    #[arg(long, value_name = "VERSION")]
    os_version: Option<String>,
    /// Feature of the operating system that the image needs
    #[arg(long, value_name = "FEATURE")]
    os_feature: Vec<String>,
    /// Take this image in place of that of the first FROM
    #[arg(long, value_name = "IMAGE")]
    pub from: Option<String>,
}

impl ImageOptions {
    /// # Errors
    /// An option is not understood.
    pub fn changes(&self) -> Result<Changes> {
        let labels = self.label.iter().map(|text| match text.split_once('=') {
            None => Ok((text.clone(), String::new())),
            Some(_) => pair("--label", text),
        });
        Ok(Changes {
            labels: labels.collect::<Result<_>>()?,
            unset_labels: self.unsetlabel.clone(),
            inherits_labels: self.inherit_labels != Some(false),
            annotations: self.annotation.iter().map(|text| annotation(text)).collect::<Result<_>>()?,
            unset_variables: self.unsetenv.clone(),
            omits_history: self.omit_history,
            os_version: self.os_version.clone(),
            os_features: self.os_feature.clone(),
        })
    }

    /// The instructions that `--env` stands for.
    ///
    /// # Errors
    /// One has no name.
    pub fn environment(&self) -> Result<Vec<String>> {
        let mut instructions = Vec::new();
        for text in &self.env {
            let (name, value) = match text.split_once('=') {
                Some(_) => pair("--env", text)?,
                None => match std::env::var(text) {
                    Ok(value) => (text.clone(), value),
                    Err(_) => continue,
                },
            };
            if value.contains(['\n', '\r'])
                || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
            {
                return Err(Error::new(format!("cannot use `--env {}`", text.escape_debug()))
                    .because("an ENV has a plain name, and a value of one line"));
            }
            instructions.push(format!("ENV {name}='{}'", value.replace('\'', r#"'"'"'"#)));
        }
        Ok(instructions)
    }
}

fn pair(flag: &str, text: &str) -> Result<(String, String)> {
    split(flag, text).map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// `KEY=VALUE`, with docker's word for what is annotated before it.
pub fn annotation(text: &str) -> Result<(String, String)> {
    let (level, rest) = match text.split_once(':') {
        Some((level, rest)) if !level.contains('=') => (level.split('[').next().unwrap_or(level), rest),
        _ => ("", text),
    };
    if LEVELS.contains(&level) {
        return Err(Error::new(format!("cannot use `--annotation {}`", text.escape_debug()))
            .because("a build makes one manifest, and no index that could be annotated")
            .hint(format!("`--annotation {rest}` annotates the manifest")));
    }
    pair("--annotation", if level == "manifest" { rest } else { text })
}

/// The variables of `--build-arg-file`: lines `NAME=VALUE`, or names of the caller's own variables.
///
/// # Errors
/// A file cannot be read, or a line has no name.
pub fn argument_files(paths: &[std::path::PathBuf]) -> Result<BTreeMap<String, String>> {
    use crate::error::Step;
    let mut lines = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(path).step(|| format!("cannot read `{}`", path.display()))?;
        let texts =
            text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.extend(texts.map(str::to_owned));
    }
    super::arguments(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_say_what_they_annotate() {
        let of = |text: &str| annotation(text).map(|(key, value)| format!("{key} {value}"));
        assert_eq!(of("a.b=c:d").unwrap(), "a.b c:d");
        assert_eq!(of("manifest:a=b").unwrap(), "a b");
        assert_eq!(of("manifest[linux/amd64]:a=b").unwrap(), "a b");
        for text in ["index:a=b", "manifest-descriptor:a=b", "a", "=b"] {
            assert!(of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn variables_become_instructions_that_expand_nothing() {
        let options = ImageOptions { env: vec!["A=it's $B".to_owned()], ..ImageOptions::default() };
        assert_eq!(options.environment().unwrap(), [r#"ENV A='it'"'"'s $B'"#]);
        for wrong in ["A=b\nRUN x", "A B=c", "=x"] {
            let options = ImageOptions { env: vec![wrong.to_owned()], ..ImageOptions::default() };
            assert!(options.environment().is_err(), "{wrong:?}");
        }
    }
}
