//! newuidmap-shim beside the system's newuidmap and newgidmap: the same verdict, the same map in the kernel.
//!
//! Needs an unprivileged user with ranges in /etc/subuid and /etc/subgid, Debian's `uidmap`, and the shim
//! installed by scripts/install-helpers (elsewhere than in /usr/local: SBX_TEST_SHIM).

mod two_users;

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::{User, getgid, getuid};
use tempfile::TempDir;

/// Which of the two maps.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Uid,
    Gid,
}

impl Kind {
    fn program(self) -> &'static str {
        match self {
            Self::Uid => "newuidmap",
            Self::Gid => "newgidmap",
        }
    }

    fn system(self) -> PathBuf {
        let program = Path::new("/usr/bin").join(self.program());
        assert!(program.exists(), "prerequisite missing: {} (apt-get install uidmap)", program.display());
        program
    }
}

/// The shim under its three names, and the IDs of the user that runs the tests.
struct Stage {
    names: TempDir,
    uid: u32,
    gid: u32,
    uid_range: (u32, u32),
    gid_range: (u32, u32),
}

impl Stage {
    fn set() -> Self {
        let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
        assert_ne!(uid, 0, "prerequisite missing: an unprivileged user to run the tests (see scripts/test)");
        let shim = installed_shim();
        let names = TempDir::new().unwrap();
        for name in ["newuidmap", "newgidmap", "newuidmap-shim"] {
            symlink(&shim, names.path().join(name)).unwrap();
        }
        Self { names, uid, gid, uid_range: range_in("/etc/subuid"), gid_range: range_in("/etc/subgid") }
    }

    fn shim(&self, name: &str) -> PathBuf {
        self.names.path().join(name)
    }

    /// Fills in a case: `own`, and `first`, `last`, `end`, `all` of the range, with `+N` or `-N` after them.
    fn words(&self, kind: Kind, case: &str) -> Vec<String> {
        let (own, (first, count)) = match kind {
            Kind::Uid => (self.uid, self.uid_range),
            Kind::Gid => (self.gid, self.gid_range),
        };
        let value = |word: &str| {
            let at = word.find(['+', '-']).unwrap_or(word.len());
            let base = match &word[..at] {
                "own" => own,
                "first" => first,
                "last" => first + count - 1,
                "end" => first + count,
                "all" => count,
                _ => return word.to_owned(),
            };
            let offset: i64 = if at == word.len() { 0 } else { word[at..].parse().unwrap() };
            (i64::from(base) + offset).to_string()
        };
        case.split_whitespace().map(value).collect()
    }

    /// The arguments of a start that writes both maps.
    fn both(&self, target: &Sleeper, uid_case: &str, gid_case: &str) -> Vec<String> {
        let mut words = vec![target.pid()];
        words.extend(self.words(Kind::Uid, uid_case));
        words.push("--".to_owned());
        words.extend(self.words(Kind::Gid, gid_case));
        words
    }
}

fn installed_shim() -> PathBuf {
    let shim = std::env::var_os("SBX_TEST_SHIM")
        .map_or_else(|| PathBuf::from("/usr/local/libexec/sbx/newuidmap-shim"), PathBuf::from);
    assert!(
        shim.exists(),
        "prerequisite missing: {} (as root: scripts/install-helpers; or set SBX_TEST_SHIM)",
        shim.display()
    );
    shim
}

/// The first range that the file grants to the current user by name or by number: (first, count).
fn range_in(file: &str) -> (u32, u32) {
    let user = User::from_uid(getuid()).unwrap().expect("prerequisite missing: the user has a name");
    let text = fs::read_to_string(file).unwrap_or_default();
    let range = text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let mine = fields[0] == user.name || fields[0] == user.uid.to_string();
        (mine && fields.len() == 3).then(|| (fields[1].parse().unwrap(), fields[2].parse().unwrap()))
    });
    let range = range.unwrap_or_else(|| panic!("prerequisite missing: a range for {} in {file}", user.name));
    assert!(range.1 >= 100, "prerequisite missing: a range of 100 IDs or more for {} in {file}", user.name);
    range
}

/// A sleeping process that ends with the test.
struct Sleeper(Child);

