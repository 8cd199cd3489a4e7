//! Instructions of a Dockerfile that change an image's configuration alone: `--change` of `import` and `commit`.

use serde_json::{Value, json};

use crate::container::duration;
use crate::error::{Error, Result};
use crate::image::documents::RunConfig;

const KNOWN: &str =
    "CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR";
/// Longer ranges of ports are a mistake.
const MOST_PORTS: u32 = 65535;

/// Applies the instructions in order. An ENTRYPOINT resets the command that was there before, unless a CMD is
/// among the instructions (docker-commit(1)).
///
/// # Errors
/// An instruction is not known or not understood.
pub fn apply(changes: &[String], config: &mut RunConfig) -> Result<()> {
    let mut command_is_new = false;
    for change in changes {
        let (keyword, text) = split(change);
        let refused = |why: &str| {
            Err(Error::new(format!("cannot apply the change `{}`", change.trim()))
                .because(why.to_owned())
                .hint(format!("write an instruction as in a Dockerfile; there are: {KNOWN}")))
        };
        if text.is_empty() && !matches!(keyword.as_str(), "CMD" | "ENTRYPOINT") {
            return refused("it has no value");
        }
        match keyword.as_str() {
            "CMD" => {
                config.cmd = Some(command(text));
                command_is_new = true;
            }
            "ENTRYPOINT" => {
                config.entrypoint = Some(command(text));
                if !command_is_new {
                    config.cmd = None;
                }
            }
            "ENV" => match pairs(text) {
                Ok(pairs) => pairs.into_iter().for_each(|(name, value)| set_variable(config, &name, &value)),
                Err(why) => return refused(why),
            },
            "LABEL" => match pairs(text) {
                Ok(pairs) => config.labels.extend(pairs),
                Err(why) => return refused(why),
            },
            "EXPOSE" => {
                for word in text.split_whitespace() {
                    match ports(word) {
                        Some(ports) => config.exposed_ports.extend(ports.map(|port| (port, json!({})))),
                        None => return refused("a port is `NUMBER[-NUMBER][/tcp|/udp|/sctp]`"),
                    }
                }
            }
            "HEALTHCHECK" => {
                let check = health_check(text)?;
                config.other.insert("Healthcheck".to_owned(), check);
            }
            "ONBUILD" => {
                let next = split(text).0;
                if ["ONBUILD", "FROM", "MAINTAINER"].contains(&next.as_str()) {
                    return refused("it may not be the trigger of another image");
                }
                match config.other.entry("OnBuild").or_insert_with(|| json!([])) {
                    Value::Array(triggers) => triggers.push(text.into()),
                    other => *other = json!([text]),
                }
            }
            "STOPSIGNAL" => {
                crate::container::signal::parse("--change STOPSIGNAL", text)?;
                config.stop_signal = Some(text.to_owned());
            }
            "USER" => config.user = text.to_owned(),
            "VOLUME" => {
                let paths =
                    json_words(text).unwrap_or_else(|| text.split_whitespace().map(str::to_owned).collect());
                if paths.iter().any(|path| path.trim().is_empty()) {
                    return refused("a volume is a path");
                }
                config.volumes.extend(paths.into_iter().map(|path| (path, json!({}))));
            }
            "WORKDIR" => config.working_dir = working_directory(&config.working_dir, text),
            _ => return refused("there is no such instruction"),
        }
    }
    Ok(())
}

/// Keyword, in capitals, and the rest; `CMD=x`, as podman has it, is `CMD x`.
fn split(change: &str) -> (String, &str) {
    let change = change.trim();
    let end = change.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(change.len());
    let (keyword, rest) = change.split_at(end);
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    (keyword.to_ascii_uppercase(), rest.trim())
}

/// A JSON array of words, or a line for the shell.
fn command(text: &str) -> Vec<String> {
    json_words(text).unwrap_or_else(|| match text {
        "" => Vec::new(),
        line => ["/bin/sh", "-c", line].map(str::to_owned).to_vec(),
    })
}

