//! Placeholder until the command line is written: everything is in the library beside it.
fn main() {}
