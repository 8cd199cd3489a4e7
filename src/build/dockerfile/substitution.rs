//! `${V#PATTERN}`, `${V%PATTERN}` and `${V/PATTERN/WORD}`: patterns of the shell with `*` and `?`, without brackets.

use super::limits;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Letter(char),
    /// `?`
    Any,
    /// `*`
    Many,
}

/// `\*`, `\?`, `\\` stand for themselves; before anything else a `\` is taken off, as the shell does.
fn tokens(pattern: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        let token = match letter {
            '*' => Token::Many,
            '?' => Token::Any,
            '\\' => Token::Letter(letters.next().unwrap_or('\\')),
            letter => Token::Letter(letter),
        };
        if token != Token::Many || tokens.last() != Some(&Token::Many) {
            tokens.push(token);
        }
    }
    tokens
}

/// Takes the shortest or longest piece that matches off the beginning (or the end).
///
/// # Errors
/// Pattern and value are too long to be matched in reasonable time.
pub fn trim(value: &str, pattern: &str, beginning: bool, longest: bool) -> Result<String, String> {
    affordable(value, pattern)?;
    let mut letters: Vec<char> = value.chars().collect();
    let mut tokens = tokens(pattern);
    if !beginning {
        letters.reverse();
        tokens.reverse();
    }
    let Some(end) = prefix(&letters, &tokens, longest) else { return Ok(value.to_owned()) };
    letters.drain(..end);
    if !beginning {
        letters.reverse();
    }
    Ok(letters.into_iter().collect())
}

/// Replaces the first piece that matches, or all; each is as long as it can be. `most` is the longest result in bytes.
///
/// # Errors
/// Pattern and value are too long to be matched in reasonable time, or the result is too long.
pub fn replace(value: &str, pattern: &str, word: &str, all: bool, most: usize) -> Result<String, String> {
    affordable(value, pattern)?;
    let letters: Vec<char> = value.chars().collect();
    let tokens = tokens(pattern);
    let mut result = String::new();
    let mut at = 0;
    let mut done = tokens.is_empty();
    // With a `*` in the middle each start may look through all of the rest.
    let mut steps = limits::MATCHING;
    while at < letters.len() {
        let end = if done { None } else { prefix(&letters[at..], &tokens, true) };
        steps = steps.saturating_sub(if done { 0 } else { cost(&letters[at..], &tokens) });
        if steps == 0 {
            return Err("the pattern of a substitution takes too long to be matched".to_owned());
        }
        match end.filter(|&length| length > 0) {
            Some(length) => {
                result.push_str(word);
                at += length;
                done = !all;
            }
            None => {
                result.push(letters[at]);
                at += 1;
            }
        }
        if result.len() > most {
            return Err(format!("it expands to more than {} KiB", most >> 10));
        }
    }
    Ok(result)
}

fn affordable(value: &str, pattern: &str) -> Result<(), String> {
    match value.len().saturating_mul(pattern.len()) > limits::MATCHING {
        true => Err("the pattern of a substitution takes too long to be matched".to_owned()),
        false => Ok(()),
    }
}

/// A bound of the comparisons that [`prefix`] makes.
fn cost(letters: &[char], tokens: &[Token]) -> usize {
    match tokens.first() {
        Some(Token::Letter(first)) if letters.first() != Some(first) => 1,
        _ if tokens.contains(&Token::Many) => letters.len().saturating_mul(tokens.len()),
        _ => tokens.len(),
    }
}

/// The length of the shortest or longest beginning that matches.
fn prefix(letters: &[char], tokens: &[Token], longest: bool) -> Option<usize> {
    let mut pieces = tokens.split(|&token| token == Token::Many);
    let head = pieces.next().unwrap_or_default();
    if !matches(letters, head) {
        return None;
    }
    let mut at = head.len();
    let mut pieces: Vec<&[Token]> = pieces.collect();
    // What is between two stars is best found as early as possible; only the last decides the length.
    let last = match pieces.pop() {
        None => return Some(at),
        Some(last) => last,
    };
    for piece in pieces {
        at += find(&letters[at..], piece)? + piece.len();
    }
    let rest = &letters[at..];
    let found = match longest {
        false => find(rest, last),
        true => (0..=rest.len().checked_sub(last.len())?).rev().find(|&start| matches(&rest[start..], last)),
    };
    Some(at + found? + last.len())
}

fn find(letters: &[char], piece: &[Token]) -> Option<usize> {
    (0..=letters.len().checked_sub(piece.len())?).find(|&start| matches(&letters[start..], piece))
}

/// Whether the letters begin so; no stars here.
fn matches(letters: &[char], piece: &[Token]) -> bool {
    letters.len() >= piece.len()
        && piece.iter().zip(letters).all(|(token, &letter)| match token {
            Token::Letter(wanted) => *wanted == letter,
            Token::Any | Token::Many => true,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_and_the_longest_are_found() {
        for (value, pattern, shortest, longest) in [
            ("abcabc", "*b", "cabc", "c"),
            ("abcabc", "a*c", "abc", ""),
            ("abcabc", "a*b*c", "abc", ""),
            ("abcabc", "?", "bcabc", "bcabc"),
            ("abcabc", "*", "abcabc", ""),
            ("abcabc", "", "abcabc", "abcabc"),
            ("abcabc", "**c", "abc", ""),
            ("abcabc", "x*", "abcabc", "abcabc"),
            ("abcabc", "abcabcd", "abcabc", "abcabc"),
            ("a\nb", "*b", "", ""),
            ("äöü", "?ö", "ü", "ü"),
        ] {
            assert_eq!(trim(value, pattern, true, false).unwrap(), shortest, "{value}#{pattern}");
            assert_eq!(trim(value, pattern, true, true).unwrap(), longest, "{value}##{pattern}");
        }
        assert_eq!(trim("abcabc", "b*", false, false).unwrap(), "abca");
        assert_eq!(trim("abcabc", "b*", false, true).unwrap(), "a");
        assert_eq!(trim("a*c", "\\*?", false, false).unwrap(), "a");
    }

    #[test]
    fn replacements_take_the_longest_and_do_not_overlap() {
        for (value, pattern, word, all, result) in [
            ("aaaa", "aa", "b", true, "bb"),
            ("aaaa", "aa", "b", false, "baa"),
            ("a-b-c", "-*", "", false, "a"),
            ("abc", "*", "x", true, "x"),
            ("abc", "", "x", true, "abc"),
            ("abc", "?", "<>", true, "<><><>"),
            ("", "*", "x", true, ""),
        ] {
            let found = replace(value, pattern, word, all, 100).unwrap();
            assert_eq!(found, result, "{value} {pattern}");
        }
    }

    #[test]
    fn hostile_patterns_are_given_up_in_time() {
        let begun = std::time::Instant::now();
        let value = "a".repeat(1 << 20);
        let stars = "*a".repeat(120) + "b";
        assert!(trim(&value, &stars, true, true).is_ok());
        assert!(trim(&value, &"?*".repeat(1000), true, true).is_err());
        assert!(replace(&value, &("a*".repeat(100) + "b"), "x", true, 1 << 20).is_err());
        assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    }
}
