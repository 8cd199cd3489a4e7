//! The program nft(8).

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::error::{Error, Result, Step};
use crate::host::programs;

/// Where nft says EOPNOTSUPP.
const LACKING: &str = "the kernel lacks a part of nftables: it takes CONFIG_NF_TABLES_INET, CONFIG_NF_TABLES_BRIDGE, \
                       CONFIG_NFT_CT, CONFIG_NFT_MASQ and CONFIG_NFT_SOCKET; `--net slirp4netns` and `--net pasta` \
                       need none of them";

/// How nft is started.
#[derive(Debug, Clone)]
pub struct Nft {
    /// The program, then its first arguments.
    command: Vec<PathBuf>,
}

impl Nft {
    /// # Errors
    /// It is not installed.
    pub fn find() -> Result<Self> {
        let path = programs::find("nft").ok_or_else(|| {
            Error::new("cannot filter the packets of bridge networks")
                .because("the program `nft` is missing")
                .hint("install it: `apt install nftables`")
        })?;
        Ok(Self { command: vec![path] })
    }

    /// Started by another command, such as one that enters a namespace first.
    #[cfg(test)]
    pub fn through(words: &[&str]) -> Self {
        Self { command: words.iter().map(PathBuf::from).collect() }
    }

    /// Applies `text`, all of it or nothing (`nft -f -`, one netlink batch).
    ///
    /// # Errors
    /// nft cannot be started, or refuses the text: its own words are the cause.
    pub fn apply(&self, text: &str) -> Result<()> {
        let failed = || "cannot change the packet filter of the bridge networks";
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).args(["-f", "-"]).env("LC_ALL", "C");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().step(failed)?;
        // It reads everything before it says anything. Where it ends early its words tell more than a broken pipe.
        let fed = child.stdin.take().map_or(Ok(()), |mut input| input.write_all(text.as_bytes()));
        let output = child.wait_with_output().step(failed)?;
        match output.status.success() {
            true => fed.step(failed),
            false => {
                let words = words(&output.stderr, output.status);
                let lacking = words.contains("Operation not supported");
                let failed = Error::new(failed()).because(words);
                Err(if lacking { failed.hint(LACKING) } else { failed })
            }
        }
    }
}

/// The first complaint, with the line that it is about.
fn words(errors: &[u8], status: std::process::ExitStatus) -> String {
    let errors = String::from_utf8_lossy(errors);
    let mut lines = errors.lines().map(str::trim).filter(|line| !line.is_empty());
    match (lines.next(), lines.next()) {
        (Some(complaint), Some(line)) => format!("nft: {complaint}: {line}"),
        (Some(complaint), None) => format!("nft: {complaint}"),
        _ => format!("nft ended with {status}"),
    }
}
