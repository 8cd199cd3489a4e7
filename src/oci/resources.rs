//! `linux.resources` as settings of a control group of version 2 (config-linux.md, Control groups). Unlike the options
//! of `sbx run` they say nothing of what they do not name, and can lift a limit.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::device_limits::{self, BlockIo, Rdma};
use crate::error::{Error, Result, Step};
use crate::limits::asked::is_limit;
use crate::limits::settings::{ALL_TIME, NONE, Setting, processor_time, weight_of_shares};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "an object")]
struct Raw {
    memory: Option<Memory>,
    cpu: Option<Cpu>,
    pids: Option<Pids>,
    #[serde(rename = "blockIO")]
    block_io: Option<BlockIo>,
    hugepage_limits: Option<Vec<HugePages>>,
    network: Option<Map<String, Value>>,
    rdma: Option<BTreeMap<String, Rdma>>,
    unified: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "an object")]
struct Memory {
    limit: Option<i64>,
    reservation: Option<i64>,
    swap: Option<i64>,
    kernel: Option<i64>,
    #[serde(rename = "kernelTCP")]
    kernel_tcp: Option<i64>,
    swappiness: Option<u64>,
    #[serde(rename = "disableOOMKiller")]
    disable_oom_killer: Option<bool>,
    check_before_update: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "an object")]
struct Cpu {
    shares: Option<u64>,
    quota: Option<i64>,
    burst: Option<u64>,
    period: Option<u64>,
    realtime_runtime: Option<i64>,
    realtime_period: Option<u64>,
    cpus: Option<String>,
    mems: Option<String>,
    idle: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "an object")]
struct Pids {
    limit: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct HugePages {
    page_size: String,
    limit: u64,
}

/// The settings that the resources ask for; none where they ask for nothing. Rules for devices are passed over, as
/// rootless runtimes do: who is not root outside can make no device.
///
/// # Errors
/// A value that is none, or one for which version 2 has no setting.
pub fn settings(resources: &Value) -> Result<Vec<Setting>> {
    let raw: Option<Raw> = serde_json::from_value(resources.clone())
        .step(|| "cannot understand the resources of the container")?;
    let raw = raw.unwrap_or_default();
    let mut settings = Vec::new();
    if let Some(raw) = &raw.memory {
        settings.extend(memory(raw)?);
    }
    if let Some(pids) = raw.pids.and_then(|pids| pids.limit).filter(|limit| *limit != 0) {
        settings.push(Setting::new("pids.max", &or_none(pids), NONE, "pids.limit"));
    }
    if let Some(raw) = &raw.cpu {
        settings.extend(cpu(raw)?);
    }
    for pages in raw.hugepage_limits.unwrap_or_default() {
        let size = &pages.page_size;
        if size.is_empty() || !size.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(Error::new(format!("there is no size of huge pages `{size}`")));
        }
        settings.push(Setting::new(&format!("hugetlb.{size}.max"), &pages.limit, NONE, "hugepageLimits"));
    }
    if let Some(raw) = &raw.block_io {
        settings.extend(device_limits::block_io(raw)?);
    }
    settings.extend(device_limits::rdma(&raw.rdma.unwrap_or_default())?);
    if raw.network.is_some_and(|object| object.values().any(|value| !is_nothing(value))) {
        return Err(of_version_1("network"));
    }
    for (file, value) in raw.unified.unwrap_or_default() {
        if !is_limit(&file) {
            return Err(Error::new(format!(
                "`resources.unified` has `{}`, which is no setting",
                file.escape_debug()
            )));
        }
        let reset = if file.ends_with(".max") || file == "memory.high" { NONE } else { "" };
        settings.push(Setting::new(&file, &value, reset, "unified"));
    }
    Ok(settings)
}

fn of_version_1(name: &str) -> Error {
    Error::new(format!("`resources.{name}` is not supported"))
        .because("version 2 of control groups has no such setting")
        .hint("leave it out; `resources.unified` takes settings in the words of version 2")
}

fn or_none(value: i64) -> String {
    if value < 0 { NONE.to_owned() } else { value.to_string() }
}

