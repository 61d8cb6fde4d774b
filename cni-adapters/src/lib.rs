//! Turns observed CNI objects into CIDR facts; pure.
