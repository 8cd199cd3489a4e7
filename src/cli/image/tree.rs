//! `sbx image tree`

use super::{Stores, missing};
use crate::cli::Global;
use crate::container::size;
use crate::error::Result;
use crate::image::digest::Digest;
use crate::image::documents::chain_ids;
use crate::image::reference::Reference;
use crate::image::store::Image;
use crate::output::print;

/// Show the layers of an image, the lowest first
///
/// Each with its chain ID, and the images that end with it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sbx image tree debian:12
  sbx image tree --whatrequires debian:12")]
pub struct TreeArgs {
    /// Show the images that stand on this one
    #[arg(long)]
    whatrequires: bool,
    /// A name or ID
    image: String,
}

pub fn execute(args: &TreeArgs, global: &Global) -> Result<u8> {
    let stores = Stores::of(global)?;
    let image = stores.images.find(&args.image)?.ok_or_else(|| missing(&args.image))?;
    let mut others: Vec<Image> = Vec::new();
    for entry in stores.images.list()?.into_iter().filter(|entry| !entry.damaged) {
        if !others.iter().any(|other| other.id == entry.id) {
            others.push(stores.images.image(&entry.manifest)?);
        }
    }
    let sizes = stores.images.layer_sizes(&image);
    let total = size::decimal(sizes.iter().fold(0, |sum, size| u64::saturating_add(sum, *size)));
    let mut text =
        format!("Image ID: {}\nTags:     {}\nSize:     {total}\n", image.id.short(), names(&image));
    text.push_str(&if args.whatrequires {
        let node = Node { image: &image, chain: chain_ids(&image.config.rootfs.diff_ids) };
        format!("Image Layers\n└── {}{}", node.line(), node.children(&others, "    "))
    } else {
        layers(&image, &sizes, &others)
    });
    print::text(&text)?;
    Ok(0)
}

fn layers(image: &Image, sizes: &[u64], others: &[Image]) -> String {
    let chain = chain_ids(&image.config.rootfs.diff_ids);
    let mut text = "Image Layers\n".to_owned();
    for (at, (id, size)) in chain.iter().zip(sizes).enumerate() {
        let branch = if at + 1 == chain.len() { "└──" } else { "├──" };
        let tops: Vec<String> = others
            .iter()
            .filter(|other| chain_ids(&other.config.rootfs.diff_ids).last() == Some(id))
            .map(names)
            .collect();
        let top = if tops.is_empty() { String::new() } else { format!(" Top Layer of: {}", tops.join(", ")) };
        text.push_str(&format!("{branch} ID: {} Size: {:>6}{top}\n", id.short(), size::decimal(*size)));
    }
    text
}

fn names(image: &Image) -> String {
    let names: Vec<String> = image.names.iter().map(Reference::familiar).collect();
    format!("[{}]", names.join(" "))
}

/// An image and those that stand on it.
struct Node<'i> {
    image: &'i Image,
    chain: Vec<Digest>,
}

impl Node<'_> {
    fn line(&self) -> String {
        format!("ID: {} {}\n", self.image.id.short(), names(self.image))
    }

    fn children(&self, others: &[Image], indent: &str) -> String {
        let nodes: Vec<Node<'_>> = others
            .iter()
            .map(|image| Node { image, chain: chain_ids(&image.config.rootfs.diff_ids) })
            .filter(|node| node.stands_on(self))
            .collect();
        // Those with another in between come below that one.
        let direct: Vec<&Node<'_>> =
            nodes.iter().filter(|node| !nodes.iter().any(|between| node.stands_on(between))).collect();
        let mut text = String::new();
        for (at, node) in direct.iter().enumerate() {
            let (branch, below) =
                if at + 1 == direct.len() { ("└── ", "    ") } else { ("├── ", "│   ") };
            text.push_str(&format!("{indent}{branch}{}", node.line()));
            text.push_str(&node.children(others, &format!("{indent}{below}")));
        }
        text
    }

    fn stands_on(&self, lower: &Node<'_>) -> bool {
        self.chain.len() > lower.chain.len()
            && !lower.chain.is_empty()
            && self.chain[lower.chain.len() - 1] == lower.chain[lower.chain.len() - 1]
    }
}
