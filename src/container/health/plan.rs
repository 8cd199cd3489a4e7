//! What the options and the image make of a container's health check.

use serde::Deserialize;
use serde_json::Value;

use crate::cli::health_options::HealthOptions;
use crate::container::duration;
use crate::container::health::Check;
use crate::error::{Error, Result};

const SECOND: u64 = 1_000_000_000;
/// docker's and podman's.
const INTERVAL: u64 = 30 * SECOND;
const TIMEOUT: u64 = 30 * SECOND;
const START_INTERVAL: u64 = 5 * SECOND;
const RETRIES: u32 = 3;
/// podman's (podman-run(1)).
const LOG_COUNT: usize = 5;
const LOG_SIZE: usize = 500;
/// What fits into a record that is written after every check.
const MOST_ANSWERS: usize = 1000;
const MOST_OUTPUT: usize = 1 << 20;

/// The check of an image's configuration, in docker's form; 0 and nothing stand for the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct OfImage {
    #[serde(deserialize_with = "crate::image::documents::null_is_default")]
    pub test: Vec<String>,
    pub interval: u64,
    pub timeout: u64,
    pub start_period: u64,
    pub start_interval: u64,
    pub retries: u32,
}

impl OfImage {
    /// None where there is none, or it cannot be understood: an image is not worth a failure for that.
    pub fn read(value: Option<&Value>) -> Option<Self> {
        let check: Self = serde_json::from_value(value?.clone()).ok()?;
        (!check.test.is_empty()).then_some(check)
    }
}

/// Decides the check of a new container; none: it has none.
///
/// # Errors
/// The first option that is wrong.
pub fn decide(options: &HealthOptions, image: Option<&OfImage>) -> Result<Option<Check>> {
    let inherited = image.cloned().unwrap_or_default();
    let test = match &options.health_cmd {
        _ if options.no_healthcheck => {
            if options.health_cmd.as_deref().is_some_and(|text| !text.eq_ignore_ascii_case("none")) {
                return Err(Error::new("cannot use `--no-healthcheck` with `--health-cmd`"));
            }
            return Ok(None);
        }
        Some(text) => parse_test(text)?,
        None => inherited.test.clone(),
    };
    if test.first().is_none_or(|word| word == "NONE") {
        return match options.first_detail() {
            Some(flag) if options.health_cmd.is_none() => Err(Error::new(format!("cannot use `{flag}`"))
                .because("there is no health check: the image has none")
                .hint("give one with `--health-cmd COMMAND`")),
            _ => Ok(None),
        };
    }
    if test.len() < 2 {
        return Err(Error::new("cannot use a health check without a command")
            .hint("write `--health-cmd COMMAND`, or `--no-healthcheck`"));
    }
    let or = |value: u64, default| if value == 0 { default } else { value };
    let interval = match options.health_interval.as_deref() {
        Some("disable") => 0,
        Some("0") => INTERVAL,
        text => span("--health-interval", text)?.unwrap_or(or(inherited.interval, INTERVAL)),
    };
    Ok(Some(Check {
        test,
        interval,
        timeout: at_least("--health-timeout", span("--health-timeout", options.health_timeout.as_deref())?)?
            .unwrap_or(or(inherited.timeout, TIMEOUT)),
        start_period: span("--health-start-period", options.health_start_period.as_deref())?
            .unwrap_or(inherited.start_period),
        start_interval: span("--health-start-interval", options.health_start_interval.as_deref())?
            .unwrap_or(or(inherited.start_interval, START_INTERVAL)),
        retries: options.health_retries.filter(|retries| *retries > 0).unwrap_or(match inherited.retries {
            0 => RETRIES,
            retries => retries,
        }),
        on_failure: options.health_on_failure,
        log_count: bounded("--health-max-log-count", options.health_max_log_count, LOG_COUNT, MOST_ANSWERS)?,
        log_size: bounded("--health-max-log-size", options.health_max_log_size, LOG_SIZE, MOST_OUTPUT)?,
    }))
}

/// docker's form of what was typed: a script, the words of a Dockerfile's HEALTHCHECK, or a JSON array of words.
fn parse_test(text: &str) -> Result<Vec<String>> {
    let kind = |word: &str| {
        let kinds = ["CMD", "CMD-SHELL", "NONE"];
        kinds.into_iter().find(|kind| kind.eq_ignore_ascii_case(word)).map(str::to_owned)
    };
    if text.trim_start().starts_with('[')
        && let Ok(mut words) = serde_json::from_str::<Vec<String>>(text)
    {
        let known = words.first().and_then(|word| kind(word));
        return Ok(match (known, words.len()) {
            (Some(kind), _) => {
                words[0] = kind;
                words
            }
            // podman takes one word for a script.
            (None, 0 | 1) => std::iter::once("CMD-SHELL".to_owned()).chain(words).collect(),
            (None, _) => std::iter::once("CMD".to_owned()).chain(words).collect(),
        });
    }
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    Ok(match kind(first).as_deref() {
        Some("NONE") if rest.is_empty() => vec!["NONE".to_owned()],
        Some("CMD") => std::iter::once("CMD").chain(rest.split_whitespace()).map(str::to_owned).collect(),
        Some("CMD-SHELL") => vec!["CMD-SHELL".to_owned(), rest.trim().to_owned()],
        _ if text.trim().is_empty() => {
            return Err(Error::new("cannot use `--health-cmd` without a command"));
        }
        _ => vec!["CMD-SHELL".to_owned(), text.to_owned()],
    })
}

