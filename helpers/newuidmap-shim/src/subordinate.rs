//! /etc/subuid and /etc/subgid (subuid(5)): lines of `owner:first:count`.

use crate::accounts::Accounts;
use crate::number::decimal;

/// The ranges that one of the two files grants to one user.
pub struct Grants<'a> {
    pub text: &'a [u8],
    pub accounts: Accounts<'a>,
    pub uid: u32,
}

impl Grants<'_> {
    /// Whether every ID from `first` on, `count` of them, is granted. Lines may complete each other.
    pub fn cover(&self, first: u32, count: u32) -> bool {
        let end = u64::from(first) + u64::from(count);
        let mut next = u64::from(first);
        while next < end {
            // The line found holds `next`, so each turn comes nearer to the end.
            match self.lines().find(|line| line.holds(next) && self.is_mine(line.owner)) {
                Some(line) => next = line.end,
                None => return false,
            }
        }
        true
    }

    /// An owner made of digits is a user ID, never a name; any login name of the user's ID is the user's.
    fn is_mine(&self, owner: &[u8]) -> bool {
        if owner.iter().all(u8::is_ascii_digit) {
            decimal(owner) == Some(self.uid)
        } else {
            self.accounts.uid_of(owner) == Some(self.uid)
        }
    }

    fn lines(&self) -> impl Iterator<Item = Granted<'_>> {
        self.text.split(|byte| *byte == b'\n').filter_map(Granted::parse)
    }
}

struct Granted<'a> {
    owner: &'a [u8],
    first: u64,
    end: u64,
}

impl<'a> Granted<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b':');
        let owner = fields.next().filter(|owner| !owner.is_empty())?;
        let first = u64::from(decimal(fields.next()?)?);
        let count = u64::from(decimal(fields.next()?)?);
        fields.next().is_none().then_some(Self { owner, first, end: first + count })
    }

    fn holds(&self, id: u64) -> bool {
        (self.first..self.end).contains(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] =
        b"ann:x:1000:1000::/:\nann2:x:1000:1000::/:\nben:x:1001:1001::/:\n1000:x:1002:1002::/:\n";

    fn cover(subuid: &str, uid: u32, first: u32, count: u32) -> bool {
        Grants { text: subuid.as_bytes(), accounts: Accounts(PASSWD), uid }.cover(first, count)
    }

    #[test]
    fn a_range_belongs_to_its_owner_alone() {
        let text = "ben:200000:10\nann:100000:10\n";
        assert!(cover(text, 1000, 100_000, 10));
        assert!(cover(text, 1000, 100_009, 1));
        assert!(cover(text, 1001, 200_000, 10));
        for (first, count) in [(99_999, 1), (100_000, 11), (100_010, 1), (200_000, 1), (0, 1), (0, u32::MAX)]
        {
            assert!(!cover(text, 1000, first, count), "{first} {count}");
        }
    }

    #[test]
    fn ranges_complete_each_other_in_any_order() {
        assert!(cover("ann:110:10\n1000:100:10\nann2:105:7", 1000, 100, 20));
        assert!(!cover("ann:111:10\nann:100:10", 1000, 100, 20));
        assert!(!cover("ann:110:10\nben:105:10\nann:100:9", 1000, 100, 20));
    }

    #[test]
    fn owners_are_names_or_numbers() {
        assert!(cover("1000:100:10", 1000, 100, 10));
        assert!(cover("ann2:100:10", 1000, 100, 10));
        assert!(cover("4000:100:10", 4000, 100, 10), "a user unknown to /etc/passwd");
        // A login name of digits would make `1000` mean two users.
        assert!(!cover("1000:100:10", 1002, 100, 10));
        for owner in ["01000", "+1000", "", "an", "annx", "#ann", " ann", "root", "99999999999"] {
            assert!(!cover(&format!("{owner}:100:10"), 1000, 100, 10), "{owner}");
        }
    }

    #[test]
    fn broken_lines_grant_nothing() {
        for line in [
            "ann:100",
            "ann:100:10:",
            "ann:100:10:x",
            "ann::10",
            "ann:0x64:10",
            "ann:100:-1",
            "ann:100: 10",
            "ann:0100:10",
            "ann:100:0",
            "ann:100:99999999999",
            "ann",
            "::",
            "\0",
            "ann:100:10\r",
        ] {
            assert!(!cover(line, 1000, 100, 10), "{line:?}");
        }
        assert!(cover("junk\n\n:::\nann:100:10", 1000, 100, 10));
    }

    #[test]
    fn a_line_that_counts_beyond_the_last_id_cannot_wrap() {
        assert!(cover("ann:4294967290:4294967295", 1000, 4_294_967_290, 5));
        assert!(!cover("ann:4294967290:4294967295", 1000, 0, 5));
    }
}
