//! The filters that sbx makes of profiles decide like those that libseccomp makes of them.

use std::io::Write;
use std::process::{Command, Stdio};

use sbx::container::capabilities::CapSet;
use sbx::container::spec::Seccomp;
use sbx::seccomp::arch::Arch;
use serde_json::{Value, json};

#[path = "../../src/seccomp/interpreter.rs"]
mod interpreter;
use interpreter::{Data, run};

type Program = Vec<(u16, u8, u8, u32)>;

fn ours(profile: &Value, capabilities: CapSet) -> Program {
    let choice = Seccomp::Profile(profile.to_string());
    let program = sbx::seccomp::program(&choice, capabilities, (6, 1)).unwrap().unwrap();
    program.iter().map(|i| (i.code, i.jt, i.jf, i.k)).collect()
}

/// Debian's interpreter, not another one in $PATH: the module is installed for that.
fn libseccomps(profile: &Value, capabilities: CapSet) -> Program {
    let mut child = Command::new("/usr/bin/python3")
        .args(["-c", include_str!("seccomp_oracle.py")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("/usr/bin/python3 (Debian: python3) is needed");
    let architecture = match Arch::native().unwrap() {
        Arch::Aarch64 => "arm64",
        Arch::Riscv64 => "riscv64",
        _ => "amd64",
    };
    let request =
        json!({"profile": profile, "capabilities": capabilities.names(), "architecture": architecture});
    child.stdin.take().unwrap().write_all(request.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let hex = String::from_utf8(output.stdout).unwrap();
    let bytes: Vec<u8> = (0..hex.trim().len() / 2)
        .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    let (instructions, rest) = bytes.as_chunks::<8>();
    assert!(!instructions.is_empty() && rest.is_empty());
    instructions
        .iter()
        .map(|i| (u16::from_le_bytes([i[0], i[1]]), i[2], i[3], u32::from_le_bytes([i[4], i[5], i[6], i[7]])))
        .collect()
}

/// splitmix64.
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

    /// Half of the values need more than 32 bits.
    fn value(&mut self) -> u64 {
        let edge = self.pick(&[0, 1, 5, 0xffff_fffe, 0x1_0000_0000, 0x1_0000_0005, u64::MAX, u64::MAX - 1]);
        if self.below(3) == 0 { self.next() >> self.below(64) } else { edge }
    }
}

/// Every number below 600 of every architecture that may run here, each with several sets of arguments.
/// On 32-bit architectures the upper halves are zero, as the kernel delivers them.
fn compare(
    what: &str,
    profile: &Value,
    capabilities: CapSet,
    seed: &mut Seed,
    skip: impl Fn(Arch, u32) -> bool,
) {
    let (ours, theirs) = (ours(profile, capabilities), libseccomps(profile, capabilities));
    let mut decisions = std::collections::HashSet::new();
    for arch in Arch::native().unwrap().family().iter().copied() {
        let (bit, wide) = match arch {
            Arch::X32 => (0x4000_0000, false),
            Arch::X86 | Arch::Arm => (0, false),
            _ => (0, true),
        };
        for number in (0..600).filter(|number| !skip(arch, *number)) {
            for _ in 0..6 {
                let mut arguments = [0; 6];
                arguments.fill_with(|| if wide { seed.value() } else { seed.value() & 0xffff_ffff });
                let number = number | bit;
                let data = Data { number, architecture: arch.token(), arguments };
                let (our, their) = (run(&ours, &data), run(&theirs, &data));
                assert_eq!(
                    our, their,
                    "{what}: {arch:?}, call {number:#x}, arguments {arguments:#x?}: sbx {our:#x}, libseccomp \
                     {their:#x}, profile {profile}"
                );
                decisions.insert(our);
            }
        }
    }
    assert!(decisions.len() > 1, "{what}: one decision for everything shows nothing");
    let foreign = Data { number: 0, architecture: 8, arguments: [0; 6] };
    assert_eq!(run(&ours, &foreign), run(&theirs, &foreign));
}

/// Calls of every architecture, none of them multiplexed on 32-bit x86.
const NAMES: [&str; 30] = [
    "read",
    "write",
    "close",
    "openat",
    "clone",
    "execve",
    "kill",
    "fcntl",
    "mount",
    "unlinkat",
    "chdir",
    "fchmod",
    "prctl",
    "personality",
    "ptrace",
    "unshare",
    "setns",
    "openat2",
    "clone3",
    "pidfd_open",
    "bpf",
    "getrandom",
    "renameat2",
    "ioctl",
    "dup3",
    "epoll_create1",
    "futex",
    "sched_yield",
    "umask",
    "mmap_none",
];

#[test]
fn random_profiles_decide_as_with_libseccomp() {
    let ops = ["EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"];
    let architectures: &[&[&str]] = match Arch::native().unwrap() {
        Arch::Aarch64 => &[&["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"], &["SCMP_ARCH_AARCH64"]],
        Arch::Riscv64 => &[&["SCMP_ARCH_RISCV64"]],
        _ => &[&["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], &["SCMP_ARCH_X86_64"]],
    };
    for seed in 0..24 {
        let mut random = Seed(seed);
        let actions = ["ALLOW", "KILL", "KILL_PROCESS", "TRAP", "LOG"];
        let architectures = random.pick(architectures);
        // libseccomp sees half of each value on 32-bit architectures.
        let widest = if architectures.len() == 1 { u64::MAX } else { 0xffff_ffff };
        let mut free = NAMES.to_vec();
        let mut rules = Vec::new();
        // Each call gets one rule with arguments at most: which of several counts, libseccomp leaves open.
        while free.len() > 8 {
            let name = free.swap_remove(random.below(free.len()));
            let mut indexes = [0, 1, 2, 3, 4, 5].to_vec();
            let arguments: Vec<Value> = (0..random.below(4))
                .map(|_| {
                    let index = indexes.swap_remove(random.below(indexes.len()));
                    let op = format!("SCMP_CMP_{}", random.pick(&ops));
                    json!({"index": index, "op": op, "value": random.value() & widest, "valueTwo": random.value() & 0xff})
                })
                .collect();
            let mut rule = json!({"names": [name], "action": format!("SCMP_ACT_{}", random.pick(&actions)), "args": arguments});
            if random.below(3) == 0 {
                rule["action"] = "SCMP_ACT_ERRNO".into();
                rule["errnoRet"] = random.below(4096).into();
            }
            // A second rule for the same call: without arguments it outweighs the first.
            if random.below(3) == 0 {
                rules.push(json!({"names": [name, "getppid"], "action": "SCMP_ACT_LOG"}));
            }
            rules.push(rule);
        }
        let profile = json!({
            "defaultAction": format!("SCMP_ACT_{}", random.pick(&["ALLOW", "KILL_PROCESS", "TRAP"])),
            "architectures": architectures,
            "syscalls": rules,
        });
        compare(&format!("seed {seed}"), &profile, CapSet::DEFAULT, &mut random, |_, _| false);
    }
}

#[test]
fn podmans_profile_decides_as_with_libseccomp() {
    let path = "/usr/share/containers/seccomp.json";
    let text = std::fs::read(path)
        .unwrap_or_else(|error| panic!("{path} (Debian: golang-github-containers-common): {error}"));
    let profile: Value = serde_json::from_slice(&text).unwrap();
    for capabilities in [CapSet::DEFAULT, CapSet::EMPTY, CapSet::all()] {
        compare("podman", &profile, capabilities, &mut Seed(1), |_, _| false);
    }
}
