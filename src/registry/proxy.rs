//! Which proxy leads to a host: http_proxy, https_proxy, all_proxy and no_proxy, in small letters or capitals, read
//! as curl and Go do.

use std::net::IpAddr;

use ureq::Proxy;

use crate::error::{Error, Result};

/// The environment's words on proxies.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    http: Option<(String, String)>,
    https: Option<(String, String)>,
    none: String,
}

impl Proxies {
    pub fn from_environment() -> Self {
        Self::from(|name| std::env::var(name).ok())
    }

    fn from(variable: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&str]| {
            let found = names.iter().find_map(|name| {
                Some(((*name).to_owned(), variable(name).filter(|value| !value.trim().is_empty())?))
            });
            found.map(|(name, value)| (name, value.trim().to_owned()))
        };
        Self {
            http: first(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]),
            https: first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            none: first(&["no_proxy", "NO_PROXY"]).map(|(_, value)| value).unwrap_or_default(),
        }
    }

    /// The proxy to a host (`quay.io`, `[::1]`), or none. Loopback is never reached over one.
    ///
    /// # Errors
    /// The variable holds no URL of a proxy.
    pub fn to(&self, is_https: bool, host: &str, port: u16) -> Result<Option<Proxy>> {
        let Some((name, url)) = (if is_https { &self.https } else { &self.http }) else { return Ok(None) };
        if is_loopback(host) || self.none.split([',', ' ']).any(|entry| excludes(entry.trim(), host, port)) {
            return Ok(None);
        }
        Proxy::new(url).map(Some).map_err(|error| {
            // The value may hold a password.
            Error::new(format!("cannot use the proxy of the variable `{name}`"))
                .because(error)
                .hint("write `http://[USER:PASSWORD@]HOST:PORT`, or `socks5h://HOST:PORT`")
        })
    }
}

/// localhost, 127.0.0.0/8 and ::1, each with or without brackets.
pub fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// `*`, `example.com` (with all below it), `.example.com` (all below it), an address, `10.0.0.0/8`; each name and
/// address may have a port.
fn excludes(entry: &str, host: &str, port: u16) -> bool {
    if entry.is_empty() {
        return false;
    }
    if entry == "*" {
        return true;
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let address = bare.parse::<IpAddr>().ok();
    if let Some((network, length)) = entry.split_once('/') {
        return match (network.parse(), length.parse(), address) {
            (Ok(network), Ok(length), Some(address)) => contains(network, length, address),
            _ => false,
        };
    }
    let (name, wanted) = match entry.rsplit_once(':') {
        Some((name, wanted)) if !name.contains(':') || name.ends_with(']') => {
            (name, wanted.parse::<u16>().ok())
        }
        _ => (entry, None),
    };
    if wanted.is_some_and(|wanted| wanted != port) {
        return false;
    }
    let name = name.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    if let (Some(address), Ok(listed)) = (address, name.parse::<IpAddr>()) {
        return address == listed;
    }
    let name = name.strip_prefix('*').unwrap_or(&name);
    match name.strip_prefix('.') {
        Some(_) => bare.ends_with(name),
        None => bare == name || bare.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')),
    }
}

fn contains(network: IpAddr, length: u32, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) if length <= 32 => {
            let shift = 32 - length;
            u64::from(network.to_bits()) >> shift == u64::from(address.to_bits()) >> shift
        }
        (IpAddr::V6(network), IpAddr::V6(address)) if length <= 128 => {
            let shift = 128 - length;
            shift == 128 || network.to_bits() >> shift == address.to_bits() >> shift
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(none: &str) -> Proxies {
        Proxies::from(|name| match name {
            "https_proxy" => Some("http://proxy:3128".to_owned()),
            "HTTP_PROXY" => Some("http://me:secret@other:8080".to_owned()),
            "NO_PROXY" => Some(none.to_owned()),
            _ => None,
        })
    }

    #[test]
    fn each_scheme_has_its_variable() {
        let proxies = proxies("");
        assert_eq!(proxies.to(true, "quay.io", 443).unwrap().unwrap().host(), "proxy");
        assert_eq!(proxies.to(false, "quay.io", 80).unwrap().unwrap().host(), "other");
        assert!(Proxies::default().to(true, "quay.io", 443).unwrap().is_none());
    }

    #[test]
    fn loopback_is_never_proxied() {
        for host in ["localhost", "127.0.0.1", "127.8.9.10", "[::1]"] {
            assert!(proxies("").to(false, host, 5000).unwrap().is_none(), "{host}");
        }
    }

    #[test]
    fn exceptions_are_names_networks_and_ports() {
        for (none, host, excluded) in [
            ("example.com", "example.com", true),
            ("example.com", "a.example.com", true),
            ("example.com", "notexample.com", false),
            (".example.com", "example.com", false),
            (".example.com", "a.example.com", true),
            ("*.example.com", "a.example.com", true),
            ("x, example.com:443", "example.com", true),
            ("example.com:5000", "example.com", false),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("2001:db8::/32", "[2001:db8::1]", true),
            ("[2001:db8::1]:443", "[2001:db8::1]", true),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("::/0", "[2001:db8::1]", true),
            ("*", "anything", true),
            ("", "anything", false),
            ("/", "anything", false),
        ] {
            assert_eq!(proxies(none).to(true, host, 443).unwrap().is_none(), excluded, "{none} {host}");
        }
    }

    #[test]
    fn a_wrong_proxy_is_named_by_its_variable_without_its_value() {
        let wrong = Proxies::from(|name| (name == "all_proxy").then(|| "ftp://me:secret@x".to_owned()));
        let error = wrong.to(true, "quay.io", 443).unwrap_err().report();
        assert!(error.contains("`all_proxy`") && !error.contains("secret"), "{error}");
    }
}
