//! /etc/passwd (passwd(5)), read directly: a name service would load foreign code into a privileged process.
//! Users known only to LDAP or sssd have no name here; they are granted ranges by their number.

use crate::number::decimal;

/// The text of /etc/passwd. Where entries repeat, the first one counts, as for getpwnam(3) and getpwuid(3).
#[derive(Clone, Copy)]
pub struct Accounts<'a>(pub &'a [u8]);

impl Accounts<'_> {
    /// The user ID of a login name.
    pub fn uid_of(&self, name: &[u8]) -> Option<u32> {
        self.entries().find(|entry| entry.0 == name).map(|entry| entry.1)
    }

    /// The login group of a user.
    pub fn group_of(&self, uid: u32) -> Option<u32> {
        self.entries().find(|entry| entry.1 == uid).map(|entry| entry.2)
    }

    /// (name, user ID, group ID) of every well-formed line.
    fn entries(&self) -> impl Iterator<Item = (&[u8], u32, u32)> {
        self.0.split(|byte| *byte == b'\n').filter_map(|line| {
            let mut fields = line.split(|byte| *byte == b':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            let _password = fields.next()?;
            Some((name, decimal(fields.next()?)?, decimal(fields.next()?)?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Accounts;

    const TEXT: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\n# a:x:5\n:x:6:6::/:\nann:x:1000:1000::/:\n\
        ben:x:1000:2000::/:\nann:x:7:7::/:\nbad:x:-1:8::/:\nshort:x:9\nlast:x:10:11";

    #[test]
    fn the_first_entry_counts() {
        assert_eq!(Accounts(TEXT).uid_of(b"ann"), Some(1000));
        assert_eq!(Accounts(TEXT).group_of(1000), Some(1000));
    }

    #[test]
    fn broken_lines_name_nobody() {
        for name in [&b""[..], b"bad", b"short", b"# a", b"nobody"] {
            assert_eq!(Accounts(TEXT).uid_of(name), None, "{}", name.escape_ascii());
        }
        assert_eq!(Accounts(TEXT).group_of(6), None);
        assert_eq!(Accounts(TEXT).uid_of(b"last"), Some(10));
    }
}
