//! The words of `--userns`, `--uidmap`, `--gidmap` and `--id-tier`.

use std::path::PathBuf;
use std::str::FromStr;

use super::Tier;
use super::map::MapLine;
use crate::error::{Error, Result};

/// `--userns` (podman-run(1)).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Userns {
    /// The caller is root in the container.
    #[default]
    Host,
    /// The caller is itself in the container, or the user given.
    KeepId { uid: Option<u32>, gid: Option<u32> },
    /// A block of subordinate IDs that no other container has; the caller is not in it.
    Auto(Auto),
    /// All subordinate IDs; the caller is not among them.
    NoMap,
    /// The image's user is the caller.
    ImageUser,
    /// The user namespace of a container, by name or ID.
    Container(String),
    /// The user namespace of a file, such as /proc/PID/ns/user.
    Path(PathBuf),
}

/// The options of `auto`. The outside IDs of the mappings are IDs of the canonical namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Auto {
    pub size: Option<u32>,
    pub uid_mappings: Vec<MapLine>,
    pub gid_mappings: Vec<MapLine>,
}

const USERNS_WORDS: &str = "host, keep-id[:uid=UID,gid=GID], auto[:size=SIZE,uidmapping=C:F:N,gidmapping=C:F:N], nomap, \
     image-user, container:NAME, ns:PATH";

impl FromStr for Userns {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused = |cause: String| {
            Error::new(format!("cannot use `--userns {text}`"))
                .because(cause)
                .hint(format!("there are: {USERNS_WORDS}"))
        };
        let (word, options) = match text.split_once(':') {
            Some((word, options)) => (word, Some(options)),
            None => (text, None),
        };
        match (word, options) {
            ("host" | "(default)" | "", None) => Ok(Self::Host),
            ("nomap", None) => Ok(Self::NoMap),
            ("image-user", None) => Ok(Self::ImageUser),
            ("keep-id", options) => keep_id(options.unwrap_or_default()).map_err(refused),
            ("auto", options) => auto(options.unwrap_or_default()).map_err(refused),
            ("container", Some(name)) if !name.is_empty() => Ok(Self::Container(name.to_owned())),
            ("container", _) => Err(refused("the container is missing".to_owned())),
            ("ns", Some(path)) if path.starts_with('/') => Ok(Self::Path(path.into())),
            ("ns", _) => Err(refused("an absolute path of a user namespace is missing".to_owned())),
            ("host" | "nomap" | "image-user", Some(_)) => Err(refused(format!("`{word}` takes no options"))),
            _ => Err(refused(format!("`{word}` is no mode"))),
        }
    }
}

fn keep_id(options: &str) -> Result<Userns, String> {
    let (mut uid, mut gid) = (None, None);
    for (key, value) in pairs(options)? {
        let slot = match key {
            "uid" => &mut uid,
            "gid" => &mut gid,
            _ => return Err(format!("`keep-id` has no option `{key}`, but uid and gid")),
        };
        if slot.replace(id(value)?).is_some() {
            return Err(format!("`{key}` is given twice"));
        }
    }
    Ok(Userns::KeepId { uid, gid })
}

fn auto(options: &str) -> Result<Userns, String> {
    let mut auto = Auto::default();
    for (key, value) in pairs(options)? {
        match key {
            "size" => {
                let size = number(value)?;
                if size == 0 {
                    return Err("the size is 0".to_owned());
                }
                if auto.size.replace(size).is_some() {
                    return Err("`size` is given twice".to_owned());
                }
            }
            "uidmapping" => auto.uid_mappings.push(plain_line(value)?),
            "gidmapping" => auto.gid_mappings.push(plain_line(value)?),
            _ => return Err(format!("`auto` has no option `{key}`, but size, uidmapping and gidmapping")),
        }
    }
    Ok(Userns::Auto(auto))
}

fn plain_line(text: &str) -> Result<MapLine, String> {
    let arg = MapArg::parse(text)?;
    match arg {
        MapArg { extend: false, users: false, groups: false, inside, from: From::Canonical(from), count } => {
            Ok(MapLine::new(inside, from, count))
        }
        _ => Err(format!("`{text}` takes no flags here")),
    }
}

