//! How often, and how long after, a request is made again.

use std::time::{Duration, SystemTime};

/// Attempts after the first, unless told otherwise.
const RETRIES: u32 = 3;
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(8);
/// A registry that wants more time than this gets it from the user, not from us.
const MOST_PATIENCE: Duration = Duration::from_secs(60);

/// Whether it may help to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    Never,
    Soon,
    /// The registry has said when.
    After(Duration),
    /// The server speaks no TLS.
    OverHttp,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Policy {
    /// `--retry`
    pub retries: Option<u32>,
    /// `--retry-delay`
    pub delay: Option<Duration>,
}

impl Policy {
    /// The pause before the next attempt, or none where there shall be none. `attempt` counts from 0.
    pub fn pause(&self, attempt: u32, again: Again) -> Option<Duration> {
        if attempt >= self.retries.unwrap_or(RETRIES) {
            return None;
        }
        match again {
            Again::Never | Again::OverHttp => None,
            Again::After(asked) if asked > MOST_PATIENCE => None,
            Again::After(asked) => Some(asked),
            Again::Soon => Some(self.delay.unwrap_or_else(|| back_off(attempt))),
        }
    }
}

/// Twice as long each time, and by chance up to a half shorter, so that those who failed together do not come back
/// together.
fn back_off(attempt: u32) -> Duration {
    let whole = SHORTEST.saturating_mul(1 << attempt.min(16)).min(LONGEST);
    // Where there is no randomness there is no chance.
    let mut bytes = [0xff; 4];
    let _ = crate::sys::random::fill(&mut bytes);
    let chance = u32::from_ne_bytes(bytes);
    whole.mul_f64(0.5 + 0.5 * f64::from(chance) / f64::from(u32::MAX))
}

/// The header Retry-After: seconds, or a date (RFC 9110, 10.2.3).
pub fn retry_after(header: &str) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(header).ok()?.timestamp();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    let left = date.as_second().saturating_sub(now.cast_signed());
    Some(Duration::from_secs(left.max(0).cast_unsigned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let policy = Policy::default();
        for (attempt, most) in [(0, 250), (1, 500), (2, 1000)] {
            let pause = policy.pause(attempt, Again::Soon).unwrap().as_millis();
            assert!((most / 2..=most).contains(&pause), "{attempt}: {pause}");
        }
        assert_eq!(policy.pause(3, Again::Soon), None);
        assert_eq!(policy.pause(0, Again::Never), None);
        assert_eq!(policy.pause(0, Again::After(Duration::from_secs(5))), Some(Duration::from_secs(5)));
        assert_eq!(policy.pause(0, Again::After(Duration::from_secs(3600))), None);
        assert!(back_off(60) <= LONGEST);
        let none = Policy { retries: Some(0), delay: None };
        assert_eq!(none.pause(0, Again::Soon), None);
    }

    #[test]
    fn retry_after_is_a_number_or_a_date() {
        assert_eq!(retry_after(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::ZERO));
        assert!(retry_after("Fri, 31 Dec 2100 23:59:59 GMT").unwrap() > Duration::from_secs(1 << 30));
        assert_eq!(retry_after("soon"), None);
        assert_eq!(retry_after("-1"), None);
    }
}
