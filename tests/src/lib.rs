//! End-to-end scenarios and drills over the sandbox.
