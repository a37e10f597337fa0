//! Restoring many files.
