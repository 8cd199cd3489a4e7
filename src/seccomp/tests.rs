//! The programs, run on an interpreter, decide what the profiles say.

use std::collections::HashMap;

use super::arch::{Arch, X32_BIT, row};
use super::interpreter::{Data, run};
use super::policy::{Action, Policy};
use super::table::NAMES;
use super::{Instruction, bpf, default, profile};
use crate::container::capabilities::{CapSet, Capability};

const EPERM: u32 = 0x5_0001;
const ENOSYS: u32 = 0x5_0026;
const EINVAL: u32 = 0x5_0016;
const ALLOW: u32 = 0x7fff_0000;
const KILL_PROCESS: u32 = 0x8000_0000;

fn program(policy: &Policy) -> Vec<(u16, u8, u8, u32)> {
    raw(&bpf::emit(policy).unwrap())
}

fn raw(program: &[Instruction]) -> Vec<(u16, u8, u8, u32)> {
    program.iter().map(|i| (i.code, i.jt, i.jf, i.k)).collect()
}

fn number(arch: Arch, name: &str) -> u32 {
    let wanted = row(name).unwrap();
    let call = arch.calls().find(|(_, row)| *row == wanted);
    call.unwrap_or_else(|| panic!("{arch:?} has no {name}")).0
}

/// The default filter on one machine.
struct Default {
    arch: Arch,
    program: Vec<(u16, u8, u8, u32)>,
}

impl Default {
    fn new(arch: Arch, capabilities: CapSet, kernel: (u32, u32)) -> Self {
        let native = arch.family()[0];
        Self { arch, program: program(&default::policy(native, capabilities, kernel)) }
    }

    fn call(&self, name: &str, arguments: &[u64]) -> u32 {
        self.number(number(self.arch, name), arguments)
    }

    fn number(&self, number: u32, arguments: &[u64]) -> u32 {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        run(&self.program, &Data { number, architecture: self.arch.token(), arguments: all })
    }
}

const EVERY: [Arch; 6] = [Arch::X86_64, Arch::X32, Arch::X86, Arch::Aarch64, Arch::Arm, Arch::Riscv64];
const NOW: (u32, u32) = (6, 18);

#[test]
fn default_allows_ordinary_calls_and_answers_enosys_to_unknown_ones() {
    for arch in EVERY {
        let filter = Default::new(arch, CapSet::DEFAULT, NOW);
        for name in ["read", "execve", "openat2", "futex", "clock_gettime", "ptrace", "rseq", "mseal"] {
            assert_eq!(filter.call(name, &[]), ALLOW, "{name} on {arch:?}");
        }
        let bit = if arch == Arch::X32 { X32_BIT } else { 0 };
        for number in [470, 999, 0x3fff_ffff] {
            assert_eq!(filter.number(number | bit, &[]), ENOSYS, "{number} on {arch:?}");
        }
        assert_eq!(filter.number(u32::MAX, &[]), ENOSYS);
        assert_eq!(filter.call("io_uring_setup", &[]), ENOSYS);
    }
}

#[test]
fn default_ties_calls_to_capabilities() {
    for arch in EVERY {
        let without = Default::new(arch, CapSet::DEFAULT, NOW);
        let plus = |capability| Default::new(arch, CapSet::DEFAULT.with(capability), NOW);
        for (capability, name) in [
            (Capability::SYS_ADMIN, "mount"),
            (Capability::SYS_ADMIN, "umount2"),
            (Capability::SYS_ADMIN, "setns"),
            (Capability::SYS_ADMIN, "unshare"),
            (Capability::SYS_ADMIN, "pivot_root"),
            (Capability::SYS_ADMIN, "bpf"),
            (Capability::BPF, "bpf"),
            (Capability::PERFMON, "perf_event_open"),
            (Capability::SYSLOG, "syslog"),
            (Capability::DAC_READ_SEARCH, "open_by_handle_at"),
            (Capability::SYS_BOOT, "reboot"),
            (Capability::SYS_MODULE, "finit_module"),
            (Capability::SYS_NICE, "mbind"),
            (Capability::SYS_PACCT, "acct"),
            (Capability::SYS_PTRACE, "kcmp"),
            (Capability::SYS_TIME, "clock_settime"),
            (Capability::SYS_TTY_CONFIG, "vhangup"),
        ] {
            assert_eq!(without.call(name, &[]), EPERM, "{name} on {arch:?}");
            assert_eq!(plus(capability).call(name, &[]), ALLOW, "{name} on {arch:?} with {capability}");
        }
        assert_eq!(without.call("chroot", &[]), ALLOW);
        assert_eq!(Default::new(arch, CapSet::EMPTY, NOW).call("chroot", &[]), EPERM);
        for name in ["keyctl", "add_key", "userfaultfd", "swapon", "kexec_load", "move_pages"] {
            assert_eq!(Default::new(arch, CapSet(u64::MAX), NOW).call(name, &[]), EPERM, "{name}");
        }
    }
    for capabilities in [CapSet::DEFAULT, CapSet::DEFAULT.with(Capability::SYS_RAWIO)] {
        let allowed = if capabilities == CapSet::DEFAULT { EPERM } else { ALLOW };
        assert_eq!(Default::new(Arch::X86_64, capabilities, NOW).call("iopl", &[]), allowed);
    }
}

