//! What the steps of one transfer share, and work shared out to threads.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result, Step};
use crate::image::store::{ImageStore, Lease};
use crate::layers::store::{LayerStore, MapKey};
use crate::output::progress::Progress;

/// Layers that are moved at once: enough to fill a line and two processors, few enough for a small registry.
pub const AT_ONCE: usize = 4;

/// One transfer, shared by its threads.
pub struct Session {
    pub store: ImageStore,
    pub layers: LayerStore,
    /// Protects what is brought until the index names it.
    pub lease: Lease,
    pub progress: Progress,
    stopped: AtomicBool,
}

impl Session {
    /// # Errors
    /// The store cannot be written.
    pub fn begin(store: &Path, key: &MapKey, progress: Progress) -> Result<Self> {
        let images = ImageStore::new(store);
        let lease = images.lease()?;
        Ok(Self {
            store: images,
            layers: LayerStore::new(store, key),
            lease,
            progress,
            stopped: AtomicBool::new(false),
        })
    }

    /// Something failed: nobody's work is of use any more.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// A reader that fails once the transfer is stopped.
    pub fn watched<R: Read>(&self, inner: R) -> Watched<'_, R> {
        Watched { inner, stopped: &self.stopped }
    }

    /// Does `work` on every item, several at once; the results are in the order of the items. After the first
    /// failure nothing is begun and what is under way is stopped.
    ///
    /// # Errors
    /// The first failure.
    pub fn share_out<T: Send, R: Send>(
        &self,
        items: Vec<T>,
        work: impl Fn(T) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        let count = items.len();
        let queue = Mutex::new(items.into_iter().enumerate());
        let results: Mutex<Vec<Option<R>>> = Mutex::new((0..count).map(|_| None).collect());
        let failure: Mutex<Option<Error>> = Mutex::new(None);
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let labour = || {
            while let Some((at, item)) = next().filter(|_| !self.is_stopped()) {
                match work(item) {
                    Ok(result) => results.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(result),
                    Err(error) => {
                        let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                        failure.get_or_insert(error);
                        self.stopped.store(true, Ordering::Relaxed);
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
}

/// [`Session::watched`].
pub struct Watched<'s, R> {
    inner: R,
    stopped: &'s AtomicBool,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(io::Error::other("the transfer was stopped"));
        }
        self.inner.read(buffer)
    }
}
