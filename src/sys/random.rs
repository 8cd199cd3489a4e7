//! Random bytes of the kernel, without a descriptor that is kept open: processes that close all that they inherited
//! would lose it.

use std::io;

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

/// getrandom(2).
///
/// # Errors
/// ENOSYS, where a filter hides the call.
pub fn fill(mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match getrandom(&mut *bytes, GetRandomFlags::empty()) {
            Ok(filled) => bytes = &mut bytes[filled..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_differ() {
        let (mut one, mut other) = ([0; 600], [0; 600]);
        super::fill(&mut one).expect("random bytes");
        super::fill(&mut other).expect("random bytes");
        assert_ne!(one, other);
        assert!(one[500..].iter().any(|byte| *byte != 0));
    }
}
