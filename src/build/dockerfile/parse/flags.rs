//! `--name` and `--name=value` between an instruction's keyword and its arguments.

use std::ops::Range;

use super::super::ast::Word;
use super::super::complaint::Complaint;
use super::super::logical::Logical;
use super::super::source::Span;
use super::super::{near, words};

#[derive(Debug, Clone)]
pub struct Flag {
    pub name: String,
    pub value: Option<Word>,
    pub span: Span,
}

/// Takes the flags off the front; quotes are taken off their values. A `--` alone ends them.
pub fn take(logical: &Logical, range: Range<usize>, escape: char) -> (Vec<Flag>, Range<usize>) {
    let mut flags = Vec::new();
    let mut rest = range;
    while logical.text[rest.clone()].starts_with("--") {
        let Some(word) = words::first(logical, rest.clone(), escape) else { break };
        rest = logical.trimmed(word.end..rest.end);
        if &logical.text[word.clone()] == "--" {
            break;
        }
        flags.push(flag(logical, word, escape));
    }
    (flags, rest)
}

fn flag(logical: &Logical, word: Range<usize>, escape: char) -> Flag {
    let span = logical.span(word.clone());
    let text = &logical.text[word.start + 2..word.end];
    match text.find('=') {
        None => Flag { name: unquoted(text, escape), value: None, span },
        Some(at) => {
            let value = logical.span(word.start + 2 + at + 1..word.end);
            let value = Word { text: unquoted(&text[at + 1..], escape), span: value };
            Flag { name: unquoted(&text[..at], escape), value: Some(value), span }
        }
    }
}

fn unquoted(text: &str, escape: char) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match quote {
            _ if letter == escape && quote != Some('\'') => match letters.next() {
                // A variable that is escaped stays so until variables are expanded.
                Some('$') => plain.extend([escape, '$']),
                escaped => plain.extend(escaped),
            },
            Some(open) if letter == open => quote = None,
            None if letter == '\'' || letter == '"' => quote = Some(letter),
            _ => plain.push(letter),
        }
    }
    plain
}

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// Nothing, `true` or `false`.
    Switch,
    /// As `Text`, as often as one likes.
    Many,
}

/// The flags of an instruction, each known to it.
#[derive(Debug)]
pub struct Values(Vec<Flag>);

impl Values {
    /// # Errors
    /// A flag is not known, given twice, or has a value or none against its kind.
    pub fn read(flags: Vec<Flag>, instruction: &str, known: &[(&str, Kind)]) -> Result<Self, Complaint> {
        for (index, flag) in flags.iter().enumerate() {
            let shown: String = flag.name.chars().take(40).collect();
            let complain = |what: String| Err(Complaint::new(flag.span, what));
            let Some(&(_, kind)) = known.iter().find(|(name, _)| *name == flag.name) else {
                let unknown = Complaint::new(flag.span, format!("{instruction} has no flag `--{shown}`"));
                let names = known.iter().map(|(name, _)| *name);
                let all: Vec<String> = names.clone().map(|name| format!("`--{name}`")).collect();
                let unknown = if all.is_empty() {
                    unknown
                } else {
                    unknown.hint(format!("{instruction} has {}", all.join(", ")))
                };
                let near = near::nearest(&flag.name, names).map(|name| format!("--{name}"));
                return Err(unknown.meant(near.as_deref()));
            };
            if kind != Kind::Many && flags[..index].iter().any(|other| other.name == flag.name) {
                return complain(format!("the flag `--{shown}` is there twice"));
            }
            match (kind, &flag.value) {
                (Kind::Switch, Some(value)) if switch(&value.text).is_none() => {
                    return complain(format!("`--{shown}` is `true` or `false`"));
                }
                (Kind::Text | Kind::Many, None) => {
                    return complain(format!("`--{shown}` needs a value: `--{shown}=VALUE`"));
                }
                _ => {}
            }
        }
        Ok(Self(flags))
    }

    pub fn text(&self, name: &str) -> Option<Word> {
        self.many(name).pop()
    }

    pub fn many(&self, name: &str) -> Vec<Word> {
        self.0.iter().filter(|flag| flag.name == name).filter_map(|flag| flag.value.clone()).collect()
    }

    /// None: it is not there.
    pub fn switch(&self, name: &str) -> Option<bool> {
        let flag = self.0.iter().find(|flag| flag.name == name)?;
        Some(flag.value.as_ref().is_none_or(|value| switch(&value.text) == Some(true)))
    }

    pub fn span(&self, name: &str) -> Option<Span> {
        self.0.iter().find(|flag| flag.name == name).map(|flag| flag.span)
    }
}

fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}
