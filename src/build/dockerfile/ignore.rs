//! `.dockerignore` and `.containerignore`: which files of a context are not there (Dockerfile reference,
//! ".dockerignore file"; moby/patternmatcher).
//!
//! The last pattern that matches a path, or a directory above it, decides. [`Ignore::root`] is where a walk begins:
//! [`Directory::takes`] says of a file whether it belongs to the context, and [`Directory::enter`] of a directory whether
//! anything below it may, so that nobody ever looks into what is ignored as a whole.

use super::glob::{self, Pattern};
use super::limits;
use crate::error::{Error, Result};

/// The names that are looked for beside a context, the first that is there counts; and before both, beside the
/// Dockerfile, its own name with these endings.
pub const FILES: [&str; 2] = [".containerignore", ".dockerignore"];

/// The file names to try for a Dockerfile at `dockerfile`, in order: paths beside it, then names in the context.
pub fn beside(dockerfile: &str) -> [String; 2] {
    [format!("{dockerfile}.containerignore"), format!("{dockerfile}.dockerignore")]
}

/// The patterns of an ignore file.
#[derive(Debug, Clone, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    pattern: Pattern,
    /// Compared at once where there are no wildcards.
    literal: Option<String>,
    /// `!`: brings back.
    exception: bool,
}

impl Rule {
    fn matches(&self, path: &str) -> bool {
        match &self.literal {
            Some(literal) => literal == path,
            None => self.pattern.matches(path),
        }
    }

    fn may_match_below(&self, directory: &str) -> bool {
        match &self.literal {
            Some(literal) => {
                literal.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/') && rest.len() > 1)
            }
            None => self.pattern.may_match_below(directory),
        }
    }
}

/// What becomes of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It belongs to the context: go on with what it holds.
    Taken(Directory),
    /// It does not belong to the context itself, while something below it may.
    Searched(Directory),
    /// Neither it nor anything below it does: it need not be opened.
    Ignored,
}

/// A directory of the context on the way down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// With a slash at the end, or empty.
    prefix: String,
    /// Which rules match it or a directory above it.
    matched: Vec<bool>,
}

impl Ignore {
    /// Reads an ignore file; `name` is what messages call it.
    ///
    /// # Errors
    /// It is too long, or a line is no pattern.
    pub fn read(name: &str, text: &str) -> Result<Self> {
        if text.len() as u64 > limits::IGNORE_FILE {
            return Err(Error::new(format!("cannot use `{name}`"))
                .because(format!("it is longer than {} MiB", limits::IGNORE_FILE >> 20)));
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut rules = Vec::new();
        for (index, line) in text.lines().enumerate() {
            // A comment begins in the first column.
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let refused = |why: &str| {
                Error::new(format!("cannot use line {} of `{name}`", index + 1))
                    .because(format!("`{}` is no pattern: {why}", line.trim().escape_debug()))
            };
            rules.push(rule(line).map_err(refused)?);
        }
        Ok(Self { rules })
    }

    /// The patterns of `--exclude`.
    ///
    /// # Errors
    /// One of them is none.
    pub fn of_patterns<'p>(patterns: impl IntoIterator<Item = &'p str>) -> Result<Self> {
        let read = |pattern: &str| {
            rule(pattern).map_err(|why| {
                Error::new(format!("cannot use the pattern `{}`", pattern.escape_debug())).because(why)
            })
        };
        let patterns = patterns.into_iter().filter(|pattern| !pattern.trim().is_empty());
        Ok(Self { rules: patterns.map(read).collect::<Result<_>>()? })
    }

    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Where a walk begins; the root itself always belongs to the context.
    pub fn root(&self) -> Directory {
        Directory { prefix: String::new(), matched: vec![false; self.rules.len()] }
    }

    /// Whether a path, slashes between its parts, is ignored.
    pub fn ignores(&self, path: &str) -> bool {
        let path = glob::clean(path);
        let mut parts = path.trim_start_matches('/').split('/').filter(|part| *part != ".").peekable();
        let mut directory = self.root();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return !directory.takes(self, part);
            }
            match directory.enter(self, part) {
                Verdict::Ignored => return true,
                Verdict::Taken(next) | Verdict::Searched(next) => directory = next,
            }
        }
        false
    }
}

