//! The decisions of the setuid helper as pure functions: no system call, no allocation beyond small
//! strings, no panic on any input. The program around them is `main.rs`, which holds the threat model.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::borrow::ToOwned;
use alloc::string::String;

pub mod accounts;
pub mod arguments;
pub mod authorise;
pub mod map;
pub mod number;
pub mod subordinate;

/// Why the helper does nothing: the text of its one line on standard error.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal(pub String);

impl From<&str> for Refusal {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Refusal {
    fn from(text: String) -> Self {
        Self(text)
    }
}