#[test]
fn default_forbids_new_namespaces_without_sys_admin() {
    const SIGCHLD: u64 = 17;
    for arch in EVERY {
        let without = Default::new(arch, CapSet::DEFAULT, NOW);
        let with = Default::new(arch, CapSet::DEFAULT.with(Capability::SYS_ADMIN), NOW);
        assert_eq!(without.call("clone", &[SIGCHLD]), ALLOW);
        // A thread of glibc.
        assert_eq!(without.call("clone", &[0x3d_0f00]), ALLOW);
        for flag in [
            libc::CLONE_NEWUSER,
            libc::CLONE_NEWNS,
            libc::CLONE_NEWPID,
            libc::CLONE_NEWNET,
            libc::CLONE_NEWIPC,
            libc::CLONE_NEWUTS,
            libc::CLONE_NEWCGROUP,
        ] {
            assert_eq!(without.call("clone", &[flag as u64 | SIGCHLD]), EPERM, "{flag:#x} on {arch:?}");
            assert_eq!(with.call("clone", &[flag as u64 | SIGCHLD]), ALLOW);
        }
        assert_eq!(without.call("clone3", &[]), ENOSYS);
        assert_eq!(with.call("clone3", &[]), ALLOW);
    }
}

#[test]
fn default_looks_at_arguments_as_the_kernel_does() {
    const GARBAGE: u64 = 0xdead_beef_0000_0000;
    for arch in EVERY {
        let filter = Default::new(arch, CapSet::DEFAULT, NOW);
        for (value, allowed) in [
            (0, true),
            (8, true),
            (0x2_0000, true),
            (0x2_0008, true),
            (0xffff_ffff, true),
            (u64::MAX, true),
            (1, false),
            (0x4_0000, false),
            (0x2_0009, false),
        ] {
            let expected = if allowed { ALLOW } else { EPERM };
            assert_eq!(filter.call("personality", &[value]), expected, "{value:#x} on {arch:?}");
        }
        for (family, allowed) in
            [(1, true), (2, true), (10, true), (16, true), (17, true), (39, true), (44, true)]
                .into_iter()
                .chain([(12, false), (38, false), (40, false), (46, false), (0x7fff_ffff, false)])
        {
            let expected = if allowed { ALLOW } else { EPERM };
            assert_eq!(filter.call("socket", &[family]), expected, "family {family} on {arch:?}");
            assert_eq!(filter.call("socket", &[family | GARBAGE]), expected, "family {family} on {arch:?}");
        }
        let silent = Default::new(arch, CapSet::EMPTY, NOW);
        assert_eq!(filter.call("socket", &[16, 3, 9]), ALLOW);
        assert_eq!(silent.call("socket", &[16, 3, 9]), EINVAL);
        assert_eq!(silent.call("socket", &[16, 3, 0]), ALLOW);
        assert_eq!(silent.call("socket", &[2, 3, 9]), ALLOW);
    }
}

#[test]
fn default_forbids_tracing_where_it_breaks_filters() {
    let old = Default::new(Arch::X86_64, CapSet::DEFAULT, (4, 7));
    assert_eq!(old.call("ptrace", &[]), EPERM);
    let tracer = Default::new(Arch::X86_64, CapSet::DEFAULT.with(Capability::SYS_PTRACE), (4, 7));
    assert_eq!(tracer.call("ptrace", &[]), ALLOW);
    assert_eq!(Default::new(Arch::X86_64, CapSet::DEFAULT, (4, 8)).call("process_vm_readv", &[]), ALLOW);
}

