//! Reads the options of limits, and checks what can be checked without a cgroup.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Limits, Swap};
use crate::cli::limit_options::{LimitOptions, amount};
use crate::container::size;
use crate::error::{Error, Result};

/// docker's least limit: less does not do for starting a process.
const LEAST_MEMORY: u64 = 6 << 20;
const TOO_LITTLE: &str = "less than 6MiB does not do for starting a process";
/// The most that Linux can number (`PID_MAX_LIMIT` of 64-bit machines); pids.max takes no more.
const MOST_PIDS: i64 = 1 << 22;
/// Highest number of a processor or memory node that Linux can be built for.
const HIGHEST: u32 = 8191;
/// Of --cpus: billionths.
const NANO: u128 = 1_000_000_000;
const NANO_DIGITS: usize = 9;

/// Reads options; what they say together is not checked before [`check`].
///
/// # Errors
/// One is wrong; it is named.
pub fn parse(options: &LimitOptions) -> Result<Limits> {
    let bytes = |flag: &'static str, text: &Option<String>| {
        text.as_deref().map(|text| amount(flag, text)).transpose()
    };
    let swap = |text: &String| match text.as_str() {
        "-1" => Ok(Swap::Unlimited),
        text => size::parse("--memory-swap", text).map(Swap::Total),
    };
    let mut limits = Limits {
        memory: bytes("--memory", &options.memory)?,
        memory_swap: options.memory_swap.as_ref().map(swap).transpose()?,
        memory_reservation: bytes("--memory-reservation", &options.memory_reservation)?,
        memory_high: bytes("--memory-high", &options.memory_high)?,
        nano_cpus: options.cpus.as_deref().map(cpus).transpose()?,
        cpu_quota: options.cpu_quota,
        cpu_period: options.cpu_period,
        cpu_shares: options.cpu_shares,
        cpu_weight: options.cpu_weight,
        cpuset_cpus: options.cpuset_cpus.as_deref().map(|list| set("--cpuset-cpus", list)).transpose()?,
        cpuset_mems: options.cpuset_mems.as_deref().map(|list| set("--cpuset-mems", list)).transpose()?,
        pids: options.pids_limit,
        blkio_weight: options.blkio_weight,
        ..Limits::default()
    };
    for text in &options.blkio_weight_device {
        let (device, weight) = device("--blkio-weight-device", text)?;
        let weight = weight.parse().map_err(|_| wrong("--blkio-weight-device", text, "DEVICE:WEIGHT"))?;
        in_range("--blkio-weight-device", weight, 10, 1000)?;
        limits.blkio_weight_device.insert(device, weight);
    }
    for text in &options.device_read_bps {
        let (device, rate) = device("--device-read-bps", text)?;
        let rate = size::parse("--device-read-bps", rate)?;
        limits.device_rates.entry(device).or_default().read_bps = Some(rate);
    }
    for text in &options.device_write_bps {
        let (device, rate) = device("--device-write-bps", text)?;
        let rate = size::parse("--device-write-bps", rate)?;
        limits.device_rates.entry(device).or_default().write_bps = Some(rate);
    }
    for text in &options.device_read_iops {
        let (device, rate) = operations("--device-read-iops", text)?;
        limits.device_rates.entry(device).or_default().read_iops = Some(rate);
    }
    for text in &options.device_write_iops {
        let (device, rate) = operations("--device-write-iops", text)?;
        limits.device_rates.entry(device).or_default().write_iops = Some(rate);
    }
    for text in &options.hugetlb {
        let (page, limit) = text
            .split_once('=')
            .ok_or_else(|| wrong("--hugetlb", text, "PAGESIZE=LIMIT, such as `2M=512m`"))?;
        limits.hugetlb.insert(page_size(page)?, size::parse("--hugetlb", limit)?);
    }
    Ok(limits)
}

