//! Names that a network can have.

use crate::error::{Error, Result};

/// Longer ones leave no room in the name of a file.
const LONGEST: usize = 250;
/// What these words mean to `--network`, no network of that name could be reached by.
const TAKEN: &[&str] =
    &["bridge", "container", "default", "host", "none", "ns", "pasta", "private", "slirp4netns"];

/// podman's rule for names (podman-network-create(1)), less the words that mean something else.
///
/// # Errors
/// It can be the name of no network.
pub fn check(name: &str) -> Result<()> {
    let wrong = |cause: &str| {
        Err(Error::new(format!("cannot use `{}` as the name of a network", name.escape_debug()))
            .because(cause)
            .hint("write a letter or digit, then letters, digits, `_`, `.` and `-`"))
    };
    let allowed = |(at, c): (usize, char)| c.is_ascii_alphanumeric() || (at > 0 && "_.-".contains(c));
    match name {
        "" => wrong("it is empty"),
        _ if name.len() > LONGEST => wrong("it is longer than 250 characters"),
        _ if TAKEN.contains(&name) => wrong("`--network` means something else by it"),
        _ if !name.char_indices().all(allowed) => wrong("there is a character in it that cannot be there"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["a", "shop_default", "a.b-c_d", "9"] {
            assert!(check(good).is_ok(), "{good}");
        }
        let long = "x".repeat(251);
        for bad in ["", "a b", "a/b", "..", "-x", "_x", "host", "private", "bridge", "a:b", &long] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