#[test]
fn numbers_are_read_in_the_callers_architecture() {
    let filter = Default::new(Arch::X86_64, CapSet::DEFAULT, NOW).program;
    let decide = |architecture, number| run(&filter, &Data { number, architecture, arguments: [0; 6] });
    // 21 is access for x86-64 programs and mount for 32-bit ones, 165 mount and getresuid.
    assert_eq!(decide(Arch::X86_64.token(), 21), ALLOW);
    assert_eq!(decide(Arch::X86.token(), 21), EPERM);
    assert_eq!(decide(Arch::X86_64.token(), 165), EPERM);
    assert_eq!(decide(Arch::X86.token(), 165), ALLOW);
    assert_eq!(decide(Arch::X86_64.token(), X32_BIT | 165), EPERM);
    for architecture in [0, Arch::Aarch64.token(), Arch::Arm.token(), 8, u32::MAX] {
        assert_eq!(decide(architecture, 0), KILL_PROCESS);
    }
}

#[test]
fn default_lists_name_each_call_once() {
    let mut rows = default::listed();
    assert!(rows.len() > 400);
    rows.sort_unstable();
    for pair in rows.windows(2) {
        assert_ne!(pair[0], pair[1], "{} is listed twice", NAMES[usize::from(pair[0])]);
    }
}

#[test]
fn kernel_versions_are_read_from_the_release() {
    for (release, version) in [
        ("6.18.44-fc", (6, 18)),
        ("6.1.0-13-amd64", (6, 1)),
        ("5.15-rc1", (5, 15)),
        ("7", (7, 0)),
        ("", (0, 0)),
    ] {
        assert_eq!(super::release_version(release), version, "{release}");
    }
    assert!(super::running_kernel() >= (4, 0));
}

/// A rule of a random profile, and what it means.
struct Random {
    names: Vec<&'static str>,
    action: (String, Action),
    arguments: Vec<(u8, &'static str, u64, u64)>,
}

/// splitmix64: the seed is the test's name for a run.
struct Seed(u64);

impl Seed {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn value(&mut self) -> u64 {
        let edge = self.pick(&[0, 1, 5, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0005, u64::MAX, u64::MAX - 1]);
        if self.below(3) == 0 { self.next() >> self.below(64) } else { edge }
    }

