use super::super::caller::tests::{bob, root};
use super::super::caller::{CAP_SETFCAP, CAP_SETGID, CAP_SETUID};
use super::super::{Auto, MapWriter};
use super::*;

/// A host of its own: files in a directory, helpers as set up by the test.
struct Stage {
    dir: tempfile::TempDir,
    host: Host,
}

const ORDINARY: &str = "bob:100000:65536\n";

impl Stage {
    fn new(subuid: &str, subgid: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("subuid"), subuid).unwrap();
        std::fs::write(at("subgid"), subgid).unwrap();
        std::fs::write(at("nsswitch.conf"), "passwd: files\n").unwrap();
        let host = Host {
            subuid: at("subuid"),
            subgid: at("subgid"),
            nsswitch: at("nsswitch.conf"),
            passwd: at("passwd"),
            // The system's helpers, so that what is found usable is what the kernel would take.
            path: vec![at("bin"), "/usr/bin".into(), "/bin".into()],
            shim_dirs: vec![],
            ..Host::system()
        };
        std::fs::create_dir(at("bin")).unwrap();
        Self { dir, host }
    }

    fn ordinary() -> Self {
        Self::new(ORDINARY, ORDINARY)
    }

    fn without_helpers(mut self) -> Self {
        self.host.path = vec![self.dir.path().join("bin")];
        self
    }

    /// Written by another process: a descriptor of this one, open for writing, could be held by a program that
    /// another test starts at the same time, and the script could not be executed then (ETXTBSY).
    fn script(&self, name: &str, text: &str) {
        let path = self.dir.path().join("bin").join(name);
        let status = std::process::Command::new("sh")
            .args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$2\" > \"$1\" && chmod 755 \"$1\"", "sh"])
            .arg(&path)
            .arg(text)
            .status();
        assert!(status.unwrap().success());
    }

    fn plan(&self, request: &Request, caller: &Caller) -> Result<Identity> {
        plan_on(&self.host, request, caller)
    }

    fn default(&self, caller: &Caller) -> Identity {
        self.plan(&Request::default(), caller).unwrap()
    }
}

fn asking(userns: &str) -> Request {
    Request { userns: Some(userns.parse().unwrap()), ..Request::default() }
}

fn forcing(tier: Tier) -> Request {
    Request { tier: Some(tier), ..Request::default() }
}

fn line(inside: u32, outside: u32, count: u32) -> MapLine {
    MapLine::new(inside, outside, count)
}

fn nested_users(identity: &Identity) -> Vec<MapLine> {
    identity.nested.as_ref().expect("a nested map").uid_map.0.clone()
}

fn text(error: &Error) -> String {
    assert_eq!(error.code(), 125);
    error.report()
}

#[test]
fn an_ordinary_user_gets_the_range_without_a_word() {
    let identity = Stage::ordinary().default(&bob());
    assert_eq!(identity.tier, Tier::Range);
    assert_eq!(identity.uid_map.0, vec![line(0, 1000, 1), line(1, 100_000, 65536)]);
    assert_eq!(identity.gid_map, identity.uid_map);
    assert!(matches!(identity.writer, MapWriter::TwoHelpers { .. }), "{:?}", identity.writer);
    assert!(!identity.deny_setgroups && identity.nested.is_none() && identity.join.is_none());
    assert_eq!((identity.notes, identity.default_user), (Vec::<String>::new(), None));
}

#[test]
fn ranges_follow_one_another_in_the_files_order() {
    let identity = Stage::new("bob:500000:10\nbob:200000:65536\n", ORDINARY).default(&bob());
    assert_eq!(identity.uid_map.0, vec![line(0, 1000, 1), line(1, 500_000, 10), line(11, 200_000, 65536)]);
}

#[test]
fn no_range_means_one_id_and_says_why() {
    let identity = Stage::new("alice:100000:65536\n", "").default(&bob());
    assert_eq!(identity.tier, Tier::Single);
    assert_eq!(identity.uid_map.0, vec![line(0, 1000, 1)]);
    assert!(identity.deny_setgroups);
    assert_eq!(identity.writer, MapWriter::Direct);
    assert_eq!(identity.notes.len(), 2, "{:?}", identity.notes);
    assert!(identity.notes[0].contains("subuid` has no subordinate user range for `bob` (user ID 1000)"));
    assert!(identity.notes[1].contains("subgid` has no subordinate group range for `bob` (user ID 1000)"));
}

