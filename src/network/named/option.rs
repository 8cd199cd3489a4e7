//! What is asked of one network: `--network NAME:ip=…,alias=…`, and docker's `--network name=NAME,ip=…`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::network::mac::MacAddress;

/// Linux takes no longer ones (IFNAMSIZ of linux/if.h, less the NUL).
const LONGEST_INTERFACE: usize = 15;
const KNOWN: &str = "alias=, ip=, ip6=, mac=, interface_name=";

/// What was asked of a network with a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// A name, or the beginning of an ID.
    pub name: String,
    pub aliases: Vec<String>,
    pub ip: Option<Ipv4Addr>,
    pub ip6: Option<Ipv6Addr>,
    pub mac_address: Option<MacAddress>,
    /// The interface's name inside.
    pub interface: Option<String>,
}

impl Asked {
    /// A network of which nothing is asked.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// `options` are the words after the colon, with commas between.
    ///
    /// # Errors
    /// An option that is not known, is wrong, or comes twice.
    pub fn parse(name: &str, options: &str) -> Result<Self> {
        let mut asked = Self::named(name);
        for option in options.split(',').filter(|option| !option.is_empty()) {
            asked
                .set(option)
                .map_err(|error| error.while_doing(format!("cannot use `--network {name}:{options}`")))?;
        }
        Ok(asked)
    }

    /// docker's long form: `name=NAME,alias=…`.
    ///
    /// # Errors
    /// As [`Self::parse`], and where the name comes twice or is empty.
    pub fn parse_long(text: &str) -> Result<Self> {
        let failed = || format!("cannot use `--network {}`", text.escape_debug());
        let mut asked = Self::default();
        for option in text.split(',') {
            match option.split_once('=') {
                Some(("name", name)) if asked.name.is_empty() && !name.is_empty() => {
                    asked.name = name.to_owned();
                }
                Some(("name", _)) => {
                    return Err(Error::new(failed()).because("one name of a network is needed"));
                }
                _ => asked.set(option).map_err(|error| error.while_doing(failed()))?,
            }
        }
        Ok(asked)
    }

    fn set(&mut self, option: &str) -> Result<()> {
        match option.split_once('=') {
            Some(("alias", alias)) => self.add_alias(alias),
            Some(("ip", text)) => once(&mut self.ip, "ip", text, "an IPv4 address"),
            Some(("ip6", text)) => once(&mut self.ip6, "ip6", text, "an IPv6 address"),
            Some(("mac" | "mac-address", text)) => {
                let mac = text.parse::<MacAddress>()?;
                put(&mut self.mac_address, "mac", mac)
            }
            Some(("interface_name", name)) => {
                check_interface(name)?;
                put(&mut self.interface, "interface_name", name.to_owned())
            }
            Some(("host_interface_name", _)) => {
                Err(Error::new("the other end of the interface is named by sbx: nobody sees it"))
            }
            Some(("bclim", _)) => Err(Error::new("only networks of the driver macvlan have such a limit")),
            Some(("driver-opt", _)) => Err(Error::new("the driver has no options for one container"))
                .map_err(|error: Error| error.hint("`interface_name=NAME` names the interface")),
            Some(("link-local-ip" | "gw-priority", _)) => {
                Err(Error::new("only the first network gives the default route, and it has no such option"))
            }
            _ => Err(Error::new(format!("there is no option `{}`", option.escape_debug()))
                .hint(format!("there are: {KNOWN}"))),
        }
    }

    /// # Errors
    /// It can be nobody's name.
    pub fn add_alias(&mut self, alias: &str) -> Result<()> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if alias.is_empty() || alias.len() > 253 || !alias.chars().all(allowed) {
            return Err(Error::new(format!("cannot use the network alias `{}`", alias.escape_debug()))
                .because("a name of letters, digits, `_`, `.` and `-` is needed, at most 253 of them"));
        }
        if !self.aliases.iter().any(|known| known == alias) {
            self.aliases.push(alias.to_owned());
        }
        Ok(())
    }
}

