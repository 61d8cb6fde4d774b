//! Meshes written down in few words.
