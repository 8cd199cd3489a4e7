//! Text from images, registries and archives, which could command the reader's terminal.

/// With every control character as an escape.
pub fn line(text: &str) -> String {
    escaped(text, |_| false)
}

/// The same for a text of several lines.
pub fn lines(text: &str) -> String {
    escaped(text, |c| matches!(c, '\n' | '\t'))
}

fn escaped(text: &str, kept: impl Fn(char) -> bool) -> String {
    let bad = |c: char| c.is_control() && !kept(c);
    if !text.contains(bad) {
        return text.to_owned();
    }
    text.chars().map(|c| if bad(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_become_escapes() {
        assert_eq!(line("a\x1b[2J\nb\u{9b}ü"), "a\\u{1b}[2J\\nb\\u{9b}ü");
        assert_eq!(lines("a\r\n\tb"), "a\\r\n\tb");
    }
}
