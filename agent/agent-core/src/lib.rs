//! NodeConfig and observed kernel in, ordered steps out; pure.
