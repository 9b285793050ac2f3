//! Starts and ends CPython so that it is the virtual environment's own
//! interpreter: same `sys.prefix`, `sys.executable`, UTF-8 mode, site-packages.
//!
//! Nothing of Python runs before [`Interpreter::start`]. Call it, and
//! [`Interpreter::finish`], on the process's main thread.

use std::env;
use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::marker::PhantomData;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use pyo3::ffi;
use pyo3::prelude::*;

use crate::{module, process};

/// Which `python` the embedded interpreter takes itself for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// The `python` of a virtual environment or an installation; `None` when
    /// none was found, then `sys.executable` stays empty.
    pub executable: Option<PathBuf>,
}

impl Home {
    /// Looks at `python` (a setting, from `place`: a virtual environment or its interpreter),
    /// `VIRTUAL_ENV`, the environment this binary is installed in, and `PATH`;
    /// the first that is there is taken.
    ///
    /// # Errors
    /// A sentence, when what was named is missing or is another Python version
    /// than the one this binary embeds.
    pub fn find(python: Option<&str>, place: &str) -> Result<Self, String> {
        if let Some(named) = python {
            return Self::named(Path::new(named), place);
        }
        if let Some(venv) = env::var_os("VIRTUAL_ENV").filter(|path| !path.is_empty()) {
            return Self::named(Path::new(&venv), "VIRTUAL_ENV");
        }
        if let Some(venv) = own_environment() {
            return Self::named(&venv, "the environment of this binary");
        }
        Ok(Self { executable: on_path(&format!("python{}", linked_version())) })
    }

    fn named(path: &Path, source: &str) -> Result<Self, String> {
        let executable = if path.is_dir() { path.join("bin/python") } else { path.to_path_buf() };
        let real = match executable.canonicalize() {
            Ok(real) if real.is_file() => real,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(format!(
                    "{source}: this user may not enter a folder on the way to {} or to what it links to",
                    executable.display()
                ));
            }
            _ => {
                return Err(format!(
                    "{source}: there is no Python at {}: it must be a virtual environment or its bin/python",
                    path.display()
                ));
            }
        };
        let root = executable.parent().and_then(Path::parent);
        let environment = root.and_then(|root| environment_version(&root.join("pyvenv.cfg")));
        let linked = linked_version();
        let advice = format!("make it again with `python{linked} -m venv`");
        let found = environment
            .map(|version| (version, "was made by", advice.as_str()))
            .or_else(|| Some((version_in_name(&real)?, "is", "name one of that version")));
        match found {
            Some((found, verb, advice)) if found != linked => Err(format!(
                "{source}: {} {verb} Python {found}, and this serve runs Python {linked}: \
                 {advice}, or build serve with Python {found}",
                path.display()
            )),
            _ => Ok(Self { executable: Some(executable) }),
        }
    }
}

/// `3.12`, of `python3.12`.
fn version_in_name(executable: &Path) -> Option<String> {
    let version = executable.file_name()?.to_str()?.strip_prefix("python")?;
    let plain = version.split('.').all(|part| part.parse::<u8>().is_ok());
    (plain && version.contains('.')).then(|| version.to_owned())
}

/// Whether `python` names the environment at `prefix`, or its interpreter.
fn is_within(python: &Path, prefix: &Path) -> bool {
    // Not the interpreter's own real path: a virtual environment links to it.
    let root = if python.is_dir() { Some(python) } else { python.parent().and_then(Path::parent) };
    match (root.map(Path::canonicalize), prefix.canonicalize()) {
        (Some(Ok(root)), Ok(prefix)) => root == prefix,
        _ => false,
    }
}

/// Whoever activates an environment expects its packages.
fn warn_of_other_environment(prefix: &str) {
    if let Some(active) = env::var_os("VIRTUAL_ENV").filter(|path| !path.is_empty())
        && !is_within(Path::new(&active), Path::new(prefix))
    {
        log::warn!(
            "the active virtual environment is {}, and this serve is installed in {prefix} and \
             uses the packages there: install serve into the active one",
            Path::new(&active).display()
        );
    }
}