/// Reads `--cgroup-conf`.
///
/// # Errors
/// It is no `FILE=VALUE`, or a file that is not for limits.
pub fn files(texts: &[String]) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for text in texts {
        let wanted = "FILE=VALUE, such as `memory.high=1073741824`";
        let (file, value) = text.split_once('=').ok_or_else(|| wrong("--cgroup-conf", text, wanted))?;
        if !is_file(file) || value.is_empty() || value.contains('\n') {
            return Err(wrong("--cgroup-conf", text, wanted));
        }
        if !is_limit(file) {
            return Err(Error::new(format!("cannot use `--cgroup-conf {text}`"))
                .because(format!("`{file}` is no limit, and sbx's own to write")));
        }
        files.insert(file.to_owned(), value.to_owned());
    }
    Ok(files)
}

fn is_file(name: &str) -> bool {
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.contains('.') && !name.starts_with('.') && name.chars().all(letters)
}

/// Whether a name is that of a file of a control group that limits something: what moves, freezes or kills processes is
/// not to be written by others than sbx.
pub fn is_limit(file: &str) -> bool {
    is_file(file)
        && (!file.starts_with("cgroup.") || matches!(file, "cgroup.max.depth" | "cgroup.max.descendants"))
}

/// What the kernel would not take, and what makes no sense together.
///
/// # Errors
/// Names the option.
pub fn check(limits: &Limits) -> Result<()> {
    let conflict = |message: String, cause: &str| Err(Error::new(message).because(cause));
    let limits = &limits.clone();
    if let (None | Some(0), Some(Swap::Total(1..) | Swap::Unlimited)) = (limits.memory, limits.memory_swap) {
        return conflict(
            "cannot use `--memory-swap`".to_owned(),
            "it counts memory, too: `--memory` is missing",
        );
    }
    let limits = limits.clone().asked();
    if let Some(memory) = limits.memory {
        if memory < LEAST_MEMORY {
            return conflict(format!("cannot use `--memory {}`", size::binary(memory)), TOO_LITTLE);
        }
        if let Some(Swap::Total(total)) = limits.memory_swap
            && total < memory
        {
            return conflict(
                format!("cannot use `--memory-swap {}`", size::binary(total)),
                &format!("it counts memory, too, of which `--memory` allows {}", size::binary(memory)),
            );
        }
        if let Some(reservation) = limits.memory_reservation.filter(|&reservation| reservation > memory) {
            return conflict(
                format!("cannot use `--memory-reservation {}`", size::binary(reservation)),
                &format!("`--memory` allows {}", size::binary(memory)),
            );
        }
    }
    // Whoever is above it is slowed down until nothing goes on.
    if let Some(high) = limits.memory_high.filter(|&high| high < LEAST_MEMORY) {
        return conflict(format!("cannot use `--memory-high {}`", size::binary(high)), TOO_LITTLE);
    }
    if let Some(pids) = limits.pids {
        in_range("--pids-limit", pids, 1, MOST_PIDS)?;
    }
    if let Some(quota) = limits.cpu_quota {
        in_range("--cpu-quota", quota, 1000, i64::MAX)?;
    }
    if let Some(period) = limits.cpu_period {
        in_range("--cpu-period", period, 1000, 1_000_000)?;
    }
    if let Some(shares) = limits.cpu_shares {
        in_range("--cpu-shares", shares, 2, 262_144)?;
    }
    if let Some(weight) = limits.cpu_weight {
        in_range("--cpu-weight", weight, 1, 10_000)?;
    }
    if let Some(weight) = limits.blkio_weight {
        in_range("--blkio-weight", weight, 10, 1000)?;
    }
    Ok(())
}

fn in_range<T: Copy + PartialOrd + std::fmt::Display>(flag: &str, value: T, least: T, most: T) -> Result<()> {
    if value >= least && value <= most {
        return Ok(());
    }
    Err(Error::new(format!("cannot use `{flag} {value}`")).because(format!("it is not in {least} to {most}")))
}

fn wrong(flag: &str, text: &str, wanted: &str) -> Error {
    Error::new(format!("cannot use `{flag} {text}`")).hint(format!("write {wanted}"))
}

