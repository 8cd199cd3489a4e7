//! Patterns for names of images, as docker's `reference` filter takes them (Go's `path.Match`).

use crate::image::reference::Reference;

/// Whether the pattern fits the name as docker shows it or the whole of it, with the tag or without.
pub fn fits(pattern: &str, name: &Reference) -> bool {
    let mut shown = vec![name.familiar(), name.familiar_repository(), name.to_string(), name.repository()];
    if let Some(path) = name.domain.eq("localhost").then_some(&name.path) {
        // What is found by its bare name is listed by it, too.
        shown.push(path.clone());
        shown.extend(name.tag.as_ref().map(|tag| format!("{path}:{tag}")));
    }
    shown.iter().any(|text| matches(pattern, text))
}

/// `*` is anything but `/`, `?` one character but `/`, `[a-z]` and `[^a-z]` one of a set, `\` takes the next as it is.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to go on when a later part does not fit: after the last `*`, one character further.
    let mut again: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == '*' {
            again = Some((p + 1, t));
            p += 1;
            continue;
        }
        if p == pattern.len() && t == text.len() {
            return true;
        }
        if t < text.len()
            && let Some(next) = one(&pattern, p, text[t])
        {
            (p, t) = (next, t + 1);
            continue;
        }
        match again {
            Some((after, from)) if from < text.len() && text[from] != '/' => {
                again = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

/// Where the pattern goes on when what stands at `at` fits the character.
fn one(pattern: &[char], at: usize, c: char) -> Option<usize> {
    match *pattern.get(at)? {
        '?' => (c != '/').then_some(at + 1),
        '\\' => (*pattern.get(at + 1)? == c).then_some(at + 2),
        '[' => {
            let negated = pattern.get(at + 1) == Some(&'^');
            let start = at + 1 + usize::from(negated);
            let end = start + 1 + pattern.get(start + 1..)?.iter().position(|c| *c == ']')?;
            let set = &pattern[start..end];
            let mut i = 0;
            let mut found = false;
            while i < set.len() {
                let (low, high, width) = match set.get(i + 1..i + 3) {
                    Some(['-', high]) => (set[i], *high, 3),
                    _ => (set[i], set[i], 1),
                };
                found |= (low..=high).contains(&c);
                i += width;
            }
            (found != negated && c != '/').then_some(end + 1)
        }
        other => (other == c).then_some(at + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stay_within_a_part() {
        for (pattern, text) in [
            ("a*", "abc"),
            ("*", ""),
            ("*/b*", "a/bc"),
            ("a?c", "abc"),
            ("[a-c]x", "bx"),
            ("[^a]x", "bx"),
            ("\\*", "*"),
            ("*a*b", "xaaxb"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("a*", "b"), ("*", "a/b"), ("?", "/"), ("[a", "a"), ("[^a]x", "ax"), ("a\\", "a"), ("", "a")]
        {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_do_not_take_for_ever() {
        assert!(!matches(&"*a".repeat(60), &"a".repeat(40)));
        assert!(!matches(&"*a".repeat(50), &"b".repeat(4000)));
    }

    #[test]
    fn a_name_fits_short_and_whole() {
        let name = Reference::parse("docker.io/library/ubuntu:22.04").unwrap();
        for pattern in ["ubuntu", "ubuntu:22.04", "ubuntu:2*", "docker.io/library/*", "ubu*:*", "u*"] {
            assert!(fits(pattern, &name), "{pattern}");
        }
        for pattern in ["ubuntu:23*", "debian", "*/ubuntu"] {
            assert!(!fits(pattern, &name), "{pattern}");
        }
        let local = Reference::parse("localhost/tool:1").unwrap();
        assert!(fits("tool", &local) && fits("tool:1", &local) && fits("localhost/*", &local));
    }
}
