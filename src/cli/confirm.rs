//! The question before something is removed for good.

use std::io::{BufRead, Write};

use crate::error::{Result, Step};

/// Shows the warning and asks, on standard error. Only `y` and `yes` agree; the end of the input does not.
///
/// # Errors
/// Standard input cannot be read.
pub(crate) fn ask(warning: &str) -> Result<bool> {
    let mut screen = std::io::stderr().lock();
    let _ =
        write!(screen, "{warning}\nAre you sure you want to continue? [y/N] ").and_then(|()| screen.flush());
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer).step(|| "cannot read the answer")?;
    if read == 0 {
        let _ = writeln!(screen);
    }
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