/// A decimal number of processors; the least that the kernel can keep is a hundredth.
fn cpus(text: &str) -> Result<u64> {
    let wanted = "a number of processors from 0.01 on, such as `1.5`; 0: no limit";
    let failed = || wrong("--cpus", text, wanted);
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return Err(failed());
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| failed())? };
    let fraction = &fraction[..fraction.len().min(NANO_DIGITS)];
    let fraction: u128 = format!("{fraction:0<NANO_DIGITS$}").parse().map_err(|_| failed())?;
    let nano = whole.checked_mul(NANO).and_then(|whole| whole.checked_add(fraction)).ok_or_else(failed)?;
    let nano = u64::try_from(nano).map_err(|_| failed())?;
    if nano == 0 || u128::from(nano) >= NANO / 100 { Ok(nano) } else { Err(failed()) }
}

/// A list of numbers and ranges (cpuset(7), List Format).
fn set(flag: &str, list: &str) -> Result<String> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>().ok().filter(|&number| digits && number <= HIGHEST)
    };
    let range = |part: &str| match part.split_once('-') {
        Some((first, last)) => number(first).zip(number(last)).is_some_and(|(first, last)| first <= last),
        None => number(part).is_some(),
    };
    if list.is_empty() || list.split(',').all(range) {
        return Ok(list.to_owned());
    }
    Err(wrong(flag, list, "numbers and ranges, such as `0-3,5`"))
}

fn device<'t>(flag: &str, text: &'t str) -> Result<(PathBuf, &'t str)> {
    match text.rsplit_once(':') {
        Some((device, value)) if device.starts_with('/') && !value.is_empty() => {
            Ok((PathBuf::from(device), value))
        }
        _ => Err(wrong(flag, text, "DEVICE:VALUE, with the path of a disk such as `/dev/sda`")),
    }
}

fn operations(flag: &str, text: &str) -> Result<(PathBuf, u64)> {
    let (device, rate) = device(flag, text)?;
    let rate = rate.parse().map_err(|_| wrong(flag, text, "DEVICE:NUMBER, such as `/dev/sda:100`"))?;
    Ok((device, rate))
}

