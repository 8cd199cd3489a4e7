//! `--tz`: the file that /etc/localtime is in the container, taken from the host, since images mostly have none.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Where hosts keep time zones (tzset(3)).
const ZONES: &str = "/usr/share/zoneinfo";
const LOCAL: &str = "/etc/localtime";
/// The largest zone has some 4 KiB.
const LARGEST: u64 = 1 << 20;
/// The first bytes of every zone (tzfile(5)).
const MAGIC: &[u8] = b"TZif";

/// A time zone, read anew each time the container starts: rules change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Timezone {
    /// That of the host.
    Local,
    /// `Europe/Berlin`
    Named(String),
}

impl Timezone {
    /// Reads the option and checks that the host has the zone.
    ///
    /// # Errors
    /// It is no name of a zone, or the host has none of that name.
    pub fn parse(text: &str) -> Result<Self> {
        let zone = match text {
            "local" => Self::Local,
            name => {
                let mut parts = Path::new(name).components().peekable();
                if parts.peek().is_none() || !parts.all(|part| matches!(part, Component::Normal(_))) {
                    return Err(Error::new(format!("cannot use `--tz {}`", name.escape_debug()))
                        .because("it is no name of a time zone")
                        .hint("write one such as Europe/Berlin, or `local` for the host's"));
                }
                Self::Named(name.to_owned())
            }
        };
        zone.read()?;
        Ok(zone)
    }

    fn path(&self) -> PathBuf {
        match self {
            Self::Local => PathBuf::from(LOCAL),
            Self::Named(name) => Path::new(ZONES).join(name),
        }
    }

    /// The host's file of the zone.
    ///
    /// # Errors
    /// There is none, or it is no time zone.
    pub fn read(&self) -> Result<Vec<u8>> {
        let path = self.path();
        let failed = || match self {
            Self::Local => "cannot use the time zone of the host".to_owned(),
            Self::Named(name) => format!("cannot use the time zone `{}`", name.escape_debug()),
        };
        let mut text = Vec::new();
        File::open(&path).and_then(|file| file.take(LARGEST).read_to_end(&mut text)).map_err(|error| {
            let failed = Error::new(failed()).because(format!("`{}`: {error}", path.display()));
            match Path::new(ZONES).exists() {
                true => failed,
                false => {
                    failed.hint("the host has no time zones: install its package `tzdata`, or set `-e TZ=…`")
                }
            }
        })?;
        if !text.starts_with(MAGIC) {
            return Err(Error::new(failed()).because(format!("`{}` is no time zone", path.display())));
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_names_below_their_directory() {
        for bad in ["", "/etc/passwd", "../../../etc/passwd", "Europe/../../passwd", "."] {
            assert!(Timezone::parse(bad).unwrap_err().to_string().contains("no name"), "{bad}");
        }
        for missing in ["Mars/Olympus_Mons", "Europe"] {
            assert!(Timezone::parse(missing).is_err(), "{missing}");
        }
        assert!(Timezone::parse("zone.tab").is_err(), "it is no zone");
    }
}
