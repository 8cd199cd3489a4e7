//! Names of volumes.

use crate::error::{Error, Result};

/// NAME_MAX (limits.h): a volume is a directory.
const MAX_NAME: usize = 255;

/// Checks a volume's name: `[a-zA-Z0-9][a-zA-Z0-9_.-]*` (podman-volume-create(1)).
///
/// # Errors
/// Names the character that is wrong.
pub fn check(name: &str) -> Result<()> {
    let wrong = |cause: String| {
        Error::new(format!("cannot use `{}` as the name of a volume", name.escape_debug()))
            .because(cause)
            .hint("write a letter or digit, then letters, digits, `_`, `.` or `-`")
    };
    let allowed = |(at, c): (usize, char)| c.is_ascii_alphanumeric() || (at > 0 && "_.-".contains(c));
    if let Some((at, c)) = name.char_indices().find(|found| !allowed(*found)) {
        let place = if at == 0 { "the first character" } else { "a character" };
        return Err(wrong(format!("{place} is `{}`", c.escape_debug())));
    }
    match name.len() {
        0 => Err(wrong("it is empty".to_owned())),
        length if length > MAX_NAME => Err(wrong(format!("it is longer than {MAX_NAME} characters"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_file_names() {
        for name in ["a", "0", "data", "my_vol-1.2", &"x".repeat(255)] {
            check(name).unwrap();
        }
        for (name, cause) in [
            ("", "empty"),
            (".part", "the first character is `.`"),
            ("-a", "the first character is `-`"),
            ("a/b", "a character is `/`"),
            ("a b", "a character is ` `"),
            ("a\n", "a character is `\\n`"),
            ("ü", "the first character is `ü`"),
            (&"x".repeat(256), "longer"),
        ] {
            let error = check(name).unwrap_err();
            assert!(error.causes()[0].contains(cause), "{name:?}: {error}");
        }
    }
}
