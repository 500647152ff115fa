//! Gives the linker the memory map and the interrupt names of the board.

use std::path::PathBuf;
use std::{env, fs};

/// Linker scripts that cortex-m-rt's `link.x` includes by name.
const SCRIPTS: [&str; 2] = ["memory.x", "device.x"];

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for script in SCRIPTS {
        fs::copy(script, out.join(script)).expect("the linker script is beside build.rs");
        println!("cargo:rerun-if-changed={script}");
    }
    // The search path reaches every crate that links this one; the arguments reach the examples of this crate only.
    println!("cargo:rustc-link-search={}", out.display());
    for argument in ["-Tlink.x", "-Tdefmt.x", "--nmagic"] {
        println!("cargo:rustc-link-arg-examples={argument}");
    }
    println!("cargo:rerun-if-env-changed=DEFMT_LOG");
}
