//! What `keephold-verify` is made of. The binary only maps its result to an exit code; the parts live in a library so
//! that the end-to-end tests, and anyone who wants to read a `report.json`, can use the same types.
//!
//! - [`report`]: the document that a verification leaves behind, as JSON, as a page and as text.

pub mod report;
