//! The command line that made a container, and what of it makes another one like it.

use std::path::PathBuf;

use clap::Arg;
use serde::{Deserialize, Serialize};

/// `sbx run …` or `sbx create …`, as it was typed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Creation {
    pub words: Vec<String>,
    /// Where relative paths began.
    pub directory: PathBuf,
}

impl Creation {
    /// That of this process; empty where a word is no text.
    pub fn current() -> Self {
        let words = std::env::args_os().map(|word| word.into_string().ok()).collect::<Option<_>>();
        Self { words: words.unwrap_or_default(), directory: std::env::current_dir().unwrap_or_default() }
    }
}

/// What a unit gives by itself.
const LEFT_OUT: [&str; 6] = ["detach", "rm", "name", "cidfile", "replace", "restart"];

/// The options of a command line without those that a unit sets itself. `head` are the words between the verb and the
/// image, `command` the verb with its options. `variable` is told of each `--env NAME` that has no value: it is the
/// caller's.
pub fn options(head: &[String], command: &clap::Command, mut variable: impl FnMut(&str)) -> Vec<String> {
    let mut kept = Vec::new();
    let mut words = head.iter();
    while let Some(word) = words.next() {
        if let Some(long) = word.strip_prefix("--").filter(|long| !long.is_empty()) {
            let (name, inline) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let arg = find(command, |arg| {
                arg.get_long() == Some(name)
                    || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
            });
            let value = match inline {
                Some(value) => Some(value),
                None if arg.is_some_and(takes_next_word) => words.next().cloned(),
                None => None,
            };
            let id = arg.and_then(Arg::get_long).unwrap_or(name);
            keep(&mut kept, id, word, value.as_deref(), long.contains('='), &mut variable);
        } else if let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) {
            let mut flags = String::new();
            for (at, letter) in letters.char_indices() {
                let arg = find(command, |arg| arg.get_short() == Some(letter));
                let id = arg.and_then(Arg::get_long).unwrap_or_default();
                if !arg.is_some_and(takes_next_word) {
                    if !LEFT_OUT.contains(&id) {
                        flags.push(letter);
                    }
                    continue;
                }
                let rest = letters[at + letter.len_utf8()..].to_owned();
                let value = if rest.is_empty() { words.next().cloned() } else { Some(rest) };
                if !flags.is_empty() {
                    kept.push(format!("-{flags}"));
                    flags.clear();
                }
                keep(&mut kept, id, &format!("--{id}"), value.as_deref(), false, &mut variable);
                break;
            }
            if !flags.is_empty() {
                kept.push(format!("-{flags}"));
            }
        } else {
            kept.push(word.clone());
        }
    }
    kept
}

fn keep(
    kept: &mut Vec<String>,
    id: &str,
    word: &str,
    value: Option<&str>,
    inline: bool,
    variable: &mut impl FnMut(&str),
) {
    if LEFT_OUT.contains(&id) {
        return;
    }
    if id == "env"
        && let Some(name) = value.filter(|value| !value.contains('='))
    {
        variable(name);
    }
    kept.push(word.to_owned());
    if let Some(value) = value.filter(|_| !inline) {
        kept.push(value.to_owned());
    }
}

fn find(command: &clap::Command, fits: impl Fn(&&Arg) -> bool) -> Option<&Arg> {
    command.get_arguments().find(fits)
}

/// Whether the option's value is the next word, where it is not in the same.
fn takes_next_word(arg: &Arg) -> bool {
    arg.get_action().takes_values() && !arg.is_require_equals_set()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> clap::Command {
        crate::cli::command().find_subcommand("run").expect("a verb").clone()
    }

    fn kept(words: &[&str]) -> (String, Vec<String>) {
        let head: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let mut variables = Vec::new();
        let kept = options(&head, &run(), |name| variables.push(name.to_owned()));
        (kept.join(" "), variables)
    }

    #[test]
    fn what_a_unit_sets_itself_is_left_out() {
        for (words, text) in [
            (&["-d", "--rm", "--name", "web", "-p", "80:80"][..], "--publish 80:80"),
            (&["--detach=true", "--name=web", "--cidfile", "f", "--net=host"], "--net=host"),
            (&["-dit", "-dv/a:/b", "--restart", "always"], "-it --volume /a:/b"),
            (&["-e", "-d", "--label", "--rm"], "--env -d --label --rm"),
            (&["-itd"], "-it"),
            (&["--http-proxy=false", "--sig-proxy", "--init"], "--http-proxy=false --sig-proxy --init"),
        ] {
            assert_eq!(kept(words).0, text, "{words:?}");
        }
    }

    #[test]
    fn variables_of_the_caller_are_named() {
        assert_eq!(kept(&["-e", "A", "--env=B", "-e", "C=1", "-eD"]).1, ["A", "B", "D"]);
    }
}