    fn action(&mut self) -> (String, Action) {
        let errno = self.below(4096) as u16;
        let plain = |name: &str, action| (format!(r#""SCMP_ACT_{name}""#), action);
        match self.below(8) {
            0 | 1 => plain("ALLOW", Action::Allow),
            2 => (format!(r#""SCMP_ACT_ERRNO", "errnoRet": {errno}"#), Action::Errno(errno)),
            3 => (format!(r#""SCMP_ACT_TRACE", "errnoRet": {errno}"#), Action::Trace(errno)),
            4 => plain("KILL", Action::KillThread),
            5 => plain("KILL_PROCESS", Action::KillProcess),
            6 => plain("TRAP", Action::Trap),
            _ => plain("LOG", Action::Log),
        }
    }

    fn rule(&mut self) -> Random {
        let names = (0..=self.below(60)).map(|_| self.pick(&NAMES)).collect();
        let ops = ["EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"];
        let mut arguments = Vec::new();
        if self.below(2) == 0 {
            for _ in 0..=self.below(3) {
                arguments.push((self.below(6) as u8, self.pick(&ops), self.value(), self.value()));
            }
        }
        Random { names, action: self.action(), arguments }
    }
}

fn holds((index, op, value, second): (u8, &str, u64, u64), arguments: &[u64; 6]) -> bool {
    let argument = arguments[usize::from(index)];
    match op {
        "EQ" => argument == value,
        "NE" => argument != value,
        "LT" => argument < value,
        "LE" => argument <= value,
        "GT" => argument > value,
        "GE" => argument >= value,
        _ => argument & value == second & value,
    }
}

fn rule_holds(rule: &Random, arguments: &[u64; 6]) -> bool {
    let mut indexes: Vec<_> = rule.arguments.iter().map(|argument| argument.0).collect();
    indexes.sort_unstable();
    indexes.dedup();
    if indexes.len() < rule.arguments.len() {
        return rule.arguments.iter().any(|argument| holds(*argument, arguments));
    }
    rule.arguments.iter().all(|argument| holds(*argument, arguments))
}

/// What the rules say of a call, read straight from the documentation.
fn decision(rules: &[Random], default: Action, name: &str, arguments: &[u64; 6]) -> Option<Action> {
    let named: Vec<_> = rules.iter().filter(|rule| rule.names.contains(&name)).collect();
    if named.is_empty() {
        return None;
    }
    let counting = || named.iter().filter(|rule| rule.action.1 != default);
    let always = counting().find(|rule| rule.arguments.is_empty());
    let conditional = || counting().find(|rule| rule_holds(rule, arguments));
    Some(always.or_else(conditional).map_or(default, |rule| rule.action.1))
}

fn json(rules: &[Random], default: &str, architectures: &[&str]) -> String {
    let rules: Vec<String> = rules
        .iter()
        .map(|rule| {
            let arguments: Vec<String> = rule
                .arguments
                .iter()
                .map(|(index, op, value, second)| {
                    format!(r#"{{"index":{index},"op":"SCMP_CMP_{op}","value":{value},"valueTwo":{second}}}"#)
                })
                .collect();
            let names = rule.names.join(r#"",""#);
            format!(r#"{{"names":["{names}"],"action":{},"args":[{}]}}"#, rule.action.0, arguments.join(","))
        })
        .collect();
    let default = default.replace("errnoRet", "defaultErrnoRet");
    let architectures = architectures.join(r#"",""#);
    format!(
        r#"{{"defaultAction":{default},"architectures":["{architectures}"],"syscalls":[{}]}}"#,
        rules.join(",")
    )
}

#[test]
fn programs_decide_as_random_profiles_say() {
    let families: [(Arch, &[&str]); 5] = [
        (Arch::X86_64, &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
        (Arch::X86_64, &["SCMP_ARCH_X86_64"]),
        (Arch::X86_64, &["SCMP_ARCH_X86_64", "SCMP_ARCH_X32", "SCMP_ARCH_S390X"]),
        (Arch::Aarch64, &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]),
        (Arch::Riscv64, &["SCMP_ARCH_RISCV64"]),
    ];
    let (mut longest, mut too_long) = (0, 0);
    for seed in 0..150 {
        let mut random = Seed(seed);
        let (default_json, default) = random.action();
        let rules: Vec<Random> = (0..random.below(24)).map(|_| random.rule()).collect();
        let (native, architectures) = random.pick(&families);
        let text = json(&rules, &default_json, architectures);
        let parsed = profile::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{}\n{text}", e.report()));
        let Ok(program) = bpf::emit(&parsed.resolve(native, CapSet::DEFAULT, NOW).unwrap()) else {
            too_long += 1;
            continue;
        };
        longest = longest.max(program.len());
        let program = raw(&program);
        for arch in EVERY {
            if !native.family().contains(&arch) {
                continue;
            }
            let listed = architectures.iter().any(|name| Arch::from_oci(name).unwrap() == Some(arch));
            let mut names: HashMap<u32, Vec<&str>> = HashMap::new();
            for (number, row) in arch.calls() {
                names.entry(number).or_default().push(NAMES[usize::from(row)]);
            }
            let named = |name: &str| rules.iter().any(|rule| rule.names.contains(&name));
            let last =
                names.iter().filter(|(_, names)| names.iter().any(|n| named(n))).map(|(n, _)| *n).max();
            let bit = if arch == Arch::X32 { X32_BIT } else { 0 };
            for number in (0..600).chain(0xf_0000..0xf_0008).chain([0x3fff_ffff]).map(|number| number | bit) {
                for _ in 0..3 {
                    let mut arguments = [0; 6];
                    arguments.fill_with(|| random.value());
                    let known = names.get(&number).map_or(&[][..], |names| names.as_slice());
                    let decided = known.iter().find_map(|name| decision(&rules, default, name, &arguments));
                    let expected = match (decided, last, default) {
                        _ if !listed => Action::KillProcess,
                        (Some(action), ..) => action,
                        (None, Some(last), Action::Errno(_)) if number > last => Action::Errno(38),
                        _ => default,
                    };
                    let data = Data { number, architecture: arch.token(), arguments };
                    let got = run(&program, &data);
                    assert_eq!(
                        got,
                        expected.value(),
                        "seed {seed}: {arch:?} {number:#x} {known:?} {arguments:#x?}, want {expected:?}"
                    );
                }
            }
        }
    }
    // Else no jump was farther than a conditional one reaches.
    assert!(longest > 1000, "the longest program has {longest} instructions");
    assert!(too_long < 20, "{too_long} profiles make programs that the kernel would not take");
}
