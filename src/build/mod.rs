//! `sbx build`: a Dockerfile and a context become an image.

pub mod dockerfile;
