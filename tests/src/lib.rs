//! End-to-end tests of Keephold; they are all under `it/`.