impl Sleeper {
    /// Starts `command`, which must end in `sleep 1000` without a fork, and waits until it sleeps.
    fn start(command: &str) -> Self {
        let mut words = command.split_whitespace();
        let child = Command::new(words.next().unwrap()).args(words).stdin(Stdio::null()).spawn().unwrap();
        let mut sleeper = Self(child);
        let deadline = Instant::now() + Duration::from_secs(20);
        while sleeper.read("comm") != "sleep\n" {
            assert!(sleeper.0.try_wait().unwrap().is_none(), "`{command}` has ended");
            assert!(Instant::now() < deadline, "`{command}` does not come to its sleep");
            std::thread::sleep(Duration::from_millis(1));
        }
        sleeper
    }

    /// A process in a user namespace of its own whose maps are not written yet.
    fn unmapped() -> Self {
        Self::start("unshare --user sleep 1000")
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }

    fn directory(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.0.id()))
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.directory().join(file)).unwrap()
    }

    /// A map with its columns parted by single spaces.
    fn map(&self, kind: Kind) -> String {
        let text = self.read(if kind == Kind::Uid { "uid_map" } else { "gid_map" });
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect()
    }

    fn is_unmapped(&self) -> bool {
        self.map(Kind::Uid).is_empty()
            && self.map(Kind::Gid).is_empty()
            && self.read("setgroups") == "allow\n"
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn run(program: &Path, arguments: &[String]) -> Output {
    Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn on(target: &Sleeper, words: Vec<String>) -> Vec<String> {
    [vec![target.pid()], words].concat()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A refusal is the exit code 1 and one line that says why.
#[track_caller]
fn assert_refused(output: &Output, reason: &str) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(reason), "`{reason}` is not in: {text}");
    assert_eq!((text.lines().count(), output.stdout.len()), (1, 0), "{text}");
}

#[track_caller]
fn assert_done(output: &Output) {
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(output));
}

const ACCEPTED: [&str; 12] = [
    "0 own 1",
    "own own 1",
    "4294967294 own 1",
    "0 first 1",
    "0 last 1",
    "0 first all",
    "0 own 1 1 first all",
    "1 first all 0 own 1",
    "0 first+5 10 10 first+15 10",
    "10 first 10 0 first+20 10",
    "4294967285 first 10 0 own 1",
    "0 own 1 1 first 10 11 first+10 10 30 first+30 10 50 first+50 10",
];

const REFUSED: [&str; 29] = [
    "",
    "0",
    "0 own",
    "0 own 1 1",
    "0 own 1 1 first",
    "0 own 0",
    "0 first 0",
    "0 own 2",
    "0 0 1",
    "0 1 1",
    "0 first-1 1",
    "0 first-1 2",
    "0 end 1",
    "0 last 2",
    "0 first all+1",
    "0 own 1 1 end 1",
    "0 own 1 0 first 1",
    "0 first 10 9 first+20 1",
    "0 first 10 20 first+9 1",
    "0 first 10 20 first 10",
    "4294967295 own 1",
    "4294967286 first 10",
    "0 first 4294967295",
    "0 own 4294967296",
    "0 4294967296 1",
    "0 own 99999999999999999999999",
    "x own 1",
    "0 own 1x",
    "0 -1 1",
];

#[test]
fn same_verdict_and_same_map_as_the_system() {
    let stage = Stage::set();
    for (cases, accepted) in [(&ACCEPTED[..], true), (&REFUSED[..], false)] {
        for case in cases {
            for kind in [Kind::Uid, Kind::Gid] {
                let words = stage.words(kind, case);
                let (theirs, ours) = (Sleeper::unmapped(), Sleeper::unmapped());
                let their_output = run(&kind.system(), &on(&theirs, words.clone()));
                let our_output = run(&stage.shim(kind.program()), &on(&ours, words.clone()));
                let what = format!("{kind:?} `{case}`: {}{}", stderr(&their_output), stderr(&our_output));
                assert_eq!(our_output.status.success(), accepted, "{what}");
                assert_eq!(our_output.status.code(), their_output.status.code(), "{what}");
                assert_eq!(ours.map(kind), theirs.map(kind), "{what}");
                assert_eq!(ours.map(kind).is_empty(), !accepted, "{what}");
                if accepted {
                    assert_eq!(ours.read("setgroups"), theirs.read("setgroups"), "{what}");
                } else {
                    // The system's newgidmap may have denied setgroups before the kernel refused its map.
                    assert_refused(&our_output, kind.program());
                    assert!(ours.is_unmapped(), "{what}");
                }
            }
        }
    }
}

