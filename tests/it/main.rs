//! One binary for every end-to-end test: each module states the behaviour of one subject.

mod newuidmap_shim;
mod seccomp_kernel;
mod seccomp_oracle;