fn memory(raw: &Memory) -> Result<Vec<Setting>> {
    for (name, is_asked) in [
        ("memory.kernel", raw.kernel.is_some_and(|limit| limit > 0)),
        ("memory.kernelTCP", raw.kernel_tcp.is_some_and(|limit| limit > 0)),
        ("memory.swappiness", raw.swappiness.is_some()),
        ("memory.disableOOMKiller", raw.disable_oom_killer == Some(true)),
    ] {
        if is_asked {
            return Err(of_version_1(name));
        }
    }
    let mut settings = Vec::new();
    if let Some(limit) = raw.limit.filter(|limit| *limit != 0) {
        settings.push(Setting::new("memory.max", &or_none(limit), NONE, "memory.limit"));
    }
    if let Some(reservation) = raw.reservation.filter(|bytes| *bytes != 0) {
        settings.push(Setting::new("memory.low", &or_none(reservation), "0", "memory.reservation"));
    }
    if let Some(swap) = raw.swap.filter(|swap| *swap != 0) {
        // Version 1 counts memory in.
        let value = match raw.limit {
            _ if swap < 0 => NONE.to_owned(),
            Some(limit) if limit > 0 && swap >= limit => (swap - limit).to_string(),
            _ => {
                return Err(Error::new(format!("cannot limit memory and swap to {swap}"))
                    .because("it counts memory in, and the limit of memory is not below it"));
            }
        };
        // Where there is nothing to swap to, nobody swaps.
        let setting = Setting::new("memory.swap.max", &value, NONE, "memory.swap");
        settings.push(Setting { option: None, ..setting });
    }
    Ok(settings)
}

fn cpu(raw: &Cpu) -> Result<Vec<Setting>> {
    if raw.realtime_runtime.is_some_and(|value| value != 0)
        || raw.realtime_period.is_some_and(|value| value != 0)
    {
        return Err(Error::new("limits of real-time scheduling are not supported")
            .because("version 2 of control groups has none"));
    }
    let mut settings = Vec::new();
    if let Some(shares) = raw.shares.filter(|shares| *shares != 0) {
        settings.push(Setting::new("cpu.weight", &weight_of_shares(shares), "100", "cpu.shares"));
    }
    if raw.quota.is_some_and(|quota| quota != 0) || raw.period.is_some_and(|period| period != 0) {
        let time = processor_time(raw.quota, raw.period);
        settings.push(Setting::new("cpu.max", &time, ALL_TIME, "cpu.quota"));
    }
    if let Some(burst) = raw.burst {
        settings.push(Setting::new("cpu.max.burst", &burst, "0", "cpu.burst"));
    }
    if let Some(idle) = raw.idle {
        settings.push(Setting::new("cpu.idle", &idle, "0", "cpu.idle"));
    }
    for (file, list, option) in
        [("cpuset.cpus", &raw.cpus, "cpu.cpus"), ("cpuset.mems", &raw.mems, "cpu.mems")]
    {
        if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
            settings.push(Setting::new(file, list, "", option));
        }
    }
    Ok(settings)
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(array) => array.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        _ => false,
    }
}

/// The most memory that a container may have when its limit is set, where that is to be looked at (`checkBeforeUpdate`):
/// beyond it the kernel would kill processes.
pub fn most_before_update(resources: &Value) -> Option<u64> {
    let raw: Raw = serde_json::from_value(resources.clone()).ok()?;
    let memory = raw.memory.filter(|memory| memory.check_before_update == Some(true))?;
    u64::try_from(memory.limit?).ok().filter(|limit| *limit != 0)
}

