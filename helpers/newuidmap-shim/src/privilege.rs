//! From setuid root or file capabilities down to the caller with one or two capabilities.

use alloc::format;

use newuidmap_shim::Refusal;
use newuidmap_shim::arguments::Role;

use crate::sys;

// linux/capability.h; all of them lie in the first of the two words.
const CAP_SETGID: u32 = 1 << 6;
const CAP_SETUID: u32 = 1 << 7;
const CAP_SETFCAP: u32 = 1 << 31;

/// The real IDs of who called, which are also this process's only IDs by now.
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
    capabilities: u32,
}

impl Caller {
    /// Takes on the caller's IDs and keeps what `role` needs as permitted capabilities, none effective.
    pub fn become_unprivileged(role: Role) -> Result<Self, Refusal> {
        let (uid, gid) = sys::real_ids();
        let permitted = sys::permitted_capabilities()
            .map_err(|error| format!("cannot read own capabilities: {error}"))?;
        let needed = match role {
            Role::Uid => CAP_SETUID,
            Role::Gid => CAP_SETGID,
            Role::Both => CAP_SETUID | CAP_SETGID,
        };
        if permitted & needed != needed {
            return Err(why_unprivileged().into());
        }
        // Since Linux 5.12 it takes CAP_SETFCAP to map root of the parent namespace, which is root's own to do.
        let capabilities = if uid == 0 { needed | permitted & CAP_SETFCAP } else { needed };
        sys::keep_capabilities().map_err(|error| format!("cannot keep capabilities: {error}"))?;
        sys::set_ids(uid, gid).map_err(|error| format!("cannot become user {uid} again: {error}"))?;
        sys::set_capabilities(capabilities, 0)
            .map_err(|error| format!("cannot drop capabilities: {error}"))?;
        // Neither traced nor dumped by the caller whose ID it now has, whatever fs.suid_dumpable says.
        sys::forbid_dumps().map_err(|error| format!("cannot make itself undumpable: {error}"))?;
        Ok(Self { uid, gid, capabilities })
    }

    /// Makes the kept capabilities effective: the kernel asks the opener of a map file for them, and the writer.
    pub fn raise_capabilities(&self) -> Result<(), Refusal> {
        sys::set_capabilities(self.capabilities, self.capabilities)
            .map_err(|error| format!("cannot raise capabilities: {error}").into())
    }
}

fn why_unprivileged() -> &'static str {
    if sys::effective_uid() == 0 {
        "CAP_SETUID or CAP_SETGID is missing even for root: an outer container has dropped it"
    } else if sys::no_new_privileges() {
        "cannot gain privileges: the caller has no_new_privs set"
    } else {
        "not privileged: install it setuid root or with the file capabilities cap_setuid,cap_setgid=ep, \
         on a file system mounted without nosuid"
    }
}
