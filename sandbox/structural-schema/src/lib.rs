//! Structural schemas of Kubernetes: prune, default, validate, CEL, and server-side apply's field sets.
