//! The program `waymark`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    waymark::cli::main()
}
