//! Subordinate ranges: /etc/subuid and /etc/subgid (subuid(5)), and `getsubids` where the ranges live elsewhere.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use thiserror::Error;

use super::map::{IdRange, join_adjacent, subtract};
use super::{Caller, Host, Obstacle};

/// User IDs or group IDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    User,
    Group,
}

impl Kind {
    /// `user` or `group`.
    pub fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
        }
    }

    fn usermod_flag(self) -> &'static str {
        match self {
            Self::User => "--add-subuids",
            Self::Group => "--add-subgids",
        }
    }
}

/// A line that says nothing, and why.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {reason}")]
pub struct Fault {
    /// Counted from 1.
    pub line: usize,
    pub reason: String,
}

/// The ranges of the owner for which `owns` holds (a user name, or a user ID in digits), in the file's order,
/// which is the order of the container's IDs: a range added later leaves the earlier ones where they were.
/// Doubled IDs count once, and ranges that touch are joined.
///
/// Lines of other owners are not looked at beyond their name, as the helpers do; [`faults`] does.
pub fn parse(text: &str, owns: impl Fn(&str) -> bool) -> Result<Vec<IdRange>, Fault> {
    let mut ranges = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.split(':').next().is_some_and(|owner| owns(owner.trim()))
            && let Some((_, range)) = parse_line(line).map_err(|reason| Fault { line: index + 1, reason })?
        {
            ranges.push(range);
        }
    }
    Ok(tidy(&ranges))
}

/// Every broken line of a file, whoever it belongs to.
pub fn faults(text: &str) -> Vec<Fault> {
    text.lines()
        .enumerate()
        .filter_map(|(index, line)| Some(Fault { line: index + 1, reason: parse_line(line).err()? }))
        .collect()
}

fn parse_line(line: &str) -> Result<Option<(&str, IdRange)>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let mut fields = line.split(':').map(str::trim);
    let (Some(owner), Some(start), Some(count), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(format!("`{line}` is not `USER:START:COUNT`"));
    };
    if owner.is_empty() {
        return Err(format!("`{line}` names no user"));
    }
    Ok(Some((owner, range(start, count)?)))
}

fn range(start: &str, count: &str) -> Result<IdRange, String> {
    let (start, count) = (number(start)?, number(count)?);
    if count == 0 {
        return Err("the count is 0".to_owned());
    }
    if start.checked_add(count).is_none() {
        return Err(format!("the range of {count} IDs from {start} goes beyond the last ID, 4294967294"));
    }
    Ok(IdRange::new(start, count))
}

/// Decimal only: the helpers read a leading 0 as octal, so that the two would not mean the same.
fn number(text: &str) -> Result<u32, String> {
    let decimal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !decimal || (text.len() > 1 && text.starts_with('0')) {
        return Err(format!("`{text}` is not a decimal number"));
    }
    text.parse().map_err(|_| format!("`{text}` is larger than any ID"))
}

fn tidy(ranges: &[IdRange]) -> Vec<IdRange> {
    let mut distinct: Vec<IdRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        let fresh = subtract(&[*range], &distinct);
        distinct.extend(fresh);
    }
    join_adjacent(&distinct)
}

/// Reads what `getsubids` prints: `INDEX: OWNER START COUNT` a line.
pub fn parse_getsubids(text: &str) -> Result<Vec<IdRange>, Fault> {
    let mut ranges = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let fault = |reason| Fault { line: index + 1, reason };
        let words: Vec<&str> = line.split_whitespace().collect();
        let [number, _owner, start, count] = words[..] else {
            return Err(fault(format!("`{line}` is not `INDEX: OWNER START COUNT`")));
        };
        if !number.ends_with(':') {
            return Err(fault(format!("`{line}` does not start with an index")));
        }
        ranges.push(range(start, count).map_err(fault)?);
    }
    Ok(tidy(&ranges))
}

/// Whether nsswitch.conf sends subordinate IDs elsewhere than to the files (`subid: sss`). shadow reads the
/// files when there is no such line.
pub fn nsswitch_asks_elsewhere(text: &str) -> bool {
    text.lines()
        .filter_map(|line| {
            line.split('#').next()?.trim().strip_prefix("subid")?.trim_start().strip_prefix(':')
        })
        .any(|sources| {
            sources
                .split_whitespace()
                .any(|word| !word.starts_with('[') && !word.ends_with(']') && word != "files")
        })
}

