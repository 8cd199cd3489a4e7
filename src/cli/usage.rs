//! Errors of the command line, in the shape of all other errors.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::cli::{dialect, unsupported};
use crate::error::{EXIT_SBX, Error, Result};
use crate::output::print;

/// Help and version are answers; everything else is an error of the caller's words.
///
/// # Errors
/// What was wrong, with the exit code 125.
pub fn answer(error: &clap::Error) -> Result<u8> {
    match error.kind() {
        ErrorKind::DisplayHelp => {
            help(error);
            Ok(0)
        }
        ErrorKind::DisplayVersion => {
            let dialect = match verb().as_str() {
                "sbx oci" => dialect::Dialect::Runtime,
                _ => dialect::current(),
            };
            print::line(&dialect.short_version())?;
            Ok(0)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // Help was not asked for, but is what somebody needs who types `sbx` alone.
            if std::env::args_os().len() <= 1 {
                match dialect::name_of_runtime() {
                    Some(_) => help(error),
                    None => drop(super::command().print_help()),
                }
                return Ok(0);
            }
            let _ = error.print();
            Ok(EXIT_SBX)
        }
        ErrorKind::UnknownArgument => {
            Err(unsupported::explain(error).unwrap_or_else(|| unknown_option(error)))
        }
        ErrorKind::InvalidSubcommand => Err(unknown_command(error)),
        ErrorKind::InvalidValue => Err(invalid_value(error)),
        ErrorKind::ValueValidation => Err(refused_value(error)),
        ErrorKind::MissingRequiredArgument => Err(missing(error)),
        _ => Err(other(error)),
    }
}

/// Help, which a runtime gives in its own name.
fn help(error: &clap::Error) {
    match dialect::name_of_runtime() {
        Some(_) => drop(print::text(&dialect::in_own_name(&error.render().to_string()))),
        None => drop(error.print()),
    }
}

fn unknown_option(error: &clap::Error) -> Error {
    let option = word(error, ContextKind::InvalidArg);
    if !option.starts_with('-') {
        return Error::new(format!("`{}` does not take `{option}`", verb()))
            .hint(format!("`{} --help` shows what it takes", verb()));
    }
    let mut rephrased = Error::new(format!("there is no option `{option}`"));
    if let Some(similar) = list(error, ContextKind::SuggestedArg).first() {
        rephrased = rephrased.hint(format!("there is `{similar}`"));
    }
    rephrased.hint(format!("`{} --help` lists the options", verb()))
}

fn unknown_command(error: &clap::Error) -> Error {
    let command = word(error, ContextKind::InvalidSubcommand);
    if let Some(known) = unsupported::explain_command(&command) {
        return known;
    }
    let mut rephrased = Error::new(format!("there is no command `{command}`"));
    let similar = list(error, ContextKind::SuggestedSubcommand);
    if !similar.is_empty() {
        let is = if similar.len() > 1 { "are" } else { "is" };
        rephrased = rephrased.hint(format!("there {is} {}", in_backticks(&similar)));
    }
    // `sbx help` has no help of its own.
    let verb = verb();
    rephrased.hint(format!("`{} --help` lists the commands", verb.strip_suffix(" help").unwrap_or(&verb)))
}

fn invalid_value(error: &clap::Error) -> Error {
    let argument = flag(error);
    let value = word(error, ContextKind::InvalidValue);
    if value.is_empty() {
        return Error::new(format!("`{argument}` needs a value"))
            .hint(format!("`{} --help` tells which", verb()));
    }
    let what = match argument.strip_prefix('<') {
        Some(name) => format!("cannot use `{value}` as {}", name.trim_end_matches('>')),
        None => format!("cannot use `{argument} {value}`"),
    };
    Error::new(what).hint(format!("there are: {}", list(error, ContextKind::ValidValue).join(", ")))
}

