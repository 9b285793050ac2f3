//! Writes the reference page of all settings to stdout:
//! `cargo run -p serve-config --example reference > docs/reference/settings.md`

use std::io::{self, Write};

fn main() -> io::Result<()> {
    io::stdout().write_all(serve_config::reference().as_bytes())
}
