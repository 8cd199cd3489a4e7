//! `--opt NAME=VALUE` of `network create`, in podman's words and docker's.

use std::collections::BTreeMap;

use super::{check_interface, put};
use crate::error::{Error, Result};

/// Internet Protocol needs the first (RFC 791), IPv6 the second (RFC 8200); a packet of slirp4netns is no longer than
/// the third.
const SMALLEST_MTU: u32 = 68;
pub(super) const SMALLEST_MTU_V6: u32 = 1280;
const LARGEST_MTU: u32 = 65_535;
const KNOWN: &str = "mtu=, isolate=true|false, allow_host_loopback=true|false";

/// What was asked of the driver.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DriverOptions {
    /// As they are recorded: `mtu`, `isolate`, `allow_host_loopback`.
    pub recorded: BTreeMap<String, String>,
    /// The name of the bridge.
    pub interface: Option<String>,
}

impl DriverOptions {
    /// # Errors
    /// An option that is not known, cannot be honoured, is wrong, or comes twice.
    pub fn parse(texts: &[String]) -> Result<Self> {
        let mut options = Self::default();
        for text in texts {
            options
                .set(text)
                .map_err(|error| error.while_doing(format!("cannot use `--opt {}`", text.escape_debug())))?;
        }
        Ok(options)
    }

    /// Bytes of a packet; none: as many as the uplink takes.
    pub(super) fn mtu(&self) -> Option<u32> {
        self.recorded.get("mtu")?.parse().ok()
    }

    fn set(&mut self, text: &str) -> Result<()> {
        let Some((name, value)) = text.split_once('=') else {
            return Err(Error::new("it is not NAME=VALUE").hint(format!("there are: {KNOWN}")));
        };
        let recorded = match name {
            "mtu" | "com.docker.network.driver.mtu" => ("mtu", mtu(value)?),
            // Two networks reach each other only where both want that; so `strict` is nothing more.
            "isolate" if value == "strict" => ("isolate", "true".to_owned()),
            "isolate" | "allow_host_loopback" => (name, boolean(value)?.to_string()),
            "com.docker.network.bridge.name" => {
                check_interface(value)?;
                return put(&mut self.interface, name, value.to_owned());
            }
            _ => return harmless(name, value),
        };
        match self.recorded.insert(recorded.0.to_owned(), recorded.1) {
            None => Ok(()),
            Some(_) => Err(Error::new(format!("`{}` is there twice", recorded.0))),
        }
    }
}

/// Options that ask for what is so anyway; with another value, and all others, they are refused.
fn harmless(name: &str, value: &str) -> Result<()> {
    let (so, reason) = match name {
        "com.docker.network.bridge.enable_icc" => (
            boolean(value)?,
            "containers of one network reach each other; give each a network of its own where they should not",
        ),
        "com.docker.network.bridge.enable_ip_masquerade" => {
            (boolean(value)?, "what leaves the network has the host's address: nothing else can be answered")
        }
        "com.docker.network.bridge.gateway_mode_ipv4" | "com.docker.network.bridge.gateway_mode_ipv6" => {
            (value == "nat", "the host routes nothing to the network, which root alone could tell it to")
        }
        "com.docker.network.bridge.default_bridge" => {
            (!boolean(value)?, "the network `bridge` is that, and always there")
        }
        "com.docker.network.bridge.host_binding_ipv4" => {
            (value == "0.0.0.0", "where ports are published is said with each: `-p IP:PORT:PORT`")
        }
        "com.docker.network.container_iface_prefix" => {
            (value == "eth", "a name is given to each interface: `--network NAME:interface_name=…`")
        }
        "bclim" | "mode" | "parent" | "vlan" => (false, "only the drivers macvlan and ipvlan have it"),
        "metric" | "no_default_route" | "vrf" => {
            (false, "the first network that is not internal gives the default route")
        }
        _ => {
            return Err(Error::new(format!("there is no option `{}`", name.escape_debug()))
                .hint(format!("there are: {KNOWN}")));
        }
    };
    if so { Ok(()) } else { Err(Error::new(reason)) }
}

fn mtu(text: &str) -> Result<String> {
    match text.parse() {
        // podman: as the driver does it.
        Ok(0) => Err(Error::new("no packet is that small").hint("leave `mtu` out for that of the uplink")),
        Ok(mtu) if (SMALLEST_MTU..=LARGEST_MTU).contains(&mtu) => Ok(mtu.to_string()),
        _ => Err(Error::new(format!("it takes the bytes of a packet, from {SMALLEST_MTU} to {LARGEST_MTU}"))),
    }
}

/// What Go reads as one (strconv.ParseBool).
fn boolean(text: &str) -> Result<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Error::new("it takes true or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Result<DriverOptions> {
        let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
        DriverOptions::parse(&texts)
    }

    #[test]
    fn both_programs_words_are_read() {
        let options = parse(&[
            "com.docker.network.driver.mtu=1400",
            "isolate=0",
            "allow_host_loopback=true",
            "com.docker.network.bridge.name=br-shop",
            "com.docker.network.bridge.enable_icc=true",
            "com.docker.network.bridge.enable_ip_masquerade=true",
        ])
        .unwrap();
        assert_eq!(options.mtu(), Some(1400));
        assert_eq!(options.interface.as_deref(), Some("br-shop"));
        let recorded: Vec<String> =
            options.recorded.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(recorded, ["allow_host_loopback=true", "isolate=false", "mtu=1400"]);
        assert_eq!(parse(&["isolate=strict"]).unwrap().recorded["isolate"], "true");
    }

    #[test]
    fn what_is_not_honoured_is_refused() {
        for (text, cause) in [
            ("color=red", "no option `color`"),
            ("mtu", "NAME=VALUE"),
            ("mtu=67", "from 68"),
            ("mtu=65536", "to 65535"),
            ("mtu=0", "leave `mtu` out"),
            ("isolate=perhaps", "true or false"),
            ("com.docker.network.bridge.name=0123456789abcdef", "15"),
            ("com.docker.network.bridge.enable_icc=false", "a network of its own"),
            ("com.docker.network.bridge.gateway_mode_ipv4=routed", "root"),
            ("parent=eth0", "macvlan"),
        ] {
            let report = parse(&[text]).expect_err(text).report();
            assert!(report.contains(cause), "{text}: {report}");
        }
        let twice = parse(&["mtu=1400", "com.docker.network.driver.mtu=1400"]).expect_err("twice");
        assert!(twice.report().contains("twice"));
    }
}
