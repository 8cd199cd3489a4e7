//! cli
use crate::Result;

pub fn main() -> Result<u8> {
    Ok(0)
}
