//! Names of containers, random names and IDs, and the names that a host may have.

mod words;

use words::{ADJECTIVES, SURNAMES};

use crate::error::{Error, Result, Step};

/// Longer names would not fit into a file name beside a suffix.
const MAX_NAME: usize = 128;
/// Linux's HOST_NAME_MAX (sethostname(2)).
const MAX_HOST_NAME: usize = 64;

/// Checks a container's name: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, podman's rule (docker asks for two characters).
///
/// # Errors
/// Names the character that is wrong.
pub fn check(name: &str) -> Result<()> {
    check_word("container", name, MAX_NAME)
}

/// Checks the name of a `kind` of things that have names by that rule, at most so many characters long.
///
/// # Errors
/// Names the character that is wrong.
pub fn check_word(kind: &str, name: &str, longest: usize) -> Result<()> {
    let wrong = |cause: String| {
        Error::new(format!("cannot use `{}` as the name of a {kind}", name.escape_debug()))
            .because(cause)
            .hint("write a letter or digit, then letters, digits, `_`, `.` or `-`")
    };
    let allowed = |(at, c): (usize, char)| c.is_ascii_alphanumeric() || (at > 0 && "_.-".contains(c));
    if let Some((at, c)) = name.char_indices().find(|found| !allowed(*found)) {
        let place = if at == 0 { "it begins with" } else { "there is a" };
        return Err(wrong(format!("{place} `{}`", c.escape_debug())));
    }
    match name.len() {
        0 => Err(wrong("it is empty".to_owned())),
        length if length > longest => Err(wrong(format!("it is longer than {longest} characters"))),
        _ => Ok(()),
    }
}

/// Checks what `--hostname` gives to sethostname(2) and writes into /etc/hosts: labels of letters, digits,
/// `-` and `_` with dots between them, at most 64 bytes.
///
/// # Errors
/// Names the part that is wrong.
pub fn check_hostname(flag: &str, name: &str) -> Result<()> {
    let wrong = |cause: String| {
        Error::new(format!("cannot use `{flag} {name}`"))
            .because(cause)
            .hint("write letters, digits and `-`, with dots between the parts, at most 64 in all")
    };
    if name.len() > MAX_HOST_NAME {
        return Err(wrong(format!("it is longer than {MAX_HOST_NAME} bytes")));
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Err(wrong("a part of it is empty".to_owned()));
        }
        if let Some(c) = label.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_".contains(*c)) {
            return Err(wrong(format!("`{}` cannot be in it", c.escape_debug())));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(wrong(format!("the part `{label}` begins or ends with `-`")));
        }
    }
    Ok(())
}

/// Makes a name such as `patient_noether`. It may be taken: try again.
///
/// # Errors
/// The kernel gives no random bytes.
pub fn random() -> Result<String> {
    let mut random = [0; 8];
    crate::sys::random::fill(&mut random).step(|| "cannot make a random name")?;
    Ok(of_number(u64::from_ne_bytes(random)))
}

/// The same with a number behind it, where most of the others are taken.
///
/// # Errors
/// As [`random`].
pub fn random_with_number() -> Result<String> {
    let mut random = [0; 8];
    crate::sys::random::fill(&mut random).step(|| "cannot make a random name")?;
    let number = u64::from_ne_bytes(random);
    Ok(format!("{}{}", of_number(number), number >> 40))
}

fn of_number(number: u64) -> String {
    let adjective = ADJECTIVES[(number % ADJECTIVES.len() as u64) as usize];
    let surname = SURNAMES[(number / ADJECTIVES.len() as u64 % SURNAMES.len() as u64) as usize];
    format!("{adjective}_{surname}")
}

/// Makes a container's ID: 64 lower-case hexadecimal digits. Its first twelve, the short form, are never
/// all decimal digits, because they become the host name, and programs take such a name for a number.
///
/// # Errors
/// The kernel gives no random bytes.
pub fn random_id() -> Result<String> {
    loop {
        let mut random = [0_u8; 32];
        crate::sys::random::fill(&mut random).step(|| "cannot make a random ID")?;
        let id: String = random
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]))
            .collect();
        if id[..12].bytes().any(|digit| digit.is_ascii_alphabetic()) {
            return Ok(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_of_containers() {
        for name in ["a", "7", "ab", "a1", "0-", "web.1", "A_b-c.d", &"x".repeat(128)] {
            check(name).unwrap();
        }
        for (name, cause) in [
            ("", "empty"),
            ("-a", "it begins with `-`"),
            (".a", "it begins with `.`"),
            ("_a", "it begins with `_`"),
            ("/a", "it begins with `/`"),
            ("a/b", "there is a `/`"),
            ("a b", "there is a ` `"),
            ("a\n", "there is a `\\n`"),
            ("añ", "there is a `ñ`"),
            (&"x".repeat(129), "longer"),
        ] {
            let error = check(name).unwrap_err();
            assert!(error.causes()[0].contains(cause), "{name:?}: {error}");
        }
    }

    #[test]
    fn names_of_hosts() {
        for name in ["a", "box", "web-1.example.org", "under_score", "0", &"x".repeat(64)] {
            check_hostname("--hostname", name).unwrap();
        }
        for (name, cause) in [
            ("", "empty"),
            ("a..b", "empty"),
            (".a", "empty"),
            ("a.", "empty"),
            ("-a", "begins or ends"),
            ("a-.b", "begins or ends"),
            ("a b", "` ` cannot"),
            ("a\nb", "`\\n` cannot"),
            ("a/b", "`/` cannot"),
            ("ä", "`ä` cannot"),
            (&"x".repeat(65), "longer"),
        ] {
            let error = check_hostname("--hostname", name).unwrap_err();
            assert!(error.message().contains("--hostname"));
            assert!(error.causes()[0].contains(cause), "{name:?}: {error}");
        }
    }

    #[test]
    fn every_random_name_is_a_name() {
        assert!(ADJECTIVES.len() >= 90 && SURNAMES.len() >= 150);
        for list in [ADJECTIVES, SURNAMES] {
            assert_eq!(list.iter().collect::<HashSet<_>>().len(), list.len(), "no word twice");
            for word in list {
                assert!(word.bytes().all(|b| b.is_ascii_lowercase()), "{word}");
            }
        }
        let all = (ADJECTIVES.len() * SURNAMES.len()) as u64;
        let names: HashSet<String> = (0..all).map(of_number).collect();
        assert_eq!(names.len() as u64, all);
        assert!(names.iter().all(|name| check(name).is_ok()));
        check(&of_number(u64::MAX)).unwrap();
        assert!(names.contains(&random().unwrap()));
    }

    #[test]
    fn random_ids_are_hexadecimal_and_differ() {
        let ids: HashSet<String> = (0..100).map(|_| random_id().unwrap()).collect();
        assert_eq!(ids.len(), 100);
        for id in ids {
            assert_eq!(id.len(), 64);
            assert!(id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{id}");
        }
    }
}
