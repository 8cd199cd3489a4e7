//! `sbx version`.

use serde_json::{Value, json};

use super::Global;
use super::dialect;
use super::report::Wanted;
use crate::Result;
use crate::host::{helpers, system};
use crate::output::print;

/// Show the version of sbx and of what it runs on
///
/// There is no daemon: Client and Server are the same program, for the sake of templates that ask for either.
/// The API version names the docker API whose command line sbx follows; no API is served. Called by the name `podman`
/// or `docker`, the version is that of the program whose command line is spoken. Helper programs are started only
/// with `--helpers`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx version
  sbx version --helpers
  sbx version --format '{{.Client.Version}}'
  sbx version --format json")]
pub struct VersionArgs {
    /// Print `json`, or what a Go template makes of it
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,

    /// Show the helper programs and their versions, too
    #[arg(long)]
    helpers: bool,
}

pub fn execute(args: VersionArgs, _global: &Global) -> Result<u8> {
    let VersionArgs { format, helpers } = args;
    let wanted = Wanted::parse(format.as_deref())?;
    let report = report(helpers);
    print::text(&match wanted {
        None => text(&report),
        Some(wanted) => wanted.object(&report, Value::clone)?,
    })?;
    Ok(0)
}

/// The version as `sbx version --format json` prints it, in the words of both podman and docker.
fn report(with_helpers: bool) -> Value {
    let program = program();
    let mut report = json!({ "Client": program, "Server": program });
    report["Server"]["MinAPIVersion"] = dialect::current().api_version().1.into();
    if with_helpers {
        let helpers = helpers::with_versions()
            .into_iter()
            .map(|helper| json!({ "Name": helper.name, "Path": helper.path, "Version": helper.version }));
        report["Client"]["Helpers"] = helpers.collect();
    }
    report
}

/// One block. What was not known when sbx was built is an empty string, as podman has it.
pub(super) fn program() -> Value {
    let arch = system::oci_arch(std::env::consts::ARCH);
    let (built, built_time) = match built() {
        Some(seconds) => (seconds, rfc3339(seconds)),
        None => (0, String::new()),
    };
    let dialect = dialect::current();
    let (api_version, _) = dialect.api_version();
    json!({
        "Platform": { "Name": concat!("sbx ", env!("CARGO_PKG_VERSION")) },
        "Version": dialect.version(),
        "ApiVersion": api_version,
        "APIVersion": api_version,
        "GitCommit": option_env!("SBX_GIT_COMMIT").unwrap_or_default(),
        "Built": built,
        "BuildTime": built_time,
        "BuiltTime": built_time,
        "Os": "linux",
        "Arch": arch,
        "OsArch": format!("linux/{arch}"),
        "KernelVersion": system::kernel_release(),
        "Libc": crate::sys::probe::libc_version(),
    })
}

/// Seconds since the epoch, given by whoever built it (reproducible-builds.org, SOURCE_DATE_EPOCH).
fn built() -> Option<u64> {
    option_env!("SOURCE_DATE_EPOCH").and_then(|text| text.parse().ok())
}

/// A time in UTC; the calendar by Howard Hinnant's algorithm "civil_from_days".
fn rfc3339(seconds: u64) -> String {
    let (days, second) = (seconds / 86400 + 719_468, seconds % 86400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months are counted from March, so that the leap day is the last of the year.
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

fn text(report: &Value) -> String {
    let client = &report["Client"];
    let rows = [
        ("Version", "Version"),
        ("API version", "ApiVersion"),
        ("Git commit", "GitCommit"),
        ("Built", "BuiltTime"),
        ("OS/Arch", "OsArch"),
        ("Kernel", "KernelVersion"),
        ("Libc", "Libc"),
    ];
    let mut text = "Client:\n".to_owned();
    let mut row = |label: &str, value: &str| text.push_str(&format!(" {:<17}{value}\n", format!("{label}:")));
    // The name of another program stands for its command line alone.
    row("Program", client["Platform"]["Name"].as_str().unwrap_or_default());
    for (label, key) in rows {
        match client[key].as_str() {
            None | Some("") => {}
            Some(value) => row(label, value),
        }
    }
    for helper in client["Helpers"].as_array().into_iter().flatten() {
        let name = helper["Name"].as_str().unwrap_or_default();
        row(
            name,
            &match (helper["Path"].as_str(), helper["Version"].as_str()) {
                (None, _) => "not found".to_owned(),
                (Some(path), None) => path.to_owned(),
                (Some(path), Some(version)) => format!("{version} ({path})"),
            },
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_blocks_have_what_clients_ask_for() {
        let report = report(false);
        for side in ["Client", "Server"] {
            assert_eq!(report[side]["Version"], env!("CARGO_PKG_VERSION"));
            assert_eq!(report[side]["ApiVersion"], "1.51");
            assert_eq!(report[side]["Os"], "linux");
        }
        assert_eq!(report["Client"].get("Helpers"), None);
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_767_225_599), "2025-12-31T23:59:59Z");
    }

    #[test]
    fn the_text_leaves_out_what_is_not_known() {
        let mut report = report(false);
        report["Client"]["GitCommit"] = "".into();
        report["Client"]["Helpers"] = json!([
            { "Name": "pasta", "Path": null, "Version": null },
            { "Name": "slirp4netns", "Path": "/x/slirp4netns", "Version": "1.2.0" },
        ]);
        let text = text(&report);
        assert!(!text.contains("Git commit"), "{text}");
        assert!(
            text.contains(" pasta:           not found\n slirp4netns:     1.2.0 (/x/slirp4netns)\n"),
            "{text}"
        );
    }
}
