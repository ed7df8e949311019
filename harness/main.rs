//! Every scenario file as a test of its own.

fn main() {}
