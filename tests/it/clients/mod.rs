//! Programs that drive podman or docker, driving sbx: `scripts/test-clients` installs them.

mod cibuildwheel;
mod devcontainer;
mod dialects;
mod podman_compose;