/// The virtual environment whose `bin` holds this very binary.
fn own_environment() -> Option<PathBuf> {
    let exe = env::current_exe().ok()?;
    let root = exe.parent()?.parent()?;
    root.join("pyvenv.cfg").is_file().then(|| root.to_path_buf())
}

fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// `major.minor` from a pyvenv.cfg: `version` as venv writes it, `version_info`
/// as virtualenv and uv do.
fn environment_version(config: &Path) -> Option<String> {
    let text = fs::read_to_string(config).ok()?;
    let version = text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        matches!(key.trim(), "version" | "version_info").then(|| value.trim().to_owned())
    })?;
    let mut parts = version.split('.');
    Some(format!("{}.{}", parts.next()?, parts.next()?))
}

/// `major.minor` of the libpython in this process.
fn linked_version() -> String {
    // SAFETY: allowed before initialisation (C API, "Before Python
    // Initialization"); returns a static string.
    let text = unsafe { CStr::from_ptr(ffi::Py_GetVersion()) }.to_string_lossy();
    let mut parts = text.split(|c: char| !c.is_ascii_digit());
    format!("{}.{}", parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// A running interpreter, held by the thread that started it.
#[derive(Debug)]
pub struct Interpreter {
    /// Whoever started it ends it.
    is_ours: bool,
    /// Neither `Send` nor `Sync`: `Py_FinalizeEx` on another thread hangs.
    thread: PhantomData<*const ()>,
}

impl Interpreter {
    /// Initialises CPython with `argv` as `sys.argv`. Signal handlers are left
    /// alone.
    ///
    /// # Errors
    /// CPython's own words, when it cannot start (a broken installation, mostly).
    pub fn start(home: &Home, argv: &[&str]) -> Result<Self, String> {
        configure(home, argv)?;
        let interpreter = Self { is_ours: true, thread: PhantomData };
        interpreter.enter(|py| module::request_timeout(py).map(drop)).map_err(|e| e.to_string())?;
        Ok(interpreter)
    }

    /// The interpreter that has called us, with `argv` as `sys.argv`; `None` when
    /// none has. `python` is the setting, which can choose no other one.
    ///
    /// # Errors
    /// A sentence, when it tries to.
    pub fn around(python: Option<&str>, argv: &[&str]) -> Result<Option<Self>, String> {
        // SAFETY: allowed before initialisation (C API, "Before Python
        // Initialization").
        if unsafe { ffi::Py_IsInitialized() } == 0 {
            return Ok(None);
        }
        let interpreter = Self { is_ours: false, thread: PhantomData };
        let prefix: String = interpreter
            .enter(|py| -> PyResult<String> {
                let sys = py.import("sys")?;
                sys.setattr("argv", argv)?;
                module::request_timeout(py)?;
                sys.getattr("prefix")?.extract()
            })
            .map_err(|error| error.to_string())?;
        match python {
            Some(python) if !is_within(Path::new(python), Path::new(&prefix)) => Err(format!(
                "--python: this serve runs in the Python that it is installed in, at {prefix}: \
                 install serve into {python} as well, or leave --python out"
            )),
            _ => {
                warn_of_other_environment(&prefix);
                Ok(Some(interpreter))
            }
        }
    }

    /// Runs `work` attached to the interpreter.
    pub fn enter<R>(&self, work: impl FnOnce(Python<'_>) -> R) -> R {
        Python::attach(work)
    }

    /// Ends it as a script's end does: threads joined, `atexit` called, streams
    /// flushed. With threads that do not end, as much of that as can be; they
    /// stop where they next want the GIL, which this thread keeps.
    pub fn finish(self) {
        if let Some(ended) = self.enter(process::end_running) {
            if let Err(error) = ended {
                log::warn!("the interpreter's end: {error}");
            }
            return;
        }
        if !self.is_ours {
            return;
        }
        // SAFETY: the thread that initialised holds the thread state again, all
        // `attach` closures have returned.
        let status = unsafe { ffi::Py_FinalizeEx() };
        if status != 0 {
            log::warn!("the interpreter's end could not write all buffered output");
        }
    }
}

fn configure(home: &Home, argv: &[&str]) -> Result<(), String> {
    let program = home.executable.as_deref().map(c_path).transpose()?;
    let argv: Vec<CString> =
        argv.iter().map(|arg| CString::new(*arg)).collect::<Result<_, _>>().map_err(nul)?;
    let mut argv: Vec<_> = argv.iter().map(|arg| arg.as_ptr().cast_mut()).collect();
    // SAFETY: the documented order of calls (PEP 587) on structures that live
    // until PyConfig_Clear; strings are copied by the calls they are given to.
    unsafe {
        let mut pre = std::mem::zeroed::<ffi::PyPreConfig>();
        // The "Python" flavour decides UTF-8 mode from the locale as `python3`
        // does: without it, LANG=C (most containers) would mean ASCII.
        ffi::PyPreConfig_InitPythonConfig(&raw mut pre);
        checked(ffi::Py_PreInitialize(&raw const pre))?;
        let mut config = std::mem::zeroed::<ffi::PyConfig>();
        ffi::PyConfig_InitPythonConfig(&raw mut config);
        config.parse_argv = 0;
        config.install_signal_handlers = 0;
        let mut status = ffi::PyConfig_SetBytesArgv(
            &raw mut config,
            argv.len().try_into().map_err(|_| "too many arguments".to_owned())?,
            argv.as_mut_ptr().cast(),
        );
        if let (0, Some(program)) = (ffi::PyStatus_Exception(status), &program) {
            let name = &raw mut config.program_name;
            status = ffi::PyConfig_SetBytesString(&raw mut config, name, program.as_ptr());
        }
        if ffi::PyStatus_Exception(status) == 0 {
            status = ffi::Py_InitializeFromConfig(&raw const config);
        }
        ffi::PyConfig_Clear(&raw mut config);
        checked(status)
    }
}

fn checked(status: ffi::PyStatus) -> Result<(), String> {
    // SAFETY: reads a plain structure; its message is a static string or null.
    unsafe {
        if ffi::PyStatus_Exception(status) == 0 {
            return Ok(());
        }
        let reason = if status.err_msg.is_null() {
            "unknown reason".into()
        } else {
            CStr::from_ptr(status.err_msg).to_string_lossy()
        };
        Err(format!("Python cannot start: {reason}"))
    }
}

fn c_path(path: &Path) -> Result<CString, String> {
    CString::new(path.as_os_str().as_bytes()).map_err(nul)
}

fn nul(_: std::ffi::NulError) -> String {
    "a path or argument for Python contains a NUL character".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_an_environment_is_read_from_either_key() {
        let dir = env::temp_dir().join(format!("serve-pyvenv-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("dir");
        let file = dir.join("pyvenv.cfg");
        for (text, want) in [
            ("home = /usr/bin\nversion = 3.12.1\n", Some("3.12")),
            ("version_info = 3.13.0.final.0\n", Some("3.13")),
            ("home = /usr/bin\n", None),
        ] {
            fs::write(&file, text).expect("write");
            assert_eq!(environment_version(&file).as_deref(), want);
        }
        fs::remove_dir_all(&dir).expect("cleanup");
    }

    #[test]
    fn the_version_of_an_interpreter_is_read_from_its_name() {
        for (name, version) in [
            ("python3.12", Some("3.12")),
            ("python3", None),
            ("python", None),
            ("python3.13t", None),
            ("pypy3.10", None),
        ] {
            let found = version_in_name(&Path::new("/usr/bin").join(name));
            assert_eq!(found.as_deref(), version, "{name}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = Home::named(Path::new("/nowhere/venv"), "--python").expect_err("missing");
        assert!(error.contains("--python: there is no Python at /nowhere/venv"), "{error}");
    }
}
