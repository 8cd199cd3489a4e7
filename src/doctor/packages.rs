//! Which command installs a helper on this distribution.

use crate::host::system::Distribution;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackageManager {
    Apt,
    Dnf,
    Pacman,
    Zypper,
    Apk,
    Unknown,
}

/// Program; package of Debian; of Fedora; of Arch; of openSUSE; of Alpine.
const PACKAGES: &[(&str, [&str; 5])] = &[
    ("newuidmap", ["uidmap", "shadow-utils", "shadow", "shadow", "shadow-uidmap"]),
    ("fuse-overlayfs", ["fuse-overlayfs"; 5]),
    ("slirp4netns", ["slirp4netns"; 5]),
    ("pasta", ["passt"; 5]),
    ("nft", ["nftables"; 5]),
];

impl PackageManager {
    /// Told by ID and, for derivatives, ID_LIKE of os-release.
    pub fn of(distribution: &Distribution) -> Self {
        let names = std::iter::once(&distribution.id).chain(&distribution.id_like);
        names.map(|name| Self::by_name(name)).find(|found| *found != Self::Unknown).unwrap_or(Self::Unknown)
    }

    fn by_name(name: &str) -> Self {
        match name {
            "debian" | "ubuntu" => Self::Apt,
            "fedora" | "rhel" | "centos" | "rocky" | "almalinux" | "amzn" | "ol" => Self::Dnf,
            "arch" => Self::Pacman,
            "alpine" => Self::Apk,
            name if name == "suse" || name.starts_with("opensuse") || name.starts_with("sle") => Self::Zypper,
            _ => Self::Unknown,
        }
    }

    /// The command line that installs a program.
    pub fn install(self, program: &str) -> String {
        let row = PACKAGES.iter().find(|(name, _)| *name == program);
        let package = |column: usize| row.map_or(program, |(_, packages)| packages[column]);
        match self {
            Self::Apt => format!("sudo apt-get install {}", package(0)),
            Self::Dnf => format!("sudo dnf install {}", package(1)),
            Self::Pacman => format!("sudo pacman -S {}", package(2)),
            Self::Zypper => format!("sudo zypper install {}", package(3)),
            Self::Apk => format!("sudo apk add {}", package(4)),
            Self::Unknown => {
                format!(
                    "install `{program}` (Debian: package {}, Fedora: package {})",
                    package(0),
                    package(1)
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(id: &str, like: &[&str]) -> PackageManager {
        let id_like = like.iter().map(|name| (*name).to_owned()).collect();
        PackageManager::of(&Distribution { id: id.to_owned(), id_like, ..Distribution::default() })
    }

    #[test]
    fn derivatives_use_the_manager_of_what_they_are_like() {
        assert_eq!(on("debian", &[]), PackageManager::Apt);
        assert_eq!(on("linuxmint", &["ubuntu", "debian"]), PackageManager::Apt);
        assert_eq!(on("rocky", &["rhel", "centos", "fedora"]), PackageManager::Dnf);
        assert_eq!(on("opensuse-leap", &["suse", "opensuse"]), PackageManager::Zypper);
        assert_eq!(on("nixos", &[]), PackageManager::Unknown);
    }

    #[test]
    fn packages_have_the_distributions_names() {
        assert_eq!(PackageManager::Apt.install("newuidmap"), "sudo apt-get install uidmap");
        assert_eq!(PackageManager::Dnf.install("newuidmap"), "sudo dnf install shadow-utils");
        assert_eq!(PackageManager::Apt.install("pasta"), "sudo apt-get install passt");
        assert!(PackageManager::Unknown.install("pasta").contains("package passt"));
    }
}