/// A value that its parser refused. Our own parsers have said everything, hints included.
fn refused_value(error: &clap::Error) -> Error {
    let Some(source) = std::error::Error::source(error) else { return other(error) };
    if let Some(own) = source.downcast_ref::<Error>() {
        let whole = own.causes().iter().fold(Error::new(own.message()), |error, cause| error.because(cause));
        return own.hints().iter().fold(whole, |error, hint| error.hint(hint));
    }
    let refused =
        Error::new(format!("cannot use `{} {}`", flag(error), word(error, ContextKind::InvalidValue)));
    if source.is::<std::num::ParseIntError>() {
        return refused.because("it is no whole number, or too large a one");
    }
    refused.because(source.to_string().replace("..=", " to "))
}

fn missing(error: &clap::Error) -> Error {
    let words = list(error, ContextKind::InvalidArg);
    let words: Vec<_> = words.iter().map(|word| word.trim_matches(['<', '>', '.'])).collect();
    Error::new(format!("`{}` needs {}", verb(), words.join(" and ")))
        .hint(format!("`{} --help` has examples", verb()))
}

/// Conflicts and the like: clap's own sentence in our punctuation.
fn other(error: &clap::Error) -> Error {
    let text = error.render().to_string();
    let mut parts = text.trim_start_matches("error: ").split("\n\n");
    let message = parts.next().unwrap_or("cannot understand the command line");
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ").replace('\'', "`");
    Error::new(message).hint(format!("`{} --help` shows what it takes", verb()))
}

/// `sbx run`, `sbx image rm` and the like: the command whose words are wrong.
fn verb() -> String {
    let words = super::words().into_iter().skip(1);
    let verb = verb_of(&super::command(), words.map(|word| word.to_string_lossy().into_owned()));
    dialect::in_own_name(&verb)
}

fn verb_of(command: &clap::Command, words: impl Iterator<Item = String>) -> String {
    let (mut path, mut verb) = (vec![command], "sbx".to_owned());
    let mut words = words;
    while let Some(word) = words.next() {
        if path.iter().any(|command| takes_next(command, &word)) {
            let _ = words.next();
            continue;
        }
        match path.last().and_then(|command| command.find_subcommand(&word)) {
            Some(found) => {
                path.push(found);
                verb = format!("{verb} {word}");
            }
            // What follows are the words of the verb itself.
            None if verb.contains(' ') && !word.starts_with('-') => break,
            None => {}
        }
    }
    verb
}

/// Whether a word is an option whose value is the next one.
fn takes_next(command: &clap::Command, word: &str) -> bool {
    let is = |argument: &&clap::Arg| {
        let long = argument.get_long().is_some_and(|name| word.strip_prefix("--") == Some(name));
        let short = argument
            .get_short()
            .is_some_and(|name| word.strip_prefix('-') == Some(name.encode_utf8(&mut [0; 4])));
        (long || short) && argument.get_action().takes_values()
    };
    let found = command.get_arguments().find(is);
    // What may be left out comes after `=`.
    found.is_some_and(|argument| argument.get_num_args().is_none_or(|range| range.min_values() > 0))
}

/// The option alone of clap's `--option <VALUE>`.
fn flag(error: &clap::Error) -> String {
    let shown = word(error, ContextKind::InvalidArg);
    // `--tls-verify[=<BOOL>]` where the value may be left out.
    shown.split(|c: char| c.is_whitespace() || c == '[').next().unwrap_or_default().to_owned()
}

fn word(error: &clap::Error, kind: ContextKind) -> String {
    list(error, kind).into_iter().next().unwrap_or_default()
}

fn list(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(word)) => vec![word.clone()],
        Some(ContextValue::Strings(words)) => words.clone(),
        _ => Vec::new(),
    }
}

fn in_backticks(words: &[String]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verb_is_the_one_whose_words_are_wrong() {
        let verb = |line: &str| verb_of(&super::super::command(), line.split(' ').map(str::to_owned));
        assert_eq!(verb("--log-level debug run image rm"), "sbx run");
        assert_eq!(verb("image rm"), "sbx image rm");
        assert_eq!(verb("image nosuch rm"), "sbx image");
        assert_eq!(verb("nosuch"), "sbx");
        assert_eq!(verb("oci --root /run/x run"), "sbx oci run");
        assert_eq!(verb("oci --debug --log-format json create --bundle start"), "sbx oci create");
    }
}
