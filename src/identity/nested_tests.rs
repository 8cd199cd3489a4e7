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
        vec![line(0, 1, 500), line(520, 521, 80), line(600, 0, 1), line(601, 601, 920), line(1521, 1521, 30)]
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
    assert_eq!(uidmap(&["0:1:1000", "1000:0:1"], &canonical()), Ok(vec![line(0, 1, 1000), line(1000, 0, 1)]));
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

/// xorshift64: the same cases on every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % u64::from(limit)) as u32
    }

    /// Small IDs mostly, and those at the end of the numbers.
    fn id(&mut self) -> u32 {
        if self.below(8) == 0 { u32::MAX - self.below(4) } else { self.below(40) }
    }

    /// Container root is the caller; one to four subordinate ranges that neither touch nor overlap.
    fn canonical(&mut self) -> IdMap {
        let mut lines = vec![line(0, 1000, 1)];
        let mut next = 1;
        for range in 0..=self.below(4) {
            let count = 1 + self.below(12);
            lines.push(line(next, 100 * (range + 1), count));
            next += count;
        }
        IdMap::new(lines).unwrap()
    }

    fn arg(&mut self) -> String {
        let flags = ["", "", "", "+", "u", "g", "+u"][self.below(7) as usize];
        let host = if self.below(4) == 0 { "@" } else { "" };
        let from = if host.is_empty() { self.id() } else { 100 * self.below(4) + self.below(14) };
        format!("{flags}{}:{host}{from}:{}", self.id(), self.below(10))
    }
}

/// What the kernel asks of a nested map (map_write and new_idmap_permitted of kernel/user_namespace.c).
fn kernel_would_take(lines: &[MapLine], canonical: &IdMap) {
    IdMap::new(lines.to_vec()).unwrap_or_else(|fault| panic!("{fault}: {lines:?}"));
    for piece in lines {
        let within = |outer: &MapLine| {
            outer.inside_range().intersection(piece.outside_range()) == Some(piece.outside_range())
        };
        assert!(canonical.0.iter().any(within), "{piece} is in no line of\n{canonical}");
    }
}

#[test]
fn whatever_is_asked_for_the_answer_is_an_error_or_a_map_that_the_kernel_takes() {
    let mut dice = Dice(0x1d5);
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let (users, groups) = (dice.canonical(), dice.canonical());
        let mut args =
            |most| -> Vec<MapArg> { (0..dice.below(most)).filter_map(|_| dice.arg().parse().ok()).collect() };
        let (user_args, group_args) = (args(4), args(3));
        match explicit(&user_args, &group_args, (&users, &groups)) {
            Ok((for_users, for_groups)) => {
                kernel_would_take(&for_users.kept, &users);
                kernel_would_take(&for_groups.kept, &groups);
                taken += 1;
            }
            Err(_) => refused += 1,
        }
        kernel_would_take(&caller_as(dice.id().min(u32::MAX - 1), &users).kept, &users);
        kernel_would_take(&without_caller(&users).kept, &users);
        let in_use = [(dice.id(), dice.below(9)), (dice.id(), dice.below(9))];
        if let Ok((for_users, for_groups)) = auto(1 + dice.below(20), (&[], &[]), &in_use, (&users, &groups))
        {
            kernel_would_take(&for_users, &users);
            assert_eq!(
                for_users.iter().map(|line| line.count).sum::<u32>(),
                for_groups.iter().map(|line| line.count).sum::<u32>()
            );
            for used in in_use.map(|(start, count)| IdRange::new(start, count)) {
                assert!(for_users.iter().all(|line| line.outside_range().intersection(used).is_none()));
            }
        }
    }
    assert!(taken > 1000 && refused > 1000, "{taken} taken, {refused} refused: the cases are lopsided");
}
