//! Gives the linker the memory map, and the place of the provisioning from Cargo.toml, where the tools look for it too.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::copy("memory.x", out.join("memory.x")).expect("the memory map is beside build.rs");
    let manifest = fs::read_to_string("Cargo.toml").expect("the manifest is beside build.rs");
    let address = manifest
        .lines()
        .find_map(|line| line.strip_prefix("provisioning-address = "))
        .expect("Cargo.toml says where the provisioning is");
    println!("cargo:rustc-link-search={}", out.display());
    for argument in ["-Tlink.x", "-Tdefmt.x", "--nmagic", &format!("--defsym=_provisioning={address}")] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    for file in ["memory.x", "Cargo.toml"] {
        println!("cargo:rerun-if-changed={file}");
    }
    println!("cargo:rerun-if-env-changed=DEFMT_LOG");
}
