//! Lets this crate's own tests find the libpython they were linked with, and
//! compiles our own Python modules: compiled by each process, they would be a fifth
//! of what a start costs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const MODULES: &str = "../../python/serve";

/// Writes the code of each module, and which version of the bytecode it is (as in
/// the head of a .pyc file).
const COMPILE: &str = "
import importlib.util, marshal, pathlib, sys
folder, out = map(pathlib.Path, sys.argv[1:])
for path in folder.glob('_[a-z]*.py'):
    code = compile(path.read_bytes(), f'<serve>/{path.name}', 'exec', dont_inherit=True)
    (out / path.stem).write_bytes(marshal.dumps(code))
(out / 'magic').write_bytes(importlib.util.MAGIC_NUMBER)
";

fn main() {
    pyo3_build_config::add_libpython_rpath_link_args();
    println!("cargo::rerun-if-changed={MODULES}");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo says where to write"));
    let python = pyo3_build_config::get().executable();
    let is_compiled = python.is_some_and(|python| compile(python, &out));
    if !is_compiled {
        println!("cargo::warning=our Python modules are not compiled now, but at each start");
    }
    fs::write(out.join("built_in.rs"), table(&out, is_compiled)).expect("cargo's folder");
}

/// False where there is no such interpreter, as in a cross build.
#[expect(clippy::disallowed_methods, reason = "a build may start processes")]
fn compile(python: &str, out: &Path) -> bool {
    let arguments = ["-I", "-S", "-c", COMPILE, MODULES];
    // The order of a set's elements is part of the code.
    let run = Command::new(python).args(arguments).arg(out).env("PYTHONHASHSEED", "0").status();
    run.is_ok_and(|status| status.success())
}

/// Rust source: all modules, with an empty code where there is none.
fn table(out: &Path, is_compiled: bool) -> String {
    let folder = fs::canonicalize(MODULES).expect("our own modules");
    let mut names: Vec<_> = fs::read_dir(&folder)
        .expect("a folder")
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".py")?.to_owned()))
        .filter(|name| name.starts_with('_') && !name.starts_with("__"))
        .collect();
    names.sort();
    let bytes = |name: &str| match is_compiled {
        true => format!("include_bytes!({:?})", out.join(name)),
        false => "&[]".to_owned(),
    };
    let row = |name: &String| {
        let source = folder.join(format!("{name}.py"));
        format!("    ({name:?}, include_str!({source:?}), {}),\n", bytes(name))
    };
    let rows: String = names.iter().map(row).collect();
    format!(
        "const MAGIC: &[u8] = {};\n\
         /// Name, source and code.\n\
         const MODULES: &[(&str, &str, &[u8])] = &[\n{rows}];\n",
        bytes("magic")
    )
}
