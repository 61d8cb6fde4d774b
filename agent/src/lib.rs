//! Makes this node's kernel equal to its NodeConfig, and keeps it so.
