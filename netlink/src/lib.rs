//! Typed, serialised, batched, retrying access to the kernel's networking.
