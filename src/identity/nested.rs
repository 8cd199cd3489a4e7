//! Maps of a namespace inside the canonical one: keep-id, image-user, auto, nomap, `--uidmap`.
//!
//! The kernel asks that every line's outside IDs lie in *one* line of the parent's map (kernel/user_namespace.c,
//! map_id_range_down), so that pieces are cut at the borders of the canonical lines.

use super::map::{IdMap, IdRange, MAX_LINES, MapLine, join_adjacent, subtract};
use super::userns::{From, MapArg};

/// All IDs that a namespace can have.
const ALL_IDS: IdRange = IdRange { start: 0, count: u32::MAX };

/// Lines, and those that were left out to keep to [`MAX_LINES`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    pub kept: Vec<MapLine>,
    pub left_out: Vec<MapLine>,
}

/// The canonical IDs, a range for each canonical line, in order.
fn canonical_ids(canonical: &IdMap) -> Vec<IdRange> {
    let mut ids: Vec<IdRange> = canonical.0.iter().map(|line| line.inside_range()).collect();
    ids.sort_by_key(|range| range.start);
    ids
}

/// Pairs the IDs of `inside` with those of `outside`, one by one, until either ends.
fn pair(inside: &[IdRange], outside: &[IdRange]) -> Vec<MapLine> {
    let mut lines: Vec<MapLine> = Vec::new();
    let (mut inside, mut outside) = (inside.iter().copied(), outside.iter().copied());
    let (mut to, mut from) = (inside.next(), outside.next());
    while let (Some(target), Some(source)) = (to, from) {
        let count = target.count.min(source.count);
        lines.push(MapLine::new(target.start, source.start, count));
        let rest = |range: IdRange| IdRange::new(range.start + count, range.count - count);
        to = if target.count > count { Some(rest(target)) } else { inside.next() };
        from = if source.count > count { Some(rest(source)) } else { outside.next() };
    }
    lines
}

/// The fixed lines, and the rest of the canonical IDs (but for `without`) over the container's other IDs from 0
/// on. The smallest of the rest are left out where there would be too many lines, but never container root.
fn filled(fixed: &[MapLine], without: &[IdRange], canonical: &IdMap) -> Lines {
    let taken: Vec<IdRange> =
        fixed.iter().map(|line| line.outside_range()).chain(without.iter().copied()).collect();
    let free = subtract(&canonical_ids(canonical), &taken);
    let gaps = subtract(&[ALL_IDS], &fixed.iter().map(|line| line.inside_range()).collect::<Vec<_>>());
    let mut rest = pair(&gaps, &free);
    let mut left_out = Vec::new();
    while fixed.len() + rest.len() > MAX_LINES {
        let Some(smallest) =
            (0..rest.len()).filter(|index| rest[*index].inside != 0).min_by_key(|index| rest[*index].count)
        else {
            break;
        };
        left_out.push(rest.remove(smallest));
    }
    let mut kept = [fixed, &rest].concat();
    kept.sort_by_key(|line| line.inside);
    Lines { kept, left_out }
}

/// keep-id and image-user: the caller is `id` in the container, the others move together.
pub fn caller_as(id: u32, canonical: &IdMap) -> Lines {
    filled(&[MapLine::new(id, 0, 1)], &[], canonical)
}

/// nomap: every canonical ID but the caller's.
pub fn without_caller(canonical: &IdMap) -> Lines {
    filled(&[], &[IdRange::new(0, 1)], canonical)
}

/// auto: the same block for users and groups, the lowest that is free in both and in no other use.
///
/// # Errors
/// Says what is missing, as the cause of an error.
pub fn auto(
    size: u32,
    fixed: (&[MapLine], &[MapLine]),
    in_use: &[(u32, u32)],
    canonical: (&IdMap, &IdMap),
) -> Result<(Vec<MapLine>, Vec<MapLine>), String> {
    let fixed_users = placed(fixed.0, canonical.0, "uidmapping")?;
    let fixed_groups = placed(fixed.1, canonical.1, "gidmapping")?;
    let gaps = |fixed: &[MapLine]| {
        subtract(&[IdRange::new(0, size)], &fixed.iter().map(|line| line.inside_range()).collect::<Vec<_>>())
    };
    let (user_gaps, group_gaps) = (gaps(&fixed_users), gaps(&fixed_groups));
    let wanted = |gaps: &[IdRange]| gaps.iter().map(|gap| gap.count).sum::<u32>();
    let count = wanted(&user_gaps).max(wanted(&group_gaps));

    let mut taken = vec![IdRange::new(0, 1)];
    taken.extend(in_use.iter().map(|(start, count)| IdRange::new(*start, *count)));
    taken.extend(fixed_users.iter().chain(&fixed_groups).map(|line| line.outside_range()));
    let free = |map: &IdMap| subtract(&join_adjacent(&canonical_ids(map)), &taken);
    let (users, groups) = (free(canonical.0), free(canonical.1));
    let block = (count == 0)
        .then_some(IdRange::new(1, 0))
        .or_else(|| lowest(&users, &groups, count))
        .ok_or_else(|| {
            let total = canonical.0.len().min(canonical.1.len()).saturating_sub(1);
            format!("no {count} consecutive subordinate IDs of {total} are free of other containers")
        })?;

    let lines = |fixed: &[MapLine], gaps: &[IdRange], map: &IdMap| {
        let pieces: Vec<IdRange> =
            canonical_ids(map).into_iter().filter_map(|ids| ids.intersection(block)).collect();
        let mut lines = [fixed, &pair(gaps, &pieces)].concat();
        lines.sort_by_key(|line| line.inside);
        lines
    };
    Ok((lines(&fixed_users, &user_gaps, canonical.0), lines(&fixed_groups, &group_gaps, canonical.1)))
}

