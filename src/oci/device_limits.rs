//! `blockIO` and `rdma` of a bundle's resources: limits of devices, which it names by their numbers or the kernel's words
//! (config-linux.md, Block IO and RDMA), as runc and crun say them to version 2.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::limits::settings::{NONE, Setting, weight_of_blkio};

/// Weights of version 1.
const WEIGHTS: std::ops::RangeInclusive<u16> = 10..=1000;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "an object")]
pub(super) struct BlockIo {
    weight: Option<u16>,
    leaf_weight: Option<u16>,
    weight_device: Option<Vec<Weight>>,
    throttle_read_bps_device: Option<Vec<Rate>>,
    throttle_write_bps_device: Option<Vec<Rate>>,
    #[serde(rename = "throttleReadIOPSDevice")]
    throttle_read_iops_device: Option<Vec<Rate>>,
    #[serde(rename = "throttleWriteIOPSDevice")]
    throttle_write_iops_device: Option<Vec<Rate>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Weight {
    major: u32,
    minor: u32,
    weight: Option<u16>,
    leaf_weight: Option<u16>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
struct Rate {
    major: u32,
    minor: u32,
    rate: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "an object")]
pub(super) struct Rdma {
    hca_handles: Option<u32>,
    hca_objects: Option<u32>,
}

/// # Errors
/// A weight that is none, or one that version 2 does not have.
pub(super) fn block_io(raw: &BlockIo) -> Result<Vec<Setting>> {
    let mut settings = Vec::new();
    settings.extend(weight("default", raw.weight, "100", "blockIO.weight")?);
    no_leaves(raw.leaf_weight)?;
    for device in raw.weight_device.iter().flatten() {
        no_leaves(device.leaf_weight)?;
        let number = format!("{}:{}", device.major, device.minor);
        settings.extend(weight(&number, device.weight, "default", "blockIO.weightDevice")?);
    }
    for (rates, word, option) in [
        (&raw.throttle_read_bps_device, "rbps", "blockIO.throttleReadBpsDevice"),
        (&raw.throttle_write_bps_device, "wbps", "blockIO.throttleWriteBpsDevice"),
        (&raw.throttle_read_iops_device, "riops", "blockIO.throttleReadIOPSDevice"),
        (&raw.throttle_write_iops_device, "wiops", "blockIO.throttleWriteIOPSDevice"),
    ] {
        for Rate { major, minor, rate } in rates.iter().flatten() {
            let line = |rate: &dyn std::fmt::Display| format!("{major}:{minor} {word}={rate}");
            // Version 1 lifts a rate by 0.
            let value = if *rate == 0 { line(&NONE) } else { line(rate) };
            settings.push(Setting::new("io.max", &value, &line(&NONE), option));
        }
    }
    Ok(settings)
}

fn weight(key: &str, weight: Option<u16>, reset: &str, option: &'static str) -> Result<Option<Setting>> {
    let Some(weight) = weight.filter(|weight| *weight != 0) else { return Ok(None) };
    if !WEIGHTS.contains(&weight) {
        return Err(Error::new(format!("`resources.{option}` is {weight}"))
            .because("weights are from 10 to 1000, as in version 1"));
    }
    let instead = Some(("io.weight".to_owned(), format!("{key} {}", weight_of_blkio(weight))));
    let (value, reset) = (format!("{key} {weight}"), format!("{key} {reset}"));
    Ok(Some(Setting { instead, ..Setting::new("io.bfq.weight", &value, &reset, option) }))
}

fn no_leaves(weight: Option<u16>) -> Result<()> {
    match weight {
        None | Some(0) => Ok(()),
        Some(_) => Err(Error::new("`leafWeight` is not supported")
            .because("version 2 of control groups has no weight for processes beside other groups")),
    }
}

/// # Errors
/// A name that is none.
pub(super) fn rdma(raw: &BTreeMap<String, Rdma>) -> Result<Vec<Setting>> {
    let one = |(name, limits): (&String, &Rdma)| {
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_graphic()) {
            return Err(Error::new(format!("there is no RDMA device `{}`", name.escape_debug())));
        }
        let of = |limit: Option<u32>| limit.map_or_else(|| NONE.to_owned(), |limit| limit.to_string());
        let line = |handles: &str, objects: &str| format!("{name} hca_handle={handles} hca_object={objects}");
        let value = line(&of(limits.hca_handles), &of(limits.hca_objects));
        Ok(Setting::new("rdma.max", &value, &line(NONE, NONE), "rdma"))
    };
    raw.iter().map(one).collect()
}
