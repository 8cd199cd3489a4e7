//! The language of Dockerfiles: text becomes instructions ([`ast`]), instructions become steps ([`step`]).

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
pub mod words;
