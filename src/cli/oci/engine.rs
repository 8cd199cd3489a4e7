//! Engines call the program that they are given as their runtime by the words of runc, without `oci`: podman, buildah and
//! containerd have no place for another word. What they say is told from sbx's own commands, whatever its file is called.

use std::ffi::OsString;
use std::path::Path;

use crate::container::store::Store;
use crate::host::paths::{self, Surroundings};
use crate::oci::state::Root;

/// Options before a command that a runtime alone has.
const OPTIONS: &[&str] = &["--log", "--log-format", "--systemd-cgroup", "--rootless"];
/// Those that have a value.
const VALUED: &[&str] = &["--root", "--log", "--log-format", "--log-level", "--rootless", "--cgroup-manager"];
/// Commands that a runtime alone has.
const COMMANDS: &[&str] = &["state", "delete", "resume", "features"];
/// What engines say first after commands that sbx has, too, where it has no such option.
const FIRST: &[(&str, &[&str])] = &[
    ("create", &["--bundle"]),
    ("exec", &["--process", "--pid-file", "--console-socket"]),
    ("update", &["--resources", "-r"]),
];
/// Commands that are told apart by the container alone.
const BY_CONTAINER: &[&str] = &["start", "kill", "pause", "ps", "events"];

/// Whether these words, without the program's name, are an engine's.
pub fn speaks(words: &[OsString]) -> bool {
    is_of_engine(words, &is_of_bundle)
}

/// Whether the words of a runtime, without its name, ask for its version: containerd's client has other options before that.
pub fn asks_for_version(words: &[OsString]) -> bool {
    let mut rest = words.iter().map(|word| word.to_str().unwrap_or_default());
    while let Some(word) = rest.next().filter(|word| word.starts_with('-')) {
        match word {
            "-v" | "--version" => return true,
            _ if VALUED.contains(&word) => drop(rest.next()),
            _ => {}
        }
    }
    false
}

/// A container of a bundle, and none of the store.
fn is_of_bundle(root: Option<&Path>, id: &str) -> bool {
    if !Root::new(root).is_ok_and(|root| root.has(id).unwrap_or(false)) {
        return false;
    }
    let store = paths::store(root, &Surroundings::current());
    !store.is_ok_and(|store| Store::new(store).find(id).is_ok())
}

fn is_of_engine(words: &[OsString], is_of_bundle: &dyn Fn(Option<&Path>, &str) -> bool) -> bool {
    let text = |word: Option<&OsString>| word.and_then(|word| word.to_str()).map(str::to_owned);
    let mut rest = words.iter();
    let mut root = None;
    let command = loop {
        let Some(word) = text(rest.next()) else { return false };
        if !word.starts_with('-') {
            break word;
        }
        let (option, value) = word.split_once('=').map_or((word.as_str(), None), |(o, v)| (o, Some(v)));
        match option {
            _ if OPTIONS.contains(&option) => return true,
            "--root" => root = value.map(OsString::from).or_else(|| rest.next().cloned()),
            "--log-level" if value.is_none() => drop(rest.next()),
            _ => {}
        }
    };
    if COMMANDS.contains(&command.as_str()) {
        return true;
    }
    if let Some((_, options)) = FIRST.iter().find(|(name, _)| *name == command) {
        let first = text(rest.next()).unwrap_or_default();
        return options.contains(&first.split('=').next().unwrap_or_default());
    }
    let root = root.as_deref().map(Path::new);
    BY_CONTAINER.contains(&command.as_str())
        && rest
            .filter_map(|word| word.to_str())
            .any(|word| !word.starts_with('-') && is_of_bundle(root, word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_engines(line: &str) -> bool {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let known = |root: Option<&Path>, id: &str| {
            matches!((root.and_then(Path::to_str), id), (None, "bundled") | (Some("/r"), "below-r"))
        };
        is_of_engine(&words, &known)
    }

    #[test]
    fn words_of_engines_are_known() {
        for line in [
            "create --bundle /b --pid-file /p 77",
            "--systemd-cgroup create --bundle /b 77",
            "--root /r --log=/l --log-format json start 77",
            "exec --pid-file /p --process /q --detach 77",
            "update --resources - 77",
            "delete --force 77",
            "state 77",
            "start bundled",
            "kill --all bundled 15",
            "--root=/r kill below-r 9",
            "--log-level debug --root /r ps --format json below-r",
        ] {
            assert!(is_engines(line), "{line}");
        }
    }

    #[test]
    fn the_version_is_asked_for_before_a_command() {
        let asks = |line: &str| {
            asks_for_version(&line.split_terminator(' ').map(OsString::from).collect::<Vec<_>>())
        };
        for line in ["-v", "--version", "--root /r --log=/l --systemd-cgroup --version"] {
            assert!(asks(line), "{line}");
        }
        for line in ["", "--root --version state a", "exec a sh --version", "state -v"] {
            assert!(!asks(line), "{line}");
        }
    }

    #[test]
    fn words_of_people_stay_theirs() {
        for line in [
            "",
            "--version",
            "run --rm image create --bundle /b",
            "create image --bundle",
            "exec web cat --process",
            "exec -it bundled sh",
            "update --memory 5m bundled",
            "start 77",
            "start below-r",
            "--root /r start bundled",
            "--root",
            "ps -a",
            "events --filter event=start",
            "stop bundled",
        ] {
            assert!(!is_engines(line), "{line}");
        }
    }
}
