//! host
pub mod programs;