#[test]
fn users_without_groups_are_no_range() {
    let identity = Stage::new(ORDINARY, "").default(&bob());
    assert_eq!(identity.tier, Tier::Single);
    assert_eq!(identity.notes.len(), 1);
    assert!(identity.notes[0].contains("no subordinate group range"), "{:?}", identity.notes);
}

#[test]
fn missing_helpers_are_named() {
    let identity = Stage::ordinary().without_helpers().default(&bob());
    assert_eq!(identity.tier, Tier::Single);
    assert_eq!(identity.notes, ["`newuidmap` is not installed", "`newgidmap` is not installed"]);
    let error = Stage::ordinary().without_helpers().plan(&forcing(Tier::Range), &bob()).unwrap_err();
    assert!(text(&error).contains("apt install uidmap"), "{}", text(&error));
}

#[test]
fn a_broken_line_is_named_with_its_file_and_number() {
    let error = Stage::new("bob:1000000:x\n", ORDINARY).plan(&forcing(Tier::Range), &bob()).unwrap_err();
    assert!(
        text(&error).contains("subuid` has a broken user range in line 1: `x` is not a decimal number"),
        "{}",
        text(&error)
    );
}

#[test]
fn the_callers_own_id_is_cut_out_of_its_range() {
    let identity = Stage::new("bob:900:65536\n", ORDINARY).default(&bob());
    assert_eq!(identity.tier, Tier::Range);
    assert_eq!(identity.uid_map.0, vec![line(0, 1000, 1), line(1, 900, 100), line(101, 1001, 65435)]);
    assert!(
        identity.notes[0].contains("own user ID 1000 lies inside its subordinate range"),
        "{:?}",
        identity.notes
    );
}

#[test]
fn a_range_never_hands_out_root_nor_nothing_at_all() {
    let identity = Stage::new("bob:0:900\n", ORDINARY).default(&bob());
    assert_eq!(identity.uid_map.0, vec![line(0, 1000, 1), line(1, 1, 899)]);
    assert!(identity.notes[0].starts_with("root's own user ID 0 lies inside"), "{:?}", identity.notes);
    let identity = Stage::new("bob:1000:1\n", ORDINARY).default(&bob());
    assert_eq!(identity.tier, Tier::Single);
    assert!(identity.notes[0].contains("has no usable ID"), "{:?}", identity.notes);
}

#[test]
fn more_than_five_lines_leave_the_smallest_range_out() {
    let many: String = [30, 20, 65536, 40, 50]
        .iter()
        .enumerate()
        .map(|(n, c)| format!("bob:{}:{c}\n", 100_000 * (n + 1)))
        .collect();
    let identity = Stage::new(&many, ORDINARY).default(&bob());
    assert_eq!(identity.uid_map.0.len(), 5);
    assert_eq!(identity.uid_map.0[2], line(31, 300_000, 65536));
    assert!(identity.notes[0].contains("user IDs 200000-200019 are left out"), "{:?}", identity.notes);
}

#[test]
fn a_small_range_is_said() {
    let identity = Stage::new("bob:100000:1000\n", ORDINARY).default(&bob());
    assert!(identity.notes[0].starts_with("only 1001 user IDs can be mapped"), "{:?}", identity.notes);
}

#[test]
fn a_range_that_the_outer_namespace_lacks_is_named() {
    let outer = vec![line(0, 1000, 1), line(1, 100_000, 65536)];
    let nested = Caller { uid_map: outer.clone(), gid_map: outer, ..bob() };
    let identity = Stage::ordinary().default(&nested);
    assert_eq!(identity.tier, Tier::Single);
    assert!(identity.notes[0].contains("range 100000-165535 of"), "{:?}", identity.notes);
    assert!(
        identity.notes[0].contains("is not mapped in the outer namespace, which has 0, 1-65536"),
        "{:?}",
        identity.notes
    );

    let partly = Stage::new("bob:60000:65536\n", "bob:60000:65536\n").default(&nested);
    assert_eq!(partly.tier, Tier::Range);
    assert_eq!(partly.uid_map.0, vec![line(0, 1000, 1), line(1, 60_000, 5537)]);
    assert!(
        partly.notes.iter().any(|note| note.contains("65537-125535 are not mapped in the outer namespace")),
        "{:?}",
        partly.notes
    );
}

