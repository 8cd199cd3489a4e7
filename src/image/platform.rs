//! Which of an image's platforms is taken (image-index.md, `platform`; the names are Go's).

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::image::documents::{Descriptor, ImageConfig, Index, Platform};

/// Go's, as containerd takes them alone.
const SYSTEMS: [&str; 14] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "illumos",
    "ios",
    "js",
    "linux",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
];
/// The same of processors.
const ARCHITECTURES: [&str; 14] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le",
    "riscv64", "s390x", "wasm",
];

/// What is wanted: `linux/amd64`, `linux/arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub os: String,
    pub architecture: String,
    pub variant: Option<String>,
    /// The caller has named it: nothing else will do.
    pub named: bool,
}

impl Wanted {
    /// The machine's own.
    pub fn host() -> Self {
        let (architecture, variant) = normal(std::env::consts::ARCH, None);
        Self { os: "linux".to_owned(), architecture, variant, named: false }
    }

    /// From `--platform`, or `--os`, `--arch` and `--variant`; what is not given is the machine's own.
    ///
    /// # Errors
    /// `platform` is no `OS[/ARCHITECTURE[/VARIANT]]`.
    pub fn from_options(
        platform: Option<&str>,
        os: Option<&str>,
        architecture: Option<&str>,
        variant: Option<&str>,
    ) -> Result<Self> {
        if let Some(text) = platform.filter(|text| !text.is_empty()) {
            return text.parse();
        }
        let mut wanted = Self::host();
        if let Some(architecture) = architecture {
            (wanted.architecture, wanted.variant) = normal(architecture, None);
        }
        if let Some(variant) = variant {
            (wanted.architecture, wanted.variant) = normal(&wanted.architecture, Some(variant));
        }
        if let Some(os) = os {
            wanted.os = os.to_ascii_lowercase();
        }
        wanted.named = os.or(architecture).or(variant).is_some();
        Ok(wanted)
    }

    /// The best manifest of an index.
    ///
    /// # Errors
    /// There is none for the platform; those that there are, are named.
    pub fn choose<'i>(&self, index: &'i Index, name: &str) -> Result<&'i Descriptor> {
        // One without a platform is for all that is known of it.
        let fits = |descriptor: &&Descriptor| match &descriptor.platform {
            Some(platform) => self.rank(&platform.os, &platform.architecture, platform.variant.as_deref()),
            None => Some(u32::MAX),
        };
        let ranked = index.manifests.iter().filter_map(|each| fits(&each).map(|rank| (rank, each)));
        if let Some((_, chosen)) = ranked.min_by_key(|(rank, _)| *rank) {
            return Ok(chosen);
        }
        let mut others: Vec<String> =
            index.manifests.iter().filter_map(|each| each.platform.as_ref()).map(shown).collect();
        others.retain(|platform| !platform.starts_with("unknown/"));
        others.dedup();
        let error = Error::new(format!("cannot take the image `{name}` for {self}"));
        let own = Self::host().to_string();
        let best = others.iter().find(|platform| **platform == own).or(others.first());
        Err(match best {
            None => error.because("its index names no image"),
            Some(best) => error
                .because(format!("it is there for {} only", others.join(", ")))
                .hint(format!("name another platform: `--platform {best}`")),
        })
    }

    /// Whether an image of this configuration will do. Old images name no platform.
    pub fn accepts(&self, config: &ImageConfig) -> bool {
        let os = if config.os.is_empty() { "linux" } else { &config.os };
        let variant = config.variant.as_deref();
        config.architecture.is_empty() || self.rank(os, &config.architecture, variant).is_some()
    }

    /// How far it is from what is wanted; none where it does not fit.
    fn rank(&self, os: &str, architecture: &str, variant: Option<&str>) -> Option<u32> {
        let (architecture, variant) = normal(architecture, variant);
        if !os.eq_ignore_ascii_case(&self.os) || architecture != self.architecture {
            return None;
        }
        if variant == self.variant {
            return Some(0);
        }
        let number = |variant: &Option<String>| -> Option<u32> {
            variant.as_deref().and_then(|text| text.strip_prefix('v')).and_then(|text| text.parse().ok())
        };
        match (number(&variant), number(&self.variant)) {
            // A processor runs what was made for the ones before it.
            (Some(made), Some(wanted)) if made < wanted => Some(wanted - made),
            (None, Some(_)) if variant.is_none() && !self.named => Some(100),
            (Some(1), None) if architecture == "amd64" => Some(1),
            (_, None) if self.variant.is_none() && architecture != "amd64" => Some(50),
            _ => None,
        }
    }
}

/// Names of one kind for what has several; the variant that goes without saying is left out.
fn normal(architecture: &str, variant: Option<&str>) -> (String, Option<String>) {
    let variant = variant.filter(|variant| !variant.is_empty()).map(str::to_ascii_lowercase);
    let variant =
        variant.map(|variant| if variant.starts_with('v') { variant } else { format!("v{variant}") });
    let architecture = architecture.to_ascii_lowercase();
    let (name, implied) = match architecture.as_str() {
        "x86_64" | "x86-64" => ("amd64", None),
        "i386" | "i686" | "x86" => ("386", None),
        "aarch64" => ("arm64", None),
        "armhf" => ("arm", Some("v7")),
        "armel" => ("arm", Some("v6")),
        "arm" => ("arm", Some("v7")),
        "powerpc64le" | "ppc64el" => ("ppc64le", None),
        "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
        "loongarch64" => ("loong64", None),
        other => (other, None),
    };
    let variant = variant.or_else(|| implied.map(str::to_owned));
    let variant =
        variant.filter(|variant| !matches!((name, variant.as_str()), ("arm64", "v8") | ("amd64", "v1")));
    (name.to_owned(), variant)
}