/// Nanoseconds.
fn span(flag: &str, text: Option<&str>) -> Result<Option<u64>> {
    let Some(text) = text else { return Ok(None) };
    let nanoseconds = duration::parse(flag, text)?.as_nanos();
    u64::try_from(nanoseconds).map(Some).map_err(|_| {
        Error::new(format!("cannot use `{flag} {text}`")).because("it is longer than can be counted")
    })
}

fn at_least(flag: &str, span: Option<u64>) -> Result<Option<u64>> {
    match span {
        Some(nanoseconds) if nanoseconds < SECOND / 1000 => {
            Err(Error::new(format!("cannot use `{flag}`")).because("it is less than a millisecond"))
        }
        span => Ok(span),
    }
}

fn bounded(flag: &str, value: Option<usize>, default: usize, most: usize) -> Result<usize> {
    match value {
        None => Ok(default),
        Some(value) if (1..=most).contains(&value) => Ok(value),
        Some(value) => Err(Error::new(format!("cannot use `{flag} {value}`"))
            .because("what is kept has a bound, since it is written after every check")
            .hint(format!("write a number from 1 to {most}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::health::OnFailure;

    fn test(text: &str) -> Vec<String> {
        parse_test(text).unwrap()
    }

    #[test]
    fn commands_are_read_as_podman_reads_them() {
        assert_eq!(test("curl -f localhost || exit 1"), ["CMD-SHELL", "curl -f localhost || exit 1"]);
        assert_eq!(test("CMD-SHELL test -e /x"), ["CMD-SHELL", "test -e /x"]);
        assert_eq!(test("CMD test -e /x"), ["CMD", "test", "-e", "/x"]);
        assert_eq!(test(r#"["CMD", "test", "-e", "/a b"]"#), ["CMD", "test", "-e", "/a b"]);
        assert_eq!(test(r#"["cmd-shell", "a | b"]"#), ["CMD-SHELL", "a | b"]);
        assert_eq!(test(r#"["test", "-e", "/x"]"#), ["CMD", "test", "-e", "/x"]);
        assert_eq!(test(r#"["a | b"]"#), ["CMD-SHELL", "a | b"]);
        assert_eq!(test("none"), ["NONE"]);
        assert_eq!(test("[ -e /x ]"), ["CMD-SHELL", "[ -e /x ]"]);
        assert!(parse_test("  ").is_err());
    }

    fn image() -> OfImage {
        let value = serde_json::json!({"Test": ["CMD", "x"], "Interval": 2_000_000_000_u64, "Retries": 7});
        OfImage::read(Some(&value)).unwrap()
    }

    #[test]
    fn the_images_check_holds_but_for_what_is_said() {
        let decided = decide(&HealthOptions::default(), Some(&image())).unwrap().unwrap();
        assert_eq!((decided.interval, decided.retries, decided.timeout), (2 * SECOND, 7, 30 * SECOND));
        let options = HealthOptions {
            health_interval: Some("1m30s".to_owned()),
            health_on_failure: OnFailure::Kill,
            ..HealthOptions::default()
        };
        let decided = decide(&options, Some(&image())).unwrap().unwrap();
        assert_eq!((decided.interval, decided.on_failure), (90 * SECOND, OnFailure::Kill));
        assert_eq!(decided.test, ["CMD", "x"]);
        let none = HealthOptions { no_healthcheck: true, ..HealthOptions::default() };
        assert_eq!(decide(&none, Some(&image())).unwrap(), None);
        let none = HealthOptions { health_cmd: Some("none".to_owned()), ..HealthOptions::default() };
        assert_eq!(decide(&none, Some(&image())).unwrap(), None);
        assert_eq!(decide(&HealthOptions::default(), None).unwrap(), None);
        let null = serde_json::json!({"Test": null});
        assert_eq!(OfImage::read(Some(&null)), None);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        let with = |change: &dyn Fn(&mut HealthOptions)| {
            let mut options = HealthOptions { health_cmd: Some("x".to_owned()), ..HealthOptions::default() };
            change(&mut options);
            decide(&options, None)
        };
        assert!(with(&|_| {}).unwrap().is_some());
        assert!(with(&|options| options.health_interval = Some("soon".to_owned())).is_err());
        assert!(with(&|options| options.health_timeout = Some("0".to_owned())).is_err());
        assert!(with(&|options| options.health_max_log_count = Some(0)).is_err());
        assert!(with(&|options| options.health_max_log_size = Some(usize::MAX)).is_err());
        assert!(with(&|options| options.no_healthcheck = true).is_err());
        let error = with(&|options| {
            options.health_cmd = None;
            options.health_retries = Some(2);
        });
        assert!(error.unwrap_err().message().contains("--health-retries"));
        let disabled = with(&|options| options.health_interval = Some("disable".to_owned()));
        assert_eq!(disabled.unwrap().unwrap().interval, 0);
    }
}
