//! What the operator asked for: command line and environment, read once. A
//! reload starts from here again; only the configuration file can have changed.

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use nix::sys::stat::{Mode, umask};
use serve_config::{Action, Error, Layer, Settings};

/// The command line, the environment and the directory the server was started
/// in.
pub(crate) struct Invocation {
    pub(crate) action: Action,
    /// The configuration file, as the operator wrote it.
    pub(crate) config: Option<String>,
    /// What relative paths are relative to, unless `chdir` says otherwise.
    pub(crate) directory: PathBuf,
    /// The file mode creation mask, unless `umask` says otherwise.
    mask: Mode,
    command_line: Layer,
    environment: Layer,
}

/// A configuration file's settings, and what is odd about them.
#[derive(Default)]
pub(crate) struct File {
    layer: Layer,
    pub(crate) warnings: Vec<String>,
}

impl Invocation {
    /// Reads the arguments and this process's environment.
    pub(crate) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, Error> {
        let cli = serve_config::parse_args(arguments)?;
        let directory = env::current_dir().map_err(|error: io::Error| {
            Error::Usage(format!("cannot find the working directory: {error}"))
        })?;
        Ok(Self {
            environment: serve_config::from_env(|name| env::var(name).ok())?,
            action: cli.action,
            config: cli.config,
            command_line: cli.layer,
            directory,
            mask: mask(),
        })
    }

    /// Reads what the evaluation of the configuration file has reported.
    pub(crate) fn file(&self, json: &str) -> Result<File, Error> {
        let Some(path) = &self.config else { return Ok(File::default()) };
        let (layer, warnings) = serve_config::from_json(path, json)?;
        Ok(File { layer, warnings })
    }

    /// All sources, the strongest last.
    pub(crate) fn resolve(&self, file: &File) -> Result<Settings, Error> {
        serve_config::resolve(&[
            file.layer.clone(),
            self.environment.clone(),
            self.command_line.clone(),
        ])
    }

    /// Whether flag or variable ask for a daemon; the file may, too.
    pub(crate) fn daemon(&self) -> bool {
        self.resolve(&File::default()).is_ok_and(|settings| settings.daemon)
    }

    /// The configuration file's full path: a later `chdir` must not move it.
    pub(crate) fn config_path(&self) -> Option<String> {
        let path = self.config.as_ref()?;
        Some(self.directory.join(path).to_string_lossy().into_owned())
    }

    /// Relative paths in the settings are relative to `chdir`, as in gunicorn,
    /// and new files get what `umask` leaves them.
    pub(crate) fn enter(&self, settings: &Settings) -> Result<(), String> {
        let place = match &settings.chdir {
            Some(chdir) => self.directory.join(chdir),
            None => self.directory.clone(),
        };
        env::set_current_dir(&place)
            .map_err(|error| format!("chdir {}: {error}", place.display()))?;
        umask(settings.umask.map_or(self.mask, Mode::from_bits_truncate));
        Ok(())
    }
}

/// The mask that this process was started with. It can be read only by setting
/// it; there is no second thread yet that could make a file meanwhile.
fn mask() -> Mode {
    let mask = umask(Mode::empty());
    umask(mask);
    mask
}
