//! How the program is linked.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    // At a fixed address: to relocate sbx takes a tenth of a start, and every process that it forks carries the seventy
    // pages that this writes. The addresses of stack, heap and mappings stay random.
    if features.split(',').any(|feature| feature == "crt-static") {
        println!("cargo::rustc-link-arg-bin=sbx=-no-pie");
        println!("cargo::rustc-link-arg-bin=sbx=-static");
    }
}
