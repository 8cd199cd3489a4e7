//! Limits as the files of a cgroup of version 2 say them (cgroup-v2.rst of the kernel), converted as runc and crun do.

use std::collections::BTreeSet;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::{Limits, Rates, Swap};
use crate::error::{Error, Result, Step};

/// The kernel's and docker's usual period, in microseconds.
pub const PERIOD: u64 = 100_000;
/// The least quota that the kernel takes, in microseconds.
const LEAST_QUOTA: u64 = 1000;
/// What a limit is where there is none.
pub const NONE: &str = "max";
/// The same of processor time.
pub const ALL_TIME: &str = "max 100000";

/// One line for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub file: String,
    pub value: String,
    /// Where the kernel has no such file.
    pub instead: Option<(String, String)>,
    /// What lifts it again.
    pub reset: String,
    /// The option that asked for it; none: it goes along with another, and may be left out where the kernel cannot.
    pub option: Option<&'static str>,
}

impl Setting {
    pub fn new<V: ToString + ?Sized>(file: &str, value: &V, reset: &str, option: &'static str) -> Self {
        Self {
            file: file.to_owned(),
            value: value.to_string(),
            instead: None,
            reset: reset.to_owned(),
            option: Some(option),
        }
    }

    /// Whether a new cgroup would not be as it is without.
    pub fn limits(&self) -> bool {
        self.value != self.reset
    }

    /// What the file belongs to, and has to be delegated.
    pub fn controller(&self) -> &str {
        self.file.split('.').next().unwrap_or_default()
    }
}

/// The controllers that the settings need.
pub fn controllers(settings: &[Setting]) -> BTreeSet<String> {
    let own = |name: &str| name != "cgroup";
    settings.iter().map(|setting| setting.controller().to_owned()).filter(|name| own(name)).collect()
}

/// What is to be written for limits.
///
/// # Errors
/// A device is none.
pub fn settings(limits: &Limits) -> Result<Vec<Setting>> {
    let limits = limits.clone().asked();
    let mut all = memory(&limits);
    all.extend(processors(&limits));
    if let Some(pids) = limits.pids {
        all.push(Setting::new("pids.max", &pids, "max", "--pids-limit"));
    }
    all.extend(devices(&limits)?);
    for (size, limit) in &limits.hugetlb {
        all.push(Setting::new(&format!("hugetlb.{size}.max"), limit, "max", "--hugetlb"));
    }
    for (file, value) in &limits.files {
        all.push(Setting::new(file, value, "", "--cgroup-conf"));
    }
    Ok(all)
}

fn memory(limits: &Limits) -> Vec<Setting> {
    let mut all = Vec::new();
    if let Some(memory) = limits.memory {
        all.push(Setting::new("memory.max", &memory, "max", "--memory"));
        // Version 2 counts swap alone. Without a word docker and podman give as much swap as memory.
        let (swap, option) = match limits.memory_swap {
            None => (memory.to_string(), None),
            Some(Swap::Unlimited) => ("max".to_owned(), Some("--memory-swap")),
            Some(Swap::Total(total)) => (total.saturating_sub(memory).to_string(), Some("--memory-swap")),
        };
        // A kernel that has no swap at all keeps to none of it.
        let option = option.filter(|_| swap != "0" && swap != "max");
        all.push(Setting { option, ..Setting::new("memory.swap.max", &swap, "max", "--memory-swap") });
    }
    if let Some(reservation) = limits.memory_reservation {
        all.push(Setting::new("memory.low", &reservation, "0", "--memory-reservation"));
    }
    if let Some(high) = limits.memory_high {
        all.push(Setting::new("memory.high", &high, "max", "--memory-high"));
    }
    all
}

