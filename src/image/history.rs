//! How an image was made, step by step.

use jiff::Timestamp;

use crate::image::documents::History;
use crate::image::store::{Image, ImageStore};

/// One step.
#[derive(Debug, Clone)]
pub struct Step {
    pub created: Option<Timestamp>,
    pub created_by: String,
    pub comment: String,
    /// Bytes of the layer that it made.
    pub size: u64,
    pub empty: bool,
}

/// The steps, the newest first. Layers that no step speaks of come as steps of their own.
pub fn of(store: &ImageStore, image: &Image) -> Vec<Step> {
    let mut sizes = store.layer_sizes(image).into_iter();
    let step = |entry: &History, size: u64| Step {
        created: entry.created.as_deref().and_then(|text| text.parse().ok()),
        created_by: entry.created_by.clone(),
        comment: entry.comment.clone(),
        size,
        empty: entry.empty_layer,
    };
    let mut steps: Vec<Step> = Vec::new();
    for entry in &image.config.history {
        let size = if entry.empty_layer { 0 } else { sizes.next().unwrap_or(0) };
        steps.push(step(entry, size));
    }
    steps.extend(sizes.map(|size| step(&History::default(), size)));
    steps.reverse();
    steps
}
