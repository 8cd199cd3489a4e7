//! The ID map as a value: what may stand in it, looking up, composing, and its text form.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Linux before 4.15 takes no more lines than this (user_namespaces(7)); sbx never writes more.
pub const MAX_LINES: usize = 5;

/// The highest ID that net.ipv4.ping_group_range takes (`GID_T_MAX` of the kernel: half of the type).
const PING_GROUP_MAX: u32 = u32::MAX >> 1;

/// A run of IDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IdRange {
    pub start: u32,
    pub count: u32,
}

impl IdRange {
    pub fn new(start: u32, count: u32) -> Self {
        Self { start, count }
    }

    /// The first ID after the range. The ID 4294967295 does not exist, so a valid range always has one.
    pub fn end(self) -> u32 {
        self.start.saturating_add(self.count)
    }

    pub fn contains(self, id: u32) -> bool {
        id >= self.start && id < self.end()
    }

    pub fn intersection(self, other: Self) -> Option<Self> {
        let start = self.start.max(other.start);
        let end = self.end().min(other.end());
        (start < end).then(|| Self::new(start, end - start))
    }

    /// What is left of the range without `cut`: nothing, one or two pieces, in order.
    pub fn without(self, cut: Self) -> impl Iterator<Item = Self> {
        let (left, right) = match self.intersection(cut) {
            None => (Some(self), None),
            Some(common) => (
                Some(Self::new(self.start, common.start - self.start)),
                Some(Self::new(common.end(), self.end() - common.end())),
            ),
        };
        left.into_iter().chain(right).filter(|piece| piece.count > 0)
    }
}

impl fmt::Display for IdRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            1 => write!(f, "{}", self.start),
            _ => write!(f, "{}-{}", self.start, self.end().saturating_sub(1)),
        }
    }
}

/// Takes every range of `cuts` out of `ranges`; order is kept.
pub fn subtract(ranges: &[IdRange], cuts: &[IdRange]) -> Vec<IdRange> {
    cuts.iter()
        .fold(ranges.to_vec(), |left, cut| left.into_iter().flat_map(|range| range.without(*cut)).collect())
}

/// Joins each range with its predecessor where it starts at that one's end; order is kept.
pub fn join_adjacent(ranges: &[IdRange]) -> Vec<IdRange> {
    let mut joined: Vec<IdRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end() == range.start && last.count.checked_add(range.count).is_some() => {
                last.count += range.count;
            }
            _ => joined.push(*range),
        }
    }
    joined
}

/// One line of uid_map or gid_map (user_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapLine {
    pub inside: u32,
    pub outside: u32,
    pub count: u32,
}

impl MapLine {
    pub fn new(inside: u32, outside: u32, count: u32) -> Self {
        Self { inside, outside, count }
    }

    pub fn inside_range(self) -> IdRange {
        IdRange::new(self.inside, self.count)
    }

    pub fn outside_range(self) -> IdRange {
        IdRange::new(self.outside, self.count)
    }

    /// The part of the line whose outside IDs lie in `range`.
    pub fn clip_outside(self, range: IdRange) -> Option<Self> {
        let common = self.outside_range().intersection(range)?;
        Some(Self::new(self.inside + (common.start - self.outside), common.start, common.count))
    }

    /// The part of the line whose inside IDs lie in `range`.
    pub fn clip_inside(self, range: IdRange) -> Option<Self> {
        let common = self.inside_range().intersection(range)?;
        Some(Self::new(common.start, self.outside + (common.start - self.inside), common.count))
    }
}

impl fmt::Display for MapLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.inside, self.outside, self.count)
    }
}

/// A checked map: one to five lines, no overlap on either side. It is checked again when it is read from a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<MapLine>")]
pub struct IdMap(pub Vec<MapLine>);

/// Why lines are no map.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MapFault {
    #[error("a map has at least one line")]
    Empty,
    #[error(
        "a map has at most {MAX_LINES} lines (the kernel's limit before Linux 4.15), and this one has {0}"
    )]
    TooManyLines(usize),
    #[error("the line `{0}` maps no ID")]
    ZeroCount(MapLine),
    #[error("the line `{0}` goes beyond the last ID, 4294967294")]
    Overflow(MapLine),
    #[error("the lines `{0}` and `{1}` map the same ID inside")]
    OverlapInside(MapLine, MapLine),
    #[error("the lines `{0}` and `{1}` map the same ID outside")]
    OverlapOutside(MapLine, MapLine),
    #[error("`{0}` is not a line of a map (`INSIDE OUTSIDE COUNT`)")]
    Malformed(String),
}