#[test]
fn a_line_never_crosses_a_border_of_the_outer_map() {
    let outer = vec![line(0, 1000, 1), line(1, 100_000, 110_000), line(110_001, 500_000, 100_000)];
    let nested = Caller { uid_map: outer.clone(), gid_map: outer, ..bob() };
    let identity = Stage::ordinary().default(&nested);
    assert_eq!(
        identity.uid_map.0,
        vec![line(0, 1000, 1), line(1, 100_000, 10_001), line(10_002, 110_001, 55_535)]
    );
}

#[test]
fn an_unmapped_caller_can_have_no_namespace() {
    let lost = Caller { uid: 65534, uid_map: vec![line(0, 1000, 1)], ..bob() };
    let error = Stage::ordinary().plan(&Request::default(), &lost).unwrap_err();
    assert!(text(&error).contains("own user ID 65534 is not mapped"), "{}", text(&error));
}

#[test]
fn an_outer_container_without_powers_is_named() {
    let weak = Caller { bounding: !(1 << CAP_SETUID | 1 << CAP_SETGID), ..bob() };
    let identity = Stage::ordinary().default(&weak);
    assert_eq!(identity.tier, Tier::Single);
    assert!(identity.notes[0].contains("outer container has no CAP_SETUID"), "{:?}", identity.notes);
    let fixed = Caller { no_new_privs: true, ..bob() };
    assert!(Stage::ordinary().default(&fixed).notes[0].contains("no_new_privs"));
}

#[test]
fn root_writes_its_range_itself() {
    let stage = Stage::new("root:100000:65536\n", "0:100000:65536\n").without_helpers();
    let identity = stage.default(&root());
    assert_eq!((identity.tier, &identity.writer), (Tier::Root, &MapWriter::Direct));
    assert_eq!(identity.uid_map.0, vec![line(0, 0, u32::MAX)], "its files stay root's on disk");
    assert_eq!(nested_users(&identity), vec![line(0, 100_000, 65536)]);
    assert_eq!(identity.gid_map, identity.uid_map);
    assert!(!identity.deny_setgroups);
    assert_eq!(identity.notes, Vec::<String>::new());
}

#[test]
fn root_with_a_range_is_root_outside_only_where_it_says_so() {
    let stage = Stage::new("root:100000:65536\n", "root:100000:65536\n");
    let asked = |words| stage.plan(&asking(words), &root()).unwrap();
    assert!(asked("host").nested.is_none());
    assert_eq!(nested_users(&asked("nomap")), vec![line(0, 100_000, 65536)]);
    assert_eq!(nested_users(&asked("keep-id")), vec![line(0, 0, 1), line(1, 100_000, 65536)]);
    let image = Request { image_user: Some((1000, 1000)), ..asking("image-user") };
    assert_eq!(
        nested_users(&stage.plan(&image, &root()).unwrap()),
        vec![line(0, 100_000, 1000), line(1000, 0, 1), line(1001, 101_000, 64536)]
    );
    let mapped = Request { uid_maps: vec!["0:1234:5".parse().unwrap()], ..Request::default() };
    assert_eq!(nested_users(&stage.plan(&mapped, &root()).unwrap()), vec![line(0, 1234, 5)]);
}

#[test]
fn root_without_a_range_is_itself_and_is_warned() {
    let identity = Stage::new("", "").default(&root());
    assert_eq!(identity.tier, Tier::Root);
    assert_eq!(identity.uid_map.0, vec![line(0, 0, u32::MAX)]);
    assert!(
        identity.notes[0].contains("files that root inside makes are root's outside"),
        "{:?}",
        identity.notes
    );
}

