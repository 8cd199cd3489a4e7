//! What of the host decides a case.

use std::fs;
use std::path::Path;

use nix::unistd::AccessFlags;

use crate::harness::Sbx;

pub struct Host {
    /// Major and minor number.
    kernel: (u32, u32),
    /// This process may be on processor 0 alone.
    one_processor: bool,
    /// A control group of version 2 below which the caller may make others.
    delegated: bool,
    /// It takes every label for one of its own, but no mount with one.
    selinux_without_policy: bool,
    /// The kernel knows programs of 32 bits and their personality.
    thirty_two_bits: bool,
    /// sbx starts its own helper in place of newuidmap and newgidmap.
    own_helper: bool,
}

impl Host {
    pub fn look(world: &Sbx) -> Self {
        let name = nix::sys::utsname::uname().expect("a kernel");
        let release = name.release().to_string_lossy().into_owned();
        Self {
            kernel: version(&release),
            one_processor: one_processor(),
            delegated: delegated(),
            selinux_without_policy: selinux_without_policy(),
            thirty_two_bits: world.program("setarch").args(["i686", "true"]).finish().code() == 0,
            own_helper: world.sbx(["info", "--format", "json"]).expect_code(0).stdout().contains("\"shim\""),
        }
    }

    /// Of a section `-- where PROPERTY --`.
    pub fn is(&self, property: &str) -> bool {
        match property {
            "there is one processor" => self.one_processor,
            "a control group is delegated" => self.delegated,
            "SELinux has no policy" => self.selinux_without_policy,
            "there is nothing of 32 bits" => !self.thirty_two_bits,
            "the own helper is installed" => self.own_helper,
            _ => match property.strip_prefix("Linux is before ") {
                Some(release) => self.kernel < version(release),
                None => panic!("no host is known as one where {property}"),
            },
        }
    }
}

fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(['.', '-']).map(|number| number.parse().expect("a number of a release"));
    (numbers.next().expect("a major number"), numbers.next().expect("a minor number"))
}

fn one_processor() -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("the status of this process");
    status.contains("\nCpus_allowed_list:\t0\n")
}

fn delegated() -> bool {
    let own = fs::read_to_string("/proc/self/cgroup").expect("the control groups of this process");
    let Some(own) = own.lines().find_map(|line| line.strip_prefix("0::/")) else { return false };
    // Elsewhere version 2 is at another place, beside version 1.
    let root = Path::new("/sys/fs/cgroup");
    root.join("cgroup.controllers").exists()
        && nix::unistd::access(&root.join(own), AccessFlags::W_OK).is_ok()
}

fn selinux_without_policy() -> bool {
    let mounted = fs::read_to_string("/proc/mounts").expect("the mounts").contains(" selinuxfs ");
    // With a policy it is `USER:ROLE:TYPE`.
    mounted && fs::read_to_string("/proc/self/attr/current").is_ok_and(|label| !label.contains(':'))
}
