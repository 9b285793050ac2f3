//! gunicorn's `logconfig`, `logconfig_json` and `logconfig_dict`: which of them
//! counts, and what is said of them.

use pyo3::types::PyString;
use pyo3::{Bound, PyAny, Python};
use serve_config::{LogLevel, Origin, Settings};
use serve_python::{LogConfig, Refusal};

/// Sets up Python's logging. `program` is what a Python file has called
/// `logconfig_dict`.
pub(crate) fn configure(
    py: Python<'_>,
    settings: &Settings,
    program: Option<Bound<'_, PyAny>>,
    tell: bool,
) -> Result<(), Refusal> {
    let config = chosen(py, settings, program);
    let asked = config.as_ref().map(|config| config.place.clone());
    let taken = serve_python::configure_logging(py, config, level(settings.loglevel))?;
    if let (Some(place), [_, ..], true) = (asked, taken.as_slice(), tell) {
        log::warn!(
            "{place} sets up {}, and the server's own lines do not pass through Python's logging: \
             --log-format json and --access-logformat json make them JSON{}",
            taken.join(" and "),
            if settings.accesslog.is_some() { "" } else { ", --access-logfile - logs requests" }
        );
    }
    Ok(())
}

/// The strongest of the three, as in gunicorn.
fn chosen<'py>(
    py: Python<'py>,
    settings: &Settings,
    program: Option<Bound<'py, PyAny>>,
) -> Option<LogConfig<'py>> {
    let text = |text: &str| PyString::new(py, text).into_any();
    let table = settings.logconfig_dict.as_ref().filter(|table| !table.is_empty()).map(|table| {
        let is_of_file = matches!(settings.origin("logconfig_dict"), Origin::File { .. });
        let json = || text(&serde_json::Value::from(table.clone()).to_string());
        ("logconfig_dict", program.filter(|_| is_of_file).unwrap_or_else(json))
    });
    let json = || Some(("logconfig_json", text(settings.logconfig_json.as_deref()?)));
    let file = || Some(("logconfig", text(settings.logconfig.as_deref()?)));
    let (setting, value) = table.or_else(json).or_else(file)?;
    Some(LogConfig { setting, place: settings.place(setting), value })
}

/// As Python's logging counts.
fn level(level: LogLevel) -> u32 {
    match level {
        LogLevel::Trace | LogLevel::Debug => 10,
        LogLevel::Info => 20,
        LogLevel::Warning => 30,
        LogLevel::Error => 40,
        LogLevel::Critical => 50,
    }
}
