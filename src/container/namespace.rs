//! The words of `--pid`, `--ipc`, `--uts`, `--cgroupns` and `--timens`.

use std::path::PathBuf;

use crate::container::spec::Namespace;
use crate::error::{Error, Result};

/// Finds the container that `container:WORD` means.
pub trait Containers {
    /// The full ID of a running container.
    ///
    /// # Errors
    /// There is none of that name or ID, or it does not run.
    fn running(&self, word: &str) -> Result<String>;
}

/// Reads a mode; `own` are the words for a namespace of the container's own, which is the default.
///
/// # Errors
/// A word that is none, a path that is not absolute, a container that does not run.
pub fn parse(flag: &str, text: Option<&str>, own: &[&str], containers: &dyn Containers) -> Result<Namespace> {
    let Some(text) = text else { return Ok(Namespace::Private) };
    match text.split_once(':') {
        None if own.contains(&text) => Ok(Namespace::Private),
        None if text == "host" => Ok(Namespace::Host),
        Some(("container", word)) => {
            let failed = |error: Error| error.while_doing(format!("cannot use `{flag} {text}`"));
            containers.running(word).map(Namespace::Container).map_err(failed)
        }
        Some(("ns", path)) if path.starts_with('/') => Ok(Namespace::Path(PathBuf::from(path))),
        _ => Err(Error::new(format!("cannot use `{flag} {text}`"))
            .hint(format!("there are: {}, host, container:NAME, ns:/PATH", own.join(", ")))),
    }
}

/// `--timens`: shared with the host unless asked for, as its clocks differ from the host's only when set.
///
/// # Errors
/// A word that is none.
pub fn time(text: Option<&str>) -> Result<Namespace> {
    match text {
        None | Some("host") => Ok(Namespace::Host),
        Some("private") => Ok(Namespace::Private),
        Some(text) => {
            Err(Error::new(format!("cannot use `--timens {text}`")).hint("there are: host, private"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct One;
    impl Containers for One {
        fn running(&self, word: &str) -> Result<String> {
            if word == "web" { Ok("ab".repeat(32)) } else { Err(Error::new("none")) }
        }
    }

    #[test]
    fn every_word_has_its_meaning() {
        let read = |text| parse("--pid", Some(text), &["private"], &One);
        assert_eq!(parse("--pid", None, &["private"], &One).unwrap(), Namespace::Private);
        assert_eq!(read("private").unwrap(), Namespace::Private);
        assert_eq!(read("host").unwrap(), Namespace::Host);
        assert_eq!(read("container:web").unwrap(), Namespace::Container("ab".repeat(32)));
        assert_eq!(read("ns:/proc/1/ns/pid").unwrap(), Namespace::Path("/proc/1/ns/pid".into()));
        for wrong in ["", "hosts", "ns:relative", "container:db", "shareable"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
