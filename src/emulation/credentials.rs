//! The users and groups that a process believes to have, by the rules of credentials(7).

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// One set of IDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Set {
    pub real: u32,
    pub effective: u32,
    pub saved: u32,
    pub file_system: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Credentials {
    pub user: Set,
    pub group: Set,
    pub groups: Vec<u32>,
    /// The program, by device and inode number, that keeps its capabilities over a change of user (prctl(2),
    /// PR_SET_KEEPCAPS): another one that is executed has none.
    pub keeper: Option<(u64, u64)>,
}

impl Credentials {
    /// A user who has nothing but these IDs.
    pub fn of(uid: u32, gid: u32, groups: &[u32]) -> Self {
        let set = |id| Set { real: id, effective: id, saved: id, file_system: id };
        Self { user: set(uid), group: set(gid), groups: groups.to_vec(), keeper: None }
    }

    pub fn is_root(&self) -> bool {
        self.user.effective == 0
    }

    /// Whether files of the group are the process's own (capabilities(7) aside).
    pub fn is_in(&self, group: u32) -> bool {
        self.group.file_system == group || self.groups.contains(&group)
    }
}

impl Set {
    /// setuid(2), setgid(2).
    pub fn set(&mut self, id: u32, privileged: bool) -> Result<(), Errno> {
        if privileged {
            *self = Self { real: id, effective: id, saved: id, file_system: id };
        } else if id == self.real || id == self.saved {
            self.effective = id;
            self.file_system = id;
        } else {
            return Err(Errno::PERM);
        }
        Ok(())
    }

    /// setreuid(2), setregid(2). Users may take the saved ID as the effective one, and so may groups.
    pub fn set_real(
        &mut self,
        real: Option<u32>,
        effective: Option<u32>,
        privileged: bool,
    ) -> Result<(), Errno> {
        let old = *self;
        let may = |id: Option<u32>, own: &[u32]| privileged || id.is_none_or(|id| own.contains(&id));
        if !may(real, &[old.real, old.effective]) || !may(effective, &[old.real, old.effective, old.saved]) {
            return Err(Errno::PERM);
        }
        self.real = real.unwrap_or(old.real);
        self.effective = effective.unwrap_or(old.effective);
        if real.is_some() || effective.is_some_and(|id| id != old.real) {
            self.saved = self.effective;
        }
        self.file_system = self.effective;
        Ok(())
    }

    /// setresuid(2), setresgid(2).
    pub fn set_all(&mut self, wanted: [Option<u32>; 3], privileged: bool) -> Result<(), Errno> {
        let own = [self.real, self.effective, self.saved];
        if !privileged && wanted.iter().flatten().any(|id| !own.contains(id)) {
            return Err(Errno::PERM);
        }
        self.real = wanted[0].unwrap_or(self.real);
        self.effective = wanted[1].unwrap_or(self.effective);
        self.saved = wanted[2].unwrap_or(self.saved);
        self.file_system = self.effective;
        Ok(())
    }

    /// setfsuid(2), setfsgid(2): gives the old one, and fails without a word.
    pub fn set_file_system(&mut self, id: Option<u32>, privileged: bool) -> u32 {
        let old = self.file_system;
        if let Some(id) = id
            && (privileged || [self.real, self.effective, self.saved, old].contains(&id))
        {
            self.file_system = id;
        }
        old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(real: u32, effective: u32, saved: u32) -> Set {
        Set { real, effective, saved, file_system: effective }
    }

    #[test]
    fn root_gives_itself_up_for_good() {
        let mut user = set(0, 0, 0);
        user.set(33, true).unwrap();
        assert_eq!(user, set(33, 33, 33));
        assert_eq!(user.set(0, false), Err(Errno::PERM));
        assert_eq!(user.set_all([Some(0), None, None], false), Err(Errno::PERM));
        assert_eq!(user.set_real(Some(0), Some(0), false), Err(Errno::PERM));
    }

    #[test]
    fn what_was_saved_can_be_taken_again() {
        let mut user = set(0, 0, 0);
        user.set_all([None, Some(33), None], true).unwrap();
        assert_eq!(user, set(0, 33, 0));
        user.set(0, false).unwrap();
        assert_eq!(user, set(0, 0, 0));
        user.set_real(None, Some(33), true).unwrap();
        assert_eq!((user.effective, user.saved), (33, 33), "saved follows (setreuid(2))");
    }

    #[test]
    fn the_file_system_id_answers_with_the_old_one() {
        let mut user = set(0, 0, 0);
        assert_eq!(user.set_file_system(Some(33), true), 0);
        assert_eq!(user.set_file_system(None, true), 33);
        assert_eq!(set(5, 5, 5).set_file_system(Some(6), false), 5);
    }
}
