//! The caller's time zone.

/// Seconds since the epoch of a moment on the caller's clock (mktime(3): TZ, else /etc/localtime); `month` and `day`
/// count from 1. None where no such number can be had.
pub fn to_utc(year: i32, month: i32, day: i32, hour: i32, minute: i32, second: i32) -> Option<i64> {
    // SAFETY: a zeroed tm is a valid one.
    let mut parts: libc::tm = unsafe { std::mem::zeroed() };
    parts.tm_year = year.checked_sub(1900)?;
    parts.tm_mon = month.checked_sub(1)?;
    (parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec) = (day, hour, minute, second);
    // Whether it is summer then is for the C library to find out.
    parts.tm_isdst = -1;
    // SAFETY: the pointer is to a live local value.
    let seconds = unsafe { libc::mktime(&raw mut parts) };
    (seconds != -1).then_some(seconds)
}