fn shown(platform: &Platform) -> String {
    let variant = platform.variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
    format!("{}/{}{variant}", platform.os, platform.architecture)
}

impl FromStr for Wanted {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused = |why: &str| {
            Err(Error::new(format!("cannot use `--platform {}`", text.escape_debug()))
                .because(why)
                .hint("write `OS/ARCHITECTURE[/VARIANT]`, such as `linux/amd64` or `linux/arm/v7`"))
        };
        if text.contains(',') {
            return refused("sbx takes one platform at a time: it makes no images for several");
        }
        if text.eq_ignore_ascii_case("local") {
            return Ok(Self { named: true, ..Self::host() });
        }
        let parts: Vec<&str> = text.split('/').collect();
        let sound = |part: &&str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        };
        if !parts.iter().all(sound) {
            return refused("a part of it is empty or no word");
        }
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            // docker takes either alone.
            [word] if SYSTEMS.contains(&word.to_ascii_lowercase().as_str()) => {
                return Ok(Self { os: word.to_ascii_lowercase(), named: true, ..Self::host() });
            }
            [word] if ARCHITECTURES.contains(&normal(word, None).0.as_str()) => ("linux", word, None),
            [_] => return refused("it is neither an operating system nor an architecture"),
            _ => return refused("it has more than three parts"),
        };
        let (architecture, variant) = normal(architecture, variant);
        Ok(Self { os: os.to_ascii_lowercase(), architecture, variant, named: true })
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::digest::Digest;
    use crate::image::documents::{media_type, parse};

    fn index(platforms: &[(&str, &str, Option<&str>)]) -> Index {
        let manifests: Vec<_> = platforms
            .iter()
            .map(|(os, architecture, variant)| {
                let name = format!("{os}/{architecture}/{variant:?}");
                let mut each = Descriptor::new(media_type::OCI_MANIFEST, Digest::of(name.as_bytes()), 1);
                each.platform = Some(Platform {
                    architecture: (*architecture).to_owned(),
                    os: (*os).to_owned(),
                    variant: variant.map(str::to_owned),
                    other: serde_json::Map::new(),
                });
                each
            })
            .collect();
        let text = serde_json::json!({ "schemaVersion": 2, "manifests": manifests }).to_string();
        parse("an index", text.as_bytes()).unwrap()
    }

    fn chosen(wanted: &str, platforms: &[(&str, &str, Option<&str>)]) -> Option<String> {
        let index = index(platforms);
        let wanted: Wanted = wanted.parse().unwrap();
        wanted.choose(&index, "x").ok().map(|found| shown(found.platform.as_ref().unwrap()))
    }

    #[test]
    fn names_of_several_kinds_are_one() {
        for (text, shown) in [
            ("linux/x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("arm64", "linux/arm64"),
        ] {
            assert_eq!(text.parse::<Wanted>().unwrap().to_string(), shown);
        }
        assert_eq!("local".parse::<Wanted>().unwrap().to_string(), Wanted::host().to_string());
        for text in ["", "/", "linux/", "a/b/c/d", "linux/a b", "foo", "linux/amd64,linux/arm64"] {
            assert!(text.parse::<Wanted>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_nearest_variant_is_taken() {
        let arm =
            [("linux", "arm", Some("v5")), ("linux", "arm", Some("v6")), ("linux", "arm64", Some("v8"))];
        assert_eq!(chosen("linux/arm/v7", &arm).unwrap(), "linux/arm/v6");
        assert_eq!(chosen("linux/arm64", &arm).unwrap(), "linux/arm64/v8");
        assert_eq!(chosen("linux/arm/v4", &arm), None);
        let amd = [("linux", "amd64", Some("v3")), ("windows", "amd64", None), ("linux", "amd64", None)];
        assert_eq!(chosen("linux/amd64", &amd).unwrap(), "linux/amd64");
        assert_eq!(chosen("linux/amd64", &amd[..2]), None);
        assert_eq!(chosen("linux/amd64/v3", &amd).unwrap(), "linux/amd64/v3");
    }

    #[test]
    fn what_there_is_instead_is_said() {
        let index = index(&[("linux", "s390x", None), ("unknown", "unknown", None)]);
        let error = "linux/amd64".parse::<Wanted>().unwrap().choose(&index, "x").unwrap_err();
        assert!(error.to_string().contains("it is there for linux/s390x only"), "{error}");
    }

    #[test]
    fn the_machines_own_platform_is_proposed_first() {
        let own = Wanted::host();
        let index = self::index(&[
            ("linux", "s390x", None),
            ("linux", own.architecture.as_str(), own.variant.as_deref()),
        ]);
        let error = "linux/nosuch".parse::<Wanted>().unwrap().choose(&index, "x").unwrap_err();
        assert_eq!(error.hints()[0], format!("name another platform: `--platform {own}`"));
    }
}
