//! Scenario files: YAML to a typed plan with source positions, fragments, parameters and diagnostics. Runs nothing.
//!
//! The way of a file: [`yaml`] reads text into a tree with positions, `expand` replaces fragments and parameters,
//! `read` makes the typed [`model`] of the tree, `validate` looks up every name. What comes out is a [`plan::Plan`], or
//! [`diagnostic::Diagnostics`] that show file, line, column and the source.

mod controls;
pub mod diagnostic;
pub mod eval;
mod expand;
mod files;
mod free;
pub mod from_trace;
pub mod link_steps;
pub mod load;
pub mod model;
pub mod plan;
pub mod reference;
pub mod refs;
pub mod retry;

mod read;
mod render;
pub mod scalar;
pub mod schema;
pub mod span;
pub mod suggest;
#[cfg(test)]
mod tests;
pub(crate) mod traces;
mod validate;
pub mod words;
pub mod yaml;

pub use diagnostic::{Diagnostic, Diagnostics, RenderStyle, Severity, SourceFile};
pub use eval::{Bindings, eval_match, eval_node, eval_num, eval_size, eval_text};
pub use files::id_of;
pub use load::{load_file, load_str, read_as, unknown_settings};
pub use plan::{Plan, Settings};
pub use reference::reference_markdown;
pub use schema::scenario_schema;
