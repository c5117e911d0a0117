//! What the tests are made of: a mock LLM server and its ledger, real clients, the agent as a process, and
//! receivers that are not ours.

pub mod actor;
pub mod agent;
pub mod bodies;
pub mod client;
pub mod content;
pub mod exchange;
pub mod expect;
pub mod framings;
pub mod front;
pub mod grpc;
pub mod identity;
pub mod kernel;
pub mod ledger;
pub mod mapper;
pub mod messages;
pub mod metric;
pub mod mock;
pub mod parts;
pub mod passing;
pub mod process;
pub mod programs;
pub mod random;
pub mod receiver;
pub mod span;
pub mod storm;
pub mod tape;
pub mod websocket;