#[test]
fn same_verdict_on_odd_process_ids() {
    let stage = Stage::set();
    // 4194304 is the number of processes that Linux can have at most, and no process's own.
    for pid in ["", "0", "-1", "x", "1x", "self", "4194304", "2147483648", "99999999999999999999", "."] {
        for kind in [Kind::Uid, Kind::Gid] {
            let words = [vec![pid.to_owned()], stage.words(kind, "0 own 1")].concat();
            assert_eq!(run(&kind.system(), &words).status.code(), Some(1), "{pid}");
            assert_refused(&run(&stage.shim(kind.program()), &words), kind.program());
        }
    }
}

#[test]
fn stricter_than_the_system_where_the_documentation_says_so() {
    let stage = Stage::set();
    let six_lines = "0 own 1 1 first 1 2 first+1 1 3 first+2 1 4 first+3 1 5 first+4 1";
    for (case, reason) in [
        (six_lines, "more than 5 lines"),
        ("0 own 0x1", "not a decimal"),
        ("0 own +1", "not a decimal"),
        ("00 own 1", "not a decimal"),
    ] {
        for kind in [Kind::Uid, Kind::Gid] {
            let (theirs, ours) = (Sleeper::unmapped(), Sleeper::unmapped());
            let words = stage.words(kind, case);
            assert_done(&run(&kind.system(), &on(&theirs, words.clone())));
            assert_refused(&run(&stage.shim(kind.program()), &on(&ours, words)), reason);
            assert!(ours.is_unmapped(), "{case}");
        }
    }
}

#[test]
fn a_map_is_written_once() {
    let stage = Stage::set();
    for kind in [Kind::Uid, Kind::Gid] {
        let target = Sleeper::unmapped();
        let own = on(&target, stage.words(kind, "0 own 1"));
        let range = on(&target, stage.words(kind, "0 own 1 1 first 10"));
        assert_done(&run(&stage.shim(kind.program()), &own));
        let written = target.map(kind);
        assert_refused(&run(&stage.shim(kind.program()), &range), "written already");
        assert_eq!(run(&kind.system(), &range).status.code(), Some(1));
        assert_eq!(target.map(kind), written);
    }
}

#[test]
fn setgroups_stays_allowed_only_with_a_range() {
    let stage = Stage::set();
    for (case, policy) in
        [("0 own 1", "deny\n"), ("0 first 10", "allow\n"), ("0 own 1 1 first 10", "allow\n")]
    {
        let alone = Sleeper::unmapped();
        assert_done(&run(&stage.shim("newgidmap"), &on(&alone, stage.words(Kind::Gid, case))));
        assert_eq!(alone.read("setgroups"), policy, "{case}");
        let together = Sleeper::unmapped();
        assert_done(&run(&stage.shim("newuidmap-shim"), &stage.both(&together, "0 own 1 1 first 10", case)));
        assert_eq!(together.read("setgroups"), policy, "{case}");
    }
    // What the process denied itself stays denied, and newuidmap has no say in it.
    let denied = Sleeper::start("unshare --user --setgroups deny sleep 1000");
    assert_done(&run(&stage.shim("newgidmap"), &on(&denied, stage.words(Kind::Gid, "0 first 10"))));
    assert_eq!(denied.read("setgroups"), "deny\n");
    let untouched = Sleeper::unmapped();
    assert_done(&run(&stage.shim("newuidmap"), &on(&untouched, stage.words(Kind::Uid, "0 own 1"))));
    assert_eq!(untouched.read("setgroups"), "allow\n");
}

#[test]
fn both_maps_in_one_start() {
    let stage = Stage::set();
    let (theirs, ours) = (Sleeper::unmapped(), Sleeper::unmapped());
    for kind in [Kind::Uid, Kind::Gid] {
        assert_done(&run(&kind.system(), &on(&theirs, stage.words(kind, "0 own 1 1 first all"))));
    }
    let words = stage.both(&ours, "0 own 1 1 first all", "0 own 1 1 first all");
    assert_done(&run(&stage.shim("newuidmap-shim"), &words));
    for kind in [Kind::Uid, Kind::Gid] {
        assert_eq!(ours.map(kind), theirs.map(kind));
        assert!(!ours.map(kind).is_empty());
    }
    assert_refused(&run(&stage.shim("newuidmap-shim"), &words), "uid_map of the process is written already");
}

