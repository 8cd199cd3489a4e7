//! Parse, run, report: the only place that prints an error and picks the exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    match sbx::cli::main() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprint!("{}", sbx::cli::report(&error));
            ExitCode::from(error.code())
        }
    }
}
