//! Turns a policy into a program of classic BPF (seccomp(2); linux/filter.h).
//!
//! The program is written from its end to its beginning: every jump then goes to what is already written,
//! so that its distance is known at once. A jump reaches 255 instructions; what is farther goes through an
//! unconditional one, which reaches everything.

use crate::error::{Error, Result};

use super::arch::{Arch, X32_BIT};
use super::policy::{Action, Case, Condition, Op, Policy, Verdict};

/// `struct sock_filter` of linux/filter.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// BPF_MAXINSNS of linux/bpf_common.h: the kernel takes no longer program.
pub const MAX_INSTRUCTIONS: usize = 4096;

/// BPF_LD | BPF_W | BPF_ABS: A becomes the word at offset k of seccomp_data.
pub(super) const LOAD: u16 = 0x20;
/// BPF_ALU | BPF_AND | BPF_K.
pub(super) const AND: u16 = 0x54;
/// BPF_JMP | BPF_JA.
pub(super) const JUMP: u16 = 0x05;
/// BPF_JMP | BPF_JEQ | BPF_K.
pub(super) const JUMP_EQ: u16 = 0x15;
/// BPF_JMP | BPF_JGT | BPF_K.
pub(super) const JUMP_GT: u16 = 0x25;
/// BPF_JMP | BPF_JGE | BPF_K.
pub(super) const JUMP_GE: u16 = 0x35;
/// BPF_RET | BPF_K.
pub(super) const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data` of linux/seccomp.h.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// A place in the program: how many instructions there are from it to the end.
type Label = usize;

/// Makes the program. Fails where it would be longer than the kernel takes.
pub fn emit(policy: &Policy) -> Result<Vec<Instruction>> {
    let mut program = Program { policy, reversed: Vec::with_capacity(512), returns: Vec::new() };
    let entry = program.dispatch();
    let length = program.reversed.len();
    debug_assert_eq!(entry, length);
    if length > MAX_INSTRUCTIONS {
        return Err(Error::new(format!(
            "the seccomp profile makes a program of {length} instructions, and the kernel takes \
             {MAX_INSTRUCTIONS}"
        ))
        .hint("use fewer rules with arguments, or name fewer architectures"));
    }
    program.reversed.reverse();
    Ok(program.reversed)
}

struct Program<'a> {
    policy: &'a Policy,
    reversed: Vec<Instruction>,
    /// Where each action is returned, the last one written.
    returns: Vec<(Action, Label)>,
}

impl Program<'_> {
    fn push(&mut self, code: u16, k: u32, jt: u8, jf: u8) -> Label {
        self.reversed.push(Instruction { code, jt, jf, k });
        self.reversed.len()
    }

    /// Instructions between the next one to be written and `label`.
    fn distance(&self, label: Label) -> usize {
        self.reversed.len() - label
    }

    /// `label`, or a jump to it where it is too far for a conditional jump that is written next. Room is
    /// left for one more instruction in between.
    fn near(&mut self, label: Label) -> Label {
        match self.distance(label) {
            0..=254 => label,
            distance => self.push(JUMP, distance as u32, 0, 0),
        }
    }

    fn branch(&mut self, code: u16, k: u32, yes: Label, no: Label) -> Label {
        let yes = self.near(yes);
        let no = self.near(no);
        let (jt, jf) = (self.distance(yes), self.distance(no));
        debug_assert!(jt <= 255 && jf <= 255);
        self.push(code, k, jt as u8, jf as u8)
    }

    /// A place that returns `action`: an earlier one if it is near, else a new one.
    fn ret(&mut self, action: Action) -> Label {
        let known = self.returns.iter().position(|(known, _)| *known == action);
        if let Some(at) = known
            && self.distance(self.returns[at].1) < 200
        {
            return self.returns[at].1;
        }
        let label = self.push(RETURN, action.value(), 0, 0);
        match known {
            Some(at) => self.returns[at].1 = label,
            None => self.returns.push((action, label)),
        }
        label
    }

    /// Looks at the architecture, then goes to its section.
    fn dispatch(&mut self) -> Label {
        let mut sections = Vec::new();
        for arch in self.policy.architectures.iter().rev().copied() {
            let section = match arch {
                Arch::X32 => continue,
                Arch::X86_64 => self.x86_64(),
                _ => self.numbers(arch, 0),
            };
            sections.push((arch.token(), self.load(NUMBER, section)));
        }
        let mut next = self.ret(Action::KillProcess);
        for (token, section) in sections {
            next = self.branch(JUMP_EQ, token, section, next);
        }
        self.load(ARCHITECTURE, next)
    }

    /// Loads a word, then goes on at `next`.
    fn load(&mut self, offset: u32, next: Label) -> Label {
        if self.distance(next) > 0 {
            self.push(JUMP, self.distance(next) as u32, 0, 0);
        }
        self.push(LOAD, offset, 0, 0)
    }

    /// x86-64 and x32 share an audit architecture and differ in a bit of the number. Without x32 the number
    /// -1, which a tracer sets to skip a call, is not mistaken for one of its calls.
    fn x86_64(&mut self) -> Label {
        let beyond = if self.policy.architectures.contains(&Arch::X32) {
            self.numbers(Arch::X32, X32_BIT)
        } else {
            let kill = self.ret(Action::KillProcess);
            let skipped = self.ret(self.policy.default);
            self.branch(JUMP_EQ, u32::MAX, skipped, kill)
        };
        let ordinary = self.numbers(Arch::X86_64, 0);
        self.branch(JUMP_GE, X32_BIT, beyond, ordinary)
    }

    /// Finds the call's number, at least `first`, among the ranges of one verdict each.
    fn numbers(&mut self, arch: Arch, first: u32) -> Label {
        let policy = self.policy;
        let (default, above) = (Verdict::always(policy.default), Verdict::always(policy.above));
        let mut ranges: Vec<(u32, &Verdict)> = Vec::with_capacity(256);
        let mut range = |start, verdict| match ranges.last() {
            Some((_, last)) if *last == verdict => {}
            _ => ranges.push((start, verdict)),
        };
        let mut next = first;
        for (number, verdict) in policy.calls(arch) {
            if number > next {
                range(next, &default);
            }
            range(number, verdict);
            next = number + 1;
        }
        range(next, if next == first { &default } else { &above });
        self.search(&ranges)
    }

    /// Halves the numbers rather than the ranges: when a filter is installed the kernel runs it once for each
    /// number (seccomp_cache_prepare() of kernel/seccomp.c), so that wide ranges are to be found soon.
    fn search(&mut self, ranges: &[(u32, &Verdict)]) -> Label {
        if let [(_, verdict)] = ranges {
            return self.verdict(verdict);
        }
        let middle = ranges[0].0.midpoint(ranges[ranges.len() - 1].0);
        let half = ranges.partition_point(|(start, _)| *start <= middle).clamp(1, ranges.len() - 1);
        let (lower, upper) = ranges.split_at(half);
        let yes = self.search(upper);
        let no = self.search(lower);
        self.branch(JUMP_GE, upper[0].0, yes, no)
    }

    fn verdict(&mut self, verdict: &Verdict) -> Label {
        let mut next = self.ret(verdict.otherwise);
        for Case { conditions, action } in verdict.cases.iter().rev() {
            let otherwise = next;
            next = self.ret(*action);
            for condition in conditions.iter().rev() {
                next = self.condition(condition, next, otherwise);
            }
        }
        next
    }

    /// The upper words are compared first; the lower ones count where those are equal.
    fn condition(&mut self, condition: &Condition, yes: Label, no: Label) -> Label {
        // Three comparisons are the others with their outcomes exchanged.
        let (code, yes, no) = match condition.op {
            Op::Eq => (JUMP_EQ, yes, no),
            Op::Ne => (JUMP_EQ, no, yes),
            Op::Ge => (JUMP_GE, yes, no),
            Op::Lt => (JUMP_GE, no, yes),
            Op::Gt => (JUMP_GT, yes, no),
            Op::Le => (JUMP_GT, no, yes),
        };
        let (low, high) = (Word::low(condition), Word::high(condition));
        if high.mask == 0 && high.value != 0 {
            return no;
        }
        let compared = self.branch(code, low.value, yes, no);
        let lower = self.fetch(&low, compared);
        if high.mask == 0 {
            return lower;
        }
        let equal = self.branch(JUMP_EQ, high.value, lower, no);
        let compared = match code {
            JUMP_EQ => equal,
            _ => self.branch(JUMP_GT, high.value, yes, equal),
        };
        self.fetch(&high, compared)
    }

    /// Writes the load of a word in front of the comparison that was written last.
    fn fetch(&mut self, word: &Word, next: Label) -> Label {
        debug_assert_eq!(self.distance(next), 0);
        if word.mask != u32::MAX {
            self.push(AND, word.mask, 0, 0);
        }
        self.push(LOAD, word.offset, 0, 0)
    }
}

/// Half of a 64-bit comparison. All architectures here are little-endian.
struct Word {
    offset: u32,
    mask: u32,
    value: u32,
}

impl Word {
    fn low(condition: &Condition) -> Self {
        Self {
            offset: ARGUMENTS + 8 * u32::from(condition.argument),
            mask: condition.mask as u32,
            value: condition.value as u32,
        }
    }

    fn high(condition: &Condition) -> Self {
        Self {
            offset: ARGUMENTS + 8 * u32::from(condition.argument) + 4,
            mask: (condition.mask >> 32) as u32,
            value: (condition.value >> 32) as u32,
        }
    }
}
