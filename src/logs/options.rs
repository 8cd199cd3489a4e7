//! `--log-driver` and `--log-opt`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::container::size;
use crate::container::spec::LogDriver;
use crate::error::{Error, Result};
use crate::output::template::Format;

/// The most files that a log is kept in: each new one renames all.
const MOST_FILES: u32 = 1000;
/// With `local` (docker's documentation of that driver).
const LOCAL_SIZE: u64 = 20 << 20;
const LOCAL_FILES: u32 = 5;
/// Of the attributes in bytes: each entry of json-file holds them.
const LONGEST_ATTRIBUTES: usize = 16 * 1024;

/// How the log is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// As typed, for those who look.
    pub typed: BTreeMap<String, String>,
    /// Bytes after which a new file is begun; none: never.
    pub max_size: Option<u64>,
    /// How many files there are at most, the one that grows included.
    pub max_files: u32,
    /// Where the log is, if not in the container's directory.
    pub path: Option<PathBuf>,
    /// The tag, labels and variables that were asked for: shown by `logs --details`.
    pub attributes: BTreeMap<String, String>,
}

/// `--log-driver`, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// Kept as `K8sFile` is, with docker's defaults for sizes.
    Local,
    Other(LogDriver),
}

impl std::str::FromStr for Driver {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused = || Error::new(format!("cannot use `--log-driver {text}`"));
        let hint = "there are: k8s-file, json-file, none, passthrough";
        Ok(match text {
            "k8s-file" => Self::Other(LogDriver::K8sFile),
            "json-file" => Self::Other(LogDriver::JsonFile),
            "none" => Self::Other(LogDriver::None),
            "passthrough" => Self::Other(LogDriver::Passthrough),
            "local" => Self::Local,
            "passthrough-tty" => {
                return Err(refused()
                    .because("the container could type into the terminal of its caller")
                    .hint("`-it` gives it a terminal of its own"));
            }
            "journald" => {
                return Err(refused()
                    .because("logs are kept in files, which `sbx logs` can read back on every machine")
                    .hint(
                        "pipe `sbx logs -f CONTAINER` to `systemd-cat`, or use one of: k8s-file, json-file",
                    ));
            }
            "syslog" | "gelf" | "fluentd" | "awslogs" | "splunk" | "etwlogs" | "gcplogs" | "logentries" => {
                return Err(refused()
                    .because("logs are kept in files, and sent nowhere")
                    .hint("let a collector of logs read the file that `--log-opt path=FILE` names"));
            }
            _ => return Err(refused().hint(hint)),
        })
    }
}

/// The container, as far as a log says something of it.
pub struct Facts<'a> {
    pub id: &'a str,
    pub name: &'a str,
    pub image: &'a str,
    pub labels: &'a BTreeMap<String, String>,
    /// `NAME=VALUE` each.
    pub environment: &'a [String],
}

/// Reads all `--log-opt`.
///
/// # Errors
/// The first that is unknown, wrong, or means nothing with this driver.
pub fn parse(driver: Driver, texts: &[String], facts: &Facts<'_>) -> Result<(LogDriver, Options)> {
    let mut options = Options { max_files: 1, ..Options::default() };
    let (kept_as, is_local) = match driver {
        Driver::Local => (LogDriver::K8sFile, true),
        Driver::Other(driver) => (driver, false),
    };
    if is_local {
        (options.max_size, options.max_files) = (Some(LOCAL_SIZE), LOCAL_FILES);
    }
    let kept = matches!(kept_as, LogDriver::K8sFile | LogDriver::JsonFile);
    for text in texts {
        let (key, value) = text.split_once('=').ok_or_else(|| {
            Error::new(format!("cannot use `--log-opt {text}`"))
                .hint("write NAME=VALUE, such as max-size=10m")
        })?;
        options.typed.insert(key.to_owned(), value.to_owned());
        // Of nothing there is never too much.
        if !kept && !matches!(key, "max-size" | "max-file") {
            return Err(Error::new(format!("cannot use `--log-opt {key}`"))
                .because("with this log driver nothing is kept")
                .hint("add `--log-driver k8s-file`, or leave it out"));
        }
        apply(&mut options, key, value, facts)?;
    }
    if options.max_files > 1 && options.max_size.is_none() && kept {
        return Err(Error::new("cannot use `--log-opt max-file`")
            .because("without a size no second file is ever begun")
            .hint("add `--log-opt max-size=10m`"));
    }
    let length: usize = options.attributes.iter().map(|(name, value)| name.len() + value.len()).sum();
    if length > LONGEST_ATTRIBUTES {
        return Err(Error::new("cannot put labels and variables into the log")
            .because("they are longer than 16 KiB, and every line would hold them")
            .hint("name fewer with `--log-opt labels=…` and `--log-opt env=…`"));
    }
    Ok((kept_as, options))
}

