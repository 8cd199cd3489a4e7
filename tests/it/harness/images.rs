//! The images that `scripts/test-images` makes of Debian packages: OCI layouts that every test reads and none changes.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The directory of all of them.
#[derive(Debug)]
pub struct Images(PathBuf);

/// One tag of an OCI layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestImage {
    pub layout: PathBuf,
    pub tag: &'static str,
}

/// Fails the test unless the images are there: `SBX_TEST_IMAGES`, else the newest that root has made.
#[track_caller]
pub fn images() -> &'static Images {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    static IMAGES: OnceLock<Images> = OnceLock::new();
    let found = FOUND.get_or_init(|| match std::env::var_os("SBX_TEST_IMAGES") {
        Some(path) => Some(path.into()),
        None => super::newest_below(Path::new("/var/cache/sbx-test-images"), "services/index.json"),
    });
    let Some(directory) = found.as_ref().filter(|path| path.join("services/index.json").is_file()) else {
        panic!(
            "the images for the tests are missing: run `scripts/test-images` and set SBX_TEST_IMAGES to what it prints"
        )
    };
    IMAGES.get_or_init(|| Images(directory.clone()))
}

impl Images {
    /// One layer of a megabyte: busybox, its applets hard links, and a few users and their files. `sh` is its command.
    pub fn busybox(&self) -> TestImage {
        self.image("busybox", "latest")
    }

    /// A tag of the layout `busybox`: configured, odd, changed, foreign, multi, empty (`scripts/test-images --help`).
    pub fn busybox_of(&self, tag: &'static str) -> TestImage {
        self.image("busybox", tag)
    }

    /// Debian's minimal system with apt, dbus and ping: many owners, setuid programs, a file capability.
    pub fn debian(&self) -> TestImage {
        self.image("debian", "latest")
    }

    /// Some 200 MB in four layers, the lowest that of [`Self::debian`].
    pub fn python(&self) -> TestImage {
        self.image("python", "latest")
    }

    /// nginx, redis, Python with redis's client, and iperf3 above [`Self::busybox`].
    pub fn services(&self) -> TestImage {
        self.image("services", "latest")
    }

    /// cargo, rustc and gcc above [`Self::debian`].
    pub fn rust(&self) -> TestImage {
        self.image("rust", "latest")
    }

    /// Node.js and npm above [`Self::debian`].
    pub fn node(&self) -> TestImage {
        self.image("node", "latest")
    }

    /// Debian packages with their index, as a mirror has them: gcc, libc6-dev, make and nginx-light for [`Self::debian`].
    pub fn archive(&self) -> PathBuf {
        self.0.join("archive")
    }

    fn image(&self, name: &str, tag: &'static str) -> TestImage {
        TestImage { layout: self.0.join(name), tag }
    }
}

impl TestImage {
    /// As skopeo names it: `oci:DIRECTORY:TAG`.
    pub fn skopeo(&self) -> String {
        format!("oci:{}:{}", self.layout.display(), self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_has_its_tag() {
        let (busybox, all) =
            (["latest", "configured", "odd", "changed", "foreign", "multi", "empty"], images());
        let named = busybox.map(|tag| all.busybox_of(tag)).into_iter().chain([
            all.debian(),
            all.python(),
            all.services(),
            all.rust(),
            all.node(),
        ]);
        for image in named {
            let index = std::fs::read_to_string(image.layout.join("index.json")).expect("an index");
            let index: serde_json::Value = serde_json::from_str(&index).expect("JSON");
            let tags = index["manifests"].as_array().expect("descriptors").iter();
            let mut tags =
                tags.map(|found| found["annotations"]["org.opencontainers.image.ref.name"].as_str());
            assert!(tags.any(|tag| tag == Some(image.tag)), "{} is missing", image.skopeo());
        }
    }
}
