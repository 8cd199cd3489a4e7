//! `--network`: what the words mean, which of them this version can give, and what goes together.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use super::named::{self, Asked, BUILT_IN};
use super::{Mode, pasta, programs, slirp4netns};
use crate::error::{Error, Result};

/// What was asked for; [`Requested::decide`] makes a [`Mode`] of it on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requested {
    /// A network of its own through the helper that this host has.
    Private,
    /// Networks with names, and bridges below them.
    Named(Vec<Asked>),
    Decided(Mode),
}

/// Reads all values of `--network` (and its alias `--net`). None at all is [`Requested::Private`].
pub fn parse(values: &[String]) -> Result<Requested> {
    let mut all = Vec::new();
    for value in values {
        match parse_one(value)? {
            Requested::Named(asked) => all.extend(asked),
            only if values.len() == 1 => return Ok(only),
            _ => {
                return Err(Error::new(format!(
                    "cannot connect the container to `{value}` and other networks"
                ))
                .because("only networks that `sbx network create` makes, and `bridge`, can be had together")
                .hint("give `--network` once, or name such networks alone"));
            }
        }
    }
    let twice =
        all.iter().enumerate().find(|(at, one)| all[..*at].iter().any(|other| other.name == one.name));
    match twice {
        Some((_, twice)) => Err(Error::new(format!("the network `{}` is there twice", twice.name))),
        None if all.is_empty() => Ok(Requested::Private),
        None => Ok(Requested::Named(all)),
    }
}

fn parse_one(value: &str) -> Result<Requested> {
    if value.starts_with("name=") {
        return Ok(Requested::Named(vec![named(Asked::parse_long(value)?)?]));
    }
    let (name, rest) = match value.split_once(':') {
        Some((name, rest)) => (name, Some(rest)),
        None => (value, None),
    };
    let options =
        || rest.unwrap_or_default().split(',').filter(|o| !o.is_empty()).map(str::to_owned).collect();
    let mode = match (name, rest) {
        ("private" | "default", None) => return Ok(Requested::Private),
        ("none", None) => Mode::None,
        ("host", None) => Mode::Host,
        ("slirp4netns", _) => {
            let options: Vec<String> = options();
            slirp4netns::Options::parse(&options)?;
            Mode::Slirp4netns(options)
        }
        ("pasta", _) => {
            let options: Vec<String> = options();
            pasta::check_options(&options)?;
            Mode::Pasta(options)
        }
        ("ns", Some(path)) if Path::new(path).is_absolute() => Mode::Path(PathBuf::from(path)),
        ("ns", _) => {
            return Err(Error::new(format!("invalid network `{value}`"))
                .because("`ns:` takes the absolute path of a network namespace")
                .hint("write `--network ns:/proc/PID/ns/net`"));
        }
        ("container", Some(id)) if !id.is_empty() => Mode::Container(id.to_owned()),
        ("container", _) => {
            return Err(Error::new(format!("invalid network `{value}`"))
                .because("`container:` takes the name or ID of a container"));
        }
        ("none" | "host" | "private" | "default", Some(_)) => {
            return Err(Error::new(format!("invalid network `{value}`"))
                .because(format!("the network `{name}` takes no options")));
        }
        ("", _) => return Err(Error::new("the value of `--network` is empty")),
        // podman's older way to name several.
        (_, None) => {
            let each = value.split(',').map(|name| named(Asked::named(name)));
            return each.collect::<Result<_>>().map(Requested::Named);
        }
        (_, Some(options)) => {
            return Ok(Requested::Named(vec![named(Asked::parse(name, options)?)?]));
        }
    };
    Ok(Requested::Decided(mode))
}

/// Refuses what can be the name of no network.
fn named(asked: Asked) -> Result<Asked> {
    if asked.name != BUILT_IN {
        named::check_name(&asked.name)?;
    }
    Ok(asked)
}

impl Requested {
    /// Chooses the helper and checks that this host has it and /dev/net/tun. slirp4netns comes first: it is
    /// ready in a fifth of the time that pasta takes.
    pub fn decide(self) -> Result<Mode> {
        let mode = match self {
            Self::Decided(mode) => mode,
            // Through an uplink of theirs.
            Self::Named(_) => {
                Self::Private.decide()?;
                return Ok(Mode::Bridge);
            }
            Self::Private if programs::find("slirp4netns").is_some() => Mode::Slirp4netns(Vec::new()),
            Self::Private if programs::find("pasta").is_some() => Mode::Pasta(Vec::new()),
            Self::Private => {
                return Err(without_network("cannot give the container a network of its own")
                    .because("neither slirp4netns nor pasta is installed")
                    .hint("an administrator can run `apt install slirp4netns` (or `passt`)"));
            }
        };
        let (program, package) = match mode {
            Mode::Slirp4netns(_) => ("slirp4netns", "slirp4netns"),
            Mode::Pasta(_) => ("pasta", "passt"),
            Mode::None | Mode::Host | Mode::Path(_) | Mode::Container(_) | Mode::Bridge => return Ok(mode),
        };
        if programs::find(program).is_none() {
            return Err(without_network(format!("cannot use `--network {program}`"))
                .because(format!("`{program}` is not installed"))
                .hint(format!("an administrator can run `apt install {package}`")));
        }
        check_tun(Path::new("/dev/net/tun"))?;
        Ok(mode)
    }
}