/// Refuses settings for which there is no group.
///
/// # Errors
/// There is one that limits something.
pub fn refuse(settings: &[Setting]) -> Result<()> {
    match settings.iter().find(|setting| setting.limits()) {
        None => Ok(()),
        Some(Setting { file, value, .. }) => {
            let (why, hint) = crate::host::cgroup::why_none();
            Err(Error::new(format!("cannot set `{file}` of the container's control group to `{value}`"))
                .because(why)
                .hint(hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<String> {
        let settings = settings(&serde_json::from_str(text).unwrap()).unwrap();
        settings.into_iter().map(|setting| format!("{}={}", setting.file, setting.value)).collect()
    }

    #[test]
    fn the_words_of_version_1_become_settings_of_version_2() {
        for (text, expected) in [
            ("null", &[][..]),
            (r#"{"devices":[{"allow":false,"access":"rwm"}],"memory":{},"blockIO":{"weight":null}}"#, &[]),
            (
                r#"{"memory":{"limit":1024,"swap":3072,"reservation":512}}"#,
                &["memory.max=1024", "memory.low=512", "memory.swap.max=2048"],
            ),
            (r#"{"memory":{"limit":-1,"swap":-1}}"#, &["memory.max=max", "memory.swap.max=max"]),
            (
                r#"{"pids":{"limit":7},"cpu":{"quota":5000,"shares":1024}}"#,
                &["pids.max=7", "cpu.weight=100", "cpu.max=5000 100000"],
            ),
            (r#"{"cpu":{"quota":-1,"period":50000}}"#, &["cpu.max=max 50000"]),
            (
                r#"{"cpu":{"idle":1,"burst":9,"cpus":"0-1","mems":""}}"#,
                &["cpu.max.burst=9", "cpu.idle=1", "cpuset.cpus=0-1"],
            ),
            (r#"{"hugepageLimits":[{"pageSize":"2MB","limit":0}]}"#, &["hugetlb.2MB.max=0"]),
            (r#"{"unified":{"memory.high":"5"}}"#, &["memory.high=5"]),
            (
                r#"{"blockIO":{"weight":500,"leafWeight":0,"weightDevice":[{"major":8,"minor":0,"weight":10}]}}"#,
                &["io.bfq.weight=default 500", "io.bfq.weight=8:0 10"],
            ),
            (
                r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":16,"rate":5}],
                    "throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":0}]}}"#,
                &["io.max=8:16 rbps=5", "io.max=8:0 wiops=max"],
            ),
            (
                r#"{"rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":10},"mlx4_0":{"hcaObjects":7}}}"#,
                &[
                    "rdma.max=mlx4_0 hca_handle=max hca_object=7",
                    "rdma.max=mlx5_1 hca_handle=3 hca_object=10",
                ],
            ),
            (r#"{"memory":{"kernel":-1,"disableOOMKiller":false,"useHierarchy":true}}"#, &[]),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn what_a_container_has_is_looked_at_where_that_is_asked_for() {
        let most = |text: &str| most_before_update(&serde_json::from_str(text).unwrap());
        assert_eq!(most(r#"{"memory":{"limit":5,"checkBeforeUpdate":true}}"#), Some(5));
        for nothing in [
            r#"{"memory":{"limit":5}}"#,
            r#"{"memory":{"limit":-1,"checkBeforeUpdate":true}}"#,
            r#"{"memory":{"checkBeforeUpdate":true}}"#,
            "{}",
        ] {
            assert_eq!(most(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn what_limits_nothing_needs_no_control_group() {
        let of = |text: &str| settings(&serde_json::from_str(text).unwrap()).unwrap();
        for nothing in [
            r#"{"memory":{"limit":-1,"swap":-1},"pids":{"limit":-1}}"#,
            r#"{"cpu":{"quota":-1,"shares":1024,"burst":0,"idle":0},"unified":{"pids.max":"max"}}"#,
        ] {
            refuse(&of(nothing)).unwrap();
        }
        let error = refuse(&of(r#"{"memory":{"limit":-1},"pids":{"limit":5}}"#)).unwrap_err();
        assert!(error.message().contains("`pids.max`"), "{error}");
    }

    #[test]
    fn what_leads_out_of_the_group_or_says_nothing_is_an_error() {
        for text in [
            r#"{"unified":{"../x.y":"5"}}"#,
            r#"{"unified":{"cgroup.procs":"1"}}"#,
            r#"{"memory":{"limit":"much"}}"#,
            r#"{"memory":{"limit":1024,"swap":512}}"#,
            r#"{"blockIO":{"weight":5}}"#,
            r#"{"blockIO":{"leafWeight":10}}"#,
            r#"{"blockIO":{"weightDevice":[{"major":8,"weight":10}]}}"#,
            r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":-1}]}}"#,
            r#"{"rdma":{"a hca_object=max\nb":{"hcaHandles":3}}}"#,
            r#"{"memory":{"swappiness":0}}"#,
            r#"{"memory":{"kernelTCP":4096}}"#,
            r#"{"memory":{"disableOOMKiller":true}}"#,
            r#"{"network":{"classID":7}}"#,
            "[1]",
        ] {
            assert!(settings(&serde_json::from_str(text).unwrap()).is_err(), "{text}");
        }
    }
}
