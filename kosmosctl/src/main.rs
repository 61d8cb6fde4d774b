//! kosmosctl.
fn main() {}
