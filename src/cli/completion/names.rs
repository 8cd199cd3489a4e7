//! What the scripts of shells ask for while one types: the names that may come next on a command line.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Arg, Command};

use crate::cli::Global;
use crate::cli::container::Place;
use crate::cli::{network, pod, secret};
use crate::container::list;
use crate::error::Result;
use crate::image::store::ImageStore;
use crate::volume::store::VolumeStore;

/// What `--network` takes besides names.
const ALWAYS_THERE: [&str; 5] = ["bridge", "host", "none", "private", "slirp4netns"];

/// What an argument names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Containers,
    Running,
    Images,
    /// Images, and `host`.
    Roots,
    /// Those that were made.
    Networks,
    /// What a container can be put into.
    AnyNetwork,
    Pods,
    Secrets,
    Volumes,
    Objects,
    /// `CONTAINER:`, where no path is meant.
    Places,
    /// Files, words: what the shell knows as well.
    Other,
    /// The words of a command in the container.
    Foreign,
}

/// What may stand in place of the last word.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    kind: Kind,
    /// `--root` among the words before.
    root: Option<PathBuf>,
}

/// The names that begin as the last word does; none where it is no name, and the shell knows better. `words` are those
/// of a command line without the program.
///
/// # Errors
/// The store cannot be read.
pub fn of(words: &[String], command: &Command) -> Result<Option<Vec<String>>> {
    let Some((typed, before)) = words.split_last() else { return Ok(None) };
    let wanted = wanted(before, typed, command);
    let names = match wanted.kind {
        Kind::Other => return Ok(None),
        // A path begins so; only CONTAINER is completed.
        Kind::Places if typed.is_empty() || typed.contains(['/', '.', ':']) => return Ok(None),
        kind => known(kind, wanted.root)?,
    };
    Ok(Some(names.into_iter().filter(|name| name.starts_with(typed.as_str())).collect()))
}

fn wanted(before: &[String], typed: &str, command: &Command) -> Wanted {
    let (mut verb, mut group) = (command, "");
    let mut position = 0;
    let mut root = None;
    let mut open: Option<&Arg> = None;
    for word in before {
        if let Some(option) = open.take() {
            if option.get_id() == "root" {
                root = Some(PathBuf::from(word));
            }
            continue;
        }
        let below = verb.find_subcommand(word).filter(|_| position == 0);
        match below {
            _ if word.len() > 1 && word.starts_with('-') => open = with_value(word, verb),
            Some(below) => (group, verb) = (verb.get_name(), below),
            None => position += 1,
        }
        if position > 0 && at(verb, group, position) == Kind::Foreign {
            return Wanted { kind: Kind::Foreign, root };
        }
    }
    let kind = match open {
        Some(option) => of_option(option, verb),
        None if typed.starts_with('-') => Kind::Other,
        None => at(verb, group, position),
    };
    Wanted { kind, root }
}

/// The option whose value is the next word.
fn with_value<'c>(word: &str, verb: &'c Command) -> Option<&'c Arg> {
    let found = match word.strip_prefix("--") {
        Some(long) => verb.get_arguments().find(|option| {
            option.get_long() == Some(long)
                || option.get_all_aliases().is_some_and(|others| others.contains(&long))
        }),
        // The last of several short ones.
        None => word.chars().last().and_then(|short| {
            verb.get_arguments().find(|option| {
                option.get_short() == Some(short)
                    || option.get_all_short_aliases().is_some_and(|others| others.contains(&short))
            })
        }),
    };
    let takes_a_word = |option: &&Arg| {
        option.get_num_args().is_none_or(|number| number.min_values() > 0) && !option.is_require_equals_set()
    };
    found.filter(|option| option.get_action().takes_values()).filter(takes_a_word)
}

fn of_option(option: &Arg, verb: &Command) -> Kind {
    match option.get_long() {
        Some("network") => Kind::AnyNetwork,
        Some("pod") => Kind::Pods,
        Some("secret") if verb.get_name() != "build" => Kind::Secrets,
        Some("volumes-from") => Kind::Containers,
        _ => Kind::Other,
    }
}

