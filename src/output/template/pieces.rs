//! A template taken apart into text and actions, for what Go's parser is not asked: escapes outside of
//! actions, titles of columns, and a bound to nesting.

use super::Titles;

/// gotmpl's parser recurses; this many levels fit on any stack.
const MAX_OPENINGS: usize = 400;

pub(super) enum Piece {
    /// With escapes interpreted.
    Text(String),
    /// From `{{` to `}}`.
    Action(String),
}

impl Piece {
    pub(super) fn text(&self) -> &str {
        match self {
            Piece::Text(text) | Piece::Action(text) => text,
        }
    }

    /// The same, where an action that prints passes what it prints through the function.
    pub(super) fn printing(&self, function: &str) -> String {
        let Piece::Action(action) = self else { return self.text().to_owned() };
        let Some(end) = action.strip_suffix("}}").filter(|_| prints(action)) else { return action.clone() };
        let (inner, trim) = match end.strip_suffix('-').filter(|inner| inner.ends_with(char::is_whitespace)) {
            Some(inner) => (inner, "-"),
            None => (end, ""),
        };
        format!("{} | {function} {trim}}}}}", inner.trim_end())
    }
}

/// Takes a template apart. An action that never ends is kept for the parser to complain about.
pub(super) fn split(template: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some(start) = rest.find("{{") {
        let end = start + action_length(&rest[start..]);
        pieces.push(Piece::Text(unescape(&rest[..start])));
        pieces.push(Piece::Action(with_methods(&rest[start..end])));
        rest = &rest[end..];
    }
    pieces.push(Piece::Text(unescape(rest)));
    pieces
}

/// Bytes up to the `}}` that is not within a string.
fn action_length(action: &str) -> usize {
    if inner(action).starts_with("/*") {
        let comment = action.find("*/").unwrap_or(action.len());
        return action[comment..].find("}}").map_or(action.len(), |end| comment + end + 2);
    }
    let mut quote = None;
    let mut escaped = false;
    let bytes = action.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match (quote, byte) {
            _ if escaped => escaped = false,
            (Some(b'"' | b'\''), b'\\') => escaped = true,
            (Some(open), byte) if open == *byte => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'`' | b'\'') => quote = Some(*byte),
            (None, b'}') if bytes.get(at + 1) == Some(&b'}') => return at + 2,
            (None, _) => {}
        }
    }
    bytes.len()
}

/// docker's method of rows, `.Label "KEY"`, in words that need no method: `index .Label "KEY"`.
fn with_methods(action: &str) -> String {
    const METHOD: &str = ".Label";
    let mut written = String::with_capacity(action.len());
    let mut rest = action;
    while let Some(at) = outside_of_strings(rest, METHOD) {
        let (before, after) = (&rest[..at], &rest[at + METHOD.len()..]);
        // With a receiver such as `$`, which goes along.
        let start = before
            .rfind(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '$' | '.'))
            .map_or(0, |at| at + 1);
        let has_argument =
            after.starts_with([' ', '\t']) && after.trim_start().starts_with(['"', '`', '$', '.', '(']);
        written.push_str(&before[..start]);
        if has_argument {
            written.push_str("index ");
        }
        written.push_str(&before[start..]);
        written.push_str(METHOD);
        rest = after;
    }
    written + rest
}

fn outside_of_strings(text: &str, wanted: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some('"' | '\''), '\\') => escaped = true,
            (Some(open), c) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '`' | '\'') => quote = Some(c),
            (None, _) if text[at..].starts_with(wanted) => return Some(at),
            (None, _) => {}
        }
    }
    None
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        let (replacement, length) = match rest.as_bytes().get(at + 1) {
            Some(b't') => ('\t', 2),
            Some(b'n') => ('\n', 2),
            Some(b'\\') => ('\\', 2),
            _ => ('\\', 1),
        };
        plain.push(replacement);
        rest = &rest[at + length..];
    }
    plain.push_str(rest);
    plain
}

/// Refuses what could overflow the stack of a recursive parser: whatever nests begins with one of these.
pub(super) fn check_depth(template: &str) -> Result<(), String> {
    for opening in ["{{", "("] {
        if template.matches(opening).count() > MAX_OPENINGS {
            return Err(format!("`{opening}` is in it more than {MAX_OPENINGS} times"));
        }
    }
    Ok(())
}

/// Refuses an `{{end}}` or `{{else}}` that ends nothing, and a block that is never ended: gotmpl 0.6 takes
/// them, and drops what follows.
pub(super) fn check_ends(pieces: &[Piece]) -> Result<(), String> {
    let mut open: usize = 0;
    for piece in pieces {
        let Piece::Action(action) = piece else { continue };
        match word(action) {
            "if" | "range" | "with" | "define" | "block" => open += 1,
            word @ ("end" | "else") if open == 0 => return Err(format!("`{word}` has no beginning")),
            "end" => open -= 1,
            _ => {}
        }
    }
    if open > 0 { Err("an `{{end}}` is missing".to_owned()) } else { Ok(()) }
}

/// Whether it is neither a keyword nor a comment nor an assignment.
fn prints(action: &str) -> bool {
    const KEYWORDS: &[&str] =
        &["if", "range", "with", "else", "end", "define", "template", "block", "break", "continue"];
    let inner = inner(action).trim_end_matches("}}").trim_end_matches('-').trim();
    let assigns = inner.starts_with('$') && outside_of_strings(inner, "=").is_some();
    // Words that gotmpl refuses keep their message.
    let is_whole = !inner.is_empty() && !inner.ends_with('|');
    is_whole && !inner.starts_with("/*") && !assigns && !KEYWORDS.contains(&word(action))
}

/// What follows the opening of an action.
fn inner(action: &str) -> &str {
    action.trim_start_matches("{{").trim_start_matches('-').trim_start()
}

/// The first word of an action.
fn word(action: &str) -> &str {
    let inner = inner(action);
    &inner[..inner.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(inner.len())]
}

/// The titles of a table's columns: text stays, an action becomes the title of the last field it names.
pub(super) fn titles(pieces: &[Piece], known: Titles<'_>) -> Vec<String> {
    let mut titles = vec![String::new()];
    for piece in pieces {
        let Some(current) = titles.last_mut() else { break };
        match piece {
            Piece::Action(action) => current.push_str(&title(action, known)),
            Piece::Text(text) => {
                let mut columns = text.split('\t');
                current.push_str(columns.next().unwrap_or_default());
                titles.extend(columns.map(str::to_owned));
            }
        }
    }
    titles
}

fn title(action: &str, known: Titles<'_>) -> String {
    fn name(part: &str) -> &str {
        let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(part.len());
        &part[..end]
    }
    let Some(field) = action.split('.').skip(1).map(name).filter(|name| !name.is_empty()).last() else {
        return String::new();
    };
    match known.iter().find(|(name, _)| *name == field) {
        Some((_, title)) => (*title).to_owned(),
        None => words(field),
    }
}

/// `RunningFor` as `RUNNING FOR`; a run of capitals such as `ID` is one word.
fn words(field: &str) -> String {
    let mut title = String::new();
    let mut before = 'A';
    for c in field.chars() {
        if c.is_ascii_uppercase() && before.is_ascii_lowercase() {
            title.push(' ');
        }
        title.push(c.to_ascii_uppercase());
        before = c;
    }
    title
}
