//! `--network NAME:alias=…,mac=…`

use crate::error::{Error, Result};

/// What was asked of a network with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// A name, or the beginning of an ID.
    pub name: String,
    pub aliases: Vec<String>,
    pub mac_address: Option<String>,
}

impl Asked {
    /// `options` are the words after the colon, with commas between.
    ///
    /// # Errors
    /// An option that is not known, or that needs a bridge.
    pub fn parse(name: &str, options: &str) -> Result<Self> {
        let mut asked = Self { name: name.to_owned(), aliases: Vec::new(), mac_address: None };
        for option in options.split(',').filter(|option| !option.is_empty()) {
            let failed = || Error::new(format!("cannot use `--network {name}:{}`", option.escape_debug()));
            match option.split_once('=') {
                Some(("alias", alias)) => asked.add_alias(alias)?,
                Some(("mac", mac)) if asked.mac_address.is_none() => asked.mac_address = Some(mac.to_owned()),
                Some(("mac", _)) => return Err(failed().because("the interface has one MAC address")),
                Some(("ip" | "ip6" | "interface_name" | "host_interface_name" | "bclim", _)) => {
                    return Err(failed().because(super::super::BRIDGES).hint(
                        "leave it out: the container has an address of its own, which nobody else reaches",
                    ));
                }
                _ => return Err(failed().because("there is no such option").hint("there are: alias=, mac=")),
            }
        }
        Ok(asked)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_or_refused() {
        let asked = Asked::parse("shop", "alias=web,alias=www,mac=02:42:ac:11:00:02,alias=web").unwrap();
        assert_eq!(asked.aliases, ["web", "www"]);
        assert_eq!(asked.mac_address.as_deref(), Some("02:42:ac:11:00:02"));
        for (options, cause) in [
            ("ip=10.0.0.2", "bridge networks"),
            ("interface_name=eth9", "bridge networks"),
            ("color=red", "no such option"),
            ("alias", "no such option"),
            ("alias=", "letters"),
            ("alias=a b", "letters"),
            ("mac=1,mac=2", "one MAC"),
        ] {
            let error = Asked::parse("shop", options).unwrap_err();
            assert!(error.report().contains(cause), "{options}: {}", error.report());
        }
    }
}
