//! `--chmod`: an octal mode, or the symbols of chmod(1).

use super::ast::Word;
use super::complaint::Complaint;

/// A change of a file's mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chmod {
    /// Taken as it is.
    Octal(u32),
    /// `u=rwX,go=rX`: one after the other.
    Symbolic(Vec<Clause>),
}

/// `ugoa`, one of `+-=`, and permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clause {
    /// The bits that it may change.
    who: u32,
    operation: char,
    /// The bits of `r`, `w`, `x`, `s` and `t`, for everybody.
    bits: u32,
    /// `X`: execution where somebody may already, and for directories.
    conditional: bool,
}

/// # Errors
/// It is no mode.
pub fn read(word: &Word) -> Result<Chmod, Complaint> {
    parse(&word.text).ok_or_else(|| {
        Complaint::new(word.span, format!("`{}` is no mode", word.text.escape_debug()))
            .hint("write it in octal (`--chmod=755`), or as `u=rwX,go=rX`")
    })
}

fn parse(text: &str) -> Option<Chmod> {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return u32::from_str_radix(text, 8).ok().filter(|&mode| mode <= 0o7777).map(Chmod::Octal);
    }
    let mut clauses = Vec::new();
    for part in text.split(',') {
        let (who, mut rest) = part.split_at(part.find(|c: char| !"ugoa".contains(c))?);
        let mut bits = 0;
        for letter in who.chars() {
            bits |= match letter {
                'u' => 0o4700,
                'g' => 0o2070,
                'o' => 0o1007,
                _ => 0o7777,
            };
        }
        // `+x` is `a+x`; there is no umask in a build.
        let who = if who.is_empty() { 0o7777 } else { bits };
        while let Some(operation) = rest.chars().next() {
            if !"+-=".contains(operation) {
                return None;
            }
            let end = rest[1..].find(|c: char| "+-=".contains(c)).map_or(rest.len(), |end| end + 1);
            let mut clause = Clause { who, operation, bits: 0, conditional: false };
            for letter in rest[1..end].chars() {
                match letter {
                    'r' => clause.bits |= 0o444,
                    'w' => clause.bits |= 0o222,
                    'x' => clause.bits |= 0o111,
                    's' => clause.bits |= 0o6000,
                    't' => clause.bits |= 0o1000,
                    'X' => clause.conditional = true,
                    _ => return None,
                }
            }
            clauses.push(clause);
            rest = &rest[end..];
        }
    }
    (clauses.len() < 64).then_some(Chmod::Symbolic(clauses))
}

impl Chmod {
    /// The mode of a file that had `mode`: permissions, setuid, setgid and sticky bits alone.
    pub fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let clauses = match self {
            Self::Octal(mode) => return *mode,
            Self::Symbolic(clauses) => clauses,
        };
        clauses.iter().fold(mode & 0o7777, |mode, clause| {
            let execute = clause.conditional && (is_directory || mode & 0o111 != 0);
            let bits = (clause.bits | if execute { 0o111 } else { 0 }) & clause.who;
            match clause.operation {
                '+' => mode | bits,
                '-' => mode & !bits,
                _ => (mode & !clause.who) | bits,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal_or_symbols() {
        for (text, before, directory, after) in [
            ("755", 0o600, false, 0o755),
            ("0644", 0o777, true, 0o644),
            ("1777", 0, true, 0o1777),
            ("+x", 0o644, false, 0o755),
            ("u+x", 0o644, false, 0o744),
            ("go-w", 0o666, false, 0o644),
            ("a=r", 0o777, false, 0o444),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u+s", 0o755, false, 0o4755),
            ("g+s", 0o755, true, 0o2755),
            ("+t", 0o777, true, 0o1777),
            ("o=", 0o777, false, 0o770),
            ("u=rw+x", 0o000, false, 0o700),
        ] {
            let mode = parse(text).expect(text).apply(before, directory);
            assert_eq!(mode, after, "{text} on {before:o}: {mode:o}");
        }
        for text in ["", "8", "77777", "u", "rwx", "u+q", "u=rw,", "-1", "0x1", "u~x"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
