//! The three tiers: whose IDs a container can have, and who writes them down.

use std::path::Path;

use super::map::{MAX_LINES, MapFault, subtract, to_outside};
use super::subid::{Kind, ranges_of};
use super::{Caller, Host, IdMap, IdRange, MapLine, MapWriter, Obstacle, Tier, caller, helpers};
use crate::error::{Error, Result};

/// Below this many IDs, images hold owners that can't be stored: 65534 is nobody everywhere.
const FULL_RANGE: u32 = 65535;

/// The canonical maps of a tier, and what was said on the way to it.
pub(super) struct Base {
    pub tier: Tier,
    pub uid_map: IdMap,
    pub gid_map: IdMap,
    pub deny_setgroups: bool,
    pub writer: MapWriter,
    /// Beyond the caller's, the IDs are those of the host's real users, and there are no others.
    pub hosts_own_ids: bool,
    /// The canonical IDs that are containers' alone where these are a part of the canonical maps only: root with
    /// a subordinate range keeps its own IDs on disk, and its containers get the range.
    pub containers: Option<(IdMap, IdMap)>,
    pub notes: Vec<String>,
    /// Why higher tiers were not taken.
    pub passed_over: Vec<Obstacle>,
}

/// The tier asked for, or the best one that can be had.
///
/// # Errors
/// Every reason why there is none.
pub(super) fn choose_tier(host: &Host, forced: Option<Tier>, caller: &Caller) -> Result<Base> {
    for (map, id, kind) in
        [(&caller.uid_map, caller.uid, Kind::User), (&caller.gid_map, caller.gid, Kind::Group)]
    {
        if to_outside(map, id).is_none() {
            return Err(Error::new("cannot make a user namespace")
                .because(format!(
                    "the caller's own {} ID {id} is not mapped in the outer namespace",
                    kind.word()
                ))
                .hint("start the outer container with a user that its map has"));
        }
    }
    let privileged = caller.has(caller::CAP_SETUID) || caller.has(caller::CAP_SETGID) || caller.uid == 0;
    let tiers: &[Tier] = match &forced {
        Some(tier) => std::slice::from_ref(tier),
        // Who may write maps itself needs no helper: the map is the same, and no process is started for it.
        None if privileged => &[Tier::Root, Tier::Range, Tier::Single],
        None => &[Tier::Range, Tier::Single],
    };
    let mut passed_over = Vec::new();
    for tier in tiers {
        let base = match tier {
            Tier::Range => range_tier(host, caller),
            Tier::Root => root_tier(host, caller),
            Tier::Single => single_tier(caller),
        };
        match base {
            Ok(base) => return Ok(Base { passed_over, ..base }),
            Err(obstacles) => {
                for obstacle in obstacles {
                    if !passed_over.contains(&obstacle) {
                        passed_over.push(obstacle);
                    }
                }
            }
        }
    }
    let message = match forced {
        Some(tier) => format!("cannot take the {tier} tier of IDs"),
        None => "cannot make a user namespace".to_owned(),
    };
    Err(Obstacle::explain(&passed_over, Error::new(message)))
}

fn range_tier(host: &Host, caller: &Caller) -> Result<Base, Vec<Obstacle>> {
    let mut obstacles: Vec<Obstacle> = root_id_obstacle(caller).into_iter().collect();
    let maps = subordinate_maps(host, caller);
    let shim_serves = maps.as_ref().is_ok_and(|maps| !maps.needs_name_service);
    let found = helpers::find_writer(host, caller, shim_serves);
    match (found, maps) {
        (Ok((writer, mut notes)), Ok(maps)) if obstacles.is_empty() => {
            notes.extend(maps.notes);
            notes.extend(setgroups_note(caller));
            Ok(Base {
                tier: Tier::Range,
                uid_map: maps.uid_map,
                gid_map: maps.gid_map,
                deny_setgroups: caller.setgroups_denied,
                writer,
                hosts_own_ids: false,
                containers: None,
                notes,
                passed_over: Vec::new(),
            })
        }
        (found, maps) => {
            obstacles.extend(maps.err().unwrap_or_default());
            obstacles.extend(found.err().unwrap_or_default());
            Err(obstacles)
        }
    }
}

