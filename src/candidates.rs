//! What might be meant by a `serve` without an application: a look at the files
//! around, as a person would take it. Nothing of them is run.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// Files that are looked at, and how much of each.
const FILES: usize = 200;
const ENOUGH: u64 = 256 * 1024;

/// The application in `directory` that is most probably meant, and its file.
pub(crate) fn find(directory: &Path) -> Option<(String, String)> {
    let mut found: Vec<_> = modules(directory)
        .into_iter()
        .filter_map(|(module, file)| {
            let expression = offered(&source(&directory.join(&file)))?;
            Some((rank(&module), format!("{module}:{expression}"), file))
        })
        .collect();
    found.sort();
    found.into_iter().next().map(|(_, application, file)| (application, file))
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