impl Ignore {
    /// Whether a path is ignored with all that may be below it.
    pub fn hides(&self, path: &str) -> bool {
        let path = glob::clean(&format!("/{path}"));
        let path = path.trim_start_matches('/');
        self.ignores(path) && !self.rules.iter().any(|rule| rule.exception && rule.may_match_below(path))
    }
}

fn rule(line: &str) -> Result<Rule, &'static str> {
    let line = line.trim();
    let (exception, pattern) = match line.strip_prefix('!') {
        Some(rest) => (true, rest.trim()),
        None => (false, line),
    };
    if pattern.is_empty() {
        return Err("there is nothing after the `!`");
    }
    let cleaned = glob::clean(pattern);
    // A path from the root is one from the context's root.
    let pattern = match cleaned.strip_prefix('/') {
        Some(rest) if !rest.is_empty() => rest,
        _ => &cleaned,
    };
    let pattern = Pattern::read_with_directories(pattern)?;
    Ok(Rule { literal: pattern.literal(), pattern, exception })
}

impl Directory {
    /// Whether the entry `name`, which is no directory, belongs to the context.
    pub fn takes(&self, ignore: &Ignore, name: &str) -> bool {
        let path = format!("{}{name}", self.prefix);
        let mut ignored = false;
        for (rule, &above) in ignore.rules.iter().zip(&self.matched) {
            // What would change nothing need not be compared.
            if rule.exception == ignored && (above || rule.matches(&path)) {
                ignored = !rule.exception;
            }
        }
        !ignored
    }