fn root_tier(host: &Host, caller: &Caller) -> Result<Base, Vec<Obstacle>> {
    let mut obstacles = Vec::new();
    for (capability, name) in [(caller::CAP_SETUID, "CAP_SETUID"), (caller::CAP_SETGID, "CAP_SETGID")] {
        if !caller.has(capability) {
            obstacles.push(
                Obstacle::new(format!("the caller has no {name} and so may not write the maps itself")).mend(
                    format!(
                        "in an outer container, start that one with `--cap-add {}`",
                        &name["CAP_".len()..]
                    ),
                ),
            );
        }
    }
    obstacles.extend(root_id_obstacle(caller));
    if !obstacles.is_empty() {
        return Err(obstacles);
    }
    let subordinate = subordinate_maps(host, caller);
    let mut base = match subordinate {
        Ok(maps) if caller.uid != 0 => root_base(caller, maps.uid_map, maps.gid_map, maps.notes),
        Ok(maps) => {
            let (mut base, _) = outer_ids(caller)?;
            let own = |map: &IdMap| {
                let lines = map.0.iter().map(|line| MapLine::new(line.outside, line.outside, line.count));
                IdMap::new(lines.collect()).map_err(|fault| vec![Obstacle::new(fault.to_string())])
            };
            base.containers = Some((own(&maps.uid_map)?, own(&maps.gid_map)?));
            base.notes = maps.notes;
            base
        }
        Err(reasons) => {
            let (mut base, more) = outer_ids(caller)?;
            let reasons: Vec<String> = reasons.iter().map(Obstacle::to_string).collect();
            let meaning = match caller.uid {
                0 => {
                    "the container's IDs are those outside, and files that root inside makes are root's outside"
                }
                _ => "the container's IDs are those outside, and its users may touch what is theirs there",
            };
            base.notes = vec![format!("{}: {meaning}", reasons.join("; "))];
            base.notes.extend(more);
            base.hosts_own_ids = true;
            base
        }
    };
    base.notes.extend(setgroups_note(caller));
    Ok(base)
}

/// Every ID of the caller's namespace as itself, and what had to be left out.
fn outer_ids(caller: &Caller) -> Result<(Base, Vec<String>), Vec<Obstacle>> {
    let (uid_map, mut notes) = identity_map(caller.uid, &caller.uid_map, Kind::User)?;
    let (gid_map, more) = identity_map(caller.gid, &caller.gid_map, Kind::Group)?;
    if uid_map.len().min(gid_map.len()) == 1 {
        return Err(vec![
            Obstacle::new("the outer namespace has one user or group ID alone to map")
                .mend("start the outer container with a range of IDs"),
        ]);
    }
    notes.extend(more);
    Ok((root_base(caller, uid_map, gid_map, Vec::new()), notes))
}

fn root_base(caller: &Caller, uid_map: IdMap, gid_map: IdMap, notes: Vec<String>) -> Base {
    Base {
        tier: Tier::Root,
        uid_map,
        gid_map,
        deny_setgroups: caller.setgroups_denied,
        writer: MapWriter::Direct,
        hosts_own_ids: false,
        containers: None,
        notes,
        passed_over: Vec::new(),
    }
}

fn single_tier(caller: &Caller) -> Result<Base, Vec<Obstacle>> {
    if let Some(obstacle) = root_id_obstacle(caller) {
        return Err(vec![obstacle]);
    }
    Ok(Base {
        tier: Tier::Single,
        uid_map: IdMap::single(0, caller.uid),
        gid_map: IdMap::single(0, caller.gid),
        // user_namespaces(7): without CAP_SETGID outside, gid_map is taken only when setgroups is denied.
        deny_setgroups: caller.setgroups_denied || !caller.has(caller::CAP_SETGID),
        writer: MapWriter::Direct,
        hosts_own_ids: false,
        containers: None,
        notes: Vec::new(),
        passed_over: Vec::new(),
    })
}

/// Since Linux 5.12 mapping user 0 of the parent asks for CAP_SETFCAP there (user_namespaces(7)).
fn root_id_obstacle(caller: &Caller) -> Option<Obstacle> {
    (caller.uid == 0 && caller.kernel >= (5, 12) && !caller.has(caller::CAP_SETFCAP)).then(|| {
        Obstacle::new(
            "the caller is user 0 without CAP_SETFCAP, and Linux 5.12 and later let it map that ID to nobody",
        )
        .mend("start the outer container with `--cap-add SETFCAP`, or as another user than root")
    })
}

fn setgroups_note(caller: &Caller) -> Option<String> {
    caller.setgroups_denied.then(|| {
        "setgroups is denied in the outer namespace: processes of the container can't change their supplementary groups"
            .to_owned()
    })
}

struct SubordinateMaps {
    uid_map: IdMap,
    gid_map: IdMap,
    notes: Vec<String>,
    needs_name_service: bool,
}

/// Container 0 is the caller, from 1 on come the subordinate IDs.
fn subordinate_maps(host: &Host, caller: &Caller) -> Result<SubordinateMaps, Vec<Obstacle>> {
    let side = |kind| {
        let found = ranges_of(host, caller, kind)?;
        let (map, notes) = subordinate_map(caller, kind, &found.ranges, host.subid_file(kind))?;
        Ok((map, notes, found.needs_name_service))
    };
    match (side(Kind::User), side(Kind::Group)) {
        (Ok((uid_map, mut notes, for_users)), Ok((gid_map, more, for_groups))) => {
            notes.extend(more);
            Ok(SubordinateMaps { uid_map, gid_map, notes, needs_name_service: for_users || for_groups })
        }
        (users, groups) => Err(users.err().into_iter().chain(groups.err()).collect()),
    }
}

