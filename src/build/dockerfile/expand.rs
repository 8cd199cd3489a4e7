//! Variables in a Dockerfile's words: `$V`, `${V}`, `${V:-word}` and their kin, quotes and escapes (Dockerfile
//! reference, "Environment replacement").

use std::collections::BTreeSet;

use super::limits;
use super::substitution;

/// How a text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Syntax {
    /// `\`, or a backtick.
    pub escape: char,
    /// Quotes have a meaning and are taken off; in a here-document they are letters.
    pub quotes: bool,
    /// The result is divided into words, too.
    pub divided: bool,
    /// The longest result, in bytes.
    pub most: usize,
}

impl Syntax {
    /// A word of an instruction.
    pub fn word(escape: char) -> Self {
        Self { escape, quotes: true, divided: false, most: limits::WORD }
    }

    /// As [`Self::word`], of an instruction that divides what comes out (EXPOSE).
    pub fn words(escape: char) -> Self {
        Self { divided: true, ..Self::word(escape) }
    }

    /// The lines of a here-document (the escape character is always `\` there).
    pub fn content() -> Self {
        Self { escape: '\\', quotes: false, divided: false, most: limits::CONTENT }
    }
}

/// A text without variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    pub text: String,
    /// The same, divided at white space that is neither quoted nor escaped, where that was asked for.
    pub words: Vec<String>,
    /// Variables that were asked for and are not set, unless the text says what to do then.
    pub missing: BTreeSet<String>,
    /// Variables that were asked for and are set.
    pub used: BTreeSet<String>,
}

/// Puts the values of variables into a text; `value` tells what a variable holds.
///
/// # Errors
/// A quote or a brace has no end, a substitution is not understood, `${V:?…}` says so, or the result is too long. The
/// text says what is wrong, without place.
pub fn expand<'v>(
    text: &str,
    syntax: Syntax,
    value: impl Fn(&str) -> Option<&'v str>,
) -> Result<Expanded, String> {
    let mut lexer = Lexer { rest: text, syntax, value: &value, depth: 0, expanded: Expanded::default() };
    let (text, words) = lexer.until(None, false)?;
    Ok(Expanded { text, words, ..lexer.expanded })
}

struct Lexer<'t, 'v> {
    rest: &'t str,
    syntax: Syntax,
    value: &'t dyn Fn(&str) -> Option<&'v str>,
    depth: usize,
    /// Only the names.
    expanded: Expanded,
}

/// Collects a text and, beside it, its words.
#[derive(Default)]
struct Output {
    text: String,
    divided: bool,
    word: String,
    words: Vec<String>,
}

impl Output {
    /// White space ends a word.
    fn loose(&mut self, text: &str) {
        self.text.push_str(text);
        if !self.divided {
            return;
        }
        for letter in text.chars() {
            match letter.is_whitespace() {
                true if self.word.is_empty() => {}
                true => self.words.push(std::mem::take(&mut self.word)),
                false => self.word.push(letter),
            }
        }
    }

    /// White space is part of the word.
    fn kept(&mut self, text: &str) {
        self.text.push_str(text);
        if self.divided {
            self.word.push_str(text);
        }
    }

    fn finish(mut self) -> (String, Vec<String>) {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        (self.text, self.words)
    }
}

const NO_BRACE: &str = "a `${` has no `}`";

