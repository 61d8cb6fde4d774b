//! Watches the whole topology and writes the NodeConfigs that differ.