#[test]
fn root_of_an_outer_container_maps_what_there_is() {
    let outer = vec![line(0, 1000, 1), line(1, 100_000, 999), line(1000, 300_000, 1)];
    let caller = Caller { uid_map: outer.clone(), gid_map: outer, setgroups_denied: true, ..root() };
    let identity = Stage::new("", "").default(&caller);
    assert_eq!(identity.uid_map.0, vec![line(0, 0, 1), line(1, 1, 999), line(1000, 1000, 1)]);
    assert!(identity.deny_setgroups);
    assert!(identity.notes.iter().any(|note| note.starts_with("only 1001 user IDs")), "{:?}", identity.notes);
    assert!(
        identity.notes.iter().any(|note| note.starts_with("setgroups is denied")),
        "{:?}",
        identity.notes
    );
}

#[test]
fn root_of_a_shredded_namespace_keeps_the_five_largest_pieces() {
    let outer: Vec<MapLine> = (0..8).map(|n| line(1000 * n, 100_000 * (n + 1), 10 + n)).collect();
    let caller = Caller { uid_map: outer.clone(), gid_map: outer, ..root() };
    let identity = Stage::new("", "").default(&caller);
    assert_eq!(identity.uid_map.0.len(), 5);
    assert_eq!(identity.uid_map.to_host(0), Some(0), "container root is always there");
    assert_eq!(identity.uid_map.to_host(7000), Some(7000));
    assert!(
        identity
            .notes
            .iter()
            .any(|note| note.contains("1000-1010, 2000-2011, 3000-3012 of the outer namespace")),
        "{:?}",
        identity.notes
    );
}

#[test]
fn root_of_a_namespace_with_one_id_is_the_single_tier() {
    let outer = vec![line(0, 1000, 1)];
    let caller = Caller { uid_map: outer.clone(), gid_map: outer, setgroups_denied: true, ..root() };
    let identity = Stage::ordinary().default(&caller);
    assert_eq!(identity.tier, Tier::Single);
    assert_eq!(identity.uid_map.0, vec![line(0, 0, 1)]);
    assert!(identity.deny_setgroups);
    assert!(identity.notes[0].contains("one user or group ID alone"), "{:?}", identity.notes);
    assert!(Stage::ordinary().plan(&forcing(Tier::Root), &caller).is_err());
}

#[test]
fn a_capable_caller_that_is_not_root_stays_container_root() {
    let caller = Caller { effective: 1 << CAP_SETUID | 1 << CAP_SETGID, ..bob() };
    let identity = Stage::new("", "").default(&caller);
    assert_eq!(identity.tier, Tier::Root);
    assert_eq!(
        identity.uid_map.0,
        vec![line(0, 1000, 1), line(1, 1, 999), line(1001, 1001, u32::MAX - 1001)]
    );
}

#[test]
fn root_without_setfcap_can_map_nothing_since_5_12() {
    let weak = Caller { effective: !(1 << CAP_SETFCAP), ..root() };
    let error = Stage::ordinary().plan(&Request::default(), &weak).unwrap_err();
    assert_eq!(text(&error).matches("without CAP_SETFCAP").count(), 1, "{}", text(&error));
    let old = Caller { kernel: (5, 11), ..weak };
    assert_eq!(Stage::new("", "").default(&old).tier, Tier::Root);
}

#[test]
fn root_without_setuid_steps_down_and_says_so() {
    let weak = Caller { effective: 1 << CAP_SETFCAP, bounding: 0, ..root() };
    let identity = Stage::ordinary().default(&weak);
    assert_eq!(identity.tier, Tier::Single);
    assert_eq!(identity.uid_map.0, vec![line(0, 0, 1)]);
    assert!(identity.deny_setgroups);
    assert!(
        identity.notes.iter().any(|note| note.contains("the caller has no CAP_SETUID")),
        "{:?}",
        identity.notes
    );
    assert!(
        identity.notes.iter().any(|note| note.contains("the outer container has no CAP_SETGID")),
        "{:?}",
        identity.notes
    );
}

#[test]
fn a_tier_can_be_forced_or_refused() {
    let stage = Stage::ordinary();
    assert_eq!(stage.plan(&forcing(Tier::Single), &bob()).unwrap().tier, Tier::Single);
    assert!(stage.plan(&forcing(Tier::Single), &bob()).unwrap().notes.is_empty());
    let error = stage.plan(&forcing(Tier::Root), &bob()).unwrap_err();
    assert!(text(&error).contains("cannot take the root tier of IDs"), "{}", text(&error));
    assert!(text(&error).contains("has no CAP_SETUID"), "{}", text(&error));
    let single = stage.plan(&forcing(Tier::Single), &root()).unwrap();
    assert!(!single.deny_setgroups, "the kernel does not ask for it from CAP_SETGID");
}