fn processors(limits: &Limits) -> Vec<Setting> {
    let mut all = Vec::new();
    if let Some(nano) = limits.nano_cpus {
        let quota = u64::try_from(u128::from(nano) * u128::from(PERIOD) / 1_000_000_000).unwrap_or(u64::MAX);
        let quota = quota.max(LEAST_QUOTA);
        all.push(Setting::new("cpu.max", &format!("{quota} {PERIOD}"), ALL_TIME, "--cpus"));
    } else if limits.cpu_quota.is_some() || limits.cpu_period.is_some() {
        let option = if limits.cpu_quota.is_some() { "--cpu-quota" } else { "--cpu-period" };
        all.push(Setting::new(
            "cpu.max",
            &processor_time(limits.cpu_quota, limits.cpu_period),
            ALL_TIME,
            option,
        ));
    }
    if let Some(weight) = limits.cpu_weight {
        all.push(Setting::new("cpu.weight", &weight, "100", "--cpu-weight"));
    } else if let Some(shares) = limits.cpu_shares {
        all.push(Setting::new("cpu.weight", &weight_of_shares(shares), "100", "--cpu-shares"));
    }
    if let Some(cpus) = &limits.cpuset_cpus {
        all.push(Setting::new("cpuset.cpus", cpus, "", "--cpuset-cpus"));
    }
    if let Some(mems) = &limits.cpuset_mems {
        all.push(Setting::new("cpuset.mems", mems, "", "--cpuset-mems"));
    }
    all
}

/// Microseconds in each period of so many; 0 or less of time: all of it.
pub fn processor_time(quota: Option<i64>, period: Option<u64>) -> String {
    let quota = quota.filter(|&quota| quota > 0).map_or_else(|| NONE.to_owned(), |quota| quota.to_string());
    format!("{quota} {}", period.filter(|&period| period > 0).unwrap_or(PERIOD))
}

/// From 2 to 262144 to 1 to 10000, so that the usual 1024 is the usual 100: a parabola through the three in logarithms,
/// that of runc 1.3.2 and crun 1.23.
pub fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        shares => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            // What should be a whole number is off by a rounding error.
            (10_f64.powf(exponent) - 1e-9).ceil() as u64
        }
    }
}

/// From 10 to 1000 to 1 to 10000, linearly.
pub fn weight_of_blkio(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990
}

fn devices(limits: &Limits) -> Result<Vec<Setting>> {
    let mut all = Vec::new();
    if let Some(weight) = limits.blkio_weight {
        let instead = Some(("io.weight".to_owned(), format!("default {}", weight_of_blkio(weight))));
        let reset = "default 100";
        let value = format!("default {weight}");
        all.push(Setting { instead, ..Setting::new("io.bfq.weight", &value, reset, "--blkio-weight") });
    }
    for (device, weight) in &limits.blkio_weight_device {
        let number = block_device("--blkio-weight-device", device)?;
        let instead = Some(("io.weight".to_owned(), format!("{number} {}", weight_of_blkio(*weight))));
        let (value, reset) = (format!("{number} {weight}"), format!("{number} default"));
        all.push(Setting {
            instead,
            ..Setting::new("io.bfq.weight", &value, &reset, "--blkio-weight-device")
        });
    }
    for (device, rates) in &limits.device_rates {
        let Rates { read_bps, write_bps, read_iops, write_iops } = *rates;
        let each = [
            (read_bps, "rbps", "--device-read-bps"),
            (write_bps, "wbps", "--device-write-bps"),
            (read_iops, "riops", "--device-read-iops"),
            (write_iops, "wiops", "--device-write-iops"),
        ];
        for (rate, word, option) in each {
            let Some(rate) = rate else { continue };
            let number = block_device(option, device)?;
            all.push(Setting::new(
                "io.max",
                &format!("{number} {word}={rate}"),
                &format!("{number} {word}=max"),
                option,
            ));
        }
    }
    Ok(all)
}

