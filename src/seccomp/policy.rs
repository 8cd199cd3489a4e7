//! What is decided about each system call: the form between a profile and its program.

use super::arch::Arch;
use super::table::NAMES;

/// What the kernel does with a call (seccomp(2), filter return values).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    KillProcess,
    KillThread,
    /// SIGSYS.
    Trap,
    /// The call fails with this errno, at most 4095.
    Errno(u16),
    /// Whoever holds the filter's listener answers (seccomp_unotify(2)).
    Notify,
    /// A ptrace(2) tracer gets PTRACE_EVENT_SECCOMP with this message.
    Trace(u16),
    /// Allowed, and logged to the audit log.
    Log,
    Allow,
}

impl Action {
    /// SECCOMP_RET_* of linux/seccomp.h.
    pub(super) fn value(self) -> u32 {
        match self {
            Self::KillProcess => 0x8000_0000,
            Self::KillThread => 0,
            Self::Trap => 0x0003_0000,
            Self::Errno(errno) => 0x0005_0000 | u32::from(errno),
            Self::Notify => 0x7fc0_0000,
            Self::Trace(message) => 0x7ff0_0000 | u32::from(message),
            Self::Log => 0x7ffc_0000,
            Self::Allow => 0x7fff_0000,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// `(argument & mask) op value`, unsigned, 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// 0 to 5.
    pub argument: u8,
    pub mask: u64,
    pub op: Op,
    pub value: u64,
}

/// An action for the calls whose arguments meet all the conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    pub conditions: Vec<Condition>,
    pub action: Action,
}

/// What becomes of one system call: the first case that holds, else `otherwise`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub cases: Vec<Case>,
    pub otherwise: Action,
}

impl Verdict {
    pub fn always(action: Action) -> Self {
        Self { cases: Vec::new(), otherwise: action }
    }
}

/// A whole filter.
#[derive(Debug, Clone)]
pub struct Policy {
    /// A call of any other architecture kills the process.
    pub architectures: Vec<Arch>,
    /// By the row of the call in the table of names.
    pub(super) verdicts: Vec<Option<Verdict>>,
    /// Calls without a verdict.
    pub default: Action,
    /// Calls with a greater number than all that have a verdict on the architecture.
    pub above: Action,
}

impl Policy {
    pub fn new(architectures: Vec<Arch>, default: Action, above: Action) -> Self {
        Self { architectures, verdicts: vec![None; NAMES.len()], default, above }
    }

    /// The verdicts of one architecture, sorted by the number of the call, each number once.
    pub(super) fn calls(&self, arch: Arch) -> impl Iterator<Item = (u32, &Verdict)> {
        let mut last = None;
        arch.calls().filter_map(move |(number, row)| {
            let verdict = self.verdicts[usize::from(row)].as_ref()?;
            (last.replace(number) != Some(number)).then_some((number, verdict))
        })
    }
}
