//! `--check-config` and `--print-config`: what a start would see, without
//! starting anything.

use std::path::Path;

use pyo3::Python;
use serve_config::Settings;
use serve_net::Address;
use serve_supervisor::{Error, Pidfile};

use crate::invocation::Invocation;
use crate::mold::Collected;
use crate::privileges::Owner;
use crate::trust::{proxy, trust};
use crate::{candidates, engine, logger, logs, mold, python_logging, reload, tls, worker};

/// Resolves all settings and loads the application; returns the exit code.
pub(crate) fn config(invocation: &Invocation) -> i32 {
    looked(invocation, |py, settings, owner, collected| {
        if settings.wsgi_app.is_none() {
            return Err(refused(&candidates::nameless(&invocation.directory)));
        }
        // As whom and where a mold would load it.
        invocation.enter(settings).map_err(|reason| refused(&reason))?;
        files(settings).map_err(|reason| failed(&reason))?;
        tls::load(settings).map_err(|reason| refused(&reason))?;
        let assumed = owner.map_or(Ok(()), |owner| owner.assume());
        assumed.map_err(|reason| refused(&reason))?;
        let Collected { document, hooks, logging } = collected;
        let prepared = mold::furnish(py, settings).and_then(|()| engine::prepare(py, settings));
        let logging = prepared.and_then(|_| python_logging::configure(py, settings, logging, true));
        let resolved = logging.and_then(|()| mold::resolve(py, hooks, &document, settings));
        let loaded = resolved.and_then(|_| worker::load(py, settings));
        loaded.map(drop).map_err(|refusal| worker::refuse(&refusal))
    })
}

/// Prints all settings and where each comes from; returns the exit code.
#[expect(clippy::print_stdout, reason = "what was asked for is the command's output")]
pub(crate) fn print(invocation: &Invocation) -> i32 {
    looked(invocation, |_, settings, _, _| {
        print!("{}", settings.print());
        Ok(())
    })
}

fn looked(
    invocation: &Invocation,
    look: impl FnOnce(Python<'_>, &Settings, Option<Owner>, Collected<'_>) -> Result<(), i32>,
) -> i32 {
    logger::start("serve");
    let interpreter = match mold::start(invocation) {
        Ok(interpreter) => interpreter,
        Err(reason) => return refused(&reason),
    };
    let code = interpreter.enter(|py| {
        let seen = settings(py, invocation).and_then(|(settings, collected)| {
            let owner = Owner::find(&settings).map_err(|reason| refused(&reason))?;
            look(py, &settings, owner, collected)
        });
        seen.err().unwrap_or(0)
    });
    interpreter.finish();
    code
}

fn settings<'py>(
    py: Python<'py>,
    invocation: &Invocation,
) -> Result<(Settings, Collected<'py>), i32> {
    let usage = |error: serve_config::Error| refused(&error.to_string());
    let collected = mold::evaluate(py, invocation).and_then(|read| mold::collect(py, read));
    let collected = collected.map_err(|refusal| worker::refuse(&refusal))?;
    let (file, remarks) = invocation.file(&collected.document).map_err(usage)?;
    for remark in &remarks {
        logger::remark(remark);
    }
    let settings = invocation.resolve(&file).map_err(usage)?;
    for text in &settings.bind {
        address(&settings, text).map_err(|reason| refused(&reason))?;
    }
    values(&settings).map_err(|reason| refused(&reason))?;
    Ok((settings, collected))
}

/// Whether the values are ones that whoever uses them can read, and go together.
///
/// # Errors
/// A sentence for the operator.
pub(crate) fn values(settings: &Settings) -> Result<(), String> {
    logs::check(settings)?;
    trust(settings)?;
    proxy(settings)?;
    engine::check(settings)?;
    reload::check(settings)?;
    tls::check(settings)
}

/// One of the addresses to listen on.
///
/// # Errors
/// A sentence for the operator.
pub(crate) fn address(settings: &Settings, text: &str) -> Result<Address, String> {
    Address::parse(text).map_err(|reason| format!("{}: '{text}': {reason}", settings.place("bind")))
}

/// Whether a start could open the logs and write the pidfile. Makes neither.
fn files(settings: &Settings) -> Result<(), String> {
    logger::check(settings)?;
    match settings.pidfile.as_ref().map(|path| Pidfile::check(Path::new(path))) {
        // By the server for whose next reload this is the check.
        None | Some(Ok(()) | Err(Error::PidfileHeld { .. })) => Ok(()),
        Some(Err(error)) => Err(format!("{}: {error}", settings.place("pidfile"))),
    }
}

fn failed(reason: &str) -> i32 {
    log::error!("{reason}");
    1
}

fn refused(reason: &str) -> i32 {
    log::error!("{reason}");
    2
}
