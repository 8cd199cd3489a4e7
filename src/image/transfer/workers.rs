//! Work shared out to threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result, Step};

/// Blobs that are moved at once: enough to fill a line and two processors, few enough for a small registry.
const AT_ONCE: usize = 4;

/// Does `work` on every item, several at once; the results are in the order of the items. After the first
/// failure `stopped` is set and nothing is begun.
///
/// # Errors
/// The first failure.
pub fn share_out<T: Send, R: Send>(
    items: Vec<T>,
    stopped: &AtomicBool,
    work: impl Fn(T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let count = items.len();
    let queue = Mutex::new(items.into_iter().enumerate());
    let results: Mutex<Vec<Option<R>>> = Mutex::new((0..count).map(|_| None).collect());
    let failure: Mutex<Option<Error>> = Mutex::new(None);
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let labour = || {
        while let Some((at, item)) = next().filter(|_| !stopped.load(Ordering::Relaxed)) {
            match work(item) {
                Ok(result) => results.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(result),
                Err(error) => {
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    stopped.store(true, Ordering::Relaxed);
                }
            }
        }
    };
    std::thread::scope(|scope| -> Result<()> {
        for _ in 1..count.min(AT_ONCE) {
            std::thread::Builder::new().spawn_scoped(scope, labour).step(|| "cannot start a thread")?;
        }
        labour();
        Ok(())
    })?;
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.into_iter().collect::<Option<Vec<R>>>().ok_or_else(|| Error::new("the transfer was stopped"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        let stopped = AtomicBool::new(false);
        let doubled = share_out((0..100).collect(), &stopped, |n| Ok(2 * n)).unwrap();
        assert_eq!(doubled, (0..200).step_by(2).collect::<Vec<_>>());
        assert!(share_out(Vec::<u8>::new(), &stopped, Ok).unwrap().is_empty());
    }

    #[test]
    fn the_first_failure_stops_the_others() {
        let stopped = AtomicBool::new(false);
        let done = Mutex::new(0);
        let result = share_out((0..1000).collect(), &stopped, |n| {
            if n == 0 {
                return Err(Error::new("broken"));
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
            *done.lock().unwrap() += 1;
            Ok(())
        });
        assert_eq!(result.unwrap_err().message(), "broken");
        assert!(*done.lock().unwrap() < 900);
    }
}