fn apply(options: &mut Options, key: &str, value: &str, facts: &Facts<'_>) -> Result<()> {
    let flag = || format!("--log-opt {key}");
    let refused = || Error::new(format!("cannot use `--log-opt {key}={value}`"));
    match key {
        "max-size" if value == "-1" => options.max_size = None,
        "max-size" => {
            let size = size::parse(&flag(), value)?;
            if size == 0 {
                return Err(refused()
                    .because("nothing fits in there")
                    .hint("-1 means that there is no limit"));
            }
            options.max_size = Some(size);
        }
        "max-file" => {
            options.max_files =
                value.parse().ok().filter(|count| (1..=MOST_FILES).contains(count)).ok_or_else(|| {
                    refused().hint(format!("write how many files there may be, from 1 to {MOST_FILES}"))
                })?;
        }
        "path" => options.path = Some(path(value).map_err(|cause| refused().because(cause))?),
        "tag" => {
            if let Some(tag) = tag(value, facts)? {
                options.attributes.insert("tag".to_owned(), tag);
            }
        }
        "labels" => {
            for name in names(value) {
                if let Some(label) = facts.labels.get(name) {
                    options.attributes.insert(name.to_owned(), label.clone());
                }
            }
        }
        "env" => {
            for name in names(value) {
                let found =
                    facts.environment.iter().find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
                if let Some(variable) = found {
                    options.attributes.insert(name.to_owned(), variable.to_owned());
                }
            }
        }
        "mode" if value == "blocking" => {}
        "mode" | "max-buffer-size" => {
            return Err(Error::new(format!("cannot use `--log-opt {key}={value}`"))
                .because("every line is written before the container goes on: none is ever dropped")
                .hint("leave it out"));
        }
        "compress" if value == "false" => {}
        "compress" => return Err(refused().because("old files of a log are not compressed")),
        "labels-regex" | "env-regex" => {
            return Err(refused()
                .because("labels and variables are named one by one")
                .hint(format!("write `--log-opt {}=NAME,NAME`", key.trim_end_matches("-regex"))));
        }
        _ => {
            return Err(refused()
                .because("it is unknown")
                .hint("there are: max-size, max-file, path, tag, labels, env"));
        }
    }
    Ok(())
}

fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|name| !name.is_empty())
}

/// An absolute path, so that the working directory of whoever starts the container does not matter.
fn path(value: &str) -> Result<PathBuf, String> {
    if value.is_empty() {
        return Err("it names no file".to_owned());
    }
    let path = std::path::absolute(value).map_err(|error| crate::error::plain(&error.to_string()))?;
    match std::fs::symlink_metadata(&path) {
        Ok(found) if found.is_file() || path == Path::new("/dev/null") => Ok(path),
        Ok(_) => Err("it is not a file".to_owned()),
        Err(_) => match path.parent().map(std::fs::metadata) {
            Some(Ok(parent)) if parent.is_dir() => Ok(path),
            _ => Err("its directory does not exist".to_owned()),
        },
    }
}

/// docker's and podman's fields in one.
fn tag(template: &str, facts: &Facts<'_>) -> Result<Option<String>> {
    if template.is_empty() {
        return Ok(None);
    }
    if !template.contains("{{") {
        return Ok(Some(template.to_owned()));
    }
    let fields = json!({
        "ID": facts.id.get(..12).unwrap_or(facts.id),
        "FullID": facts.id,
        "Id": facts.id,
        "Name": facts.name,
        "ImageName": facts.image,
        "DaemonName": "sbx",
        "Config": { "Image": facts.image, "Labels": facts.labels },
    });
    let text = Format::parse(template)
        .and_then(|format| format.object(&fields))
        .map_err(|error| error.while_doing(format!("cannot use `--log-opt tag={template}`")))?;
    Ok(Some(text.trim_end_matches('\n').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(driver: &str, texts: &[&str]) -> Result<(LogDriver, Options)> {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
        let environment = ["X=y=z".to_owned(), "XX=no".to_owned()];
        let facts = Facts {
            id: "0123456789abcdef",
            name: "web",
            image: "docker.io/library/nginx",
            labels: &labels,
            environment: &environment,
        };
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        parse(driver.parse()?, &texts, &facts)
    }

    #[test]
    fn sizes_and_files_are_read() {
        let (driver, options) = read("json-file", &["max-size=10m", "max-file=3", "mode=blocking"]).unwrap();
        assert_eq!((driver, options.max_size, options.max_files), (LogDriver::JsonFile, Some(10 << 20), 3));
        let (driver, options) = read("local", &[]).unwrap();
        assert_eq!((driver, options.max_size, options.max_files), (LogDriver::K8sFile, Some(20 << 20), 5));
        let (_, options) = read("k8s-file", &["max-size=-1"]).unwrap();
        assert_eq!((options.max_size, options.max_files), (None, 1));
        assert!(read("none", &["max-size=1m", "max-file=3"]).is_ok());
    }

    #[test]
    fn attributes_are_those_that_were_named() {
        let texts = ["tag={{.Name}}/{{.ID}}", "labels=a,nosuch", "env=X"];
        let (_, options) = read("k8s-file", &texts).unwrap();
        let pairs: Vec<(&str, &str)> =
            options.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("X", "y=z"), ("a", "1"), ("tag", "web/0123456789ab")]);
    }

    #[test]
    fn what_is_not_honoured_is_refused() {
        for (driver, text, cause) in [
            ("k8s-file", "max-size", "NAME=VALUE"),
            ("k8s-file", "max-size=0", "nothing fits"),
            ("k8s-file", "max-size=ten", "begin with a digit"),
            ("k8s-file", "max-file=0", "from 1"),
            ("k8s-file", "max-file=3", "without a size"),
            ("k8s-file", "path=", "names no file"),
            ("k8s-file", "path=/", "not a file"),
            ("k8s-file", "path=/no/such/log", "does not exist"),
            ("json-file", "compress=true", "not compressed"),
            ("json-file", "mode=non-blocking", "none is ever dropped"),
            ("json-file", "labels-regex=.", "one by one"),
            ("json-file", "fluentd-address=x", "unknown"),
            ("json-file", "tag={{.Nosuch}}", "no field"),
            ("none", "path=/tmp/log", "nothing is kept"),
            ("journald", "tag=x", "in files"),
            ("syslog", "tag=x", "sent nowhere"),
            ("x", "tag=x", "k8s-file, json-file"),
        ] {
            let error = read(driver, &[text]).unwrap_err();
            assert!(error.report().contains(cause), "{driver} {text}: {}", error.report());
        }
    }
}
