//! The typed plan.
