//! llama.cpp's server, and a model for it.

use std::process::Command;

use anyhow::Result;

use super::{
    apt, python,
    recipe::{once, place, recipe},
};
use crate::shell::run;

/// The server in `target/parts/llama-venv` and the model `target/parts/tiny.gguf`.
pub(super) fn install() -> Result<()> {
    let (requirements, text) = recipe("requirements-llama.txt")?;
    once(
        "llama-venv",
        &text,
        "llama.cpp's server into target/parts/llama-venv, three to four minutes",
        || {
            apt::install(&["g++", "cmake", "make"])?;
            // The same instructions on every machine that runs it.
            python::environment("llama-venv", &requirements, &[("CMAKE_ARGS", "-DGGML_NATIVE=OFF")])
        },
    )?;
    let (script, text) = recipe("make_tiny_gguf.py")?;
    once("tiny.gguf", &text, "a tiny model as target/parts/tiny.gguf", || {
        python::install()?;
        run(Command::new(place("venv/bin/python")).arg(&script).arg(place("tiny.gguf")))
    })
}
