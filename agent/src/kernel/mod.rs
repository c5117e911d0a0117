//! The kernel side, loaded. Nothing outside this module knows aya.

mod attach;
mod calls;
mod error;
mod features;
mod layout;
mod load;
mod maps;
mod object;
mod programs;
mod requirements;
mod ring;
mod ring_size;
mod version;

pub use attach::{AttachError, Attacher, Scope, TlsProbes};
pub use error::KernelError;
pub use load::{Kernel, LoadOptions, load};
pub use maps::KernelMaps;
pub use requirements::{Requirement, attaching, check, inspecting, opening_mapped_files, writing_maps};
pub use ring::Ring;
pub use ring_size::RingSize;
