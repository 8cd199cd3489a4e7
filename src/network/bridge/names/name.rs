//! Names as DNS has them (RFC 1035, section 3.1), and in one canonical form of text, in which they are compared.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of a name in a message, its end included (RFC 1035, section 2.3.4).
const LONGEST: usize = 255;
const LONGEST_LABEL: usize = 63;

/// The canonical form: lower case, no dot at the end (the root is `.`), and `\DDD` for each byte of a label that is
/// not a letter, a digit, `-` or `_`, so that a label with a dot in it is never taken for two. None: it can be no name.
pub fn canonical(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut text = String::with_capacity(name.len());
    let mut length = 1;
    for label in name.split('.') {
        if label.is_empty() || label.len() > LONGEST_LABEL {
            return None;
        }
        length += label.len() + 1;
        push(&mut text, label.as_bytes());
    }
    (length <= LONGEST).then_some(text)
}

/// Reads the name at the start of a message's question, which nothing stands before that it could point to: its
/// canonical form, and the number of its bytes.
pub fn read(bytes: &[u8]) -> Option<(String, usize)> {
    let mut text = String::with_capacity(64);
    let mut at = 0;
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        match length {
            0 => break,
            1..=LONGEST_LABEL => push(&mut text, bytes.get(at..at + length)?),
            _ => return None,
        }
        at += length;
    }
    if text.is_empty() {
        text.push('.');
    }
    (at <= LONGEST).then_some((text, at))
}

/// The canonical form of labels that somebody else has read.
pub fn of_labels<'a>(labels: impl Iterator<Item = &'a [u8]>) -> String {
    let mut text = String::with_capacity(64);
    labels.for_each(|label| push(&mut text, label));
    text
}

fn push(text: &mut String, label: &[u8]) {
    if !text.is_empty() {
        text.push('.');
    }
    for byte in label {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => text.push(char::from(*byte)),
            b'A'..=b'Z' => text.push(char::from(byte.to_ascii_lowercase())),
            _ => text.push_str(&format!("\\{byte:03}")),
        }
    }
}

/// Appends a name of plain characters, as [`canonical`] makes it of a container's, in the form of a message.
pub fn write(name: &str, message: &mut Vec<u8>) {
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let bytes = unescaped(label);
        message.push(bytes.len() as u8);
        message.extend(bytes);
    }
    message.push(0);
}

fn unescaped(label: &str) -> Vec<u8> {
    let mut pieces = label.split('\\');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let (code, rest) = piece.split_at(3.min(piece.len()));
        bytes.extend(code.parse::<u8>());
        bytes.extend(rest.as_bytes());
    }
    bytes.truncate(LONGEST_LABEL);
    bytes
}

/// The address that a name of the reverse trees stands for (RFC 1035, section 3.5; RFC 3596, section 2.5).
pub fn reversed(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
        let mut octets = [0; 4];
        let mut labels = digits.split('.');
        for octet in octets.iter_mut().rev() {
            *octet = labels.next().filter(|label| !label.starts_with('+'))?.parse().ok()?;
        }
        return labels.next().is_none().then(|| Ipv4Addr::from(octets).into());
    }
    let nibbles = name.strip_suffix(".ip6.arpa")?;
    let mut address = 0;
    let mut count = 0;
    for nibble in nibbles.split('.') {
        if nibble.len() != 1 || count == 32 {
            return None;
        }
        address |= u128::from(u8::from_str_radix(nibble, 16).ok()?) << (4 * count);
        count += 1;
    }
    (count == 32).then(|| Ipv6Addr::from(address).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_in_lower_case_and_without_the_last_dot() {
        assert_eq!(canonical("Web.Example."), Some("web.example".to_owned()));
        assert_eq!(read(b"\x03WeB\x07example\x00rest"), Some(("web.example".to_owned(), 13)));
        assert_eq!(read(b"\0"), Some((".".to_owned(), 1)));
    }

    #[test]
    fn a_dot_inside_a_label_is_no_border() {
        assert_eq!(read(b"\x07a.b\\ \xffc\0").unwrap().0, "a\\046b\\092\\032\\255c");
    }

    #[test]
    fn what_can_be_no_name_is_refused() {
        for name in ["", ".", "a..b", ".a", &"a".repeat(64), &["abcdefg"; 32].join(".")] {
            assert_eq!(canonical(name), None, "{name}");
        }
        assert!(canonical(&["abcdefg"; 31].join(".")).is_some());
        for bytes in [&b""[..], b"\x03ab", b"\x01a", b"\xc0\x0c", b"\x40a\0", &b"\x07abcdefg".repeat(32)] {
            assert_eq!(read(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for name in ["web", "a.b.c", "caf\\195\\169", "."] {
            let mut bytes = Vec::new();
            write(name, &mut bytes);
            assert_eq!(read(&bytes), Some((name.to_owned(), bytes.len())));
        }
    }

    #[test]
    fn reverse_names_stand_for_addresses() {
        let ip = |text: &str| text.parse::<IpAddr>().ok();
        assert_eq!(reversed("2.0.89.10.in-addr.arpa"), ip("10.89.0.2"));
        let six = format!("2.{}d.f.ip6.arpa", "0.".repeat(29));
        assert_eq!(reversed(&six), ip("fd00::2"));
        for name in [
            "0.89.10.in-addr.arpa",
            "1.2.0.89.10.in-addr.arpa",
            "256.0.89.10.in-addr.arpa",
            "+2.0.89.10.in-addr.arpa",
            "in-addr.arpa",
            "2.0.ip6.arpa",
            &format!("0.{six}"),
            &six.replacen("2.", "2222.", 1),
            "web",
        ] {
            assert_eq!(reversed(name), None, "{name}");
        }
    }
}
