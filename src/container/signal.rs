//! Signals by name and number (signal(7)), for `--stop-signal` and `kill`.

use crate::error::{Error, Result};

/// Names without `SIG`, in the numbering of x86 and ARM; aliases come after the name that is shown.
const NAMES: &[(&str, i32)] = &[
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("IOT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("POLL", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

/// The first real-time signal that glibc leaves to programs; the kernel's own first two serve its threads.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// Reads a signal: `TERM`, `SIGTERM`, `term`, `15`, `RTMIN`, `RTMIN+3`, `RTMAX-1`.
///
/// # Errors
/// Names the flag and the text when there is no such signal.
pub fn parse(flag: &str, text: &str) -> Result<i32> {
    let found = match text.parse::<i32>() {
        Ok(number) if text.starts_with(|c: char| c.is_ascii_digit()) => Some(number).filter(|n| in_range(*n)),
        _ => by_name(text),
    };
    found.ok_or_else(|| {
        Error::new(format!("cannot read the signal of `{flag}`: `{text}`"))
            .because("there is no such signal")
            .hint("write a name such as `TERM`, `SIGUSR1` or `RTMIN+3`, or a number from 1 to 64")
    })
}

fn in_range(number: i32) -> bool {
    (1..=RTMAX).contains(&number)
}

fn by_name(text: &str) -> Option<i32> {
    // The longest name is `SIGRTMIN+30`.
    if text.len() > 11 {
        return None;
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Some(*number);
    }
    let (base, distance) = if let Some(rest) = name.strip_prefix("RTMIN") {
        (RTMIN, distance(rest, '+')?)
    } else {
        (RTMAX, -distance(name.strip_prefix("RTMAX")?, '-')?)
    };
    Some(base + distance).filter(|number| (RTMIN..=RTMAX).contains(number))
}

fn distance(text: &str, sign: char) -> Option<i32> {
    if text.is_empty() {
        return Some(0);
    }
    let digits = text.strip_prefix(sign)?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// The name with `SIG`, as `inspect` shows it; numbers without a name stay numbers.
pub fn name(number: i32) -> String {
    match NAMES.iter().find(|(_, known)| *known == number) {
        Some((name, _)) => format!("SIG{name}"),
        None if number == RTMIN => "SIGRTMIN".to_owned(),
        None if number == RTMAX => "SIGRTMAX".to_owned(),
        None if (RTMIN..RTMAX).contains(&number) => format!("SIGRTMIN+{}", number - RTMIN),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigterm", 15),
            ("term", 15),
            ("15", 15),
            ("9", 9),
            ("IOT", 6),
            ("USR1", 10),
            ("WINCH", 28),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMIN+30", 64),
            ("RTMAX", 64),
            ("rtmax-1", 63),
            ("64", 64),
        ] {
            assert_eq!(parse("--stop-signal", text).unwrap(), number, "{text}");
        }
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        for text in [
            "",
            "0",
            "-9",
            "+9",
            "65",
            "99999999999",
            "SIG",
            "SIGSIGTERM",
            "FOO",
            "15x",
            "RTMIN-1",
            "RTMIN+31",
            "RTMIN+",
            "RTMIN++1",
            "RTMAX+1",
            "RTMAX-99",
            "TÉRM",
            "SIGRTMIN+99999999999",
        ] {
            let error = parse("--stop-signal", text).unwrap_err();
            assert!(error.message().contains("--stop-signal") && error.message().contains(text), "{text}");
        }
    }

    #[test]
    fn every_shown_name_reads_back() {
        for number in (1..=31).chain(34..=64) {
            let name = name(number);
            assert!(name.starts_with("SIG"), "{name}");
            assert_eq!(parse("kill", &name).unwrap(), number);
        }
        assert_eq!(name(33), "33");
    }
}
