//! Volumes: directories that outlive containers and are shared by them.
//!
//! ```text
//! <store>/volumes/<name>/_data         what containers see
//!                       /volume.json   the record, and the file whose lock stands for the volume
//!                       /fresh         nobody has used it yet: an image may still fill it
//!                       /_copy         being filled; becomes `_data` by one rename
//! <store>/volumes/.part/               half-made volumes, locked by their makers, and removed ones
//! ```
//!
//! A volume is in use while a container's spec names it. Who makes a container holds the lock shared until its spec
//! is on disk ([`hold`]), who removes a volume holds it alone and then looks at all specs ([`removal`]), and who
//! fills one on its first use holds it alone, too ([`attach`]).

pub mod archive;
pub mod attach;
pub mod disk;
pub mod document;
pub mod filter;
pub mod hold;
mod lock;
pub mod name;
pub mod options;
pub mod record;
pub mod removal;
pub mod store;
pub mod usage;

pub use record::Record;
pub use store::{VolumeDirectory, VolumeStore};
