//! The filter of emulated root: it lets everything pass but the calls that [`crate::emulation`] answers. It
//! comes beside the container's own filter, of which the stricter word counts (seccomp(2)): what that refuses
//! stays refused.

use crate::error::Result;

use super::arch::{Arch, row};
use super::bpf::{Instruction, emit};
use super::policy::{Action, Case, Condition, Op, Policy, Verdict};

/// Which of the calls with a name are handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    Always,
    /// mknod(2) of a device, with the mode in this argument and the number in the next. Everybody may make the
    /// device 0:0, the whiteout of overlays.
    MakesDevice(u8),
    /// An argument, a 32-bit integer, has this value.
    Argument(u8, u32),
    /// An argument has all of these bits.
    Bits(u8, u32),
}

/// The program for the calls with these names on every architecture of the family.
///
/// # Errors
/// None with the calls of sbx: the program is short.
pub fn program(native: Arch, calls: &[(&str, When)]) -> Result<Vec<Instruction>> {
    let mut policy = Policy::new(native.family().to_vec(), Action::Allow, Action::Allow);
    for (name, when) in calls {
        let Some(row) = row(name) else { continue };
        policy.verdicts[usize::from(row)] = Some(match when {
            When::Always => Verdict::always(Action::Notify),
            When::MakesDevice(mode) => makes_device(*mode),
            When::Argument(argument, value) => masked(*argument, u32::MAX, *value),
            When::Bits(argument, bits) => masked(*argument, *bits, *bits),
        });
    }
    emit(&policy)
}

fn masked(argument: u8, mask: u32, value: u32) -> Verdict {
    let is = Condition { argument, mask: u64::from(mask), op: Op::Eq, value: u64::from(value) };
    Verdict { cases: vec![Case { conditions: vec![is], action: Action::Notify }], otherwise: Action::Allow }
}

fn makes_device(mode: u8) -> Verdict {
    let is = |kind: u32| Condition {
        argument: mode,
        mask: u64::from(libc::S_IFMT),
        op: Op::Eq,
        value: u64::from(kind),
    };
    let numbered = Condition { argument: mode + 1, mask: u64::from(u32::MAX), op: Op::Ne, value: 0 };
    let cases = vec![
        Case { conditions: vec![is(libc::S_IFBLK)], action: Action::Notify },
        Case { conditions: vec![is(libc::S_IFCHR), numbered], action: Action::Notify },
    ];
    Verdict { cases, otherwise: Action::Allow }
}

/// The architecture and the number, as the kernel hands them over, of each call with one of the names: with its
/// place in `calls`.
pub fn numbers(native: Arch, calls: &[(&str, When)]) -> Vec<(Arch, u32, usize)> {
    let rows: Vec<_> = calls.iter().map(|(name, _)| row(name)).collect();
    native
        .family()
        .iter()
        .flat_map(|arch| arch.calls().map(move |(number, found)| (*arch, number, found)))
        .filter_map(|(arch, number, found)| {
            let place = rows.iter().position(|row| *row == Some(found))?;
            Some((arch, number, place))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::interpreter::{Data, run};

    const CALLS: &[(&str, When)] = &[
        ("chown", When::Always),
        ("mknodat", When::MakesDevice(2)),
        ("prctl", When::Argument(0, 8)),
        ("open", When::Bits(1, 0o100)),
    ];

    fn outcome(arch: Arch, number: i64, arguments: [u64; 6]) -> u32 {
        let program: Vec<_> =
            program(Arch::X86_64, CALLS).unwrap().iter().map(|i| (i.code, i.jt, i.jf, i.k)).collect();
        run(&program, &Data { number: number as u32, architecture: arch.token(), arguments })
    }

    #[test]
    fn only_what_is_emulated_is_handed_over() {
        let (allow, notify) = (Action::Allow.value(), Action::Notify.value());
        let amd64 = |number, arguments| outcome(Arch::X86_64, number, arguments);
        assert_eq!(amd64(92, [0; 6]), notify, "chown");
        assert_eq!(amd64(0, [0; 6]), allow, "read");
        assert_eq!(amd64(9999, [0; 6]), allow, "a call of the future");
        assert_eq!(outcome(Arch::X86, 182, [0; 6]), notify, "chown of 32-bit programs");
        let mknodat = |mode: u32, number| amd64(259, [0, 0, mode.into(), number, 0, 0]);
        assert_eq!(mknodat(libc::S_IFBLK | 0o600, 0), notify);
        assert_eq!(mknodat(libc::S_IFCHR | 0o600, 0x103), notify);
        assert_eq!(mknodat(libc::S_IFCHR, 0), allow, "a whiteout");
        assert_eq!(mknodat(libc::S_IFIFO | 0o600, 0x103), allow);
        assert_eq!(mknodat(0o600, 0), allow);
        assert_eq!(amd64(157, [8, 1, 0, 0, 0, 0]), notify, "prctl of one kind");
        assert_eq!(amd64(2, [7, 0o2101, 0, 0, 0, 0]), notify, "open that makes a file");
        assert_eq!(amd64(2, [7, 0o2001, 0, 0, 0, 0]), allow, "open");
        assert_eq!(amd64(157, [9, 1, 0, 0, 0, 0]), allow, "prctl of another");
    }

    #[test]
    fn numbers_are_found_again() {
        let found = numbers(Arch::X86_64, CALLS);
        assert!(found.contains(&(Arch::X86_64, 92, 0)) && found.contains(&(Arch::X86, 297, 1)), "{found:?}");
    }
}
