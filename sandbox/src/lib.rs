//! Whole clusters out of network namespaces on one machine.
