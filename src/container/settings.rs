//! What commands change of a container after it was made: `sbx rename`, `sbx update`, `sbx network connect` and
//! `sbx network disconnect`.

use serde::{Deserialize, Serialize};

use crate::container::restart::Restart;
use crate::container::spec::Spec;
use crate::limits::Limits;
use crate::network::{Membership, Mode};

/// `settings.json`, laid over the spec by whoever reads that.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    pub name: Option<String>,
    pub restart: Option<Restart>,
    /// The networks that the container is in since `network connect` or `network disconnect`.
    pub networks: Option<Vec<Membership>>,
    /// All of them, as they are now.
    pub limits: Option<Limits>,
}

impl Settings {
    pub fn lay_over(self, spec: &mut Spec) {
        if let Some(name) = self.name {
            spec.name = name;
        }
        if let Some(restart) = self.restart {
            spec.restart = restart;
        }
        if let Some(limits) = self.limits {
            spec.limits = limits;
        }
        if let Some(networks) = self.networks {
            spec.network.mode = Mode::Bridge;
            spec.network.memberships = networks;
        }
    }
}
