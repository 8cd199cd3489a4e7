//! What commands change of a container after it was made: `sbx rename` and `sbx update`.

use serde::{Deserialize, Serialize};

use crate::container::restart::Restart;
use crate::container::spec::Spec;

/// `settings.json`, laid over the spec by whoever reads that.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    pub name: Option<String>,
    pub restart: Option<Restart>,
}

impl Settings {
    pub fn lay_over(self, spec: &mut Spec) {
        if let Some(name) = self.name {
            spec.name = name;
        }
        if let Some(restart) = self.restart {
            spec.restart = restart;
        }
    }
}
