//! What the steps of one transfer share.

use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Result;
use crate::image::store::{ImageStore, Lease};
use crate::image::transfer::workers;
use crate::layers::store::{LayerStore, MapKey};
use crate::output::progress::Progress;

/// One transfer, shared by its threads.
pub struct Session {
    pub store: ImageStore,
    pub layers: LayerStore,
    /// Protects what is brought until the index names it.
    pub lease: Lease,
    pub progress: Progress,
    stopped: AtomicBool,
    settles: bool,
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
            settles: true,
        })
    }

    /// Leaves it to the caller to settle the layers ([`LayerStore::settle`]): other sessions are to follow.
    #[must_use]
    pub fn unsettled(mut self) -> Self {
        self.settles = false;
        self
    }

    /// Something failed: nobody's work is of use any more.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// A reader that fails once the transfer is stopped.
    pub fn watched<R: Read>(&self, inner: R) -> Watched<'_, R> {
        Watched { inner, stopped: &self.stopped }
    }

    /// [`workers::share_out`]; after the first failure what is under way is stopped, too.
    ///
    /// # Errors
    /// The first failure.
    pub fn share_out<T: Send, R: Send>(
        &self,
        items: Vec<T>,
        work: impl Fn(T) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        workers::share_out(items, &self.stopped, work)
    }
}

impl Drop for Session {
    /// Once for all layers. Killed here, they are there until the next boot, and then unpacked again.
    fn drop(&mut self) {
        if self.settles
            && let Err(error) = self.layers.settle()
        {
            log::warn!("{error}: what was unpacked is unpacked again after the next boot");
        }
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
