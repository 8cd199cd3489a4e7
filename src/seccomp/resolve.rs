//! What a profile means for one container on one machine.
//!
//! Where rules meet on one call, it goes as libseccomp makes it for docker and podman: rules that say what
//! the default says count for nothing, a rule without arguments outweighs those with arguments, and of
//! several without arguments the first counts. Of several with arguments the first that holds counts.

use crate::container::capabilities::CapSet;
use crate::error::{Error, Result};

use super::arch::Arch;
use super::policy::{Action, Case, Policy, Verdict};
use super::profile::{Architectures, Profile, Rule};
use super::table::NAMES;

/// Far more than fit into the longest program; so that a small file does not take all memory.
const MAX_CASES: usize = 1 << 17;

impl Profile {
    pub fn resolve(&self, native: Arch, capabilities: CapSet, kernel: (u32, u32)) -> Result<Policy> {
        let mut total = 0;
        let mut pending: Vec<Option<Pending>> = vec![None; NAMES.len()];
        for rule in self.rules.iter().filter(|rule| rule.applies(native, capabilities, kernel)) {
            let says_default = rule.action == self.default;
            let cases = if says_default { Vec::new() } else { cases(rule) };
            total += cases.len() * rule.rows.len();
            if total > MAX_CASES {
                return Err(Error::new("the seccomp profile has too many rules with arguments"));
            }
            for row in &rule.rows {
                let call = pending[usize::from(*row)].get_or_insert_default();
                if !says_default && rule.conditions.is_empty() {
                    call.always.get_or_insert(rule.action);
                } else {
                    call.cases.extend_from_slice(&cases);
                }
            }
        }
        let mut policy = Policy::new(self.family(native), self.default, above(self.default));
        for (verdict, pending) in policy.verdicts.iter_mut().zip(pending) {
            *verdict = pending.map(|pending| pending.verdict(self.default));
        }
        Ok(policy)
    }

    /// The native architecture, and what the profile lets run beside it.
    fn family(&self, native: Arch) -> Vec<Arch> {
        let listed = match &self.architectures {
            Architectures::List(list) => list.as_slice(),
            Architectures::Map(map) => {
                map.iter().find(|(arch, _)| *arch == native).map_or(&[][..], |(_, subs)| subs.as_slice())
            }
        };
        let family = native.family().iter().copied();
        family.filter(|arch| *arch == native || listed.contains(arch)).collect()
    }
}

/// Calls newer than all that a profile names were unknown to its author: where it answers with an errno they
/// get ENOSYS, so that a C library falls back to an older one. runc has done so since 1.0.
fn above(default: Action) -> Action {
    match default {
        Action::Errno(_) => Action::Errno(libc::ENOSYS as u16),
        other => other,
    }
}

#[derive(Debug, Clone, Default)]
struct Pending {
    always: Option<Action>,
    cases: Vec<Case>,
}

impl Pending {
    fn verdict(self, default: Action) -> Verdict {
        match self.always {
            Some(action) => Verdict::always(action),
            None => Verdict { cases: self.cases, otherwise: default },
        }
    }
}

/// All conditions of a rule must hold, but where one argument is named twice each condition is a rule of its
/// own, as runc and crun read it.
fn cases(rule: &Rule) -> Vec<Case> {
    let arguments = rule.conditions.iter().fold(0u8, |seen, condition| seen | 1 << condition.argument);
    if arguments.count_ones() as usize == rule.conditions.len() {
        return vec![Case { conditions: rule.conditions.clone(), action: rule.action }];
    }
    rule.conditions
        .iter()
        .map(|condition| Case { conditions: vec![*condition], action: rule.action })
        .collect()
}