fn json_words(text: &str) -> Option<Vec<String>> {
    text.starts_with('[').then(|| serde_json::from_str(text).ok()).flatten()
}

/// `a=b c="d e"`, or the one pair `a b c` of old.
fn pairs(text: &str) -> Result<Vec<(String, String)>, &'static str> {
    let words = words(text)?;
    if !words.first().is_some_and(|word| word.contains('=')) {
        let (name, value) = text.split_once(char::is_whitespace).ok_or("it is no `NAME=VALUE`")?;
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    words
        .iter()
        .map(|word| match word.split_once('=') {
            Some(("", _)) => Err("a name is empty"),
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => Err("a word of it is no `NAME=VALUE`"),
        })
        .collect()
}

/// Words as in a Dockerfile: quotes keep spaces, a backslash the character after it.
fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\'' | '"', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (_, Some(open)) if letter == open => quote = None,
            ('\\', None | Some('"')) => {
                word.get_or_insert_default().extend(letters.next());
            }
            (space, None) if space.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed");
    }
    words.extend(word);
    Ok(words)
}

fn set_variable(config: &mut RunConfig, name: &str, value: &str) {
    let pair = format!("{name}={value}");
    let is_it = |old: &&mut String| old.split_once('=').is_some_and(|(old, _)| old == name);
    match config.env.iter_mut().find(is_it) {
        Some(old) => *old = pair,
        None => config.env.push(pair),
    }
}

/// `80`, `8000-8010/udp`: each port with its protocol.
pub(crate) fn ports(word: &str) -> Option<impl Iterator<Item = String> + use<>> {
    let (range, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let number = |text: &str| text.parse::<u32>().ok().filter(|port| (1..=MOST_PORTS).contains(port));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last && ["tcp", "udp", "sctp"].contains(&protocol.as_str()))
        .then(move || (first..=last).map(move |port| format!("{port}/{protocol}")))
}

/// `NONE`, or options and `CMD …`; spans are nanoseconds in the configuration.
fn health_check(text: &str) -> Result<Value> {
    let mut check = serde_json::Map::new();
    let mut rest = text;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) = option.split_once(char::is_whitespace).unwrap_or((option, ""));
        rest = after.trim_start();
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let field = match name {
            "interval" => "Interval",
            "timeout" => "Timeout",
            "start-period" => "StartPeriod",
            "start-interval" => "StartInterval",
            "retries" => {
                let retries: u32 = value.parse().map_err(|error| {
                    Error::new(format!("cannot use `--retries={value}` of HEALTHCHECK")).because(error)
                })?;
                check.insert("Retries".to_owned(), retries.into());
                continue;
            }
            _ => {
                return Err(Error::new(format!("cannot use `--{name}` of HEALTHCHECK"))
                    .hint("there are: --interval, --timeout, --start-period, --start-interval, --retries"));
            }
        };
        let span = duration::parse(&format!("--{name}"), value)?;
        check.insert(field.to_owned(), u64::try_from(span.as_nanos()).unwrap_or(u64::MAX).into());
    }
    let (kind, line) = split(rest);
    let test = match (kind.as_str(), json_words(line)) {
        ("NONE", _) if line.is_empty() => vec!["NONE".to_owned()],
        ("CMD", Some(words)) => std::iter::once("CMD".to_owned()).chain(words).collect(),
        ("CMD", None) if !line.is_empty() => vec!["CMD-SHELL".to_owned(), line.to_owned()],
        _ => {
            return Err(Error::new(format!("cannot apply the change `HEALTHCHECK {text}`"))
                .because("after its options it has neither `NONE` nor `CMD` and a command"));
        }
    };
    check.insert("Test".to_owned(), test.into());
    Ok(check.into())
}