#[test]
fn of_both_maps_none_is_written_if_one_is_refused() {
    let stage = Stage::set();
    let shim = stage.shim("newuidmap-shim");
    for (uid_case, gid_case, reason) in [
        ("0 own 1", "0 end 1", "/etc/subgid"),
        ("0 end 1", "0 own 1", "/etc/subuid"),
        ("0 own 1", "", "usage:"),
        ("0 own 1", "0 own 1 0 first 1", "overlap inside"),
        ("", "0 own 1", "a map is one or more triples"),
    ] {
        let target = Sleeper::unmapped();
        let reason = if gid_case.is_empty() { "a map is one or more triples" } else { reason };
        assert_refused(&run(&shim, &stage.both(&target, uid_case, gid_case)), reason);
        assert!(target.is_unmapped(), "{uid_case} -- {gid_case}");
    }
    let target = Sleeper::unmapped();
    assert_refused(&run(&shim, &on(&target, stage.words(Kind::Uid, "0 own 1"))), "usage:");
    assert!(target.is_unmapped());

    let half = Sleeper::unmapped();
    assert_done(&run(&stage.shim("newgidmap"), &on(&half, stage.words(Kind::Gid, "0 first 10"))));
    assert_refused(
        &run(&shim, &stage.both(&half, "0 own 1", "0 own 1")),
        "gid_map of the process is written already",
    );
    assert_eq!((half.map(Kind::Uid).as_str(), half.read("setgroups").as_str()), ("", "allow\n"));
}

/// Runs all three names, and the system's two, on a process that none may touch.
#[track_caller]
fn assert_untouchable(stage: &Stage, pid: &str, reason: &str) {
    let text = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let before = (text("uid_map"), text("gid_map"), text("setgroups"));
    for kind in [Kind::Uid, Kind::Gid] {
        let words = [vec![pid.to_owned()], stage.words(kind, "0 own 1")].concat();
        assert_eq!(run(&kind.system(), &words).status.code(), Some(1));
        assert_refused(&run(&stage.shim(kind.program()), &words), reason);
    }
    let mut words = vec![pid.to_owned()];
    words.extend(stage.words(Kind::Uid, "0 own 1"));
    words.push("--".to_owned());
    words.extend(stage.words(Kind::Gid, "0 own 1"));
    assert_refused(&run(&stage.shim("newuidmap-shim"), &words), reason);
    assert_eq!((text("uid_map"), text("gid_map"), text("setgroups")), before);
}

#[test]
fn a_process_of_root_is_refused() {
    assert_untouchable(&Stage::set(), "1", "belongs to user 0");
}

#[test]
fn a_process_of_another_unprivileged_user_is_refused() {
    let stage = Stage::set();
    // A subordinate ID is another user to the kernel, and needs no second account.
    let other = Sleeper::start(
        "unshare --map-root-user --map-auto setpriv --reuid 5 --regid 5 --clear-groups unshare --user sleep 1000",
    );
    assert_eq!(other.map(Kind::Uid), "");
    assert_untouchable(&stage, &other.pid(), "belongs to user");
}

#[test]
fn a_namespace_below_another_one_is_refused() {
    let stage = Stage::set();
    let nested = Sleeper::start("unshare --map-current-user unshare --user sleep 1000");
    assert_eq!(nested.map(Kind::Uid), "");
    assert_untouchable(&stage, &nested.pid(), "not in a user namespace directly below yours");
}

#[test]
fn a_process_without_a_namespace_of_its_own_is_refused() {
    let plain = Sleeper::start("sleep 1000");
    assert_untouchable(&Stage::set(), &plain.pid(), "not in a user namespace directly below yours");
}

#[test]
fn a_zombie_is_refused() {
    let stage = Stage::set();
    let mut zombie = Sleeper::unmapped();
    zombie.0.kill().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !zombie.read("stat").contains(") Z ") {
        assert!(Instant::now() < deadline, "the killed process does not become a zombie");
        std::thread::sleep(Duration::from_millis(1));
    }
    let words = stage.both(&zombie, "0 own 1", "0 own 1");
    assert_refused(&run(&stage.shim("newuidmap-shim"), &words), "has ended");
}