fn lowest(users: &[IdRange], groups: &[IdRange], count: u32) -> Option<IdRange> {
    users
        .iter()
        .flat_map(|user| groups.iter().filter_map(|group| user.intersection(*group)))
        .filter(|both| both.count >= count)
        .min_by_key(|both| both.start)
        .map(|both| IdRange::new(both.start, count))
}

/// Cuts lines at the borders of the canonical map.
fn placed(lines: &[MapLine], canonical: &IdMap, option: &str) -> Result<Vec<MapLine>, String> {
    let mut all = Vec::new();
    for line in lines {
        all.extend(place(*line, canonical, |range| {
            format!("`{option}={}:{}:{}` asks for ID {range}", line.inside, line.outside, line.count)
        })?);
    }
    Ok(all)
}

fn place(line: MapLine, canonical: &IdMap, asks: impl Fn(IdRange) -> String) -> Result<Vec<MapLine>, String> {
    let ids = canonical_ids(canonical);
    if let Some(missing) = subtract(&[line.outside_range()], &ids).first() {
        let have: Vec<String> = join_adjacent(&ids).iter().map(IdRange::to_string).collect();
        return Err(format!("{}, and the caller's user namespace has {}", asks(*missing), have.join(", ")));
    }
    Ok(ids.into_iter().filter_map(|range| line.clip_outside(range)).collect())
}

/// `--uidmap` and `--gidmap`, which stand in for one another where only one is given, as podman has it.
///
/// # Errors
/// Says which mapping can't be had and why, as the cause of an error.
pub fn explicit(
    users: &[MapArg],
    groups: &[MapArg],
    canonical: (&IdMap, &IdMap),
) -> Result<(Lines, Lines), String> {
    if !users.is_empty() && !groups.is_empty() {
        if users.iter().any(|arg| arg.groups && !arg.users) {
            return Err("a `--uidmap` with the flag `g` belongs to `--gidmap`, which is given too".to_owned());
        }
        if groups.iter().any(|arg| arg.users && !arg.groups) {
            return Err("a `--gidmap` with the flag `u` belongs to `--uidmap`, which is given too".to_owned());
        }
    }
    let for_users = if users.is_empty() { groups } else { users };
    let for_groups = if groups.is_empty() { users } else { groups };
    let for_users: Vec<MapArg> = for_users.iter().filter(|arg| arg.users || !arg.groups).copied().collect();
    let for_groups: Vec<MapArg> = for_groups.iter().filter(|arg| arg.groups || !arg.users).copied().collect();
    Ok((side(&for_users, canonical.0, "--uidmap")?, side(&for_groups, canonical.1, "--gidmap")?))
}

fn side(args: &[MapArg], canonical: &IdMap, flag: &str) -> Result<Lines, String> {
    let mut lines: Vec<MapLine> = Vec::new();
    for arg in args {
        let new = resolve(*arg, canonical, flag)?;
        if arg.extend {
            for line in &new {
                lines = lines.into_iter().flat_map(|earlier| give_way(earlier, *line)).collect();
            }
        }
        lines.extend(new);
    }
    // Filling comes with a `+` that has nothing before it; so does having no line of this kind at all.
    if args.first().is_none_or(|arg| arg.extend) {
        check(&lines, args.len(), flag, true)?;
        let filled = filled(&lines, &[], canonical);
        check(&filled.kept, args.len(), flag, false)?;
        return Ok(filled);
    }
    check(&lines, args.len(), flag, false)?;
    Ok(Lines { kept: lines, left_out: Vec::new() })
}