/// Both helpers make a tap interface, and need the device for it.
fn check_tun(device: &Path) -> Result<()> {
    let Err(cause) = OpenOptions::new().read(true).write(true).open(device) else { return Ok(()) };
    let error = without_network("cannot give the container a network of its own")
        .because(format!("`{}` cannot be opened", device.display()));
    Err(match cause.kind() {
        io::ErrorKind::NotFound => error
            .because("it does not exist")
            .hint("inside a container, the outer one needs `--device /dev/net/tun`"),
        io::ErrorKind::PermissionDenied => {
            error.because(cause).hint("an administrator can run `chmod 0666 /dev/net/tun`")
        }
        _ => error.because(cause),
    })
}

fn without_network(message: impl Into<String>) -> Error {
    Error::new(message).hint("use `--network host` (the host's own network) or `--network none`")
}

/// Checks `--mac-address`: six pairs of hexadecimal digits, of one station and not all zero.
pub fn check_mac_address(text: &str) -> Result<()> {
    let wrong = |cause: &str| Err(Error::new(format!("invalid MAC address `{text}`")).because(cause));
    let pairs: Vec<&str> = text.split([':', '-']).collect();
    let bytes: Vec<u8> = pairs
        .iter()
        .filter(|pair| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit()))
        .filter_map(|pair| u8::from_str_radix(pair, 16).ok())
        .collect();
    if pairs.len() != 6 || bytes.len() != 6 {
        return wrong("it takes six pairs of hexadecimal digits, such as 02:42:ac:11:00:02");
    }
    if bytes.iter().all(|&b| b == 0) {
        return wrong("it is all zero");
    }
    if bytes[0] & 1 == 1 {
        return wrong("it is a multicast address (the first byte is odd)");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Result<Requested> {
        parse(&[text.to_owned()])
    }

    #[test]
    fn every_mode_is_read() {
        let decided = |text| match parse_text(text).expect(text) {
            Requested::Decided(mode) => mode,
            other => panic!("{text} is {other:?}"),
        };
        assert_eq!(parse(&[]).expect("default"), Requested::Private);
        assert_eq!(parse_text("private").expect("private"), Requested::Private);
        assert_eq!(decided("none"), Mode::None);
        assert_eq!(decided("host"), Mode::Host);
        assert_eq!(decided("slirp4netns"), Mode::Slirp4netns(vec![]));
        assert_eq!(
            decided("slirp4netns:mtu=1500,enable_ipv6=false"),
            Mode::Slirp4netns(vec!["mtu=1500".into(), "enable_ipv6=false".into()])
        );
        assert_eq!(decided("pasta:-T,5432"), Mode::Pasta(vec!["-T".into(), "5432".into()]));
        assert_eq!(decided("ns:/proc/1/ns/net"), Mode::Path("/proc/1/ns/net".into()));
        assert_eq!(decided("container:web"), Mode::Container("web".into()));
    }

    #[test]
    fn several_networks_have_their_own_options() {
        let names = |values: &[&str]| -> Vec<(String, Vec<String>)> {
            let values: Vec<String> = values.iter().map(|&value| value.to_owned()).collect();
            match parse(&values).expect("networks") {
                Requested::Named(asked) => asked.into_iter().map(|one| (one.name, one.aliases)).collect(),
                other => panic!("{values:?} is {other:?}"),
            }
        };
        let plain = |name: &str| (name.to_owned(), Vec::new());
        assert_eq!(names(&["shop", "bridge"]), [plain("shop"), plain("bridge")]);
        assert_eq!(names(&["shop,back"]), [plain("shop"), plain("back")]);
        let with_alias = ("shop".to_owned(), vec!["a".to_owned()]);
        assert_eq!(names(&["shop:alias=a", "back"]), [with_alias.clone(), plain("back")]);
        assert_eq!(names(&["name=shop,mac-address=02:42:ac:11:00:02,alias=a"]), [with_alias]);
    }

    #[test]
    fn what_cannot_be_had_says_why() {
        for (text, word) in [
            ("my/net", "name of a network"),
            ("mynet:ip=10.0.0", "not an IPv4 address"),
            ("ns:relative", "absolute"),
            ("ns", "absolute"),
            ("container:", "name or ID"),
            ("host:x", "no options"),
            ("none:", "no options"),
            ("", "empty"),
            ("slirp4netns:port_handler=rootlesskit", "rootlesskit"),
            ("slirp4netns:color=red", "color"),
        ] {
            let error = parse_text(text).expect_err(text);
            assert!(error.to_string().contains(word), "{text}: {error}");
            assert_eq!(error.code(), 125);
        }
        for (values, word) in [
            (["pasta", "slirp4netns"], "`pasta` and other networks"),
            (["shop", "host"], "`host` and other networks"),
            (["shop", "shop:ip=10.89.0.2"], "`shop` is there twice"),
        ] {
            let error = parse(&values.map(str::to_owned)).expect_err(word);
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn a_missing_tun_device_offers_the_ways_out() {
        let report = check_tun(Path::new("/nonexistent/net/tun")).expect_err("missing").report();
        assert!(report.contains("--network host") && report.contains("--network none"), "{report}");
        assert!(report.contains("does not exist"), "{report}");
    }

    #[test]
    fn mac_addresses_are_checked() {
        check_mac_address("02:42:ac:11:00:02").expect("colons");
        check_mac_address("02-42-AC-11-00-02").expect("dashes");
        for text in [
            "",
            "02:42:ac:11:00",
            "02:42:ac:11:00:0g",
            "00:00:00:00:00:00",
            "01:42:ac:11:00:02",
            "2:42:ac:11:0:2",
            "+2:42:ac:11:00:02",
        ] {
            assert!(check_mac_address(text).is_err(), "{text}");
        }
    }
}
