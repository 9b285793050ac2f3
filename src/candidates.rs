//! What might be meant by a `serve` without an application: a look at the files
//! around, as a person would take it. Nothing of them is run.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// Folders that are looked into, files of each, and how much of each file.
const FOLDERS: usize = 30;
const FILES: usize = 200;
const ENOUGH: u64 = 256 * 1024;

/// An application that is probably meant.
pub(crate) struct Candidate {
    /// What the command line names it by, `--chdir` included.
    pub(crate) arguments: String,
    /// Where it is defined, from the folder that was asked about.
    pub(crate) file: String,
}

/// What to type when no application is named.
pub(crate) fn nameless(directory: &Path) -> String {
    let help = "`serve --help` shows more";
    match find(directory) {
        Some(Candidate { arguments, file }) => format!(
            "no application is named: write `serve {arguments}` for the one in {file}; {help}"
        ),
        None => format!(
            "no application is named: write `serve main:app`, where main.py has a WSGI application called app; {help}"
        ),
    }
}

/// The application in `directory` that is most probably meant; else one near by,
/// since people start in the wrong folder.
pub(crate) fn find(directory: &Path) -> Option<Candidate> {
    // Inside a package, its modules have other names, and do not find their own.
    let above = directory.join("__init__.py").exists().then_some("..");
    let here = || {
        let (arguments, file) = find_in(directory)?;
        Some(Candidate { arguments, file })
    };
    above
        .and_then(|above| find_from(directory, above))
        .or_else(here)
        .or_else(|| folders(directory).iter().find_map(|folder| find_from(directory, folder)))
}

fn find_from(directory: &Path, folder: &str) -> Option<Candidate> {
    let (application, file) = find_in(&directory.join(folder))?;
    let arguments = format!("{application} --chdir {folder}");
    Some(Candidate { arguments, file: format!("{folder}/{file}") })
}

/// The best application of a folder, and its file.
fn find_in(directory: &Path) -> Option<(String, String)> {
    let mut found: Vec<_> = modules(directory)
        .into_iter()
        .filter_map(|(module, file)| {
            let expression = offered(&source(&directory.join(&file)))?;
            let application = format!("{module}:{expression}");
            // A shell wants quotes around parentheses.
            let call = application.ends_with(')');
            let quoted = if call { format!("'{application}'") } else { application };
            Some((rank(&module), quoted, file))
        })
        .collect();
    found.sort();
    found.into_iter().next().map(|(_, application, file)| (application, file))
}

/// The folders of a folder, in order. What is hidden, and a virtual environment,
/// holds no application of anybody's own.
fn folders(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().take(FILES);
    let mut names: Vec<_> = entries
        .filter(|entry| entry.path().is_dir() && !entry.path().join("pyvenv.cfg").exists())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.') && !name.contains(char::is_whitespace))
        .collect();
    names.sort();
    names.truncate(FOLDERS);
    names
}

/// The modules of a folder, and the `wsgi` of each package in it.
fn modules(directory: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().take(FILES);
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter_map(|name| match name.strip_suffix(".py") {
            Some(module) if !module.contains('.') => Some((module.to_owned(), name)),
            Some(_) => None,
            None => {
                let file = format!("{name}/wsgi.py");
                directory.join(&file).is_file().then(|| (format!("{name}.wsgi"), file))
            }
        })
        .collect()
}

fn source(path: &Path) -> String {
    let mut text = Vec::new();
    // What cannot be read offers nothing.
    if let Ok(file) = File::open(path)
        && file.take(ENOUGH).read_to_end(&mut text).is_err()
    {
        text.clear();
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// What a module offers by the lines that begin at the margin.
fn offered(source: &str) -> Option<&'static str> {
    let assigned = |line: &str, name: &str| {
        let rest = line.strip_prefix(name).map(str::trim_start);
        rest.is_some_and(|rest| rest.starts_with([':', '=']) && !rest.starts_with("=="))
    };
    let says = |name| source.lines().any(|line| assigned(line, name));
    let defines = |head| source.lines().any(|line| line.starts_with(head));
    if says("app") || defines("def app(environ") {
        Some("app")
    } else if says("application") || defines("def application(environ") {
        Some("application")
    } else {
        let factory = ["def create_app()", "def create_app(test_config=None)"];
        factory.into_iter().any(defines).then_some("create_app()")
    }
}

/// The usual names first.
fn rank(module: &str) -> usize {
    let usual = ["wsgi", "main", "app", "application", "server"];
    let last = module.rsplit('.').next().unwrap_or(module);
    usual.iter().position(|name| *name == last).unwrap_or(usual.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_offers_is_read_from_its_lines() {
        for (source, offer) in [
            ("from flask import Flask\n\napp = Flask(__name__)\n", Some("app")),
            ("app: Flask = make()\n", Some("app")),
            ("application = get_wsgi_application()\n", Some("application")),
            ("def app(environ, start_response):\n", Some("app")),
            ("def create_app():\n    app = Flask()\n", Some("create_app()")),
            ("    app = 1\napp == 2\napple = 3\ndef app():\n", None),
            ("", None),
        ] {
            assert_eq!(offered(source), offer, "{source}");
        }
    }
}