fn pairs(options: &str) -> Result<Vec<(&str, &str)>, String> {
    options
        .split(',')
        .filter(|option| !option.is_empty())
        .map(|option| option.split_once('=').ok_or_else(|| format!("`{option}` is not `KEY=VALUE`")))
        .collect()
}

/// The start of a `--uidmap` line outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// An ID of the canonical namespace: 0 is the caller, 1 the first subordinate ID.
    Canonical(u32),
    /// `@ID`: an ID of the host, which must be mapped in the canonical namespace.
    Host(u32),
}

/// One `--uidmap` or `--gidmap`: `[FLAGS]CONTAINER:FROM[:AMOUNT]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapArg {
    /// `+`: the line takes its IDs from the lines before; gaps are filled with the other IDs.
    pub extend: bool,
    /// `u`: for user IDs alone.
    pub users: bool,
    /// `g`: for group IDs alone.
    pub groups: bool,
    pub inside: u32,
    pub from: From,
    pub count: u32,
}

impl MapArg {
    fn parse(text: &str) -> Result<Self, String> {
        let line = text.trim_start_matches(['+', 'u', 'g']);
        let flags = &text[..text.len() - line.len()];
        let mut fields = line.split(':');
        let (Some(inside), Some(from), count, None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(format!("`{text}` is not `CONTAINER:FROM[:AMOUNT]`"));
        };
        let arg = Self {
            extend: flags.contains('+'),
            users: flags.contains('u'),
            groups: flags.contains('g'),
            inside: id(inside)?,
            from: match from.strip_prefix('@') {
                Some(host) => From::Host(id(host)?),
                None => From::Canonical(id(from)?),
            },
            count: count.map_or(Ok(1), number)?,
        };
        let (From::Canonical(from) | From::Host(from)) = arg.from;
        if arg.count == 0 {
            return Err(format!("`{text}` maps no ID"));
        }
        if arg.inside.checked_add(arg.count).is_none() || from.checked_add(arg.count).is_none() {
            return Err(format!("`{text}` goes beyond the last ID, 4294967294"));
        }
        Ok(arg)
    }
}

impl FromStr for MapArg {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text).map_err(|cause| {
            Error::new(format!("cannot use the ID mapping `{text}`")).because(cause).hint(
                "a mapping is [+][u][g]CONTAINER:FROM[:AMOUNT]; FROM counts from 0, the caller, over its subordinate \
                 IDs from 1 on, and @ID is an ID of the host",
            )
        })
    }
}

/// `--id-tier`.
impl FromStr for Tier {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "range" => Ok(Self::Range),
            "root" => Ok(Self::Root),
            "single" => Ok(Self::Single),
            _ => Err(Error::new(format!("cannot use `--id-tier {text}`"))
                .because("there is no such tier")
                .hint("there are: range, root, single")),
        }
    }
}

fn id(text: &str) -> Result<u32, String> {
    match number(text)? {
        u32::MAX => Err("4294967295 is no ID".to_owned()),
        id => Ok(id),
    }
}

