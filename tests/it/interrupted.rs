//! Interrupted.
