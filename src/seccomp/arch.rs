//! The architectures whose system calls sbx filters, and the many names that they go by.

use super::table;

/// One way to number system calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arch {
    X86_64,
    /// 32-bit pointers on x86-64: the audit architecture of x86-64 with a bit set in every number.
    X32,
    X86,
    Aarch64,
    Arm,
    Riscv64,
}

/// __X32_SYSCALL_BIT of asm/unistd.h.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// What the OCI runtime specification (config-linux.md, seccomp) calls every architecture that a profile
/// may name. Those that sbx does not run on are read and left out.
const OCI_NAMES: [(&str, Option<Arch>); 21] = [
    ("SCMP_ARCH_X86_64", Some(Arch::X86_64)),
    ("SCMP_ARCH_X32", Some(Arch::X32)),
    ("SCMP_ARCH_X86", Some(Arch::X86)),
    ("SCMP_ARCH_AARCH64", Some(Arch::Aarch64)),
    ("SCMP_ARCH_ARM", Some(Arch::Arm)),
    ("SCMP_ARCH_RISCV64", Some(Arch::Riscv64)),
    ("SCMP_ARCH_LOONGARCH64", None),
    ("SCMP_ARCH_M68K", None),
    ("SCMP_ARCH_MIPS", None),
    ("SCMP_ARCH_MIPS64", None),
    ("SCMP_ARCH_MIPS64N32", None),
    ("SCMP_ARCH_MIPSEL", None),
    ("SCMP_ARCH_MIPSEL64", None),
    ("SCMP_ARCH_MIPSEL64N32", None),
    ("SCMP_ARCH_PARISC", None),
    ("SCMP_ARCH_PARISC64", None),
    ("SCMP_ARCH_PPC", None),
    ("SCMP_ARCH_PPC64", None),
    ("SCMP_ARCH_PPC64LE", None),
    ("SCMP_ARCH_S390", None),
    ("SCMP_ARCH_S390X", None),
];

/// What `includes` and `excludes` of docker's format call architectures, beside those of sbx.
const OTHER_FILTER_NAMES: [&str; 18] = [
    "386",
    "loong64",
    "loongarch64",
    "mips",
    "mips64",
    "mips64le",
    "mips64n32",
    "mipsel",
    "mipsel64",
    "mipsel64n32",
    "mipsle",
    "parisc",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv",
    "s390",
    "s390x",
];

impl Arch {
    /// What this build of sbx runs on; none where no filter can be made.
    pub fn native() -> Option<Self> {
        if cfg!(all(target_arch = "x86_64", target_pointer_width = "64")) {
            Some(Self::X86_64)
        } else if cfg!(all(target_arch = "aarch64", target_endian = "little")) {
            Some(Self::Aarch64)
        } else if cfg!(target_arch = "riscv64") {
            Some(Self::Riscv64)
        } else {
            None
        }
    }

    /// Every architecture whose programs the kernel runs beside the native one's.
    pub fn family(self) -> &'static [Self] {
        match self {
            Self::X86_64 | Self::X32 | Self::X86 => &[Self::X86_64, Self::X86, Self::X32],
            Self::Aarch64 | Self::Arm => &[Self::Aarch64, Self::Arm],
            Self::Riscv64 => &[Self::Riscv64],
        }
    }

    /// AUDIT_ARCH_* of linux/audit.h, as seccomp_data carries it.
    pub fn token(self) -> u32 {
        const LITTLE_ENDIAN: u32 = 0x4000_0000;
        const BITS_64: u32 = 0x8000_0000;
        match self {
            Self::X86_64 | Self::X32 => 62 | BITS_64 | LITTLE_ENDIAN,
            Self::X86 => 3 | LITTLE_ENDIAN,
            Self::Aarch64 => 183 | BITS_64 | LITTLE_ENDIAN,
            Self::Arm => 40 | LITTLE_ENDIAN,
            Self::Riscv64 => 243 | BITS_64 | LITTLE_ENDIAN,
        }
    }

    /// `SCMP_ARCH_…`: `Some(None)` for one that sbx does not filter, `None` for an unknown name.
    pub(super) fn from_oci(name: &str) -> Option<Option<Self>> {
        OCI_NAMES.iter().find(|(known, _)| *known == name).map(|(_, arch)| *arch)
    }

    /// The name in `includes.arches` and `excludes.arches`: Go's for a native architecture.
    pub(super) fn filter_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::X32 => "x32",
            Self::X86 => "x86",
            Self::Aarch64 => "arm64",
            Self::Arm => "arm",
            Self::Riscv64 => "riscv64",
        }
    }

    pub(super) fn knows_filter_name(name: &str) -> bool {
        [Self::X86_64, Self::X32, Self::X86, Self::Aarch64, Self::Arm, Self::Riscv64]
            .iter()
            .any(|arch| arch.filter_name() == name)
            || OTHER_FILTER_NAMES.contains(&name)
    }

    /// Every system call, sorted by its number as seccomp_data carries it.
    pub(super) fn calls(self) -> impl Iterator<Item = (u32, Row)> {
        let (bit, calls): (u32, &[(u32, Row)]) = match self {
            Self::X86_64 => (0, &table::X86_64),
            Self::X32 => (X32_BIT, &table::X32),
            Self::X86 => (0, &table::X86),
            Self::Aarch64 => (0, &table::AARCH64),
            Self::Arm => (0, &table::ARM),
            Self::Riscv64 => (0, &table::RISCV64),
        };
        calls.iter().map(move |(number, row)| (number | bit, *row))
    }
}

/// A system call on whatever architecture: where its name stands in [`table::NAMES`].
pub(super) type Row = u16;

pub(super) fn row(name: &str) -> Option<Row> {
    table::NAMES.binary_search(&name).ok().map(|row| row as Row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_no_number_is_given_twice() {
        assert!(table::NAMES.is_sorted_by(|a, b| a < b));
        for arch in [Arch::X86_64, Arch::X32, Arch::X86, Arch::Aarch64, Arch::Arm, Arch::Riscv64] {
            let mut numbers: Vec<_> = arch.calls().map(|(number, _)| number).collect();
            let names = numbers.len();
            assert!(names > 300, "{arch:?} has {names} calls");
            assert!(numbers.is_sorted());
            numbers.dedup();
            // arm_sync_file_range and sync_file_range2 are one call with two names.
            assert_eq!(names - numbers.len(), usize::from(arch == Arch::Arm), "{arch:?}");
        }
    }

    #[test]
    fn numbers_are_those_of_the_c_library() {
        let of = |arch: Arch, name| {
            let wanted = row(name).unwrap();
            arch.calls().find(|(_, row)| *row == wanted).map(|(number, _)| number)
        };
        let native = Arch::native().unwrap();
        for (name, number) in [
            ("read", libc::SYS_read),
            ("clone3", libc::SYS_clone3),
            ("openat2", libc::SYS_openat2),
            ("unshare", libc::SYS_unshare),
            ("fchmodat2", libc::SYS_fchmodat2),
            ("mseal", libc::SYS_mseal),
        ] {
            assert_eq!(of(native, name).map(i64::from), Some(number), "{name}");
        }
        assert_eq!(of(Arch::X86, "mount"), Some(21));
        assert_eq!(of(Arch::X32, "rt_sigaction"), Some(X32_BIT | 512));
        assert_eq!(of(Arch::Aarch64, "mount"), Some(40));
        assert_eq!(of(Arch::Arm, "set_tls"), Some(0xf_0005));
        assert_eq!(of(Arch::Riscv64, "renameat"), None);
        assert_eq!(row("no_such_call"), None);
    }
}