/// Runs newuidmap on `fd:0`, a descriptor of `directory`.
fn on_descriptor(stage: &Stage, directory: File) -> Output {
    let words = stage.words(Kind::Uid, "0 own 1");
    Command::new(stage.shim("newuidmap")).arg("fd:0").args(words).stdin(directory).output().unwrap()
}

#[test]
fn a_descriptor_of_the_process_is_as_good_as_its_number() {
    let stage = Stage::set();
    let target = Sleeper::unmapped();
    assert_done(&on_descriptor(&stage, File::open(target.directory()).unwrap()));
    assert_eq!(target.map(Kind::Uid), format!("0 {} 1\n", stage.uid));

    for (path, reason) in [
        ("/", "not in a proc file system"),
        ("/dev/null", "not in a proc file system"),
        ("/proc/version", "not of a directory in /proc"),
        ("/proc/sys", "belongs to user 0"),
    ] {
        assert_refused(&on_descriptor(&stage, File::open(path).unwrap()), reason);
    }
    let words = stage.words(Kind::Uid, "0 own 1");
    let closed = run(&stage.shim("newuidmap"), &[vec!["fd:500".to_owned()], words].concat());
    assert_refused(&closed, "cannot use descriptor 500");
}

#[test]
fn a_descriptor_of_an_ended_process_leads_to_no_other() {
    let stage = Stage::set();
    let mut target = Sleeper::unmapped();
    let directory = File::open(target.directory()).unwrap();
    target.0.kill().unwrap();
    target.0.wait().unwrap();
    assert_refused(&on_descriptor(&stage, directory), "");
}

/// Runs newuidmap-shim for both maps through `sh`, which first does `preparation`.
fn prepared(stage: &Stage, target: &Sleeper, preparation: &str) -> Output {
    Command::new("sh")
        .args(["-c", &format!("{preparation}; exec \"$@\""), "sh"])
        .arg(stage.shim("newuidmap-shim"))
        .args(stage.both(target, "0 own 1 1 first 10", "0 own 1 1 first 10"))
        .output()
        .unwrap()
}

#[test]
fn a_hostile_surrounding_changes_nothing() {
    let stage = Stage::set();
    for preparation in [
        "exec <&-",
        "exec >&- 2>&-",
        "exec <&- >&- 2>&-",
        "ulimit -f 0",
        "ulimit -c unlimited",
        "umask 777",
        "trap '' PIPE TERM HUP INT XFSZ",
        "cd / && unset PATH",
        "export RUST_BACKTRACE=full LD_PRELOAD=/nowhere.so LD_DEBUG=all GLIBC_TUNABLES=glibc.malloc.check=3",
    ] {
        let target = Sleeper::unmapped();
        let output = prepared(&stage, &target, preparation);
        assert!(output.status.success() && output.stderr.is_empty(), "{preparation}: {}", stderr(&output));
        assert_eq!(target.map(Kind::Uid), format!("0 {} 1\n1 {} 10\n", stage.uid, stage.uid_range.0));
        assert_eq!(target.map(Kind::Gid), format!("0 {} 1\n1 {} 10\n", stage.gid, stage.gid_range.0));
    }
}

#[test]
fn too_few_descriptors_write_nothing() {
    let stage = Stage::set();
    // One more is allowed each time, so that every open of the shim's fails once.
    for limit in 4..20 {
        let target = Sleeper::unmapped();
        let output = prepared(&stage, &target, &format!("ulimit -n {limit}"));
        if output.status.success() {
            assert!(limit > 4, "no open has failed");
            return;
        }
        assert_refused(&output, "Too many open files");
        assert!(target.is_unmapped(), "limit {limit}");
    }
    panic!("20 descriptors do not suffice");
}

#[test]
fn without_privilege_it_says_so() {
    let stage = Stage::set();
    let target = Sleeper::unmapped();
    let words = stage.both(&target, "0 own 1 1 first 10", "0 own 1 1 first 10");

    let copy = stage.shim("copy");
    fs::copy(installed_shim(), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    assert_refused(&run(&copy, &words), "not privileged: install it setuid root");

    let mut command = Command::new("setpriv");
    let output =
        command.arg("--no-new-privs").arg(stage.shim("newuidmap-shim")).args(&words).output().unwrap();
    assert_refused(&output, "no_new_privs");
    assert!(target.is_unmapped());
}
