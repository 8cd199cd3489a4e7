//! Limits as docker's `HostConfig` has them.

use serde_json::{Map, Value, json};

use super::{Limits, Rates, Swap};

/// The fields, 0 or empty where nothing is limited.
pub fn fields(limits: &Limits) -> Map<String, Value> {
    let limits = limits.clone().asked();
    let swap = match (limits.memory_swap, limits.memory) {
        (Some(Swap::Unlimited), _) => -1,
        (Some(Swap::Total(total)), _) => i64::try_from(total).unwrap_or(i64::MAX),
        (None, Some(memory)) => i64::try_from(memory.saturating_mul(2)).unwrap_or(i64::MAX),
        (None, None) => 0,
    };
    let rates = |of: fn(&Rates) -> Option<u64>| -> Vec<Value> {
        let each = limits.device_rates.iter().filter_map(|(path, rates)| {
            Some(json!({ "Path": path.display().to_string(), "Rate": of(rates)? }))
        });
        each.collect()
    };
    let weights = limits.blkio_weight_device.iter();
    let weights =
        weights.map(|(path, weight)| json!({ "Path": path.display().to_string(), "Weight": weight }));
    let fields = json!({
        "Memory": limits.memory.unwrap_or(0),
        "MemorySwap": swap,
        "MemoryReservation": limits.memory_reservation.unwrap_or(0),
        "MemoryHigh": limits.memory_high.unwrap_or(0),
        "MemorySwappiness": Value::Null,
        "NanoCpus": limits.nano_cpus.unwrap_or(0),
        "CpuShares": limits.cpu_shares.unwrap_or(0),
        "CpuWeight": limits.cpu_weight.unwrap_or(0),
        "CpuPeriod": limits.cpu_period.unwrap_or(0),
        "CpuQuota": limits.cpu_quota.unwrap_or(0),
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "CpusetCpus": limits.cpuset_cpus.as_deref().unwrap_or_default(),
        "CpusetMems": limits.cpuset_mems.as_deref().unwrap_or_default(),
        "PidsLimit": limits.pids.unwrap_or(0),
        "BlkioWeight": limits.blkio_weight.unwrap_or(0),
        "BlkioWeightDevice": weights.collect::<Vec<_>>(),
        "BlkioDeviceReadBps": rates(|rates| rates.read_bps),
        "BlkioDeviceWriteBps": rates(|rates| rates.write_bps),
        "BlkioDeviceReadIOps": rates(|rates| rates.read_iops),
        "BlkioDeviceWriteIOps": rates(|rates| rates.write_iops),
        "OomKillDisable": false,
        "CgroupConf": limits.files,
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_dockers() {
        let none = fields(&Limits::default());
        assert_eq!(
            (&none["Memory"], &none["MemorySwap"], &none["PidsLimit"]),
            (&json!(0), &json!(0), &json!(0))
        );
        let mut limits = Limits { memory: Some(1 << 20), nano_cpus: Some(5), ..Limits::default() };
        limits.device_rates.insert("/dev/a".into(), Rates { read_bps: Some(7), ..Rates::default() });
        let found = fields(&limits);
        assert_eq!((&found["MemorySwap"], &found["NanoCpus"]), (&json!(2 << 20), &json!(5)));
        assert_eq!(found["BlkioDeviceReadBps"], json!([{ "Path": "/dev/a", "Rate": 7 }]));
        assert_eq!(found["BlkioDeviceWriteBps"], json!([]));
        limits.memory_swap = Some(Swap::Unlimited);
        assert_eq!(fields(&limits)["MemorySwap"], json!(-1));
    }
}