impl IdMap {
    /// Checks what the kernel checks, so that a map that can't be written is refused before a process starts.
    pub fn new(lines: Vec<MapLine>) -> Result<Self, MapFault> {
        if lines.len() > MAX_LINES {
            return Err(MapFault::TooManyLines(lines.len()));
        }
        check_lines(&lines)?;
        Ok(Self(lines))
    }

    /// The map of a single ID.
    pub fn single(inside: u32, outside: u32) -> Self {
        Self(vec![MapLine::new(inside, outside, 1)])
    }

    /// The ID outside of an ID inside.
    pub fn to_host(&self, inside: u32) -> Option<u32> {
        to_outside(&self.0, inside)
    }

    /// The ID inside of an ID outside.
    pub fn to_container(&self, outside: u32) -> Option<u32> {
        self.0
            .iter()
            .find(|line| line.outside_range().contains(outside))
            .map(|line| line.inside + (outside - line.outside))
    }

    /// How many IDs the map has.
    pub fn len(&self) -> u32 {
        self.0.iter().fold(0, |sum, line| sum.saturating_add(line.count))
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts this map, whose outside IDs are inside IDs of `parent`, onto the IDs outside of `parent`.
    /// IDs that `parent` does not map drop out, as the kernel shows them as the overflow ID.
    #[must_use]
    pub fn over(&self, parent: &Self) -> Self {
        let mut lines: Vec<MapLine> = Vec::new();
        for line in &self.0 {
            for outer in &parent.0 {
                let Some(part) = line.clip_outside(outer.inside_range()) else { continue };
                let outside = outer.outside + (part.outside - outer.inside);
                lines.push(MapLine::new(part.inside, outside, part.count));
            }
        }
        lines.sort_by_key(|line| line.inside);
        Self(lines)
    }

    /// The first and last ID for `ping_group_range`, inside. `self` leads to the host: the kernel compares a group's
    /// host ID with those of the two (icmp(7)). So they are the ends of what the map takes there, if they are in
    /// order inside, too, or else those of its longest line.
    pub fn ping_groups(&self) -> Option<(u32, u32)> {
        let ends = |line: &MapLine| (line.inside, (line.inside_range().end() - 1).min(PING_GROUP_MAX));
        let least = self.0.iter().min_by_key(|line| line.outside);
        let greatest = self.0.iter().max_by_key(|line| line.outside);
        let longest = self.0.iter().max_by_key(|line| line.count);
        let all = (ends(least?).0, ends(greatest?).1);
        Some(if all.0 <= all.1 { all } else { ends(longest?) }).filter(|(first, _)| *first <= PING_GROUP_MAX)
    }

    /// The lowest ID inside: who is nearest to root where 0 is not mapped.
    pub fn lowest_inside(&self) -> Option<u32> {
        self.0.iter().map(|line| line.inside).min()
    }

    /// `container ID 1000 is host ID 100999`: what an owner or a permission error means on the other side.
    pub fn explain_inside(&self, inside: u32) -> String {
        match self.to_host(inside) {
            Some(outside) => format!("container ID {inside} is host ID {outside}"),
            None => format!("container ID {inside} is not mapped to any host ID"),
        }
    }

    /// `host ID 1000 is container ID 0`, or that the container sees it as the overflow ID.
    pub fn explain_outside(&self, outside: u32) -> String {
        match self.to_container(outside) {
            Some(inside) => format!("host ID {outside} is container ID {inside}"),
            None => format!("host ID {outside} is not mapped, the container sees it as 65534 (nobody)"),
        }
    }
}

impl TryFrom<Vec<MapLine>> for IdMap {
    type Error = MapFault;

    fn try_from(lines: Vec<MapLine>) -> Result<Self, MapFault> {
        Self::new(lines)
    }
}

impl fmt::Display for IdMap {
    /// The form of /proc/PID/uid_map, without the last line's end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{line}")?;
        }
        Ok(())
    }
}

fn check_lines(lines: &[MapLine]) -> Result<(), MapFault> {
    if lines.is_empty() {
        return Err(MapFault::Empty);
    }
    for (index, line) in lines.iter().enumerate() {
        if line.count == 0 {
            return Err(MapFault::ZeroCount(*line));
        }
        if line.inside.checked_add(line.count).is_none() || line.outside.checked_add(line.count).is_none() {
            return Err(MapFault::Overflow(*line));
        }
        for earlier in &lines[..index] {
            if earlier.inside_range().intersection(line.inside_range()).is_some() {
                return Err(MapFault::OverlapInside(*earlier, *line));
            }
            if earlier.outside_range().intersection(line.outside_range()).is_some() {
                return Err(MapFault::OverlapOutside(*earlier, *line));
            }
        }
    }
    Ok(())
}