fn number(text: &str) -> Result<u32, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("`{text}` is not a number"));
    }
    text.parse().map_err(|_| format!("`{text}` is larger than any ID"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn userns(text: &str) -> Userns {
        text.parse().unwrap()
    }

    fn cause<T: FromStr<Err = Error>>(text: &str) -> String {
        match text.parse::<T>() {
            Ok(_) => panic!("`{text}` was taken"),
            Err(error) => {
                assert_eq!(error.code(), 125);
                assert!(!error.hints().is_empty());
                error.causes().join(": ")
            }
        }
    }

    #[test]
    fn every_mode_of_podman_is_read() {
        assert_eq!(userns("host"), Userns::Host);
        assert_eq!(userns("(default)"), Userns::Host);
        assert_eq!(userns(""), Userns::Host);
        assert_eq!(userns("nomap"), Userns::NoMap);
        assert_eq!(userns("image-user"), Userns::ImageUser);
        assert_eq!(userns("keep-id"), Userns::KeepId { uid: None, gid: None });
        assert_eq!(userns("keep-id:uid=200,gid=210"), Userns::KeepId { uid: Some(200), gid: Some(210) });
        assert_eq!(userns("keep-id:gid=0"), Userns::KeepId { uid: None, gid: Some(0) });
        assert_eq!(userns("auto"), Userns::Auto(Auto::default()));
        assert_eq!(userns("auto:size=8192"), Userns::Auto(Auto { size: Some(8192), ..Auto::default() }));
        assert_eq!(
            userns("auto:uidmapping=0:5:2,gidmapping=7:9:1,size=3"),
            Userns::Auto(Auto {
                size: Some(3),
                uid_mappings: vec![MapLine::new(0, 5, 2)],
                gid_mappings: vec![MapLine::new(7, 9, 1)]
            })
        );
        assert_eq!(userns("container:web"), Userns::Container("web".to_owned()));
        assert_eq!(userns("ns:/proc/1/ns/user"), Userns::Path("/proc/1/ns/user".into()));
    }

    #[test]
    fn what_is_no_mode_is_refused_with_the_list() {
        for (text, expected) in [
            ("private", "`private` is no mode"),
            ("keepid", "`keepid` is no mode"),
            ("host:x", "`host` takes no options"),
            ("nomap:size=1", "`nomap` takes no options"),
            ("keep-id:uid", "`uid` is not `KEY=VALUE`"),
            ("keep-id:size=1", "`keep-id` has no option `size`, but uid and gid"),
            ("keep-id:uid=1,uid=2", "`uid` is given twice"),
            ("keep-id:uid=-1", "`-1` is not a number"),
            ("keep-id:uid=4294967295", "4294967295 is no ID"),
            ("keep-id:uid=4294967296", "`4294967296` is larger than any ID"),
            ("auto:size=0", "the size is 0"),
            ("auto:size=1,size=2", "`size` is given twice"),
            ("auto:uid=1", "`auto` has no option `uid`, but size, uidmapping and gidmapping"),
            ("auto:uidmapping=+0:1:1", "`+0:1:1` takes no flags here"),
            ("auto:uidmapping=0:@1:1", "`0:@1:1` takes no flags here"),
            ("container", "the container is missing"),
            ("container:", "the container is missing"),
            ("ns:", "an absolute path of a user namespace is missing"),
            ("ns:proc", "an absolute path of a user namespace is missing"),
        ] {
            assert_eq!(cause::<Userns>(text), expected, "{text}");
        }
    }

    #[test]
    fn mappings_are_read_with_flags_host_ids_and_without_an_amount() {
        let plain = MapArg {
            extend: false,
            users: false,
            groups: false,
            inside: 0,
            from: From::Canonical(1),
            count: 1000,
        };
        assert_eq!("0:1:1000".parse::<MapArg>().unwrap(), plain);
        assert_eq!("0:1".parse::<MapArg>().unwrap(), MapArg { count: 1, ..plain });
        assert_eq!(
            "+g102000:@2000".parse::<MapArg>().unwrap(),
            MapArg { extend: true, groups: true, inside: 102_000, from: From::Host(2000), count: 1, ..plain }
        );
        assert_eq!("u+0:1:1000".parse::<MapArg>().unwrap(), MapArg { extend: true, users: true, ..plain });
    }

    #[test]
    fn broken_mappings_are_refused() {
        for (text, expected) in [
            ("", "`` is not `CONTAINER:FROM[:AMOUNT]`"),
            ("0", "`0` is not `CONTAINER:FROM[:AMOUNT]`"),
            ("0:1:2:3", "`0:1:2:3` is not `CONTAINER:FROM[:AMOUNT]`"),
            ("0:1:0", "`0:1:0` maps no ID"),
            ("0:1:", "`` is not a number"),
            ("x0:1:1", "`x0` is not a number"),
            ("0:+1:1", "`+1` is not a number"),
            ("0:@:1", "`` is not a number"),
            ("@0:1:1", "`@0` is not a number"),
            ("4294967294:0:2", "`4294967294:0:2` goes beyond the last ID, 4294967294"),
            ("0:4294967294:2", "`0:4294967294:2` goes beyond the last ID, 4294967294"),
        ] {
            assert_eq!(cause::<MapArg>(text), expected, "{text}");
        }
    }

    #[test]
    fn tiers_are_named() {
        assert_eq!("range".parse::<Tier>().unwrap(), Tier::Range);
        assert_eq!("root".parse::<Tier>().unwrap(), Tier::Root);
        assert_eq!("single".parse::<Tier>().unwrap(), Tier::Single);
        assert_eq!(cause::<Tier>("Range"), "there is no such tier");
    }
}