/// The caller's ranges of one kind. A process is started only where the ranges may live elsewhere than in the
/// files: nsswitch.conf says so, or there is none at its place to say otherwise.
pub fn ranges_of(host: &Host, caller: &Caller, kind: Kind) -> Result<Vec<IdRange>, Obstacle> {
    let file = host.subid_file(kind);
    let elsewhere = std::fs::read(&host.nsswitch)
        .map_or(true, |text| nsswitch_asks_elsewhere(&String::from_utf8_lossy(&text)));
    let from_file = from_file(file, caller, kind);
    match &from_file {
        Ok(ranges) if !ranges.is_empty() && !elsewhere => return from_file,
        _ => {}
    }
    let mut asked = false;
    if elsewhere
        && let Some(program) = host.find_program("getsubids")
        && let Some(name) = caller.name(host)
    {
        if let Some(ranges) = ask(&program, &name, kind)? {
            return Ok(ranges);
        }
        asked = true;
    }
    match from_file {
        Ok(ranges) if ranges.is_empty() => Err(no_range(file, caller, kind, asked)),
        other => other,
    }
}

fn from_file(file: &Path, caller: &Caller, kind: Kind) -> Result<Vec<IdRange>, Obstacle> {
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(Obstacle::new(format!("`{}` cannot be read: {}", file.display(), error.kind())));
        }
    };
    let digits = caller.uid.to_string();
    let owns = |owner: &str| owner == digits || caller.user_name.as_deref() == Some(owner);
    parse(&String::from_utf8_lossy(&text), owns).map_err(|fault| {
        Obstacle::new(format!("`{}` has a broken {} range in {fault}", file.display(), kind.word())).mend(
            format!("write `{}:START:COUNT` in line {} of `{}`", caller.label(), fault.line, file.display()),
        )
    })
}

fn no_range(file: &Path, caller: &Caller, kind: Kind, asked: bool) -> Obstacle {
    let (path, word, whom) = (file.display(), kind.word(), caller.describe());
    let reason = if asked {
        format!("neither `{path}` nor `getsubids` has a subordinate {word} range for {whom}")
    } else {
        format!("`{path}` has no subordinate {word} range for {whom}")
    };
    let text = std::fs::read(file).unwrap_or_default();
    let IdRange { start, count } = free_range(&String::from_utf8_lossy(&text));
    Obstacle::new(reason).mend(match &caller.user_name {
        Some(name) => {
            format!("as root, `usermod {} {start}-{} {name}`", kind.usermod_flag(), start + (count - 1))
        }
        None => format!("as root, add the line `{}:{start}:{count}` to `{path}`", caller.uid),
    })
}

/// A range that nobody in the file has, of the size that useradd gives: behind the last one, as useradd does.
pub fn free_range(text: &str) -> IdRange {
    const FIRST: u32 = 100_000;
    const COUNT: u32 = 65536;
    let taken: Vec<IdRange> =
        text.lines().filter_map(|line| parse_line(line).ok().flatten()).map(|(_, range)| range).collect();
    let behind = taken.iter().map(|range| range.end()).fold(FIRST, u32::max);
    let free = |start: u32| {
        let range = IdRange::new(start, COUNT);
        start.checked_add(COUNT).is_some() && taken.iter().all(|other| other.intersection(range).is_none())
    };
    let start =
        std::iter::once(behind).chain((FIRST..u32::MAX).step_by(COUNT as usize)).find(|start| free(*start));
    IdRange::new(start.unwrap_or(FIRST), COUNT)
}

