//! The language of Dockerfiles: text becomes instructions ([`ast`]), instructions become steps ([`step`]).
//!
//! ```text
//! parse::parse(source)                        -> ast::Dockerfile      what it says
//! plan::plan(&dockerfile, &settings)          -> plan::Plan           which stages, in which order, on what
//! scope::Scope::new(&dockerfile, &settings, stage, base's environment)
//!     .step(&instruction)                     -> step::Step           variables expanded, ready to be carried out
//!     .run_environment(), .arguments_used()                           of RUN, and for the cache
//! ignore::Ignore, matching::…                                         which files of the context
//! lint::check(&dockerfile, …)                 -> warnings
//! ```

pub mod ast;
pub mod chmod;
pub mod plan;
pub mod source;
pub mod step;
