//! Resource limits of a container: what was asked for ([`asked`]), what the kernel is told of it ([`settings`],
//! [`write`]), and how `inspect` shows it ([`document`]).

pub mod asked;
pub mod document;
pub mod settings;
pub mod write;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cli::limit_options::{ControlGroupOptions, LimitOptions};
use crate::delegation::{self, Placement};
use crate::error::Result;

/// Limits as docker and podman name them; `None`: nothing was said. What says that there is to be no limit (0, or -1)
/// is kept apart, so that `sbx update` can lift one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes; 0: none.
    pub memory: Option<u64>,
    pub memory_swap: Option<Swap>,
    /// Bytes that are not taken away while others have more than theirs; 0: none.
    pub memory_reservation: Option<u64>,
    /// Bytes above which the container is slowed down; 0: none.
    pub memory_high: Option<u64>,
    /// Processors, in billionths; 0: no limit.
    pub nano_cpus: Option<u64>,
    /// Microseconds of processor time in each period; 0 or less: no limit.
    pub cpu_quota: Option<i64>,
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// 2 to 262144, as cgroup v1 had them; 0: the usual.
    pub cpu_shares: Option<u64>,
    /// 1 to 10000, as cgroup v2 has them.
    pub cpu_weight: Option<u64>,
    /// Numbers and ranges; empty: all.
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    /// Processes and threads; 0 or less: no limit.
    pub pids: Option<i64>,
    /// 10 to 1000; 0: the usual.
    pub blkio_weight: Option<u16>,
    /// Of single devices, by path.
    pub blkio_weight_device: BTreeMap<PathBuf, u16>,
    pub device_rates: BTreeMap<PathBuf, Rates>,
    /// Bytes of huge pages, by their size as the kernel writes it (`2MB`).
    pub hugetlb: BTreeMap<String, u64>,
    /// `--cgroup-conf`: files of the cgroup, and what is written to them.
    pub files: BTreeMap<String, String>,
}

/// Memory and swap together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Swap {
    Unlimited,
    /// Bytes; 0: as if nothing was said, twice the memory.
    Total(u64),
}

/// What may be read from and written to a device in a second; 0: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rates {
    /// Bytes.
    pub read_bps: Option<u64>,
    pub write_bps: Option<u64>,
    /// Operations.
    pub read_iops: Option<u64>,
    pub write_iops: Option<u64>,
}

impl Rates {
    fn or(self, other: Self) -> Self {
        Self {
            read_bps: self.read_bps.or(other.read_bps),
            write_bps: self.write_bps.or(other.write_bps),
            read_iops: self.read_iops.or(other.read_iops),
            write_iops: self.write_iops.or(other.write_iops),
        }
    }

    fn asked(self) -> Self {
        let asked = |rate: Option<u64>| rate.filter(|&rate| rate > 0);
        Self {
            read_bps: asked(self.read_bps),
            write_bps: asked(self.write_bps),
            read_iops: asked(self.read_iops),
            write_iops: asked(self.write_iops),
        }
    }
}

/// The limits of a new container, and where they are to hold, checked as far as that goes without making anything.
///
/// # Errors
/// One is wrong, or there is no place where it can hold: says what lacks.
pub fn plan(options: &LimitOptions, group: &ControlGroupOptions) -> Result<(Limits, Placement)> {
    let mut limits = asked::parse(options)?;
    limits.files = asked::files(&group.cgroup_conf)?;
    let placement = Placement { mode: group.cgroups, parent: group.cgroup_parent.clone() };
    // Most containers have none.
    if limits.is_empty() && placement == Placement::default() {
        return Ok((limits, placement));
    }
    asked::check(&limits)?;
    asked::check_files(&limits)?;
    let limits = limits.asked();
    let settings = settings::settings(&limits)?;
    delegation::check(&placement, &settings::controllers(&settings))?;
    Ok((limits, placement))
}

