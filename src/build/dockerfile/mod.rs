//! The language of Dockerfiles: text becomes instructions ([`ast`]), instructions become steps ([`step`]). Nothing here
//! looks at a file system or runs anything.
//!
//! ```text
//! parse::read(name, file), parse::parse(name, text)   -> ast::Dockerfile    what it says
//! plan::plan(&dockerfile, &settings)                  -> plan::Plan         which stages, in which order, on what
//! plan::insert_triggers(&mut dockerfile, stage, …)                          ONBUILD of a base image; then plan again
//! scope::Frame::new(&dockerfile, &settings)
//! scope::Scope::on_image(&frame, environment), scope.child()                a stage on an image, on another stage
//!     .step(&instruction)                             -> step::Step         what it means, to be carried out
//!     .environment(), .arguments(), .run_environment()                      for the configuration, the cache, RUN
//! ignore::Ignore, matching::{Source, Destination}                           which files, and where they go
//! lint::check(&dockerfile, &settings, &surroundings)  -> warnings
//! ```

pub mod ast;
pub mod chmod;
pub mod complaint;
pub mod expand;
pub mod git;
pub mod glob;
pub mod heredoc;
pub mod ignore;
pub mod limits;
pub mod lint;
pub mod logical;
pub mod matching;
pub mod mount;
pub mod near;
pub mod parse;
pub mod plan;
pub mod scope;
pub mod settings;
pub mod source;
pub mod step;
pub mod substitution;
pub mod variables;
pub mod words;
