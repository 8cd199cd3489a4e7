//! Patterns of file names: Go's `filepath.Match`, and with `**` those of docker's ignore files (moby/patternmatcher).

/// A pattern in pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Letter(char),
    /// `?`: a character, but no slash.
    Any,
    /// `*`: any number of characters, but no slash.
    Many,
    /// `[a-z]`, `[^a-z]`; as in Go, a negated one takes a slash.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// `**` before something else: nothing at all, or what [`Self::Through`] takes.
    Maybe,
    /// Anything, the last of it a slash.
    Through,
    /// `**` at the end: anything.
    Rest,
}

impl Token {
    fn takes(&self, letter: char) -> bool {
        match self {
            Self::Letter(own) => *own == letter,
            Self::Any | Self::Many => letter != '/',
            Self::Class { negated, ranges } => {
                ranges.iter().any(|&(low, high)| (low..=high).contains(&letter)) != *negated
            }
            Self::Maybe => false,
            Self::Through | Self::Rest => true,
        }
    }
}

impl Pattern {
    /// Reads a pattern of `filepath.Match`, where `**` is `*`.
    ///
    /// # Errors
    /// A `[` is not closed or has nothing in it, a `-` is out of place, or a `\` stands at the end.
    pub fn read(text: &str) -> Result<Self, &'static str> {
        let mut letters = text.chars().peekable();
        let mut tokens = Vec::new();
        while let Some(letter) = letters.next() {
            tokens.push(one(letter, &mut letters)?);
        }
        Ok(Self { tokens })
    }

    /// Reads a pattern of an ignore file, with `**`.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_with_directories(text: &str) -> Result<Self, &'static str> {
        let mut letters = text.chars().peekable();
        let mut tokens = Vec::new();
        while let Some(letter) = letters.next() {
            if letter != '*' || letters.next_if_eq(&'*').is_none() {
                tokens.push(one(letter, &mut letters)?);
                continue;
            }
            let slash = letters.next_if_eq(&'/').is_some();
            let plain = letters.clone().all(|c| !"*?[]\\".contains(c));
            match letters.peek() {
                None => tokens.push(Token::Rest),
                // moby compares the end alone: `**.md` is also `a.md`.
                Some(_) if tokens.is_empty() && !slash && plain => tokens.push(Token::Rest),
                Some(_) => tokens.extend([Token::Maybe, Token::Through]),
            }
        }
        Ok(Self { tokens })
    }

    /// The text that alone matches, where there are no wildcards.
    pub fn literal(&self) -> Option<String> {
        let letter = |token: &Token| match token {
            Token::Letter(letter) => Some(*letter),
            _ => None,
        };
        self.tokens.iter().map(letter).collect()
    }

    pub fn matches(&self, text: &str) -> bool {
        self.reached(text.chars())[self.tokens.len()]
    }

    /// Whether a path below the directory may match.
    pub fn may_match_below(&self, directory: &str) -> bool {
        let reached = self.reached(directory.chars().chain(['/']));
        reached[..self.tokens.len()].contains(&true)
    }

    /// At index n: the first n tokens match the whole text. Costs the product of both lengths, never more.
    fn reached(&self, text: impl Iterator<Item = char>) -> Vec<bool> {
        let mut now = vec![false; self.tokens.len() + 1];
        now[0] = true;
        self.pass(&mut now);
        let mut next = vec![false; now.len()];
        for letter in text {
            next.fill(false);
            let mut alive = false;
            for (at, token) in self.tokens.iter().enumerate().filter(|(at, _)| now[*at]) {
                if !token.takes(letter) {
                    continue;
                }
                alive = true;
                match token {
                    Token::Many | Token::Rest => next[at] = true,
                    Token::Through => {
                        next[at] = true;
                        next[at + 1] |= letter == '/';
                    }
                    _ => next[at + 1] = true,
                }
            }
            std::mem::swap(&mut now, &mut next);
            if !alive {
                now.fill(false);
                return now;
            }
            self.pass(&mut now);
        }
        now
    }

    /// What may take nothing is passed.
    fn pass(&self, reached: &mut [bool]) {
        for (at, token) in self.tokens.iter().enumerate() {
            if !reached[at] {
                continue;
            }
            match token {
                Token::Many | Token::Rest => reached[at + 1] = true,
                Token::Maybe => {
                    reached[at + 1] = true;
                    reached[at + 2] = true;
                }
                _ => {}
            }
        }
    }
}

