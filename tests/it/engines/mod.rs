//! sbx as the OCI runtime below other engines, which are told its path: `podman --runtime /usr/bin/sbx`.

mod buildah;
mod containerd;
mod podman;
mod pods;
