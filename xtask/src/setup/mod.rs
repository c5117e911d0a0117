//! What the tests, the demo and the benchmarks need from outside, installed once.

pub(crate) mod apt;