fn one(letter: char, rest: &mut std::iter::Peekable<std::str::Chars>) -> Result<Token, &'static str> {
    Ok(match letter {
        '*' => Token::Many,
        '?' => Token::Any,
        '\\' => Token::Letter(rest.next().ok_or("a `\\` stands at the end")?),
        '[' => {
            let negated = rest.next_if_eq(&'^').is_some();
            let mut ranges = Vec::new();
            loop {
                if !ranges.is_empty() && rest.next_if_eq(&']').is_some() {
                    return Ok(Token::Class { negated, ranges });
                }
                let low = member(rest)?;
                let high = if rest.next_if_eq(&'-').is_some() { member(rest)? } else { low };
                ranges.push((low, high));
            }
        }
        letter => Token::Letter(letter),
    })
}

/// A character within brackets.
fn member(rest: &mut std::iter::Peekable<std::str::Chars>) -> Result<char, &'static str> {
    const OPEN: &str = "a `[` has no `]`";
    match rest.next().ok_or(OPEN)? {
        '-' | ']' => Err("a `-` or `]` in brackets is out of place"),
        '\\' => rest.next().ok_or(OPEN),
        letter => Ok(letter),
    }
}

/// The shortest way to write a path: no `.`, no `..` but in front, no double slash (Go's `filepath.Clean`).
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|&last| last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_matches_file_names() {
        for (pattern, text, matches) in [
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("*", "", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "ab/c", false),
            ("**", "a/b", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[b-d]", "abc", true),
            ("ab[^b-d]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a[^a]b", "a/b", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("a?b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[x\\-]", "-", true),
            ("[\\-x]", "a", false),
            ("*x", "xxx", true),
            (".*", ".foo", true),
            (".*", "foo", false),
        ] {
            assert_eq!(Pattern::read(pattern).unwrap().matches(text), matches, "{pattern} {text}");
        }
        for pattern in ["[", "[^", "[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "a[", "\\", "[\\"] {
            assert!(Pattern::read(pattern).is_err(), "{pattern}");
            assert!(Pattern::read_with_directories(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn as_docker_matches_below_directories() {
        for (pattern, text, matches) in [
            ("**", "a/b/c", true),
            ("**/**", "a", true),
            ("**/a", "a", true),
            ("**/a", "b/c/a", true),
            ("**/a", "ba", false),
            ("**a", "ba", true),
            ("**a", "c/ba", true),
            ("**a*", "ba", false),
            ("**a*", "b/ab", true),
            ("a/**", "a", false),
            ("a/**", "a/b", true),
            ("a/**", "a/b/c", true),
            ("a**", "abc/d", true),
            ("a/**/c", "a/c", true),
            ("a/**/c", "a/b/b/c", true),
            ("a/**/c", "a/bc", false),
            ("a**c", "ac", true),
            ("a**c", "abc", false),
            ("a**c", "ab/c", true),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/dir2/*", "dir/dir2/d/file", false),
            ("**/dir2/**", "dir/dir2/d/file", true),
            ("**/**/*.txt", "file.txt", true),
            ("a/*.txt**", "a/file.txt", true),
            ("abc.def", "abcZdef", false),
            ("a(b)c/def", "a(b)c/def", true),
            ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
            ("**/.foo", "bar.foo", false),
        ] {
            let read = Pattern::read_with_directories(pattern).unwrap();
            assert_eq!(read.matches(text), matches, "{pattern} {text}");
        }
    }

    #[test]
    fn what_may_match_below_a_directory() {
        for (pattern, directory, may) in [
            ("a/b", "a", true),
            ("a/b", "b", false),
            ("a/b", "a/b", false),
            ("a", "a", false),
            ("*.md", "docs", false),
            ("*/x", "docs", true),
            ("*/x", "docs/y", false),
            ("**/x", "any/where", true),
            ("a/**", "a/b/c", true),
            ("a/**", "b", false),
            ("a/*/c", "a/b", true),
        ] {
            let read = Pattern::read_with_directories(pattern).unwrap();
            assert_eq!(read.may_match_below(directory), may, "{pattern} {directory}");
        }
    }

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (path, cleaned) in [
            ("", "."),
            (".", "."),
            ("a/", "a"),
            ("./a//b/.", "a/b"),
            ("a/../b", "b"),
            ("../a", "../a"),
            ("a/../..", ".."),
            ("/../a", "/a"),
            ("/", "/"),
            ("a/..", "."),
        ] {
            assert_eq!(clean(path), cleaned, "{path}");
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let begun = std::time::Instant::now();
        let pattern = Pattern::read(&"*a".repeat(200)).unwrap();
        assert!(!pattern.matches(&("a".repeat(5000) + "b")));
        assert!(begun.elapsed().as_secs() < 10);
    }
}
