//! The simulated service by itself.

fn main() {}