/// The ID outside of an ID inside, over any lines (those of a foreign namespace may be more than five).
pub fn to_outside(lines: &[MapLine], inside: u32) -> Option<u32> {
    lines
        .iter()
        .find(|line| line.inside_range().contains(inside))
        .map(|line| line.outside + (inside - line.inside))
}

/// Reads the text of /proc/PID/uid_map: any number of lines (up to 340 since Linux 4.15), none if unwritten.
pub fn parse_proc(text: &str) -> Result<Vec<MapLine>, MapFault> {
    let mut lines = Vec::new();
    for text in text.lines().filter(|line| !line.trim().is_empty()) {
        let malformed = || MapFault::Malformed(text.trim().to_owned());
        let mut numbers = text.split_whitespace().map(|word| word.parse::<u32>().map_err(|_| malformed()));
        let mut next = || numbers.next().ok_or_else(malformed)?;
        let line = MapLine::new(next()?, next()?, next()?);
        if numbers.next().is_some() {
            return Err(malformed());
        }
        lines.push(line);
    }
    if !lines.is_empty() {
        check_lines(&lines)?;
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(inside: u32, outside: u32, count: u32) -> MapLine {
        MapLine::new(inside, outside, count)
    }

    fn canonical() -> IdMap {
        IdMap::new(vec![line(0, 1000, 1), line(1, 100_000, 65536)]).unwrap()
    }

    #[test]
    fn looks_up_in_both_directions() {
        let map = canonical();
        assert_eq!(map.to_host(0), Some(1000));
        assert_eq!(map.to_host(1), Some(100_000));
        assert_eq!(map.to_host(1000), Some(100_999));
        assert_eq!(map.to_host(65536), Some(165_535));
        assert_eq!(map.to_host(65537), None);
        assert_eq!(map.to_container(1000), Some(0));
        assert_eq!(map.to_container(100_999), Some(1000));
        assert_eq!(map.to_container(165_536), None);
        assert_eq!(map.to_container(0), None);
        assert_eq!(map.len(), 65537);
    }

    #[test]
    fn the_text_form_is_the_kernels() {
        assert_eq!(canonical().to_string(), "0 1000 1\n1 100000 65536");
        assert_eq!(parse_proc(&canonical().to_string()).unwrap(), canonical().0);
        assert_eq!(
            parse_proc("         0          0 4294967295\n").unwrap(),
            vec![line(0, 0, u32::MAX)],
            "the initial namespace"
        );
        assert_eq!(parse_proc("").unwrap(), vec![]);
    }

    #[test]
    fn foreign_text_is_refused_and_quoted() {
        for text in ["0 0", "0 0 1 1", "a 0 1", "0 0 -1", "0 0 4294967296"] {
            assert_eq!(parse_proc(text), Err(MapFault::Malformed(text.to_owned())), "{text}");
        }
        assert_eq!(parse_proc("0 0 0"), Err(MapFault::ZeroCount(line(0, 0, 0))));
    }

    #[test]
    fn what_the_kernel_would_refuse_is_refused() {
        let five: Vec<MapLine> = (0..5).map(|n| line(n, 10 * n, 1)).collect();
        assert!(IdMap::new(five.clone()).is_ok());
        let mut six = five;
        six.push(line(5, 50, 1));
        assert_eq!(IdMap::new(six), Err(MapFault::TooManyLines(6)));
        assert_eq!(IdMap::new(vec![]), Err(MapFault::Empty));
        assert_eq!(IdMap::new(vec![line(1, 1, 0)]), Err(MapFault::ZeroCount(line(1, 1, 0))));
        for overflowing in [line(u32::MAX, 0, 1), line(0, u32::MAX, 1), line(1, 0, u32::MAX)] {
            assert_eq!(IdMap::new(vec![overflowing]), Err(MapFault::Overflow(overflowing)));
        }
        assert!(IdMap::new(vec![line(0, 0, u32::MAX)]).is_ok());
    }

    #[test]
    fn a_map_in_a_file_is_checked_when_it_is_read() {
        let text = serde_json::to_string(&canonical()).unwrap();
        assert_eq!(
            text,
            r#"[{"inside":0,"outside":1000,"count":1},{"inside":1,"outside":100000,"count":65536}]"#
        );
        assert_eq!(serde_json::from_str::<IdMap>(&text).unwrap(), canonical());
        assert!(serde_json::from_str::<IdMap>(&text.replace("65536", "0")).is_err());
        assert!(serde_json::from_str::<IdMap>("[]").is_err());
    }

    #[test]
    fn overlap_is_found_on_each_side_and_in_any_order() {
        let (a, b) = (line(0, 100, 10), line(9, 200, 10));
        assert_eq!(IdMap::new(vec![a, b]), Err(MapFault::OverlapInside(a, b)));
        assert_eq!(IdMap::new(vec![b, a]), Err(MapFault::OverlapInside(b, a)));
        let (a, b) = (line(0, 100, 10), line(10, 109, 1));
        assert_eq!(IdMap::new(vec![a, b]), Err(MapFault::OverlapOutside(a, b)));
        assert_eq!(IdMap::new(vec![b, a]), Err(MapFault::OverlapOutside(b, a)));
        assert!(IdMap::new(vec![line(0, 100, 10), line(10, 110, 10)]).is_ok());
    }

    #[test]
    fn explains_both_sides() {
        let map = canonical();
        assert_eq!(map.explain_inside(1000), "container ID 1000 is host ID 100999");
        assert_eq!(map.explain_inside(70000), "container ID 70000 is not mapped to any host ID");
        assert_eq!(map.explain_outside(1000), "host ID 1000 is container ID 0");
        assert_eq!(
            map.explain_outside(1),
            "host ID 1 is not mapped, the container sees it as 65534 (nobody)"
        );
    }

    #[test]
    fn ping_is_open_to_every_mapped_group() {
        assert_eq!(canonical().ping_groups(), Some((0, 65536)));
        assert_eq!(IdMap::single(1000, 1000).ping_groups(), Some((1000, 1000)));
        // keep-id: the caller, group 1000 inside and outside, is the least on the host.
        let kept =
            [MapLine::new(0, 100_000, 1000), MapLine::new(1000, 1000, 1), MapLine::new(1001, 101_000, 9)];
        assert_eq!(IdMap(kept.to_vec()).ping_groups(), Some((1000, 1009)));
        // A caller above the range: the two ends are in order on the host alone.
        let high = [MapLine::new(0, 2_000_000, 1), MapLine::new(1, 100_000, 65536)];
        assert_eq!(IdMap(high.to_vec()).ping_groups(), Some((1, 65536)));
        let everything = IdMap(vec![MapLine::new(0, 0, u32::MAX)]);
        assert_eq!(everything.ping_groups(), Some((0, 2_147_483_647)));
        assert_eq!(IdMap(Vec::new()).ping_groups(), None);
    }

    #[test]
    fn keep_id_over_the_canonical_map_is_what_toolbox_shows() {
        let nested = IdMap::new(vec![line(0, 1, 1000), line(1000, 0, 1), line(1001, 1001, 64536)]).unwrap();
        assert_eq!(
            nested.over(&canonical()).0,
            vec![line(0, 100_000, 1000), line(1000, 1000, 1), line(1001, 101_000, 64536)]
        );
    }

    #[test]
    fn ids_that_the_parent_lacks_drop_out_of_a_composition() {
        let nested = IdMap::new(vec![line(0, 65530, 20)]).unwrap();
        assert_eq!(nested.over(&canonical()).0, vec![line(0, 165_529, 7)]);
    }

    /// A small generator (xorshift64) makes the same maps on every run.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, limit: u32) -> u32 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % u64::from(limit)) as u32
        }

        fn map(&mut self) -> IdMap {
            loop {
                let lines = (0..=self.below(5))
                    .map(|_| line(self.below(60), self.below(60), 1 + self.below(15)))
                    .collect();
                if let Ok(map) = IdMap::new(lines) {
                    return map;
                }
            }
        }
    }

    #[test]
    fn composition_agrees_with_two_look_ups_for_every_id() {
        let mut dice = Dice(0x5b7_c0de);
        for _ in 0..500 {
            let (nested, canonical) = (dice.map(), dice.map());
            let composed = nested.over(&canonical);
            check_lines(&composed.0)
                .or_else(|fault| if fault == MapFault::Empty { Ok(()) } else { Err(fault) })
                .unwrap();
            for id in 0..100 {
                let two_steps = nested.to_host(id).and_then(|middle| canonical.to_host(middle));
                assert_eq!(composed.to_host(id), two_steps, "{id} of\n{nested}\nover\n{canonical}");
                if let Some(host) = two_steps {
                    assert_eq!(composed.to_container(host), Some(id));
                }
            }
        }
    }

    #[test]
    fn subtraction_leaves_exactly_the_other_ids() {
        let mut dice = Dice(7);
        for _ in 0..500 {
            let mut ranges =
                || -> Vec<IdRange> { (0..3).map(|_| IdRange::new(dice.below(40), dice.below(12))).collect() };
            let (of, cuts) = (ranges(), ranges());
            let left = subtract(&of, &cuts);
            for id in 0..60 {
                let expected = of.iter().any(|r| r.contains(id)) && !cuts.iter().any(|r| r.contains(id));
                assert_eq!(left.iter().any(|r| r.contains(id)), expected, "{id}: {of:?} without {cuts:?}");
            }
        }
    }
}