/// A relative one lies below the one before.
pub fn working_directory(before: &str, text: &str) -> String {
    let joined = std::path::Path::new("/").join(before).join(text);
    let mut parts: Vec<&std::ffi::OsStr> = Vec::new();
    for part in joined.components() {
        match part {
            std::path::Component::ParentDir => {
                parts.pop();
            }
            std::path::Component::Normal(part) => parts.push(part),
            _ => {}
        }
    }
    parts.iter().fold(String::new(), |path, part| format!("{path}/{}", part.to_string_lossy()))
        + match parts.len() {
            0 => "/",
            _ => "",
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(changes: &[&str]) -> RunConfig {
        let mut config = RunConfig::default();
        let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
        apply(&changes, &mut config).unwrap();
        config
    }

    #[test]
    fn commands_are_json_or_lines_for_the_shell() {
        let config = applied(&["CMD [\"a\", \"b c\"]", "entrypoint  sleep 1"]);
        assert_eq!(config.cmd.unwrap(), ["a", "b c"]);
        assert_eq!(config.entrypoint.unwrap(), ["/bin/sh", "-c", "sleep 1"]);
        assert_eq!(applied(&["CMD=/bin/ls"]).cmd.unwrap(), ["/bin/sh", "-c", "/bin/ls"]);
    }

    #[test]
    fn an_entrypoint_resets_an_older_command() {
        let mut config = RunConfig { cmd: Some(vec!["old".to_owned()]), ..RunConfig::default() };
        apply(&["ENTRYPOINT [\"x\"]".to_owned()], &mut config).unwrap();
        assert_eq!(config.cmd, None);
    }

    #[test]
    fn variables_and_labels_have_quotes() {
        let config = applied(&[
            r#"ENV A=1 B="two words" C=a\ b D='$x'"#,
            "ENV E of old",
            "ENV A=2",
            "LABEL a.b=\"c\"",
        ]);
        assert_eq!(config.env, ["A=2", "B=two words", "C=a b", "D=$x", "E=of old"]);
        assert_eq!(config.labels["a.b"], "c");
    }

    #[test]
    fn ports_volumes_and_directories() {
        let config = applied(&[
            "EXPOSE 80 90-91/UDP",
            "VOLUME /a /b",
            "VOLUME [\"/c d\"]",
            "WORKDIR /x",
            "WORKDIR y/../z",
        ]);
        assert_eq!(config.exposed_ports.keys().collect::<Vec<_>>(), ["80/tcp", "90/udp", "91/udp"]);
        assert_eq!(config.volumes.keys().collect::<Vec<_>>(), ["/a", "/b", "/c d"]);
        assert_eq!(config.working_dir, "/x/z");
    }

    #[test]
    fn the_rest() {
        let config = applied(&[
            "USER nobody:nogroup",
            "STOPSIGNAL SIGQUIT",
            "ONBUILD RUN make",
            "HEALTHCHECK --interval=5s --retries=2 CMD curl -f x",
        ]);
        assert_eq!(
            (config.user.as_str(), config.stop_signal.as_deref()),
            ("nobody:nogroup", Some("SIGQUIT"))
        );
        assert_eq!(config.other["OnBuild"], json!(["RUN make"]));
        let check =
            json!({ "Test": ["CMD-SHELL", "curl -f x"], "Interval": 5_000_000_000_u64, "Retries": 2 });
        assert_eq!(config.other["Healthcheck"], check);
    }

    #[test]
    fn what_is_no_instruction_is_refused() {
        for change in [
            "",
            "RUN x",
            "EXPOSE x",
            "EXPOSE 0",
            "EXPOSE 9-1",
            "EXPOSE 80/x",
            "ENV",
            "ENV A=\"1",
            "ENV =1",
            "ENV alone",
            "ONBUILD FROM x",
            "STOPSIGNAL NONE",
            "HEALTHCHECK CMD",
            "HEALTHCHECK --x=1 CMD y",
            "VOLUME [\"\"]",
        ] {
            assert!(apply(&[change.to_owned()], &mut RunConfig::default()).is_err(), "{change:?}");
        }
    }
}
