//! The binary: an interpreter comes with it, linked, and starts with the first
//! mold.

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    let code = serve::run(env::args_os(), None);
    // Anything beyond a byte would be cut by the system.
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
