//! getrandom(2), and nothing else: a crate that falls back to a file keeps a descriptor, and a process that closes all that
//! it inherited reads from whatever has that number then.

use std::io;

/// Fills `bytes` from the kernel's generator.
///
/// # Errors
/// A filter refuses the call.
pub fn fill(bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        // SAFETY: the kernel writes at most as many bytes as `rest` has.
        let count = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(count) {
            Ok(count) => filled += count,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_filled_and_by_no_rule() {
        // Longer than what one call gives at once.
        let mut bytes = vec![0; 600];
        fill(&mut bytes).expect("the kernel has a generator");
        assert!(bytes.chunks(60).all(|part| part.iter().any(|byte| *byte != 0)), "{bytes:?}");
        let mut again = vec![0; 600];
        fill(&mut again).expect("the kernel has a generator");
        assert_ne!(bytes, again);
        fill(&mut []).expect("nothing is always there");
    }
}