fn once<T: FromStr>(place: &mut Option<T>, option: &str, text: &str, what: &str) -> Result<()> {
    match text.parse() {
        Ok(value) => put(place, option, value),
        Err(_) => Err(Error::new(format!("`{option}={}` is not {what}", text.escape_debug()))),
    }
}

/// Refuses a second value.
pub fn put<T>(place: &mut Option<T>, option: &str, value: T) -> Result<()> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::new(format!("`{option}` is there twice"))),
    }
}

/// What the kernel takes as the name of an interface (net/core/dev.c, dev_valid_name), and no pattern of one: neither its
/// own nor one of nft's, whose strings know no quote either.
///
/// # Errors
/// It can be the name of none, or of another only.
pub fn check_interface(name: &str) -> Result<()> {
    let wrong = |cause: &str| {
        Err(Error::new(format!("cannot name an interface `{}`", name.escape_debug())).because(cause))
    };
    let allowed = |c: char| c.is_ascii_graphic() && !"/:%*\"\\".contains(c);
    match name {
        "" => wrong("the name is empty"),
        "lo" => wrong("that is the loopback interface"),
        "." | ".." => wrong("there is a directory of that name"),
        "all" | "default" => wrong("the kernel means something else by it (/proc/sys/net)"),
        _ if name.len() > LONGEST_INTERFACE => wrong("it is longer than 15 characters"),
        _ if !name.chars().all(allowed) => wrong("there is a character in it that cannot be there"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_an_interface_is_more_than_a_name_to_nft() {
        assert!(check_interface("br-0.1@x").is_ok());
        for bad in ["br*", "a\"b", "a\\b", "a b", "a%d", "", "..", "all", "sixteen-letters-"] {
            assert!(check_interface(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn options_are_read() {
        let asked = Asked::parse(
            "shop",
            "alias=web,alias=www,mac=02:42:ac:11:00:02,alias=web,ip=10.89.0.9,ip6=fd00::9,interface_name=net0",
        )
        .unwrap();
        assert_eq!(asked.aliases, ["web", "www"]);
        assert_eq!(asked.mac_address.unwrap().to_string(), "02:42:ac:11:00:02");
        assert_eq!(asked.ip, Some(Ipv4Addr::new(10, 89, 0, 9)));
        assert_eq!(asked.ip6.unwrap().to_string(), "fd00::9");
        assert_eq!(asked.interface.as_deref(), Some("net0"));
        let long =
            Asked::parse_long("name=shop,ip=10.89.0.9,alias=web,mac-address=02:42:ac:11:00:02").unwrap();
        assert_eq!((long.name.as_str(), long.ip, long.aliases.len()), ("shop", asked.ip, 1));
    }

    #[test]
    fn what_cannot_be_had_says_why() {
        for (options, cause) in [
            ("ip=10.0.0", "not an IPv4 address"),
            ("ip=fd00::1", "not an IPv4 address"),
            ("ip6=10.0.0.1", "not an IPv6 address"),
            ("ip=10.0.0.1,ip=10.0.0.2", "twice"),
            ("interface_name=a/b", "character"),
            ("interface_name=lo", "loopback"),
            ("interface_name=0123456789abcdef", "15"),
            ("host_interface_name=x", "nobody sees it"),
            ("bclim=1", "macvlan"),
            ("color=red", "no option `color=red`"),
            ("alias", "no option"),
            ("alias=", "letters"),
            ("alias=a b", "letters"),
            ("mac=1", "six pairs"),
            ("mac=02:42:ac:11:00:02,mac=02:42:ac:11:00:03", "twice"),
        ] {
            let error = Asked::parse("shop", options).unwrap_err();
            assert!(error.report().contains(cause), "{options}: {}", error.report());
        }
        for text in ["name=", "name=a,name=b", "name=a,driver-opt=x=y"] {
            assert!(Asked::parse_long(text).is_err(), "{text}");
        }
    }
}