#[test]
fn keep_id_is_nested_and_names_its_user() {
    let identity = Stage::ordinary().plan(&asking("keep-id"), &bob()).unwrap();
    assert_eq!(identity.uid_map.0[0], line(0, 1000, 1), "owners on disk are the canonical map's");
    assert_eq!(nested_users(&identity), vec![line(0, 1, 1000), line(1000, 0, 1), line(1001, 1001, 64536)]);
    assert_eq!(identity.default_user, Some((1000, 1000)));
    assert_eq!(identity.host_uid_map().to_host(1000), Some(1000));
    assert_eq!(identity.host_uid_map().to_host(0), Some(100_000));
    let identity = Stage::ordinary().plan(&asking("keep-id:uid=11,gid=12"), &bob()).unwrap();
    assert_eq!(identity.default_user, Some((11, 12)));
    assert_eq!(identity.host_gid_map().to_host(12), Some(1000));
    assert_eq!(
        identity.explain(11, 1000),
        "user: container ID 11 is host ID 1000; group: container ID 1000 is host ID 100999"
    );
}

#[test]
fn keep_id_of_root_needs_no_nested_map() {
    let identity = Stage::new("", "").plan(&asking("keep-id"), &root()).unwrap();
    assert!(identity.nested.is_none());
    assert_eq!(identity.default_user, Some((0, 0)));
    assert!(Stage::ordinary().plan(&asking("keep-id:uid=0,gid=0"), &bob()).unwrap().nested.is_none());
    assert!(
        Stage::ordinary().plan(&asking("keep-id:uid=0"), &bob()).unwrap().nested.is_some(),
        "the group moved"
    );
}

#[test]
fn keep_id_in_the_single_tier_is_the_one_line() {
    let stage = Stage::new("", "");
    let identity = stage.plan(&asking("keep-id"), &bob()).unwrap();
    assert_eq!(identity.tier, Tier::Single);
    assert_eq!(identity.uid_map.0, vec![line(1000, 1000, 1)]);
    assert!(identity.nested.is_none());
    let identity = stage.plan(&asking("keep-id:uid=5,gid=6"), &bob()).unwrap();
    assert_eq!((identity.uid_map.0[0], identity.gid_map.0[0]), (line(5, 1000, 1), line(6, 1000, 1)));
    let image = Request { image_user: Some((101, 102)), ..asking("image-user") };
    let identity = stage.plan(&image, &bob()).unwrap();
    assert_eq!((identity.uid_map.0[0], identity.gid_map.0[0]), (line(101, 1000, 1), line(102, 1000, 1)));
}

#[test]
fn keep_id_over_many_ranges_says_what_it_left_out() {
    let many = "bob:100000:500\nbob:200000:20\nbob:300000:1000\nbob:400000:30\n";
    let identity = Stage::new(many, many).plan(&asking("keep-id:uid=600,gid=600"), &bob()).unwrap();
    assert_eq!(identity.nested.as_ref().unwrap().uid_map.0.len(), 5);
    assert!(
        identity.notes.iter().any(|note| note == "`--userns keep-id` leaves out the container's user IDs 500-519, because a map has at most 5 lines"),
        "{:?}",
        identity.notes
    );
}

#[test]
fn image_user_is_the_caller() {
    let image = Request { image_user: Some((999, 998)), ..asking("image-user") };
    let identity = Stage::ordinary().plan(&image, &bob()).unwrap();
    assert_eq!(identity.host_uid_map().to_host(999), Some(1000));
    assert_eq!(identity.host_gid_map().to_host(998), Some(1000));
    assert!(
        Stage::ordinary().plan(&asking("image-user"), &bob()).unwrap().nested.is_none(),
        "root is the caller anyway"
    );
}

