//! Incremental JSON field extraction (RFC 8259): takes a document in pieces cut anywhere and reports the few
//! values that a [`Schema`] names, in document order.
//!
//! Other values are skipped: only their strings and brackets are followed, they are not validated and not kept.
//! Memory is the fixed size of an [`Extractor`] plus one token that comes in pieces, at most [`Str`]'s cap times six
//! (`\u00e9`) bytes, whatever the length of the document; after a gap, 16 KiB more.
//!
//! Limits: brackets in skipped values 1,024 deep, in wanted ones as deep as the schema's paths; wanted keys of
//! 40 bytes, any other key of any length; numbers of 64 bytes, longer ones have no value.

mod extractor;
mod position;
mod prefix_cache;
mod report;
mod scan;
mod schema;
mod value;

pub use extractor::{Extractor, Status};
pub use schema::{Schema, WantedField};
pub use value::{Number, Str, Value};

#[cfg(test)]
mod tests;
