//! What people and programs read: tables, `--format`, and the one way to standard output.

pub mod harmless;
pub mod print;
pub mod progress;
pub mod table;
pub mod template;
pub mod width;
