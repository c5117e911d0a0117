//! What the fuzz targets share: how an input is read, the rules that every run is held to, and the inputs to
//! begin with. One file in `fuzz_targets` is one target; `cargo xtask fuzz` runs them.

pub mod contract;
pub mod document;
pub mod http2;
pub mod memory;
pub mod numbers;
pub mod recorder;
pub mod reference;
pub mod replay;
pub mod script;
pub mod seeds;
pub mod websocket;