fn subordinate_map(
    caller: &Caller,
    kind: Kind,
    ranges: &[IdRange],
    file: &Path,
) -> Result<(IdMap, Vec<String>), Obstacle> {
    let word = kind.word();
    let (own, outer) = match kind {
        Kind::User => (caller.uid, &caller.uid_map),
        Kind::Group => (caller.gid, &caller.gid_map),
    };
    let mut notes = Vec::new();
    let mut ids = ranges.to_vec();
    if ranges.iter().any(|range| range.contains(own)) {
        notes.push(format!(
            "the caller's own {word} ID {own} lies inside its subordinate range in `{}` and is left out of it",
            file.display()
        ));
        ids = subtract(&ids, &[IdRange::new(own, 1)]);
    }
    if own != 0 && ids.iter().any(|range| range.contains(0)) {
        notes.push(format!(
            "root's own {word} ID 0 lies inside the subordinate range in `{}` and is left out of it",
            file.display()
        ));
        ids = subtract(&ids, &[IdRange::new(0, 1)]);
    }
    let mut outer_ids: Vec<IdRange> = outer.iter().map(|line| line.inside_range()).collect();
    outer_ids.sort_by_key(|range| range.start);
    let lost = subtract(&ids, &outer_ids);
    let mut pieces: Vec<IdRange> = ids
        .iter()
        .flat_map(|range| outer_ids.iter().filter_map(|there| range.intersection(*there)))
        .collect();
    if !lost.is_empty() {
        let missing = join(&lost);
        if pieces.is_empty() {
            return Err(Obstacle::new(format!(
                "the subordinate {word} range {missing} of `{}` is not mapped in the outer namespace, which has {}",
                file.display(),
                join(&outer_ids)
            ))
            .mend(format!("write a range that the outer namespace has into `{}`", file.display())));
        }
        notes.push(format!(
            "the subordinate {word} IDs {missing} are not mapped in the outer namespace and left out"
        ));
    }
    if pieces.is_empty() {
        return Err(Obstacle::new(format!(
            "the subordinate {word} range in `{}` has no usable ID",
            file.display()
        ))
        .mend("give the user 65536 IDs that nobody else has"));
    }
    let dropped = drop_smallest(&mut pieces, MAX_LINES - 1);
    if !dropped.is_empty() {
        notes.push(format!(
            "the subordinate {word} IDs {} are left out, because a map has at most {MAX_LINES} lines",
            join(&dropped)
        ));
    }
    let mut lines = vec![MapLine::new(0, own, 1)];
    for piece in pieces {
        let next = lines.iter().map(|line| line.count).sum();
        lines.push(MapLine::new(next, piece.start, piece.count));
    }
    let broken = |fault: MapFault| {
        Obstacle::new(format!("the subordinate {word} ranges of `{}` make no map: {fault}", file.display()))
    };
    let map = IdMap::new(lines).map_err(broken)?;
    notes.extend(small_note(&map, kind));
    Ok((map, notes))
}

/// Every ID of the caller's namespace as itself, but for 0, which is the caller.
fn identity_map(own: u32, outer: &[MapLine], kind: Kind) -> Result<(IdMap, Vec<String>), Vec<Obstacle>> {
    let ids: Vec<IdRange> = outer.iter().map(|line| line.inside_range()).collect();
    let mut lines = Vec::new();
    let mut rest = ids;
    if own != 0 {
        lines.push(MapLine::new(0, own, 1));
        rest = subtract(&rest, &[IdRange::new(0, 1), IdRange::new(own, 1)]);
    }
    let mut with_root: Vec<IdRange> = rest.iter().copied().filter(|range| range.start == 0).collect();
    rest.retain(|range| range.start != 0);
    let dropped = drop_smallest(&mut rest, MAX_LINES - lines.len() - with_root.len());
    with_root.extend(rest);
    lines.extend(with_root.iter().map(|range| MapLine::new(range.start, range.start, range.count)));
    lines.sort_by_key(|line| line.inside);
    let map = IdMap::new(lines).map_err(|fault| vec![Obstacle::new(fault.to_string())])?;
    let mut notes = Vec::new();
    if !dropped.is_empty() {
        notes.push(format!(
            "the {} IDs {} of the outer namespace are left out, because a map has at most {MAX_LINES} lines",
            kind.word(),
            join(&dropped)
        ));
    }
    notes.extend(small_note(&map, kind));
    Ok((map, notes))
}

fn small_note(map: &IdMap, kind: Kind) -> Option<String> {
    (map.len() < FULL_RANGE).then(|| {
        format!(
            "only {} {} IDs can be mapped, and files of an image that belong to others can't keep their owner",
            map.len(),
            kind.word()
        )
    })
}

/// Drops the smallest ranges until no more than `most` are left; what stays keeps its order.
fn drop_smallest(ranges: &mut Vec<IdRange>, most: usize) -> Vec<IdRange> {
    let mut dropped = Vec::new();
    while ranges.len() > most {
        let Some(smallest) = (0..ranges.len()).min_by_key(|index| ranges[*index].count) else { break };
        dropped.push(ranges.remove(smallest));
    }
    dropped
}

fn join(ranges: &[IdRange]) -> String {
    ranges.iter().map(IdRange::to_string).collect::<Vec<_>>().join(", ")
}
