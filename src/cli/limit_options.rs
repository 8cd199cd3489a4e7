//! The options that limit what a container takes of the machine.

use crate::container::size;
use crate::delegation::Mode;
use crate::error::Result;

/// Limits as typed; [`crate::limits::asked`] reads them.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct LimitOptions {
    /// Most memory that the container may take, such as `512m`.
    #[arg(short, long, value_name = "SIZE", allow_hyphen_values = true, help_heading = "Limits")]
    pub memory: Option<String>,
    /// Memory and swap together; -1: any amount of swap; default: twice the memory.
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, help_heading = "Limits")]
    pub memory_swap: Option<String>,
    /// Memory that is left to the container while others take more than their part.
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, help_heading = "Limits")]
    pub memory_reservation: Option<String>,
    /// Memory above which the container is slowed down.
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, help_heading = "Limits")]
    pub memory_high: Option<String>,
    /// Processors, such as `1.5`.
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, conflicts_with_all = ["cpu_quota", "cpu_period"], help_heading = "Limits")]
    pub cpus: Option<String>,
    /// Microseconds of processor time in each period; -1: no limit.
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true, help_heading = "Limits")]
    pub cpu_quota: Option<i64>,
    /// Microseconds that the quota is for; default: 100000.
    #[arg(long, value_name = "MICROSECONDS", help_heading = "Limits")]
    pub cpu_period: Option<u64>,
    /// Share of the processors where others want them, too, from 2 to 262144, 1024 is the usual.
    #[arg(short, long, value_name = "SHARES", conflicts_with = "cpu_weight", help_heading = "Limits")]
    pub cpu_shares: Option<u64>,
    /// The same from 1 to 10000, 100 is the usual.
    #[arg(long, value_name = "WEIGHT", help_heading = "Limits")]
    pub cpu_weight: Option<u64>,
    /// Processors that the container runs on: `0-3,5`.
    #[arg(long, value_name = "LIST", help_heading = "Limits")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that the container's memory is from: `0,1`.
    #[arg(long, value_name = "LIST", help_heading = "Limits")]
    pub cpuset_mems: Option<String>,
    /// Most processes and threads; -1 or 0: no limit.
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, help_heading = "Limits")]
    pub pids_limit: Option<i64>,
    /// Share of the disks where others want them, too, from 10 to 1000.
    #[arg(long, value_name = "WEIGHT", help_heading = "Limits")]
    pub blkio_weight: Option<u16>,
    /// The same of one disk: `DEVICE:WEIGHT`.
    #[arg(long, value_name = "DEVICE:WEIGHT", help_heading = "Limits")]
    pub blkio_weight_device: Vec<String>,
    /// Most bytes that are read from a disk in a second: `DEVICE:SIZE`.
    #[arg(long, value_name = "DEVICE:RATE", help_heading = "Limits")]
    pub device_read_bps: Vec<String>,
    /// Most bytes that are written to a disk in a second: `DEVICE:SIZE`.
    #[arg(long, value_name = "DEVICE:RATE", help_heading = "Limits")]
    pub device_write_bps: Vec<String>,
    /// Most reads from a disk in a second: `DEVICE:NUMBER`.
    #[arg(long, value_name = "DEVICE:RATE", help_heading = "Limits")]
    pub device_read_iops: Vec<String>,
    /// Most writes to a disk in a second: `DEVICE:NUMBER`.
    #[arg(long, value_name = "DEVICE:RATE", help_heading = "Limits")]
    pub device_write_iops: Vec<String>,
    /// Most memory in huge pages of a size: `2M=512m`.
    #[arg(long, value_name = "SIZE=LIMIT", help_heading = "Limits")]
    pub hugetlb: Vec<String>,
}

impl LimitOptions {
    /// The same as words, for a command that hands them on.
    pub fn words(&self) -> Vec<String> {
        let number = |number: Option<u64>| number.map(|number| number.to_string());
        let single = [
            ("memory", self.memory.clone()),
            ("memory-swap", self.memory_swap.clone()),
            ("memory-reservation", self.memory_reservation.clone()),
            ("memory-high", self.memory_high.clone()),
            ("cpus", self.cpus.clone()),
            ("cpu-quota", self.cpu_quota.map(|quota| quota.to_string())),
            ("cpu-period", number(self.cpu_period)),
            ("cpu-shares", number(self.cpu_shares)),
            ("cpu-weight", number(self.cpu_weight)),
            ("cpuset-cpus", self.cpuset_cpus.clone()),
            ("cpuset-mems", self.cpuset_mems.clone()),
            ("pids-limit", self.pids_limit.map(|limit| limit.to_string())),
            ("blkio-weight", number(self.blkio_weight.map(u64::from))),
        ];
        let several = [
            ("blkio-weight-device", &self.blkio_weight_device),
            ("device-read-bps", &self.device_read_bps),
            ("device-write-bps", &self.device_write_bps),
            ("device-read-iops", &self.device_read_iops),
            ("device-write-iops", &self.device_write_iops),
            ("hugetlb", &self.hugetlb),
        ];
        let single = single.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let several = several
            .into_iter()
            .flat_map(|(name, values)| values.iter().map(move |value| (name, value.clone())));
        single.chain(several).map(|(name, value)| format!("--{name}={value}")).collect()
    }
}

/// Where the container's control group is made.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ControlGroupOptions {
    /// Whether the container gets a control group: enabled, disabled, no-conmon (the monitor stays where it is), split
    /// (in the one that sbx is started in); default: where it costs nothing, or a limit needs it.
    #[arg(long, value_name = "MODE", value_enum, help_heading = "Limits")]
    pub cgroups: Option<Mode>,
    /// Where the control group is made: a slice of systemd, or a path below what is delegated to you.
    #[arg(long, value_name = "PARENT", help_heading = "Limits")]
    pub cgroup_parent: Option<String>,
    /// Write to a file of the control group: `memory.high=1073741824`.
    #[arg(long, value_name = "FILE=VALUE", help_heading = "Limits")]
    pub cgroup_conf: Vec<String>,
}

/// -1 is no limit, as 0 is.
pub fn amount(flag: &str, text: &str) -> Result<u64> {
    if text == "-1" { Ok(0) } else { size::parse(flag, text) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    #[command(no_binary_name = true)]
    struct Words {
        #[command(flatten)]
        limits: LimitOptions,
    }

    #[test]
    fn every_option_is_handed_on() {
        let all = [
            "--memory=64m",
            "--memory-swap=-1",
            "--memory-reservation=1m",
            "--memory-high=9m",
            "--cpu-quota=-1",
            "--cpu-period=5000",
            "--cpu-shares=5",
            "--cpuset-cpus=0",
            "--cpuset-mems=0",
            "--pids-limit=-1",
            "--blkio-weight=10",
            "--blkio-weight-device=/dev/a:10",
            "--device-read-bps=/dev/a:1",
            "--device-read-bps=/dev/b:1",
            "--device-write-bps=/dev/a:1",
            "--device-read-iops=/dev/a:1",
            "--device-write-iops=/dev/a:1",
            "--hugetlb=2M=1",
        ];
        let limits = Words::parse_from(all).limits;
        assert_eq!(limits.words(), all);
        let others = ["--cpus=1", "--cpu-weight=5"];
        assert_eq!(Words::parse_from(others).limits.words(), others);
    }
}