/// Major and minor number.
pub fn block_device(option: &str, path: &Path) -> Result<String> {
    let failed = || format!("cannot use `{option} {}`", path.display());
    let metadata = path.metadata().step(failed)?;
    if !metadata.file_type().is_block_device() {
        return Err(Error::new(failed())
            .because("it is no block device")
            .hint("`lsblk --paths` lists them; limits are set for whole disks"));
    }
    let device = metadata.rdev();
    Ok(format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(change: impl FnOnce(&mut Limits)) -> Vec<(String, String)> {
        let mut limits = Limits::default();
        change(&mut limits);
        settings(&limits).unwrap().into_iter().map(|setting| (setting.file, setting.value)).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(file, value)| ((*file).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn swap_is_what_lies_above_memory() {
        let twice = [("memory.max", "67108864"), ("memory.swap.max", "67108864")];
        assert_eq!(of(|l| l.memory = Some(64 << 20)), pairs(&twice));
        let none = of(|l| (l.memory, l.memory_swap) = (Some(64 << 20), Some(Swap::Total(64 << 20))));
        assert_eq!(none[1], ("memory.swap.max".to_owned(), "0".to_owned()));
        let all = of(|l| (l.memory, l.memory_swap) = (Some(64 << 20), Some(Swap::Unlimited)));
        assert_eq!(all[1].1, "max");
        assert_eq!(of(|l| l.memory = Some(0)), []);
        assert_eq!(of(|l| l.memory_reservation = Some(7)), pairs(&[("memory.low", "7")]));
        assert_eq!(of(|l| l.memory_high = Some(7)), pairs(&[("memory.high", "7")]));
    }

    #[test]
    fn a_kernel_without_swap_is_no_reason_to_fail_where_none_was_asked_for() {
        let optional = |swap: Option<Swap>| {
            let limits = Limits { memory: Some(1000), memory_swap: swap, ..Limits::default() };
            settings(&limits).unwrap()[1].option.is_none()
        };
        assert!(optional(None) && optional(Some(Swap::Total(1000))) && optional(Some(Swap::Unlimited)));
        assert!(!optional(Some(Swap::Total(1500))));
    }

    #[test]
    fn processors_are_quota_and_period() {
        assert_eq!(of(|l| l.nano_cpus = Some(1_500_000_000)), pairs(&[("cpu.max", "150000 100000")]));
        assert_eq!(of(|l| l.nano_cpus = Some(1)), pairs(&[("cpu.max", "1000 100000")]));
        let quota = of(|l| (l.cpu_quota, l.cpu_period) = (Some(5000), Some(20_000)));
        assert_eq!(quota, pairs(&[("cpu.max", "5000 20000")]));
        assert_eq!(of(|l| l.cpu_quota = Some(5000)), pairs(&[("cpu.max", "5000 100000")]));
        assert_eq!(of(|l| l.cpu_period = Some(50_000)), pairs(&[("cpu.max", "max 50000")]));
        assert_eq!(of(|l| l.cpu_quota = Some(-1)), []);
        assert_eq!(of(|l| l.cpu_weight = Some(77)), pairs(&[("cpu.weight", "77")]));
        let sets = of(|l| (l.cpuset_cpus, l.cpuset_mems) = (Some("0-1".into()), Some("0".into())));
        assert_eq!(sets, pairs(&[("cpuset.cpus", "0-1"), ("cpuset.mems", "0")]));
    }

    #[test]
    fn the_usual_share_is_the_usual_weight() {
        // Worked out by hand from the formula.
        let table = [
            (0, 1),
            (2, 1),
            (4, 2),
            (16, 5),
            (64, 12),
            (512, 59),
            (1024, 100),
            (2048, 174),
            (262_144, 10_000),
        ];
        for (shares, weight) in table {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
        assert_eq!(
            [weight_of_shares(1024), weight_of_shares(1), weight_of_shares(u64::MAX)],
            [100, 1, 10_000]
        );
        assert_eq!([10, 500, 1000].map(weight_of_blkio), [1, 4950, 10_000]);
    }

    #[test]
    fn devices_are_numbers_and_have_to_be_devices() {
        let weight = settings(&Limits { blkio_weight: Some(500), ..Limits::default() }).unwrap();
        assert_eq!(weight[0].value, "default 500");
        assert_eq!(weight[0].instead, Some(("io.weight".to_owned(), "default 4950".to_owned())));
        let mut limits = Limits::default();
        limits.device_rates.insert("/dev/null".into(), Rates { read_bps: Some(5), ..Rates::default() });
        let error = settings(&limits).unwrap_err();
        assert!(error.message().contains("--device-read-bps /dev/null"), "{error}");
        assert!(error.causes()[0].contains("no block device"), "{error}");
    }

    #[test]
    fn controllers_are_those_of_the_files() {
        let mut limits = Limits { pids: Some(5), memory: Some(7000), ..Limits::default() };
        limits.files.insert("cgroup.max.depth".to_owned(), "3".to_owned());
        limits.hugetlb.insert("2MB".to_owned(), 0);
        let found = controllers(&settings(&limits).unwrap());
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["hugetlb", "memory", "pids"]);
    }
}
