//! The command line: whose maps, and which.

use alloc::format;

use crate::Refusal;
use crate::map::Map;
use crate::number::decimal;

/// What the name of the program asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Uid,
    Gid,
    Both,
}

/// How the caller names the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Its number in the PID namespace of /proc.
    Pid(u32),
    /// `fd:N`: an inherited descriptor of its directory in /proc.
    Descriptor(i32),
}

/// At least one map.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    pub target: Target,
    pub uid_map: Option<Map>,
    pub gid_map: Option<Map>,
}

impl Role {
    /// The caller chooses argv\[0\] at will: that is harmless, every role is open to every caller.
    pub fn of(argv0: &[u8]) -> Self {
        match argv0.rsplit(|byte| *byte == b'/').next() {
            Some(b"newuidmap") => Self::Uid,
            Some(b"newgidmap") => Self::Gid,
            _ => Self::Both,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Uid => "newuidmap",
            Self::Gid => "newgidmap",
            Self::Both => "newuidmap-shim",
        }
    }

    fn usage(self) -> Refusal {
        match self {
            Self::Uid => "usage: newuidmap PID|fd:N INSIDE OUTSIDE COUNT...",
            Self::Gid => "usage: newgidmap PID|fd:N INSIDE OUTSIDE COUNT...",
            Self::Both => {
                "usage: newuidmap-shim PID|fd:N UID-INSIDE OUTSIDE COUNT... -- GID-INSIDE OUTSIDE COUNT..."
            }
        }
        .into()
    }
}

impl Request {
    /// Reads the words after the program's name.
    pub fn parse(role: Role, words: &[&[u8]]) -> Result<Self, Refusal> {
        let [target, triples @ ..] = words else { return Err(role.usage()) };
        if triples.is_empty() {
            return Err(role.usage());
        }
        let target = Target::parse(target)?;
        Ok(match role {
            Role::Uid => Self { target, uid_map: Some(Map::from_words(triples)?), gid_map: None },
            Role::Gid => Self { target, uid_map: None, gid_map: Some(Map::from_words(triples)?) },
            Role::Both => {
                let at = triples.iter().position(|word| *word == b"--").ok_or_else(|| role.usage())?;
                Self {
                    target,
                    uid_map: Some(Map::from_words(&triples[..at])?),
                    gid_map: Some(Map::from_words(&triples[at + 1..])?),
                }
            }
        })
    }
}

impl Target {
    fn parse(word: &[u8]) -> Result<Self, Refusal> {
        let signed = |digits| decimal(digits).and_then(|number| i32::try_from(number).ok());
        match word.strip_prefix(b"fd:") {
            Some(digits) => signed(digits).map(Self::Descriptor),
            None => signed(word).filter(|pid| *pid > 0).map(|pid| Self::Pid(pid.unsigned_abs())),
        }
        .ok_or_else(|| {
            format!("`{}` is neither a process ID nor `fd:` and a descriptor", word.escape_ascii()).into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(role: Role, text: &str) -> Result<Request, Refusal> {
        Request::parse(role, &text.split_whitespace().map(str::as_bytes).collect::<Vec<_>>())
    }

    #[test]
    fn the_name_decides_the_role() {
        assert_eq!(Role::of(b"/usr/bin/newuidmap"), Role::Uid);
        assert_eq!(Role::of(b"newgidmap"), Role::Gid);
        for name in [&b"newuidmap-shim"[..], b"", b"newuidmap/", b"xnewuidmap"] {
            assert_eq!(Role::of(name), Role::Both);
        }
    }

    #[test]
    fn one_map_or_both() {
        let one = parse(Role::Gid, "7 0 1000 1").unwrap();
        assert_eq!(one.target, Target::Pid(7));
        assert!(one.uid_map.is_none() && one.gid_map.is_some());
        let both = parse(Role::Both, "fd:3 0 1000 1 1 100000 10 -- 0 1000 1").unwrap();
        assert_eq!(both.target, Target::Descriptor(3));
        assert_eq!(both.uid_map.unwrap().lines().len(), 2);
        assert_eq!(both.gid_map.unwrap().lines().len(), 1);
    }

    #[test]
    fn incomplete_or_odd_commands_are_refused() {
        for text in ["", "7", "7 0 1000 1", "7 -- 0 1 1", "7 0 1 1 --", "7 0 1 1 -- 0 1 1 --"] {
            assert!(parse(Role::Both, text).is_err(), "{text}");
        }
        for target in [
            "0",
            "-1",
            "+1",
            "01",
            "1x",
            "2147483648",
            "self",
            "fd:",
            "fd:-1",
            "fd:x",
            "../1",
            "1/2",
            "thread-self",
        ] {
            assert!(parse(Role::Uid, &format!("{target} 0 1 1")).is_err(), "{target}");
        }
        assert!(parse(Role::Uid, "7 0 1 1 -- 0 1 1").is_err());
    }
}