/// The kernel's own way to write a size of pages: `64KB`, `2MB`, `1GB`.
fn page_size(text: &str) -> Result<String> {
    let bytes = size::parse("--hugetlb", text)?;
    let units = [(1_u64 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB")];
    if !bytes.is_power_of_two() || bytes < 1 << 12 {
        return Err(wrong("--hugetlb", text, "PAGESIZE=LIMIT, such as `2M=512m`"));
    }
    let unit = units.iter().find(|(size, _)| bytes >= *size);
    Ok(unit.map_or_else(String::new, |(size, unit)| format!("{}{unit}", bytes / size)))
}

/// The options in `files` and those of `limits` that say the same differently are not told apart by the kernel: the
/// first one would be lost.
///
/// # Errors
/// A file is said twice.
pub fn check_files(limits: &Limits) -> Result<()> {
    let named = Limits { files: BTreeMap::new(), ..limits.clone() };
    let settings = super::settings::settings(&named)?;
    for file in limits.files.keys() {
        if let Some(twice) = settings.iter().find(|setting| &setting.file == file) {
            let option = twice.option.unwrap_or("--memory");
            return Err(Error::new(format!("cannot use `--cgroup-conf {file}` with `{option}`"))
                .because("both write the same file"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(change: impl FnOnce(&mut LimitOptions)) -> LimitOptions {
        let mut options = LimitOptions::default();
        change(&mut options);
        options
    }

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn error(change: impl FnOnce(&mut LimitOptions)) -> String {
        parse(&options(change)).and_then(|limits| check(&limits)).unwrap_err().report()
    }

    #[test]
    fn sizes_and_numbers_are_read() {
        let limits = parse(&options(|o| {
            (o.memory, o.memory_swap) = (text("64m"), text("-1"));
            (o.cpus, o.cpuset_cpus) = (text("1.25"), text("0-1,3"));
            o.device_read_bps = vec!["/dev/sda:1m".to_owned()];
            o.device_write_iops = vec!["/dev/sda:100".to_owned()];
            o.blkio_weight_device = vec!["/dev/sda:500".to_owned()];
            o.hugetlb = vec!["2M=1g".to_owned(), "64k=0".to_owned()];
        }))
        .unwrap();
        check(&limits).unwrap();
        assert_eq!((limits.memory, limits.memory_swap), (Some(64 << 20), Some(Swap::Unlimited)));
        assert_eq!((limits.nano_cpus, limits.cpuset_cpus.as_deref()), (Some(1_250_000_000), Some("0-1,3")));
        let rates = limits.device_rates[&PathBuf::from("/dev/sda")];
        assert_eq!((rates.read_bps, rates.write_iops, rates.write_bps), (Some(1 << 20), Some(100), None));
        assert_eq!(limits.hugetlb.keys().collect::<Vec<_>>(), ["2MB", "64KB"]);
        for (typed, nano) in [("0.01", 10_000_000), (".5", 500_000_000), ("2", 2_000_000_000), ("0", 0)] {
            assert_eq!(cpus(typed).unwrap(), nano, "{typed}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        type Change = fn(&mut LimitOptions);
        let wrong: &[(&str, Change)] = &[
            ("--memory", |o| o.memory = text("lots")),
            ("less than 6MiB", |o| o.memory = text("1m")),
            ("--memory` is missing", |o| o.memory_swap = text("1g")),
            ("--memory-swap 64MiB", |o| (o.memory, o.memory_swap) = (text("1g"), text("64m"))),
            ("--memory-reservation 1GiB", |o| (o.memory, o.memory_reservation) = (text("64m"), text("1g"))),
            ("--memory-high 1KiB`", |o| o.memory_high = text("1k")),
            ("--pids-limit 4194305", |o| o.pids_limit = Some(4_194_305)),
            ("--cpus 0.001", |o| o.cpus = text("0.001")),
            ("--cpus -1", |o| o.cpus = text("-1")),
            ("--cpus 1e3", |o| o.cpus = text("1e3")),
            ("--cpus 99999999999999999999999", |o| o.cpus = text("99999999999999999999999")),
            ("--cpu-quota 10", |o| o.cpu_quota = Some(10)),
            ("--cpu-period 2000000", |o| o.cpu_period = Some(2_000_000)),
            ("--cpu-shares 1", |o| o.cpu_shares = Some(1)),
            ("--cpu-weight 10001", |o| o.cpu_weight = Some(10_001)),
            ("--cpuset-cpus 3-1", |o| o.cpuset_cpus = text("3-1")),
            ("--cpuset-cpus +1", |o| o.cpuset_cpus = text("+1")),
            ("--cpuset-cpus 0-4294967295", |o| o.cpuset_cpus = text("0-4294967295")),
            ("--cpuset-mems a", |o| o.cpuset_mems = text("a")),
            ("--blkio-weight 5", |o| o.blkio_weight = Some(5)),
            ("--blkio-weight-device 5", |o| o.blkio_weight_device = vec!["/dev/sda:5".to_owned()]),
            ("--device-read-bps sda:5", |o| o.device_read_bps = vec!["sda:5".to_owned()]),
            ("--device-write-iops /dev/sda:1m", |o| o.device_write_iops = vec!["/dev/sda:1m".to_owned()]),
            ("--hugetlb 3M", |o| o.hugetlb = vec!["3M=1g".to_owned()]),
        ];
        for (expected, change) in wrong {
            let found = error(change);
            assert!(found.contains(expected), "{expected}: {found}");
        }
    }

    #[test]
    fn files_of_a_control_group_are_limits_alone() {
        let read = |text: &str| files(&[text.to_owned()]);
        assert_eq!(read("memory.high=100").unwrap()["memory.high"], "100");
        for wrong in [
            "memory.high",
            "../x.y=1",
            "memory=1",
            "a.b=",
            "a.b=1\n2",
            "cgroup.procs=1",
            "cgroup.kill=1",
            ".=1",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(read("cgroup.max.depth=2").is_ok());
        let mut twice = Limits { pids: Some(3), ..Limits::default() };
        twice.files = read("pids.max=4").unwrap();
        assert!(check_files(&twice).unwrap_err().message().contains("`--pids-limit`"));
    }
}