    /// What becomes of the directory `name` in this one.
    pub fn enter(&self, ignore: &Ignore, name: &str) -> Verdict {
        let path = format!("{}{name}", self.prefix);
        let mut matched = self.matched.clone();
        let mut ignored = false;
        for (rule, matched) in ignore.rules.iter().zip(&mut matched) {
            // Also a rule that changes nothing here may decide about what is below.
            *matched |= rule.matches(&path);
            if *matched {
                ignored = !rule.exception;
            }
        }
        if ignored && !ignore.rules.iter().any(|rule| rule.exception && rule.may_match_below(&path)) {
            return Verdict::Ignored;
        }
        let directory = Self { prefix: path + "/", matched };
        if ignored { Verdict::Searched(directory) } else { Verdict::Taken(directory) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignore(text: &str) -> Ignore {
        Ignore::read(".dockerignore", text).unwrap()
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        for (patterns, path, ignored) in [
            ("*.go", "a.go", true),
            ("*.go", "d/a.go", false),
            ("**/*.go", "d/a.go", true),
            ("**/*.go", "a.go", true),
            ("*/temp*", "a/temporary/b", true),
            ("*/*/temp*", "a/b/temp", true),
            ("*/*/temp*", "a/temp", false),
            ("temp?", "tempa", true),
            ("temp?", "temp", false),
            ("docs", "docs/README.md", true),
            ("docs/", "docs/README.md", true),
            ("/docs", "docs/README.md", true),
            ("./docs", "docs/README.md", true),
            ("docs\n!docs/README.md", "docs/README.md", false),
            ("docs/*\n!docs/README.md", "docs/README.md", false),
            ("docs\n!docs/README.md", "docs/x", true),
            ("!a.go\n*.go", "a.go", true),
            ("*.go\n!a.go", "a.go", false),
            ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", true),
            ("*.md\n!README*.md\nREADME-secret.md", "README-x.md", false),
            ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", false),
            ("**\n!util/docker/web", "util/docker/web/foo", false),
            ("**\n!util/docker/web\nutil/docker/web/foo", "util/docker/web/foo", true),
            ("*\n!a/b", "a/b/c", false),
            ("*\n!a/b", "a/c", true),
            ("a/../b", "b", true),
            ("  a  ", "a", true),
            ("! a\na", "a", true),
            ("a\n! a", "a", false),
            ("# a", "# a", false),
            (" # a", "# a", true),
            ("\\#a", "#a", true),
            ("\u{feff}a", "a", true),
            ("a\r\n", "a", true),
            (".", "a", false),
            ("/", "a", false),
            ("", "a", false),
            ("../a", "a", false),
            ("a", "b/a", false),
            ("a[b-d]e", "ace", true),
            ("**/*.rs\n!src", "src/a.rs", false),
            ("*/*.rs\n!src\nsrc/a.rs", "src/a.rs", true),
            ("é*", "éa", true),
        ] {
            assert_eq!(ignore(patterns).ignores(path), ignored, "{patterns:?} {path}");
        }
        for line in ["!", "! ", "[", "a\\"] {
            assert!(Ignore::read("x", line).is_err(), "{line}");
        }
        let error = Ignore::read("x", "a\n\n[\n").unwrap_err();
        assert!(error.message().contains("line 3 of `x`"), "{error}");
    }

    /// All that a walk of a small tree takes, and the directories that it looks into.
    fn walked(patterns: &str) -> (Vec<String>, Vec<String>) {
        let tree =
            ["a.md", "node_modules/", "node_modules/x/", "node_modules/x/keep", "src/", "src/a", "src/b"];
        let ignore = ignore(patterns);
        let (mut taken, mut entered) = (Vec::new(), Vec::new());
        let mut open = vec![("", ignore.root())];
        while let Some((prefix, directory)) = open.pop() {
            for path in tree {
                let Some(name) = path.strip_prefix(prefix) else { continue };
                let (name, is_directory) = name.strip_suffix('/').map_or((name, false), |name| (name, true));
                if name.is_empty() || name.contains('/') {
                    continue;
                }
                if !is_directory {
                    taken.extend(directory.takes(&ignore, name).then(|| path.to_owned()));
                    continue;
                }
                let next = match directory.enter(&ignore, name) {
                    Verdict::Ignored => continue,
                    Verdict::Taken(next) => {
                        taken.push(path.to_owned());
                        next
                    }
                    Verdict::Searched(next) => next,
                };
                entered.push(path.to_owned());
                open.push((path, next));
            }
        }
        taken.sort();
        entered.sort();
        (taken, entered)
    }

    #[test]
    fn what_is_hidden_holds_no_exception() {
        assert!(ignore("a").hides("/a/"));
        assert!(ignore("a").hides("../a/b"));
        assert!(!ignore("a\n!a/b").hides("a"));
        assert!(!ignore("a").hides("."));
    }

    #[test]
    fn a_walk_looks_only_where_something_may_be() {
        assert_eq!(walked("node_modules").1, ["src/"]);
        assert_eq!(walked("*\n!src/a"), (vec!["src/a".to_owned()], vec!["src/".to_owned()]));
        assert_eq!(walked("**\n!*.md"), (vec!["a.md".to_owned()], vec![]));
        let (taken, entered) = walked("node_modules\n!node_modules/*/keep");
        assert!(taken.contains(&"node_modules/x/keep".to_owned()));
        assert!(!taken.contains(&"node_modules/".to_owned()));
        assert_eq!(entered, ["node_modules/", "node_modules/x/", "src/"]);
        assert_eq!(walked("*\n!**/keep").0, ["node_modules/x/keep"]);
    }

    /// The rule in the words of the reference: the last pattern that matches the path or a directory above it.
    fn by_the_book(ignore: &Ignore, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        let paths: Vec<&str> = ends.map(|end| &path[..end]).collect();
        let last = ignore.rules.iter().rev().find(|rule| paths.iter().any(|path| rule.pattern.matches(path)));
        last.is_some_and(|rule| !rule.exception)
    }

    #[test]
    fn a_walk_takes_what_the_rule_does() {
        for patterns in [
            "*",
            "**",
            "src",
            "*\n!src",
            "**/a\n!src",
            "*/?\n!src/b",
            "!src\nsrc/*",
            "n*/**\n!**/keep",
            "**\n!**/x",
            "node_modules/x\n!node_modules",
            "*\n!src\nsrc/a",
            "src\n!src/a\nsrc",
            "!*\n*\n!*.md",
        ] {
            let (taken, _) = walked(patterns);
            for path in ["a.md", "node_modules/x/keep", "src/a", "src/b"] {
                let found = taken.iter().any(|each| each == path);
                assert_eq!(found, !by_the_book(&ignore(patterns), path), "{patterns:?} {path}");
            }
        }
    }
}