impl Lexer<'_, '_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let mut letters = self.rest.chars();
        let letter = letters.next();
        self.rest = letters.as_str();
        letter
    }

    /// Up to `stop`, which is taken, or to the end. With `raw`, escapes stay in the text: a pattern reads them itself.
    fn until(&mut self, stop: Option<char>, raw: bool) -> Result<(String, Vec<String>), String> {
        let mut output = Output { divided: self.syntax.divided, ..Output::default() };
        while let Some(letter) = self.next() {
            let mut place = [0; 4];
            match letter {
                _ if Some(letter) == stop => return Ok(output.finish()),
                '$' => {
                    let value = self.dollar()?;
                    output.loose(&value);
                }
                '\'' if self.syntax.quotes => output.kept(&self.single_quoted()?),
                '"' if self.syntax.quotes => output.kept(&self.double_quoted(raw)?),
                _ if letter == self.syntax.escape => {
                    if raw {
                        // The patterns of substitutions know one escape character.
                        output.kept("\\");
                    }
                    if let Some(escaped) = self.next() {
                        output.kept(escaped.encode_utf8(&mut place));
                    }
                }
                '\\' if raw => output.kept("\\\\"),
                _ => output.loose(letter.encode_utf8(&mut place)),
            }
            if output.text.len() > self.syntax.most {
                return Err(format!("it expands to more than {} KiB", self.syntax.most >> 10));
            }
        }
        match stop {
            None => Ok(output.finish()),
            Some('/') => Err("a `${NAME/PATTERN` has no second `/`".to_owned()),
            Some(_) => Err(NO_BRACE.to_owned()),
        }
    }

    fn single_quoted(&mut self) -> Result<String, String> {
        let (text, rest) = self.rest.split_once('\'').ok_or("a single quote has no end")?;
        self.rest = rest;
        Ok(text.to_owned())
    }

    fn double_quoted(&mut self, raw: bool) -> Result<String, String> {
        let mut text = String::new();
        loop {
            if text.len() > self.syntax.most {
                return Err(format!("it expands to more than {} KiB", self.syntax.most >> 10));
            }
            match self.next().ok_or("a double quote has no end")? {
                '"' => return Ok(text),
                '$' => text.push_str(&self.dollar()?),
                letter if letter == self.syntax.escape => match self.peek() {
                    None => {}
                    // Before anything else the escape character is a letter.
                    Some(next) if next == '"' || next == '$' || next == letter => {
                        if raw {
                            text.push('\\');
                        }
                        text.push(next);
                        self.next();
                    }
                    Some(_) => text.push(letter),
                },
                letter => text.push(letter),
            }
        }
    }

    /// What a `$`, which has been taken, stands for.
    fn dollar(&mut self) -> Result<String, String> {
        if self.peek() != Some('{') {
            let name = self.name();
            return Ok(if name.is_empty() { "$".to_owned() } else { self.get(&name).unwrap_or_default() });
        }
        self.next();
        if self.depth == limits::DEPTH {
            return Err(format!("substitutions are nested more than {} deep", limits::DEPTH));
        }
        self.depth += 1;
        let value = self.braces();
        self.depth -= 1;
        value
    }

    /// What is after `${`.
    fn braces(&mut self) -> Result<String, String> {
        match self.peek() {
            None => return Err(NO_BRACE.to_owned()),
            Some('{' | '}' | ':') => return Err("a `${` is not followed by a name".to_owned()),
            Some(_) => {}
        }
        let name = self.name();
        let mut modifier = self.next().ok_or(NO_BRACE)?;
        let mut shown = modifier.to_string();
        let or_empty = modifier == ':';
        if or_empty {
            modifier = self.next().ok_or(NO_BRACE)?;
            shown.push(modifier);
        }
        match modifier {
            '}' if !or_empty => Ok(self.get(&name).unwrap_or_default()),
            '-' | '+' | '?' => {
                let (word, _) = self.until(Some('}'), false)?;
                let value = self.get_if_set(&name);
                let set = value.as_ref().is_some_and(|value| !(or_empty && value.is_empty()));
                match modifier {
                    '-' if set => Ok(value.unwrap_or_default()),
                    '-' => Ok(word),
                    '+' if set => Ok(word),
                    '+' => Ok(String::new()),
                    _ if set => Ok(value.unwrap_or_default()),
                    _ if !word.is_empty() => Err(format!("`{name}`: {word}")),
                    _ if value.is_some() => Err(format!("`{name}` must not be empty")),
                    _ => Err(format!("`{name}` must be set")),
                }
            }
            '#' | '%' if !or_empty => {
                let longest = self.peek() == Some(modifier);
                if longest {
                    self.next();
                }
                let (pattern, _) = self.until(Some('}'), true)?;
                let value = self.get(&name).unwrap_or_default();
                substitution::trim(&value, &pattern, modifier == '#', longest)
            }
            '/' if !or_empty => {
                let all = self.peek() == Some('/');
                if all {
                    self.next();
                }
                let (pattern, _) = self.until(Some('/'), true)?;
                let (replacement, _) = self.until(Some('}'), false)?;
                let value = self.get(&name).unwrap_or_default();
                substitution::replace(&value, &pattern, &replacement, all, self.syntax.most)
            }
            _ => Err(format!("`{shown}` after `${{{name}` is no substitution")),
        }
    }

    /// A name, a number, or one of the shell's own parameters.
    fn name(&mut self) -> String {
        let first = self.peek();
        let length = match first {
            Some(letter) if letter.is_ascii_digit() => self.rest.find(|c: char| !c.is_ascii_digit()),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => Some(1),
            _ => self.rest.find(|c: char| !c.is_alphanumeric() && c != '_'),
        };
        let (name, rest) = self.rest.split_at(length.unwrap_or(self.rest.len()));
        self.rest = rest;
        name.to_owned()
    }

    /// The value; that it is missing is noted.
    fn get(&mut self, name: &str) -> Option<String> {
        let value = self.get_if_set(name);
        if value.is_none() && !self.expanded.missing.contains(name) {
            self.expanded.missing.insert(name.to_owned());
        }
        value
    }

    /// The value, where the text says what to do without one.
    fn get_if_set(&mut self, name: &str) -> Option<String> {
        let value = (self.value)(name).map(str::to_owned);
        if value.is_some() && !self.expanded.used.contains(name) {
            self.expanded.used.insert(name.to_owned());
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str) -> Option<&'static str> {
        match name {
            "V" => Some("value"),
            "EMPTY" => Some(""),
            "PATHS" => Some("a/b/c.tar.gz"),
            "SPACES" => Some("one  two"),
            "STAR" => Some("a*b"),
            "_x1" => Some("under"),
            "1" => Some("first"),
            _ => None,
        }
    }

    fn word(text: &str) -> Result<String, String> {
        expand(text, Syntax::word('\\'), value).map(|expanded| expanded.text)
    }

    #[test]
    fn every_form_of_the_reference() {
        for (text, result) in [
            ("$V", "value"),
            ("${V}", "value"),
            ("a${V}b", "avalueb"),
            ("$V$V", "valuevalue"),
            ("$Vb", ""),
            ("$V/b", "value/b"),
            ("${_x1}$_x1", "underunder"),
            ("$NONE", ""),
            ("${NONE}", ""),
            ("$", "$"),
            ("a$ b", "a$ b"),
            ("$/", "$/"),
            ("$1x", "firstx"),
            ("$@$*", ""),
            // A default, where it is unset, or unset or empty.
            ("${NONE:-d}", "d"),
            ("${NONE-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${V:-d}", "value"),
            ("${V-d}", "value"),
            ("${NONE:-}", ""),
            ("${NONE:-a b}", "a b"),
            ("${NONE:-$V}", "value"),
            ("${NONE:-${ALSO:-${V}}}", "value"),
            ("${NONE:-\"q\"}", "q"),
            ("${NONE:-a\\}b}", "a}b"),
            // An alternative.
            ("${V:+a}", "a"),
            ("${V+a}", "a"),
            ("${EMPTY:+a}", ""),
            ("${EMPTY+a}", "a"),
            ("${NONE:+a}", ""),
            ("${NONE+a}", ""),
            // It has to be there.
            ("${V:?e}", "value"),
            ("${V?e}", "value"),
            ("${EMPTY?e}", ""),
            // Beginnings and ends.
            ("${PATHS#*/}", "b/c.tar.gz"),
            ("${PATHS##*/}", "c.tar.gz"),
            ("${PATHS%.*}", "a/b/c.tar"),
            ("${PATHS%%.*}", "a/b/c"),
            ("${PATHS#x}", "a/b/c.tar.gz"),
            ("${PATHS#?/}", "b/c.tar.gz"),
            ("${PATHS%.gz}", "a/b/c.tar"),
            ("${PATHS%.${NONE:-gz}}", "a/b/c.tar"),
            ("${STAR#a\\*}", "b"),
            ("${STAR%\\*b}", "a"),
            ("${NONE#x}", ""),
            // Replacements.
            ("${PATHS/b/x}", "a/x/c.tar.gz"),
            ("${PATHS/\\//-}", "a-b/c.tar.gz"),
            ("${PATHS//\\//-}", "a-b-c.tar.gz"),
            ("${PATHS//./}", "a/b/ctargz"),
            ("${PATHS/.*/}", "a/b/c"),
            ("${PATHS//[/]/x}", "a/b/c.tar.gz"),
            ("${STAR/\\*/+}", "a+b"),
            ("${V/a/$V}", "vvaluelue"),
            ("${V/a/\\}}", "v}lue"),
        ] {
            assert_eq!(word(text).as_deref(), Ok(result), "{text}");
        }
    }

    #[test]
    fn quotes_and_escapes() {
        for (text, result) in [
            ("'$V'", "$V"),
            ("\"$V\"", "value"),
            ("\"a'b\"", "a'b"),
            ("'a\"b'", "a\"b"),
            ("\\$V", "$V"),
            ("\\${V}", "${V}"),
            ("\"\\$V\"", "$V"),
            ("\"\\\"\"", "\""),
            ("\"a\\nb\"", "a\\nb"),
            ("a\\nb", "anb"),
            ("'a\\'", "a\\"),
            ("a\\\\b", "a\\b"),
            ("\\\"a", "\"a"),
            ("he'llo'\" x\"", "hello x"),
            ("a\\", "a"),
            ("é$V→", "évalue→"),
        ] {
            assert_eq!(word(text).as_deref(), Ok(result), "{text}");
        }
        let backtick = |text| expand(text, Syntax::word('`'), value).unwrap().text;
        assert_eq!(backtick("c:\\$V`$V"), "c:\\value$V");
        assert_eq!(backtick("\"`\"\\\""), "\"\\");
        assert_eq!(backtick("${STAR#a`*}"), "b");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("'a", "single quote"),
            ("\"a", "double quote"),
            ("${V", "no `}`"),
            ("${", "no `}`"),
            ("${V:", "no `}`"),
            ("${V:-a", "no `}`"),
            ("${}", "name"),
            ("${:x}", "name"),
            ("${{V}}", "name"),
            ("${V!a}", "substitution"),
            ("${V:a}", "substitution"),
            ("${V:#a}", "substitution"),
            ("${V/a}", "second `/`"),
            ("${V/a/b", "no `}`"),
            ("${NONE:?it is needed}", "`NONE`: it is needed"),
            ("${NONE?}", "`NONE` must be set"),
            ("${EMPTY:?}", "`EMPTY` must not be empty"),
        ] {
            let error = word(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn words_are_divided_after_expansion() {
        let words = |text| expand(text, Syntax::words('\\'), value).unwrap().words;
        assert_eq!(words("$SPACES"), ["one", "two"]);
        assert_eq!(words("\"$SPACES\" x"), ["one  two", "x"]);
        assert_eq!(words("a\\ b 'c d'e"), ["a b", "c de"]);
        assert_eq!(words("80 $NONE 90"), ["80", "90"]);
        assert!(words("$NONE").is_empty());
    }

    #[test]
    fn a_here_document_keeps_its_quotes() {
        let content = |text| expand(text, Syntax::content(), value).unwrap().text;
        assert_eq!(content("\"$V\" it's\n\\$V \\\\\n"), "\"value\" it's\n$V \\\n");
    }

    #[test]
    fn names_are_told() {
        let expanded = expand("$V ${A:-$B} ${EMPTY}", Syntax::word('\\'), value).unwrap();
        assert_eq!(Vec::from_iter(&expanded.missing), ["B"]);
        assert_eq!(Vec::from_iter(&expanded.used), ["EMPTY", "V"]);
    }

    #[test]
    fn hostile_text_costs_neither_memory_nor_stack() {
        let deep = "${A:-".repeat(100_000);
        assert!(word(&deep).unwrap_err().contains("nested"));
        let long = "x".repeat(1 << 16);
        let big = expand(&"$V".repeat(1000), Syntax::word('\\'), |_| Some(&long));
        assert!(big.unwrap_err().contains("1024 KiB"));
        let replaced = expand("${V//x/$V}", Syntax::word('\\'), |_| Some(&long));
        assert!(replaced.unwrap_err().contains("1024 KiB"));
    }
}
