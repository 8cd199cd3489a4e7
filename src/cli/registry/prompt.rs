//! Questions on the terminal.

use std::io::{BufRead, Write};

use rustix::stdio::stdin;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, isatty, tcgetattr, tcsetattr};

use crate::error::{Error, Result, Step};

/// 128 and the number of SIGINT, as a shell has it.
const INTERRUPTED: u8 = 130;

/// Asks for a line on standard error.
///
/// # Errors
/// There is no terminal, or nobody types.
pub fn line(question: &str) -> Result<String> {
    terminal()?;
    ask(question);
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).step(|| "cannot read from the terminal")?;
    Ok(answer.trim().to_owned())
}

/// Asks for a line that the terminal does not show.
///
/// # Errors
/// As [`line`]; control-C ends the program with the terminal as it was.
pub fn secret(question: &str) -> Result<String> {
    terminal()?;
    let silent = Silent::begin()?;
    ask(question);
    let answer = typed();
    drop(silent);
    ask("\n");
    answer
}

fn terminal() -> Result<()> {
    if isatty(stdin()) {
        return Ok(());
    }
    Err(Error::new("cannot ask for a user name and a password")
        .because("standard input is no terminal")
        .hint("write `sbx login -u NAME --password-stdin`, and have the password come from standard input"))
}

fn ask(question: &str) {
    let mut screen = std::io::stderr().lock();
    // Who closed it wants no questions.
    let _ = screen.write_all(question.as_bytes()).and_then(|()| screen.flush());
}

/// Neither shown nor made into lines, and without signals: those would leave the terminal silent.
struct Silent(Termios);

impl Silent {
    fn begin() -> Result<Self> {
        let failed = || "cannot have the terminal hide what is typed";
        let saved = tcgetattr(stdin()).step(failed)?;
        let mut silent = saved.clone();
        silent
            .local_modes
            .remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN);
        silent.special_codes[SpecialCodeIndex::VMIN] = 1;
        silent.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(stdin(), OptionalActions::Flush, &silent).step(failed)?;
        Ok(Self(saved))
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
    }
}

/// Keys until the line ends, with those that correct it.
fn typed() -> Result<String> {
    let mut bytes: Vec<u8> = Vec::new();
    loop {
        let mut key = [0];
        let count = rustix::io::retry_on_intr(|| rustix::io::read(stdin(), &mut key))
            .step(|| "cannot read from the terminal")?;
        match key[0] {
            _ if count == 0 => break,
            b'\n' | b'\r' => break,
            // Control-D
            4 if bytes.is_empty() => break,
            // Control-C
            3 => return Err(Error::new("interrupted").exit_code(INTERRUPTED)),
            // Control-U
            21 => bytes.clear(),
            8 | 127 => {
                // All of a letter.
                while bytes.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes)
        .map_err(|_| Error::new("cannot use what was typed").because("it is no text in UTF-8"))
}
