//! Names of volumes.

use crate::container::name;
use crate::error::Result;

/// NAME_MAX (limits.h): a volume is a directory.
const MAX_NAME: usize = 255;

/// Checks a volume's name: `[a-zA-Z0-9][a-zA-Z0-9_.-]*` (podman-volume-create(1)).
///
/// # Errors
/// Names the character that is wrong.
pub fn check(name: &str) -> Result<()> {
    name::check_word("volume", name, MAX_NAME)
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
            (".part", "it begins with `.`"),
            ("-a", "it begins with `-`"),
            ("a/b", "there is a `/`"),
            ("a b", "there is a ` `"),
            ("a\n", "there is a `\\n`"),
            ("ü", "it begins with `ü`"),
            (&"x".repeat(256), "longer"),
        ] {
            let error = check(name).unwrap_err();
            assert!(error.causes()[0].contains(cause), "{name:?}: {error}");
        }
    }
}
