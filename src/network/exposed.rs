//! `--expose` and the ports that an image says it listens on: shown, and published by `--publish-all`.

use crate::error::{Error, Result};

/// Reads `80`, `80/udp` or `8000-8010/tcp` into `80/tcp` and the like, one for each port.
///
/// # Errors
/// It is no port.
pub fn parse(text: &str) -> Result<Vec<String>> {
    read(text).ok_or_else(|| {
        Error::new(format!("cannot use `--expose {}`", text.escape_debug()))
            .hint("write `PORT[-PORT][/tcp|/udp|/sctp]`, such as `80` or `8000-8010/udp`")
    })
}

fn read(text: &str) -> Option<Vec<String>> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return None;
    }
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|port| digits && *port > 0)
    };
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then(|| (first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// Those of the image and of the options, each once, in the order of their numbers. What an image writes there that
/// is no port is left out.
///
/// # Errors
/// An option is no port.
pub fn all(image: &[String], options: &[String]) -> Result<Vec<String>> {
    let mut ports: Vec<String> = image.iter().filter_map(|text| read(text)).flatten().collect();
    for text in options {
        ports.extend(parse(text)?);
    }
    ports.sort_by_key(|port| {
        let (number, protocol) = port.split_once('/').unwrap_or((port, ""));
        (number.parse::<u16>().unwrap_or(0), protocol.to_owned())
    });
    ports.dedup();
    Ok(ports)
}

/// What `--publish-all` adds to `published`, as `--publish` would have it: a random host port for each exposed one.
///
/// # Errors
/// What is published already cannot be read.
pub fn unpublished(exposed: &[String], published: &[String]) -> Result<Vec<String>> {
    let mut there = Vec::new();
    for text in published {
        let requests = super::ports::parse(text)?;
        there.extend(requests.into_iter().map(|port| format!("{}/{}", port.container_port, port.protocol)));
    }
    let (sctp, others): (Vec<_>, Vec<_>) = exposed
        .iter()
        .filter(|port| !there.contains(port))
        .cloned()
        .partition(|port| port.ends_with("/sctp"));
    for port in sctp {
        log::warn!("port {port} is not published: neither slirp4netns nor pasta forwards SCTP");
    }
    Ok(others)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn ports_and_ranges_are_read() {
        assert_eq!(parse("80").unwrap(), ["80/tcp"]);
        assert_eq!(parse("53/UDP").unwrap(), ["53/udp"]);
        assert_eq!(parse("7-9/sctp").unwrap(), ["7/sctp", "8/sctp", "9/sctp"]);
        for bad in ["", "0", "x", "80/x", "9-8", "65536", "+80", "80-", "-80", "80/tcp/udp"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn images_and_options_come_together_once_each() {
        let image = strings(&["443/tcp", "80", "nonsense", "80/tcp", "0/tcp"]);
        assert_eq!(
            all(&image, &strings(&["81-82", "80/udp"])).unwrap(),
            ["80/tcp", "80/udp", "81/tcp", "82/tcp", "443/tcp"]
        );
        assert!(all(&image, &strings(&["nonsense"])).is_err());
    }

    #[test]
    fn what_is_published_already_is_not_published_again() {
        let exposed = strings(&["80/tcp", "80/udp", "81/tcp", "9/sctp"]);
        assert_eq!(unpublished(&exposed, &strings(&["8080:80", "9000-9001:81-82"])).unwrap(), ["80/udp"]);
    }
}
