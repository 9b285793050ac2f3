//! Writes everything that is made from the table into a folder: the reference
//! page, the schema, the man page and the completions. `make gen` calls it.

use std::io::Result;
use std::path::Path;
use std::{env, fs};

use clap_complete::{Shell, generate_to};

#[expect(clippy::disallowed_methods, reason = "a program, unlike the crate, has arguments")]
fn main() -> Result<()> {
    let folder = env::args_os().nth(1).expect("the folder to write into");
    let folder = Path::new(&folder);
    let made = |name: &str| {
        let path = folder.join(name);
        fs::create_dir_all(&path).map(|()| path)
    };
    let reference = made("docs/reference")?;
    fs::write(reference.join("settings.md"), serve_config::reference())?;
    fs::write(reference.join("serve.schema.json"), serve_config::schema())?;
    fs::write(folder.join("docs/migrating-from-gunicorn.md"), serve_config::migrating())?;
    clap_mangen::generate_to(serve_config::command_line(), made("share/man/man1")?)?;
    let completions = made("share/completions")?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut serve_config::command_line(), "serve", &completions)?;
    }
    Ok(())
}