/// None if `getsubids` knows no range (it exits with 1 then).
fn ask(program: &PathBuf, name: &str, kind: Kind) -> Result<Option<Vec<IdRange>>, Obstacle> {
    let mut command = Command::new(program);
    if kind == Kind::Group {
        command.arg("-g");
    }
    let failed = |cause: String| {
        Obstacle::new(format!(
            "`{}` could not tell the {} ranges of `{name}`: {cause}",
            program.display(),
            kind.word()
        ))
    };
    let output = command
        .arg(name)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(|error| failed(error.kind().to_string()))?;
    if !output.status.success() {
        return Ok(None);
    }
    let ranges = parse_getsubids(&String::from_utf8_lossy(&output.stdout))
        .map_err(|fault| failed(fault.to_string()))?;
    Ok((!ranges.is_empty()).then_some(ranges))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_bob(text: &str) -> Result<Vec<IdRange>, Fault> {
        parse(text, |owner| owner == "bob" || owner == "1000")
    }

    fn r(start: u32, count: u32) -> IdRange {
        IdRange::new(start, count)
    }

    #[test]
    fn names_and_numbers_own_ranges() {
        let text = "alice:100000:65536\nbob:200000:65536\n1000:300000:10\n1001:1:1\n";
        assert_eq!(of_bob(text).unwrap(), vec![r(200_000, 65536), r(300_000, 10)]);
        assert_eq!(parse(text, |owner| owner == "carol").unwrap(), vec![]);
    }

    #[test]
    fn a_name_is_compared_whole() {
        assert_eq!(of_bob("bobby:1:1\nbo:2:1\n10000:3:1\n Bob:4:1\n").unwrap(), vec![]);
    }

    #[test]
    fn comments_empty_lines_spaces_and_a_missing_last_newline_are_fine() {
        let text = "# bob:1:1\n\n   \n  bob : 100000 : 65536  \r\n#end\nbob:1:2";
        assert_eq!(of_bob(text).unwrap(), vec![r(100_000, 65536), r(1, 2)]);
    }

    #[test]
    fn the_order_of_the_file_is_kept() {
        assert_eq!(of_bob("bob:500:5\nbob:100:5\n").unwrap(), vec![r(500, 5), r(100, 5)]);
    }

    #[test]
    fn touching_and_doubled_ranges_become_one() {
        assert_eq!(of_bob("bob:100:5\nbob:105:5\n").unwrap(), vec![r(100, 10)]);
        assert_eq!(of_bob("bob:100:5\nbob:100:5\n").unwrap(), vec![r(100, 5)]);
        assert_eq!(of_bob("bob:100:10\nbob:105:10\n").unwrap(), vec![r(100, 15)]);
        assert_eq!(of_bob("bob:100:10\nbob:90:30\n").unwrap(), vec![r(100, 10), r(90, 10), r(110, 10)]);
    }

    #[test]
    fn a_broken_line_of_the_owner_is_named_by_its_number() {
        for (text, reason) in [
            ("bob", "`bob` is not `USER:START:COUNT`"),
            ("bob:1", "`bob:1` is not `USER:START:COUNT`"),
            ("bob:1:2:3", "`bob:1:2:3` is not `USER:START:COUNT`"),
            ("bob::5", "`` is not a decimal number"),
            ("bob:x:5", "`x` is not a decimal number"),
            ("bob:-1:5", "`-1` is not a decimal number"),
            ("bob:+1:5", "`+1` is not a decimal number"),
            ("bob:0x10:5", "`0x10` is not a decimal number"),
            ("bob:0100:5", "`0100` is not a decimal number"),
            ("bob:1:0", "the count is 0"),
            ("bob:4294967296:1", "`4294967296` is larger than any ID"),
            ("bob:4294967295:1", "the range of 1 IDs from 4294967295 goes beyond the last ID, 4294967294"),
            (
                "bob:4294901760:65536",
                "the range of 65536 IDs from 4294901760 goes beyond the last ID, 4294967294",
            ),
        ] {
            let fault = of_bob(&format!("#\n{text}\n")).unwrap_err();
            assert_eq!((fault.line, fault.reason.as_str()), (2, reason), "{text}");
        }
        assert_eq!(of_bob("bob:4294901759:65536").unwrap(), vec![r(4_294_901_759, 65536)]);
    }

    #[test]
    fn a_broken_line_of_another_user_does_not_stop_this_one() {
        let text = "alice:x:1\nbob:1:1\n:1:1\nnonsense\n";
        assert_eq!(of_bob(text).unwrap(), vec![r(1, 1)]);
        assert_eq!(faults(text).iter().map(|fault| fault.line).collect::<Vec<_>>(), vec![1, 3, 4]);
    }

    #[test]
    fn getsubids_prints_an_index_a_name_and_a_range() {
        assert_eq!(
            parse_getsubids("0: bob 100000 65536\n1: bob 300000 65536\n").unwrap(),
            vec![r(100_000, 65536), r(300_000, 65536)]
        );
        assert_eq!(parse_getsubids("").unwrap(), vec![]);
        for text in ["bob 1 2", "0: bob 1", "0: bob x 1", "0: bob 1 0", "0 bob 1 1", "0: bob 1 2 3"] {
            assert_eq!(parse_getsubids(text).unwrap_err().line, 1, "{text}");
        }
    }

    #[test]
    fn the_range_to_propose_is_nobodys() {
        assert_eq!(free_range(""), r(100_000, 65536));
        assert_eq!(free_range("a:100000:65536\nb:1:5\nbroken\n"), r(165_536, 65536));
        assert_eq!(free_range("a:4294901759:65536\n"), r(100_000, 65536), "a hole, where nothing is behind");
        assert_eq!(free_range("a:4294901759:65536\nb:120000:1"), r(165_536, 65536));
    }

    #[test]
    fn nsswitch_is_asked_for_its_subid_line_alone() {
        assert!(!nsswitch_asks_elsewhere("passwd: files sss\ngroup: files\n"));
        assert!(!nsswitch_asks_elsewhere("subid: files\n"));
        assert!(!nsswitch_asks_elsewhere("subid: files # sss\n#subid: sss\n"));
        assert!(nsswitch_asks_elsewhere("subid: sss\n"));
        assert!(nsswitch_asks_elsewhere("subid:sss"));
        assert!(nsswitch_asks_elsewhere("subid : files sss"));
        assert!(!nsswitch_asks_elsewhere("subid: files [NOTFOUND=return]"));
    }
}
