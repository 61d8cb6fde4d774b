//! An in-process Kubernetes API server for the kinds the controllers use.
