//! The images of a store: listing, names, removal, what other tools do to it, and what a kill leaves.

mod crash;
mod foreign;
mod listing;
mod looking;
mod removal;