impl Limits {
    /// Whether there is nothing for the kernel to keep.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// These, and what they leave open as `before` has it.
    #[must_use]
    pub fn over(self, before: Self) -> Self {
        // Two ways to say the same: the later one counts.
        let by_quota = self.cpu_quota.is_some() || self.cpu_period.is_some();
        let nano_cpus = self.nano_cpus.or(before.nano_cpus.filter(|_| !by_quota));
        let by_cpus = self.nano_cpus.is_some();
        let shares = self.cpu_shares.or(before.cpu_shares.filter(|_| self.cpu_weight.is_none()));
        let weight = self.cpu_weight.or(before.cpu_weight.filter(|_| self.cpu_shares.is_none()));
        let mut device_rates = before.device_rates;
        for (device, rates) in self.device_rates {
            let known = device_rates.entry(device).or_default();
            *known = rates.or(*known);
        }
        fn both<K: Ord, V>(mut before: BTreeMap<K, V>, after: BTreeMap<K, V>) -> BTreeMap<K, V> {
            before.extend(after);
            before
        }
        Self {
            memory: self.memory.or(before.memory),
            // That of swap counts memory, too, and goes with it.
            memory_swap: self.memory_swap.or(before.memory_swap.filter(|_| self.memory != Some(0))),
            memory_reservation: self.memory_reservation.or(before.memory_reservation),
            memory_high: self.memory_high.or(before.memory_high),
            nano_cpus,
            cpu_quota: self.cpu_quota.or(before.cpu_quota.filter(|_| !by_cpus)),
            cpu_period: self.cpu_period.or(before.cpu_period.filter(|_| !by_cpus)),
            cpu_shares: shares,
            cpu_weight: weight,
            cpuset_cpus: self.cpuset_cpus.or(before.cpuset_cpus),
            cpuset_mems: self.cpuset_mems.or(before.cpuset_mems),
            pids: self.pids.or(before.pids),
            blkio_weight: self.blkio_weight.or(before.blkio_weight),
            blkio_weight_device: both(before.blkio_weight_device, self.blkio_weight_device),
            device_rates,
            hugetlb: both(before.hugetlb, self.hugetlb),
            files: both(before.files, self.files),
        }
    }

    /// Without what says that there is to be no limit.
    #[must_use]
    pub fn asked(self) -> Self {
        let positive = |value: Option<u64>| value.filter(|&value| value > 0);
        let said = |text: Option<String>| text.filter(|text| !text.is_empty());
        let memory = positive(self.memory);
        let mut device_rates = self.device_rates;
        for rates in device_rates.values_mut() {
            *rates = rates.asked();
        }
        device_rates.retain(|_, rates| *rates != Rates::default());
        let mut blkio_weight_device = self.blkio_weight_device;
        blkio_weight_device.retain(|_, weight| *weight > 0);
        Self {
            memory,
            memory_swap: self.memory_swap.filter(|swap| memory.is_some() && *swap != Swap::Total(0)),
            memory_reservation: positive(self.memory_reservation),
            memory_high: positive(self.memory_high),
            nano_cpus: positive(self.nano_cpus),
            cpu_quota: self.cpu_quota.filter(|&quota| quota > 0),
            cpu_period: positive(self.cpu_period),
            cpu_shares: positive(self.cpu_shares),
            cpu_weight: positive(self.cpu_weight),
            cpuset_cpus: said(self.cpuset_cpus),
            cpuset_mems: said(self.cpuset_mems),
            pids: self.pids.filter(|&pids| pids > 0),
            blkio_weight: self.blkio_weight.filter(|&weight| weight > 0),
            blkio_weight_device,
            device_rates,
            hugetlb: self.hugetlb,
            files: self.files,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
        let mut limits = Limits::default();
        change(&mut limits);
        limits
    }

    #[test]
    fn what_is_said_later_beats_what_was_said_in_other_words() {
        let cpus = limits(|l| l.nano_cpus = Some(1_500_000_000));
        let quota = limits(|l| (l.cpu_quota, l.cpu_period) = (Some(5000), Some(10_000)));
        assert_eq!(quota.clone().over(cpus.clone()), quota);
        assert_eq!(cpus.clone().over(quota), cpus);
        let shares = limits(|l| l.cpu_shares = Some(512));
        let weight = limits(|l| l.cpu_weight = Some(50));
        assert_eq!(weight.clone().over(shares.clone()), weight);
        assert_eq!(shares.clone().over(weight), shares);
    }

    #[test]
    fn what_is_not_said_stays() {
        let before = limits(|l| {
            (l.memory, l.pids) = (Some(1 << 26), Some(10));
            l.device_rates.insert("/dev/a".into(), Rates { read_bps: Some(1), ..Rates::default() });
        });
        let after = limits(|l| {
            l.pids = Some(20);
            l.device_rates.insert("/dev/a".into(), Rates { write_bps: Some(2), ..Rates::default() });
        });
        let swap = limits(|l| (l.memory, l.memory_swap) = (Some(1 << 26), Some(Swap::Unlimited)));
        assert_eq!(limits(|l| l.memory = Some(0)).over(swap).asked(), Limits::default());
        let both = after.over(before);
        assert_eq!((both.memory, both.pids), (Some(1 << 26), Some(20)));
        let rates = Rates { read_bps: Some(1), write_bps: Some(2), ..Rates::default() };
        assert_eq!(both.device_rates[&PathBuf::from("/dev/a")], rates);
    }

    #[test]
    fn no_limit_is_none() {
        let none = limits(|l| {
            (l.memory, l.memory_swap) = (Some(0), Some(Swap::Unlimited));
            (l.pids, l.cpu_quota, l.cpuset_cpus) = (Some(-1), Some(-1), Some(String::new()));
            l.device_rates.insert("/dev/a".into(), Rates { read_bps: Some(0), ..Rates::default() });
        });
        assert!(!none.is_empty() && none.asked().is_empty());
    }
}