#[test]
fn nomap_and_auto_leave_the_caller_out() {
    let stage = Stage::ordinary();
    let nomap = stage.plan(&asking("nomap"), &bob()).unwrap();
    assert_eq!(nested_users(&nomap), vec![line(0, 1, 65536)]);
    assert_eq!(nomap.host_uid_map().to_container(1000), None);
    let auto = stage.plan(&asking("auto"), &bob()).unwrap();
    assert_eq!(nested_users(&auto), vec![line(0, 1, 1024)]);
    let blocks = auto.nested.unwrap().blocks();
    assert_eq!(blocks, vec![(1, 1024)]);
    let second = Request { in_use: blocks, ..asking("auto:size=2000") };
    assert_eq!(nested_users(&stage.plan(&second, &bob()).unwrap()), vec![line(0, 1025, 2000)]);
    let third = Request { in_use: vec![(1, 65000)], ..asking("auto") };
    assert!(
        text(&stage.plan(&third, &bob()).unwrap_err())
            .contains("no 1024 consecutive subordinate IDs of 65536")
    );
}

#[test]
fn auto_takes_forced_mappings() {
    let auto = Auto { size: Some(10), uid_mappings: vec![line(3, 0, 1)], gid_mappings: vec![] };
    let request = Request { userns: Some(Userns::Auto(auto)), ..Request::default() };
    let identity = Stage::ordinary().plan(&request, &bob()).unwrap();
    assert_eq!(nested_users(&identity), vec![line(0, 1, 3), line(3, 0, 1), line(4, 4, 6)]);
}

#[test]
fn what_needs_more_than_one_id_is_refused_with_the_reason() {
    for words in ["auto", "nomap"] {
        let error = Stage::new("", "").plan(&asking(words), &bob()).unwrap_err();
        let text = text(&error);
        assert!(
            text.contains(&format!("cannot take `--userns {words}` in the single tier of IDs")),
            "{text}"
        );
        assert!(text.contains("no subordinate user range for `bob`"), "{text}");
        assert!(text.contains("usermod --add-subuids 100000-165535 bob"), "{text}");
    }
    let maps = Request {
        uid_maps: vec!["0:1:10".parse().unwrap(), "10:0:1".parse().unwrap()],
        ..Request::default()
    };
    let error = Stage::new("", "").plan(&maps, &bob()).unwrap_err();
    assert!(
        text(&error).contains("asks for ID 1-10, and the caller's user namespace has 0"),
        "{}",
        text(&error)
    );
}

#[test]
fn roots_identity_has_no_block_to_give_away() {
    for words in ["auto", "nomap"] {
        let error = Stage::new("", "").plan(&asking(words), &root()).unwrap_err();
        assert!(text(&error).contains("the host's own users"), "{}", text(&error));
    }
    let stage = Stage::new("root:100000:65536\n", "root:100000:65536\n");
    let auto = stage.plan(&asking("auto"), &root()).unwrap();
    assert_eq!(nested_users(&auto), vec![line(0, 100_000, 1024)]);
    assert!(auto.exclusive);
}

#[test]
fn explicit_maps_are_nested_or_the_one_line() {
    let maps = Request {
        uid_maps: vec!["0:1:1000".parse().unwrap(), "1000:0:1".parse().unwrap()],
        ..Request::default()
    };
    let identity = Stage::ordinary().plan(&maps, &bob()).unwrap();
    assert_eq!(nested_users(&identity), vec![line(0, 1, 1000), line(1000, 0, 1)]);
    let fewer = Request { uid_maps: vec!["0:0:11".parse().unwrap()], ..Request::default() };
    let identity = Stage::ordinary().plan(&fewer, &bob()).unwrap();
    assert_eq!(
        nested_users(&identity),
        vec![line(0, 0, 1), line(1, 1, 10)],
        "fewer IDs than the canonical map has"
    );
    let one = Request { uid_maps: vec!["7:0".parse().unwrap()], ..Request::default() };
    let identity = Stage::new("", "").plan(&one, &bob()).unwrap();
    assert_eq!((identity.uid_map.0, identity.gid_map.0), (vec![line(7, 1000, 1)], vec![line(7, 1000, 1)]));
    let six = Request {
        uid_maps: (0..6).map(|n| format!("{}:{}:1", 2 * n, 2 * n + 1).parse().unwrap()).collect(),
        ..Request::default()
    };
    let error = Stage::ordinary().plan(&six, &bob()).unwrap_err();
    assert!(text(&error).contains("a map has at most 5 lines"), "{}", text(&error));
    let both = Request { uid_maps: one.uid_maps, ..asking("keep-id") };
    assert!(
        text(&Stage::ordinary().plan(&both, &bob()).unwrap_err())
            .contains("`--userns` together with `--uidmap`")
    );
}

