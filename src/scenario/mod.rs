//! Scenario files: YAML to a typed plan with source positions, fragments, parameters and diagnostics. Runs nothing.

pub mod model;
pub mod scalar;
pub mod span;
