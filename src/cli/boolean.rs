//! `--rm=true` and `-i=false`: flags with a value, as programs that drive podman or docker write them.

use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The words with the flag that `error` refused for its value written as it is read: alone, or left out. None
/// where the error is about something else.
pub fn rewritten(
    error: &clap::Error,
    mut words: Vec<OsString>,
    command: &clap::Command,
) -> Option<Vec<OsString>> {
    let refused = named(error, ContextKind::InvalidArg)?;
    let at = match error.kind() {
        ErrorKind::TooManyValues => {
            let written = format!("{refused}={}", named(error, ContextKind::InvalidValue)?);
            words.iter().position(|word| *word == *written)?
        }
        // What is left of `-i=false` after `-i`.
        ErrorKind::UnknownArgument if refused == "-=" => {
            let verb = words.iter().find_map(|word| command.find_subcommand(word))?;
            words.iter().position(|word| is_cluster_of_flags(word, verb))?
        }
        _ => return None,
    };
    let (flag, value) = words[at].to_str()?.split_once('=')?;
    let (flag, value) = (flag.to_owned(), boolean(value)?);
    if value {
        words[at] = flag.into();
        return Some(words);
    }
    // The last one counts, as it does there.
    let mut place = 0..;
    words.retain(|word| place.next().is_some_and(|place| place > at) || **word != *flag);
    let at = words
        .iter()
        .position(|word| word.to_str().is_some_and(|word| word.starts_with(&format!("{flag}="))))?;
    match &flag[..flag.len() - 1] {
        short if short.len() > 1 && !short.starts_with("--") => words[at] = short.into(),
        _ => {
            words.remove(at);
        }
    }
    Some(words)
}

fn named(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind) {
        Some(ContextValue::String(word)) => Some(word),
        _ => None,
    }
}

/// `-it=false`, with letters that all stand for flags without a value.
fn is_cluster_of_flags(word: &OsStr, verb: &clap::Command) -> bool {
    let Some((letters, _)) = word.to_str().and_then(|word| word.strip_prefix('-')?.split_once('=')) else {
        return false;
    };
    let is_flag = |letter| {
        let found = verb.get_arguments().find(|argument| argument.get_short() == Some(letter));
        found.is_some_and(|argument| !argument.get_action().takes_values())
    };
    !letters.is_empty() && letters.chars().all(is_flag)
}

/// The spellings of Go's strconv.ParseBool.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::{Arg, ArgAction, Command};

    use super::*;

    fn command() -> Command {
        let flag =
            |name: &'static str, letter| Arg::new(name).long(name).short(letter).action(ArgAction::SetTrue);
        let run = Command::new("run")
            .args_override_self(true)
            .args([flag("rm", 'r'), flag("interactive", 'i'), flag("tty", 't')])
            .arg(Arg::new("env").short('e').action(ArgAction::Append))
            .arg(Arg::new("words").num_args(0..).trailing_var_arg(true));
        Command::new("sbx").subcommand(run)
    }

    /// The flags that were set after every rewriting, or None for an error that stays.
    fn set(line: &str) -> Option<Vec<&'static str>> {
        let mut words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        loop {
            match command().try_get_matches_from(&words) {
                Ok(matches) => {
                    let (_, run) = matches.subcommand()?;
                    return Some(
                        ["rm", "interactive", "tty"].into_iter().filter(|flag| run.get_flag(flag)).collect(),
                    );
                }
                Err(error) => words = rewritten(&error, words, &command())?,
            }
        }
    }

    #[test]
    fn flags_take_the_words_of_go_as_values() {
        for (line, expected) in [
            ("sbx run --rm=true x", &["rm"][..]),
            ("sbx run --rm=0 -i=T x", &["interactive"]),
            ("sbx run -it=false x", &["interactive"]),
            ("sbx run -it=true --rm=false x", &["interactive", "tty"]),
            ("sbx run --rm --rm=false --tty=1 x --tty=0", &["tty"]),
            ("sbx run -t=false x", &[]),
            ("sbx run -e=true -t=true x", &["tty"]),
        ] {
            assert_eq!(set(line).as_deref(), Some(expected), "{line}");
        }
    }

    #[test]
    fn what_is_no_boolean_stays_an_error() {
        for line in ["sbx run --rm=maybe x", "sbx run -i= x", "sbx run --nothing=true x", "sbx run -z=true x"]
        {
            assert_eq!(set(line), None, "{line}");
        }
    }
}