fn check(lines: &[MapLine], given: usize, flag: &str, may_be_empty: bool) -> Result<(), String> {
    if lines.is_empty() && may_be_empty {
        return Ok(());
    }
    let cut = if lines.len() > given { ", cut where the canonical map has a border" } else { "" };
    match IdMap::new(lines.to_vec()) {
        Ok(_) => Ok(()),
        Err(fault) => Err(format!("of `{flag}`{cut}: {fault}")),
    }
}

/// What of an earlier line is left beside a later one that takes IDs from it, on either side.
fn give_way(earlier: MapLine, later: MapLine) -> Vec<MapLine> {
    earlier
        .inside_range()
        .without(later.inside_range())
        .filter_map(|range| earlier.clip_inside(range))
        .flat_map(|line| {
            line.outside_range()
                .without(later.outside_range())
                .filter_map(move |range| line.clip_outside(range))
        })
        .collect()
}

fn resolve(arg: MapArg, canonical: &IdMap, flag: &str) -> Result<Vec<MapLine>, String> {
    match arg.from {
        From::Canonical(from) => place(MapLine::new(arg.inside, from, arg.count), canonical, |range| {
            format!("`{flag} {}:{from}:{}` asks for ID {range}", arg.inside, arg.count)
        }),
        From::Host(host) => {
            let wanted = IdRange::new(host, arg.count);
            let parts: Vec<MapLine> =
                canonical.0.iter().filter_map(|line| line.clip_outside(wanted)).collect();
            let have: Vec<IdRange> = parts.iter().map(|part| part.outside_range()).collect();
            if let Some(missing) = subtract(&[wanted], &have).first() {
                return Err(format!(
                    "`{flag} {}:@{host}:{}` asks for host ID {missing}, which is neither the caller's own nor subordinate to it",
                    arg.inside, arg.count
                ));
            }
            Ok(parts
                .into_iter()
                .map(|part| MapLine::new(arg.inside + (part.outside - host), part.inside, part.count))
                .collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(inside: u32, outside: u32, count: u32) -> MapLine {
        MapLine::new(inside, outside, count)
    }

    fn map(lines: &[(u32, u32, u32)]) -> IdMap {
        IdMap::new(lines.iter().map(|(i, o, c)| line(*i, *o, *c)).collect()).unwrap()
    }

    fn canonical() -> IdMap {
        map(&[(0, 1000, 1), (1, 100_000, 65536)])
    }

    fn args(words: &[&str]) -> Vec<MapArg> {
        words.iter().map(|word| word.parse().unwrap()).collect()
    }

    fn uidmap(words: &[&str], canonical: &IdMap) -> Result<Vec<MapLine>, String> {
        explicit(&args(words), &[], (canonical, canonical)).map(|(users, _)| users.kept)
    }

    #[test]
    fn keep_id_is_podmans_map() {
        let lines = caller_as(11, &canonical());
        assert_eq!(lines.kept, vec![line(0, 1, 11), line(11, 0, 1), line(12, 12, 65525)]);
        assert!(lines.left_out.is_empty());
    }

    #[test]
    fn keep_id_of_root_is_the_canonical_map_itself() {
        assert_eq!(caller_as(0, &canonical()).kept, vec![line(0, 0, 1), line(1, 1, 65536)]);
    }

    #[test]
    fn keep_id_beyond_the_range_leaves_a_gap() {
        assert_eq!(caller_as(100_000, &canonical()).kept, vec![line(0, 1, 65536), line(100_000, 0, 1)]);
        assert_eq!(caller_as(65536, &canonical()).kept, vec![line(0, 1, 65536), line(65536, 0, 1)]);
    }

    #[test]
    fn keep_id_over_many_ranges_leaves_the_smallest_pieces_out() {
        let many = map(&[
            (0, 1000, 1),
            (1, 100_000, 500),
            (501, 200_000, 20),
            (521, 300_000, 1000),
            (1521, 400_000, 30),
        ]);
        let lines = caller_as(600, &many);
        assert_eq!(
            lines.kept,
            vec![
                line(0, 1, 500),
                line(520, 521, 80),
                line(600, 0, 1),
                line(601, 601, 920),
                line(1521, 1521, 30)
            ]
        );
        assert_eq!(lines.left_out, vec![line(500, 501, 20)]);
        assert!(IdMap::new(lines.kept).is_ok());
    }

    #[test]
    fn container_root_is_never_left_out() {
        let many =
            map(&[(0, 1000, 1), (1, 100_000, 1), (2, 200_000, 20), (22, 300_000, 1000), (1022, 400_000, 30)]);
        let lines = caller_as(30, &many);
        assert!(lines.kept.contains(&line(0, 1, 1)), "{:?}", lines.kept);
        assert_eq!(lines.left_out, vec![line(21, 22, 9)]);
    }

    #[test]
    fn every_line_lies_in_one_canonical_line() {
        let many = map(&[(0, 1000, 1), (1, 100_000, 7), (8, 200_000, 5), (13, 300_000, 11)]);
        for id in 0..40 {
            let lines = caller_as(id, &many);
            for piece in &lines.kept {
                let holders = many.0.iter().filter(|outer| {
                    outer.inside_range().intersection(piece.outside_range()) == Some(piece.outside_range())
                });
                assert_eq!(holders.count(), 1, "{piece} of keep-id:uid={id}");
            }
            let total: u32 = lines.kept.iter().chain(&lines.left_out).map(|line| line.count).sum();
            assert_eq!(total, many.len(), "no ID is lost unsaid");
            assert_eq!(IdMap::new(lines.kept).unwrap().to_host(id), Some(0));
        }
    }

    #[test]
    fn nomap_starts_with_the_first_subordinate_id() {
        assert_eq!(without_caller(&canonical()).kept, vec![line(0, 1, 65536)]);
        assert_eq!(without_caller(&map(&[(0, 1000, 1)])).kept, vec![]);
    }

    #[test]
    fn auto_takes_the_lowest_free_block() {
        let c = canonical();
        let block = |size, in_use: &[(u32, u32)]| {
            auto(size, (&[], &[]), in_use, (&c, &c)).map(|(users, groups)| {
                assert_eq!(users, groups);
                users
            })
        };
        assert_eq!(block(1024, &[]), Ok(vec![line(0, 1, 1024)]));
        assert_eq!(block(1024, &[(1, 1024)]), Ok(vec![line(0, 1025, 1024)]));
        assert_eq!(
            block(1024, &[(1025, 1024)]),
            Ok(vec![line(0, 1, 1024)]),
            "a container that ended leaves its block"
        );
        assert_eq!(block(1024, &[(1000, 1), (500, 10)]), Ok(vec![line(0, 1001, 1024)]));
        assert_eq!(block(65536, &[]), Ok(vec![line(0, 1, 65536)]));
        assert_eq!(
            block(65536, &[(7, 1)]),
            Err("no 65536 consecutive subordinate IDs of 65536 are free of other containers".to_owned())
        );
        assert!(block(65537, &[]).is_err());
    }

    #[test]
    fn autos_block_is_free_for_users_and_groups_alike() {
        let groups = map(&[(0, 1000, 1), (1, 100_000, 10)]);
        assert!(auto(11, (&[], &[]), &[], (&canonical(), &groups)).is_err());
        let (users, groups) = auto(5, (&[], &[]), &[(3, 2)], (&canonical(), &groups)).unwrap();
        assert_eq!((users, groups), (vec![line(0, 5, 5)], vec![line(0, 5, 5)]));
    }

    #[test]
    fn autos_block_is_cut_at_the_border_of_two_ranges() {
        let two = map(&[(0, 1000, 1), (1, 100_000, 10), (11, 300_000, 10)]);
        let (users, _) = auto(15, (&[], &[]), &[], (&two, &two)).unwrap();
        assert_eq!(users, vec![line(0, 1, 10), line(10, 11, 5)]);
    }

    #[test]
    fn autos_forced_mapping_is_part_of_its_size() {
        let c = canonical();
        let (users, groups) = auto(10, (&[line(5, 0, 1)], &[]), &[], (&c, &c)).unwrap();
        assert_eq!(users, vec![line(0, 1, 5), line(5, 0, 1), line(6, 6, 4)]);
        assert_eq!(groups, vec![line(0, 1, 10)]);
        let error = auto(10, (&[line(5, 70000, 1)], &[]), &[], (&c, &c)).unwrap_err();
        assert_eq!(
            error,
            "`uidmapping=5:70000:1` asks for ID 70000, and the caller's user namespace has 0-65536"
        );
    }

    #[test]
    fn uidmap_counts_in_canonical_ids() {
        assert_eq!(
            uidmap(&["0:1:1000", "1000:0:1"], &canonical()),
            Ok(vec![line(0, 1, 1000), line(1000, 0, 1)])
        );
        assert_eq!(uidmap(&["5:0"], &canonical()), Ok(vec![line(5, 0, 1)]));
        assert_eq!(
            uidmap(&["0:0:1001"], &canonical()),
            Ok(vec![line(0, 0, 1), line(1, 1, 1000)]),
            "cut where the caller's own ID ends"
        );
    }

    #[test]
    fn uidmap_takes_host_ids() {
        assert_eq!(uidmap(&["0:@100000:1000"], &canonical()), Ok(vec![line(0, 1, 1000)]));
        assert_eq!(uidmap(&["7:@1000"], &canonical()), Ok(vec![line(7, 0, 1)]));
        assert_eq!(
            uidmap(&["0:@165530:10"], &canonical()),
            Err("`--uidmap 0:@165530:10` asks for host ID 165536-165539, which is neither the caller's own nor subordinate to it".to_owned())
        );
        let touching = map(&[(0, 99_999, 1), (1, 100_000, 10)]);
        assert_eq!(uidmap(&["20:@99999:5"], &touching), Ok(vec![line(20, 0, 1), line(21, 1, 4)]));
    }

    #[test]
    fn uidmap_beyond_the_range_is_refused_before_anything_starts() {
        assert_eq!(
            uidmap(&["0:65530:10"], &canonical()),
            Err("`--uidmap 0:65530:10` asks for ID 65537-65539, and the caller's user namespace has 0-65536"
                .to_owned())
        );
    }

    #[test]
    fn overlap_and_a_sixth_line_of_uidmap_are_refused_with_the_rule() {
        assert_eq!(
            uidmap(&["0:1:10", "9:20:10"], &canonical()),
            Err("of `--uidmap`: the lines `0 1 10` and `9 20 10` map the same ID inside".to_owned())
        );
        assert_eq!(
            uidmap(&["0:1:10", "10:10:10"], &canonical()),
            Err("of `--uidmap`: the lines `0 1 10` and `10 10 10` map the same ID outside".to_owned())
        );
        let six: Vec<String> = (0..6).map(|n| format!("{n}:{}:1", 2 * n + 1)).collect();
        let six: Vec<&str> = six.iter().map(String::as_str).collect();
        assert_eq!(
            uidmap(&six, &canonical()),
            Err("of `--uidmap`: a map has at most 5 lines (the kernel's limit before Linux 4.15), and this one has 6"
                .to_owned())
        );
        let five_and_a_cut = ["0:0:2", "10:10:1", "12:12:1", "14:14:1", "16:16:1"];
        assert_eq!(
            uidmap(&five_and_a_cut, &canonical()),
            Err("of `--uidmap`, cut where the canonical map has a border: a map has at most 5 lines (the kernel's limit before Linux 4.15), and this one has 6".to_owned())
        );
    }

    #[test]
    fn a_plus_takes_ids_from_earlier_lines() {
        assert_eq!(
            uidmap(&["0:0:65000", "+100000:1:1"], &canonical()),
            Ok(vec![line(0, 0, 1), line(2, 2, 64998), line(100_000, 1, 1)])
        );
        assert_eq!(
            uidmap(&["0:1:10", "+5:0:1"], &canonical()),
            Ok(vec![line(0, 1, 5), line(6, 7, 4), line(5, 0, 1)])
        );
    }

    #[test]
    fn a_plus_with_nothing_before_it_fills_the_gaps() {
        assert_eq!(
            uidmap(&["+100000:1:1"], &canonical()),
            Ok(vec![line(0, 0, 1), line(1, 2, 65535), line(100_000, 1, 1)])
        );
        assert_eq!(uidmap(&["+11:0"], &canonical()), Ok(caller_as(11, &canonical()).kept));
    }

    #[test]
    fn one_of_the_two_flags_stands_for_both() {
        let c = canonical();
        let (users, groups) = explicit(&args(&["0:1:1000"]), &[], (&c, &c)).unwrap();
        assert_eq!(users, groups);
        let (users, groups) = explicit(&[], &args(&["+g102000:@100000"]), (&c, &c)).unwrap();
        assert_eq!(users.kept, vec![line(0, 0, 1), line(1, 1, 65536)], "users keep the whole map");
        assert_eq!(groups.kept, vec![line(0, 0, 1), line(1, 2, 65535), line(102_000, 1, 1)]);
        let (users, groups) = explicit(&args(&["u5:0:1"]), &[], (&c, &c)).unwrap();
        assert_eq!(users.kept, vec![line(5, 0, 1)]);
        assert_eq!(groups.kept, vec![line(0, 0, 1), line(1, 1, 65536)]);
        assert!(explicit(&args(&["g5:0:1"]), &args(&["5:0:1"]), (&c, &c)).unwrap_err().contains("flag `g`"));
        assert!(explicit(&args(&["5:0:1"]), &args(&["u5:0:1"]), (&c, &c)).unwrap_err().contains("flag `u`"));
    }
}
