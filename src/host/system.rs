//! Names and sizes of the machine.

use std::fs;
use std::path::Path;

use serde::Serialize;

#[derive(Debug, Clone, Serialize)]
pub struct System {
    pub kernel: String,
    pub hostname: String,
    /// In the words of OCI images: `amd64`, `arm64`, …
    pub arch: &'static str,
    pub cpus: usize,
    /// Bytes.
    pub memory_total: u64,
    pub memory_free: u64,
    pub swap_total: u64,
    pub swap_free: u64,
    /// Seconds since boot.
    pub uptime: u64,
    pub distribution: Distribution,
}

/// os-release(5).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Distribution {
    pub id: String,
    pub id_like: Vec<String>,
    pub version: String,
    pub codename: String,
    pub pretty_name: String,
}

pub fn read() -> System {
    let uname = rustix::system::uname();
    let info = rustix::system::sysinfo();
    let unit = u64::from(info.mem_unit);
    System {
        kernel: uname.release().to_string_lossy().into_owned(),
        hostname: uname.nodename().to_string_lossy().into_owned(),
        arch: oci_arch(std::env::consts::ARCH),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        memory_total: info.totalram.saturating_mul(unit),
        memory_free: info.freeram.saturating_mul(unit),
        swap_total: info.totalswap.saturating_mul(unit),
        swap_free: info.freeswap.saturating_mul(unit),
        uptime: u64::try_from(info.uptime).unwrap_or(0),
        distribution: distribution(),
    }
}

pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Reads /etc/os-release, else /usr/lib/os-release; empty where there is neither.
pub fn distribution() -> Distribution {
    ["/etc/os-release", "/usr/lib/os-release"]
        .iter()
        .find_map(|path| fs::read_to_string(Path::new(path)).ok())
        .map(|text| parse_os_release(&text))
        .unwrap_or_default()
}

pub fn parse_os_release(text: &str) -> Distribution {
    let mut distribution = Distribution::default();
    for line in text.lines() {
        let Some((key, value)) = line.trim().split_once('=') else { continue };
        let value = value.trim().trim_matches(['"', '\'']);
        match key {
            "ID" => distribution.id = value.to_owned(),
            "ID_LIKE" => distribution.id_like = value.split_whitespace().map(str::to_owned).collect(),
            "VERSION_ID" => distribution.version = value.to_owned(),
            "VERSION_CODENAME" => distribution.codename = value.to_owned(),
            "PRETTY_NAME" => distribution.pretty_name = value.to_owned(),
            _ => {}
        }
    }
    distribution
}

/// Rust's name of an architecture as Go and so OCI images write it.
pub fn oci_arch(rust: &'static str) -> &'static str {
    match rust {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "powerpc64" => "ppc64",
        "loongarch64" => "loong64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_with_and_without_quotes() {
        let text = "PRETTY_NAME=\"Rocky Linux 9.4 (Blue Onyx)\"\nID='rocky'\nID_LIKE=\"rhel centos fedora\"\n\
                    # comment\nVERSION_ID=9.4\nbroken line\n";
        let distribution = parse_os_release(text);
        assert_eq!(distribution.id, "rocky");
        assert_eq!(distribution.id_like, ["rhel", "centos", "fedora"]);
        assert_eq!(distribution.version, "9.4");
        assert_eq!(distribution.pretty_name, "Rocky Linux 9.4 (Blue Onyx)");
        assert_eq!(distribution.codename, "");
    }

    #[test]
    fn architectures_are_named_as_images_name_them() {
        assert_eq!(oci_arch("x86_64"), "amd64");
        assert_eq!(oci_arch("aarch64"), "arm64");
        assert_eq!(oci_arch("riscv64"), "riscv64");
    }

    #[test]
    fn the_machine_has_a_kernel_memory_and_processors() {
        let system = read();
        assert!(system.kernel.starts_with(|c: char| c.is_ascii_digit()), "{}", system.kernel);
        assert!(system.memory_total >= system.memory_free && system.memory_free > 0);
        assert!(system.cpus > 0);
    }
}