#[test]
fn joining_is_passed_on_and_checked_as_far_as_can_be_seen() {
    let stage = Stage::ordinary();
    let identity = stage.plan(&asking("container:abc"), &bob()).unwrap();
    assert_eq!(identity.join, Some(Namespace::Container("abc".to_owned())));
    assert!(identity.nested.is_none());
    for (path, reason) in [
        ("/nonexistent", "No such file"),
        ("/etc/passwd", "the file is no namespace"),
        ("/proc/self/ns/net", "a namespace of another kind"),
        ("/proc/self/ns/user", "the one that sbx runs in"),
    ] {
        let error = stage.plan(&asking(&format!("ns:{path}")), &bob()).unwrap_err();
        assert!(text(&error).contains(reason), "{path}: {}", text(&error));
    }
}

#[test]
fn getsubids_answers_where_nsswitch_sends_elsewhere() {
    let stage = Stage::new("", "");
    std::fs::write(&stage.host.nsswitch, "subid: sss\n").unwrap();
    stage.script(
        "getsubids",
        "case $1 in -g) echo \"0: $2 300000 65536\";; *) echo \"0: $1 200000 65536\";; esac",
    );
    let identity = stage.default(&bob());
    assert_eq!(identity.tier, Tier::Range);
    assert_eq!(identity.uid_map.0[1], line(1, 200_000, 65536));
    assert_eq!(identity.gid_map.0[1], line(1, 300_000, 65536));

    stage.script("getsubids", "exit 1");
    let identity = stage.default(&bob());
    assert_eq!(identity.tier, Tier::Single);
    assert!(
        identity.notes[0].starts_with("neither `") && identity.notes[0].contains("nor `getsubids` has"),
        "{:?}",
        identity.notes
    );

    stage.script("getsubids", "echo nonsense");
    let notes = stage.default(&bob()).notes;
    assert!(notes[0].contains("is not `INDEX: OWNER START COUNT`"), "{notes:?}");
}

#[test]
fn a_user_of_a_directory_service_is_asked_for_by_the_name_that_getent_knows() {
    let stage = Stage::new("", "");
    std::fs::write(&stage.host.nsswitch, "subid: sss\n").unwrap();
    stage.script("getent", "echo 'robert:x:1000:1000::/home/robert:/bin/sh'");
    stage.script("getsubids", "for name; do :; done; [ $name = robert ] && echo \"0: $name 200000 65536\"");
    let nameless = Caller { user_name: None, passwd_gid: None, ..bob() };
    assert_eq!(stage.default(&nameless).tier, Tier::Range);
}

#[test]
fn a_name_that_passwd_lacks_is_looked_up_for_the_files_too() {
    let stage = Stage::new("robert:100000:65536\n", "robert:100000:65536\n");
    let log = stage.dir.path().join("asked");
    stage.script("getent", &format!("echo x >> {}; echo 'robert:x:1000:1000::/:/bin/sh'", log.display()));
    let nameless = Caller { user_name: None, passwd_gid: None, ..bob() };
    assert_eq!(stage.default(&nameless).tier, Tier::Range);
    assert_eq!(std::fs::read_to_string(log).unwrap(), "x\n", "asked once");
}

#[test]
fn no_process_is_started_where_the_files_answer() {
    let stage = Stage::ordinary();
    let witness = stage.dir.path().join("started");
    for program in ["getsubids", "getent", "newuidmap", "newgidmap"] {
        stage.script(program, &format!("touch {}", witness.display()));
    }
    assert_eq!(stage.default(&bob()).tier, Tier::Range);
    assert_eq!(
        Stage::new("1000:5000:70000\n", "1000:5000:70000\n")
            .default(&Caller { user_name: None, ..bob() })
            .tier,
        Tier::Range
    );
    assert!(!witness.exists());
}