/// What the argument at this position names; the last one may come again and again.
fn at(verb: &Command, group: &str, position: usize) -> Kind {
    let positionals: Vec<&Arg> = verb.get_positionals().collect();
    let last = positionals.len().saturating_sub(1);
    let Some(argument) = positionals.get(position.min(last)) else { return Kind::Other };
    let again = argument.get_num_args().is_some_and(|number| number.max_values() > 1);
    let running = ["attach", "exec", "kill", "pause", "stats", "stop", "top"].contains(&verb.get_name());
    let containers = if running { Kind::Running } else { Kind::Containers };
    let name = argument.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
    match (name, verb.get_name()) {
        ("WORD", "run" | "create" | "exec" | "top") if position > last => Kind::Foreign,
        ("WORD", "run" | "create") => Kind::Roots,
        ("WORD", "exec" | "top") => containers,
        _ if position > last && !again => Kind::Other,
        ("CONTAINER", _) if group != "oci" => containers,
        ("CONTAINER|IMAGE|VOLUME", _) => Kind::Objects,
        ("IMAGE", _) => Kind::Images,
        ("NETWORK", _) => Kind::Networks,
        ("POD", _) => Kind::Pods,
        ("SECRET", _) => Kind::Secrets,
        ("NAME", verb) if group == "volume" && verb != "create" => Kind::Volumes,
        ("SRC" | "DST", _) => Kind::Places,
        _ => Kind::Other,
    }
}

fn known(kind: Kind, root: Option<PathBuf>) -> Result<BTreeSet<String>> {
    let global = Global { root, log_level: log::LevelFilter::Off };
    let place = Place::of(&global)?;
    let containers = |is_meant: fn(&list::Listed) -> bool| {
        let listed = list::all(&place.store).into_iter().filter(is_meant);
        listed.filter_map(|found| Some(found.spec?.name)).collect::<BTreeSet<_>>()
    };
    let every: fn(&list::Listed) -> bool = |_| true;
    let images = || -> Result<BTreeSet<String>> {
        let listed = ImageStore::new(place.store.root()).list()?;
        Ok(listed.into_iter().filter_map(|entry| Some(entry.reference?.familiar())).collect())
    };
    let volumes = || VolumeStore::new(place.store.root()).names();
    Ok(match kind {
        Kind::Containers => containers(every),
        Kind::Running => containers(|found| found.status.is_up()),
        Kind::Places => containers(every).into_iter().map(|name| name + ":").collect(),
        Kind::Images => images()?,
        Kind::Roots => images()?.into_iter().chain(["host".to_owned()]).collect(),
        Kind::Networks => network::names(&place)?.into_iter().collect(),
        Kind::AnyNetwork => {
            network::names(&place)?.into_iter().chain(ALWAYS_THERE.map(str::to_owned)).collect()
        }
        Kind::Pods => pod::names(&place)?.into_iter().collect(),
        Kind::Secrets => secret::names(&global)?.into_iter().collect(),
        Kind::Volumes => volumes()?.into_iter().collect(),
        Kind::Objects => containers(every).into_iter().chain(images()?).chain(volumes()?).collect(),
        Kind::Other | Kind::Foreign => BTreeSet::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_goes_by_command_position_and_option() {
        let command = crate::cli::command();
        for (line, kind) in [
            ("", Kind::Other),
            ("rm ", Kind::Containers),
            ("rm one two", Kind::Containers),
            ("rm -f -t 5 ", Kind::Containers),
            ("rm -ft ", Kind::Other),
            ("rm --for", Kind::Other),
            ("container start ", Kind::Containers),
            ("exec -it -u root ", Kind::Running),
            ("exec web ", Kind::Foreign),
            ("exec web ls --al", Kind::Foreign),
            ("run --rm -it ", Kind::Roots),
            ("run --net ", Kind::AnyNetwork),
            ("run --network=x ", Kind::Roots),
            ("run host ", Kind::Foreign),
            ("run --init host ", Kind::Foreign),
            ("network connect ", Kind::Networks),
            ("network connect shop ", Kind::Containers),
            ("network connect shop web ", Kind::Other),
            ("volume rm ", Kind::Volumes),
            ("volume create ", Kind::Other),
            ("pod rm ", Kind::Pods),
            ("secret inspect ", Kind::Secrets),
            ("run --secret ", Kind::Secrets),
            ("build --secret ", Kind::Other),
            ("inspect ", Kind::Objects),
            ("image rm ", Kind::Images),
            ("cp ", Kind::Places),
            ("oci start ", Kind::Other),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let (typed, before) = words.split_last().unwrap();
            assert_eq!(wanted(before, typed, &command).kind, kind, "{line:?}");
        }
        let words = ["--root", "/x", "rm"].map(str::to_owned);
        assert_eq!(wanted(&words, "", &command).root, Some(PathBuf::from("/x")));
    }
}
