//! Damaged input of every kind: an answer or an error, never a panic.

use super::*;

const SEEDS: [&str; 8] = [
    "bob:100000:65536\nbob:200000:65536\n# comment\n1000:300000:10\n",
    "0: bob 100000 65536\n1: bob 300000 65536\n",
    "passwd: files\nsubid: files [NOTFOUND=return] sss # comment\n",
    "         0       1000          1\n         1     100000      65536\n",
    "bob:x:1000:1001:Bob:/home/bob:/bin/sh\n",
    "keep-id:uid=200,gid=210",
    "auto:size=8192,uidmapping=0:5:2,gidmapping=7:9:1",
    "+ug102000:@2000:4294967295",
];

/// xorshift64: the same damage on every run.
fn next(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 8) as usize
}

#[test]
fn no_damage_makes_a_parser_panic() {
    const BYTES: &[u8] = b"0123456789:,=@+-ug#[] \n\r\t\0x\xff\xc3";
    let mut state = 0xbad_5eed;
    let mut mapped = 0;
    for round in 0..40_000 {
        let mut bytes = SEEDS[round % SEEDS.len()].as_bytes().to_vec();
        for _ in 0..=next(&mut state) % 4 {
            let at = next(&mut state) % bytes.len();
            match next(&mut state) % 3 {
                0 => bytes[at] = BYTES[next(&mut state) % BYTES.len()],
                1 => bytes.insert(at, BYTES[next(&mut state) % BYTES.len()]),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        let ranges = subid::parse(&text, |owner| owner == "bob" || owner == "1000").unwrap_or_default();
        for range in ranges.into_iter().chain(subid::parse_getsubids(&text).unwrap_or_default()) {
            assert!(range.count > 0 && range.start.checked_add(range.count).is_some(), "{text:?}: {range}");
            mapped += 1;
        }
        let proposed = subid::free_range(&text);
        assert!(proposed.start.checked_add(proposed.count).is_some());
        let _ = (subid::faults(&text), subid::nsswitch_asks_elsewhere(&text));
        let _ = (map::parse_proc(&text), caller::passwd_entry(&text, 1000), caller::kernel_version(&text));
        let _ = (text.parse::<Userns>(), text.parse::<MapArg>(), helpers::permitted_capabilities(&bytes));
    }
    assert!(mapped > 1000, "only {mapped} ranges survived: the damage is too great to test anything");
}
