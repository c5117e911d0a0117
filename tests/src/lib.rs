//! What the tests are made of: a mock LLM server and its ledger, real clients, the agent as a process, and
//! receivers that are not ours.

pub mod ledger;
pub mod mock;
