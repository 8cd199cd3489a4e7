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
#[path = "nested_tests.rs"]
mod tests;
