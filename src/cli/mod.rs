//! Words become requests: one file per verb, each a clap struct and `execute`.

pub mod doctor;
pub mod info;
mod report;
pub mod version;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::Result;

/// Containers for people without root
#[derive(Debug, Parser)]
#[command(name = "sbx", version)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Args)]
pub struct Global {
    /// Keep the store in this directory
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Doctor(doctor::DoctorArgs),
    Info(info::InfoArgs),
    Version(version::VersionArgs),
}

pub fn main() -> Result<u8> {
    let cli = Cli::parse();
    match cli.verb {
        Verb::Doctor(args) => doctor::execute(args, &cli.global),
        Verb::Info(args) => info::execute(args, &cli.global),
        Verb::Version(args) => version::execute(args, &cli.global),
    }
}
