//! The traffic programs by themselves, for tests that run them inside a namespace.

use std::process::ExitCode;

fn main() -> ExitCode {
    acorn_tests::traffic::main(std::env::args().skip(1))
}
