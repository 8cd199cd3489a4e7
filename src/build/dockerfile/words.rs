//! How instructions divide their arguments: at white space, with or without regard to quotes, or as a JSON array.

use std::ops::Range;

use super::limits;
use super::logical::Logical;

/// At white space alone: FROM, COPY, EXPOSE, … Of too many words (`limits::WORDS`) only one too many is given.
pub fn plain(logical: &Logical, range: Range<usize>) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, letter) in logical.text[range.clone()].char_indices() {
        if words.len() > limits::WORDS {
            return words;
        }
        match (letter.is_whitespace(), start) {
            (true, Some(begun)) => {
                words.push(begun..range.start + at);
                start = None;
            }
            (false, None) => start = Some(range.start + at),
            _ => {}
        }
    }
    words.extend(start.map(|begun| begun..range.end));
    words
}

/// At white space that is neither quoted nor escaped: ENV, LABEL, ARG. Quotes and escapes stay in the words.
pub fn quoted(logical: &Logical, range: Range<usize>, escape: char) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut rest = range;
    while words.len() <= limits::WORDS
        && let Some(word) = first(logical, rest.clone(), escape)
    {
        rest.start = word.end;
        words.push(word);
    }
    words
}

/// The first word of [`quoted`].
pub fn first(logical: &Logical, range: Range<usize>, escape: char) -> Option<Range<usize>> {
    let text = &logical.text[range.clone()];
    let begin = text.find(|c: char| !c.is_whitespace())?;
    let mut quote = None;
    let mut letters = text[begin..].char_indices();
    while let Some((at, letter)) = letters.next() {
        match quote {
            // Nothing can be escaped between single quotes.
            _ if letter == escape && quote != Some('\'') => {
                letters.next();
            }
            Some(open) if letter == open => quote = None,
            None if letter == '\'' || letter == '"' => quote = Some(letter),
            None if letter.is_whitespace() => {
                return Some(range.start + begin..range.start + begin + at);
            }
            _ => {}
        }
    }
    Some(range.start + begin..range.end)
}

/// What a text in brackets turns out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Json {
    /// Not an array at all: for most instructions a line like any other.
    No,
    Words(Vec<String>),
    /// An array of other things than strings.
    NotStrings,
}

/// Longer than `limits::WORD` it is none.
pub fn json(text: &str) -> Json {
    if !text.trim_start().starts_with('[') || text.len() > limits::WORD {
        return Json::No;
    }
    match serde_json::from_str::<Vec<serde_json::Value>>(text) {
        Err(_) => Json::No,
        Ok(values) => {
            let word = |value| match value {
                serde_json::Value::String(word) => Some(word),
                _ => None,
            };
            values.into_iter().map(word).collect::<Option<_>>().map_or(Json::NotStrings, Json::Words)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::logical::Reader;
    use super::*;

    fn line(text: &str) -> Logical {
        Reader::new(text).logical().unwrap()
    }

    #[test]
    fn quotes_and_escapes_keep_white_space() {
        let cases: &[(&str, char, &[&str])] = &[
            ("a=b c=d", '\\', &["a=b", "c=d"]),
            (r#"a="b c"  d='e f'"#, '\\', &[r#"a="b c""#, "d='e f'"]),
            (r"a=b\ c d", '\\', &[r"a=b\ c", "d"]),
            (r#"a="b\" c" d"#, '\\', &[r#"a="b\" c""#, "d"]),
            (r"a='b\' c", '\\', &[r"a='b\'", "c"]),
            ("a=b` c d", '`', &["a=b` c", "d"]),
            ("a=\"b c", '\\', &["a=\"b c"]),
            ("a\t b\u{a0}c", '\\', &["a", "b", "c"]),
        ];
        for (text, escape, words) in cases {
            let line = line(text);
            let found: Vec<&str> =
                quoted(&line, 0..line.text.len(), *escape).into_iter().map(|word| &line.text[word]).collect();
            assert_eq!(found, *words, "{text}");
        }
    }

    #[test]
    fn plain_words_know_no_quotes() {
        let line = line("COPY \"a b\"  /c ");
        let found: Vec<&str> =
            plain(&line, 4..line.text.len()).into_iter().map(|word| &line.text[word]).collect();
        assert_eq!(found, ["\"a", "b\"", "/c"]);
    }

    #[test]
    fn json_is_an_array_of_strings_or_a_line() {
        let words = |list: &[&str]| Json::Words(list.iter().map(|&word| word.to_owned()).collect());
        assert_eq!(json(r#"["a", "b\u0041"]"#), words(&["a", "bA"]));
        assert_eq!(json("[]"), words(&[]));
        assert_eq!(json(r#"["a", 1]"#), Json::NotStrings);
        for text in ["['a']", "[ -f /x ] && y", r#"["a"] && b"#, "a", r#"["a",]"#, ""] {
            assert_eq!(json(text), Json::No, "{text}");
        }
        assert_eq!(json(&"[".repeat(1 << 20)), Json::No);
    }
}
