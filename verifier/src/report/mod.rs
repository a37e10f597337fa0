//! The report: what a verification leaves behind for engineers, auditors and machines.
//!
//! ```text
//! checks → Report (model) → conclude → write: report.json   signed, canonical
//!              ↑ catalogue                    report.json.sig
//!                                             report.html   the same, for people (html)
//!                                    → text:  what the terminal shows at the end
//! ```
//!
//! [`model`] is the document, [`catalogue`] the codes of findings, [`conclude`] derives the verdict from what the checks
//! left in the document, so that no check can call its own result good. [`words`] puts values into words for all of them.

pub mod catalogue;
pub mod conclude;
pub mod html;
pub mod model;
pub mod summary;
pub mod text;
pub mod words;
pub mod write;

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod schema_tests;
