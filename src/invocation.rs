//! What the operator asked for: command line and environment, read once. A
//! reload starts from here again; only the configuration file can have changed.

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use nix::sys::stat::{Mode, umask};
use serve_config::{Action, Document, Environment, Error, Layer, Remark, Settings};

/// The command line, the environment and the directory the server was started
/// in.
pub(crate) struct Invocation {
    pub(crate) action: Action,
    /// The configuration file, if the operator has named one.
    pub(crate) config: Option<String>,
    /// What relative paths are relative to, unless `chdir` says otherwise.
    pub(crate) directory: PathBuf,
    /// The file mode creation mask, unless `umask` says otherwise.
    mask: Mode,
    command_line: Layer,
    environment: Environment,
}

impl Invocation {
    /// Reads the arguments and this process's environment.
    pub(crate) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, Error> {
        let cli = serve_config::parse_args(arguments)?;
        let directory = env::current_dir().map_err(|error: io::Error| {
            Error::Usage(format!("cannot find the working directory: {error}"))
        })?;
        let variable = |name: &str| Some(env::var_os(name)?.to_string_lossy().into_owned());
        let mut environment = serve_config::from_env(variable)?;
        environment.look_for_slips(variables());
        let asked = environment.action.clone().filter(|_| cli.action == Action::Run);
        Ok(Self {
            action: asked.unwrap_or(cli.action),
            config: cli.config.or_else(|| environment.config.clone()),
            environment,
            command_line: cli.layer,
            directory,
            mask: mask(),
        })
    }

    /// All sources, the strongest last.
    pub(crate) fn resolve(&self, file: &Layer) -> Result<Settings, Error> {
        serve_config::resolve(&[
            self.environment.platform.clone(),
            file.clone(),
            self.environment.layer.clone(),
            self.command_line.clone(),
        ])
    }

    /// What is known before a configuration file is read.
    pub(crate) fn foreknown(&self) -> Result<Settings, Error> {
        self.resolve(&Layer::default())
    }

    /// Checks what a configuration file says, and remarks on all sources.
    pub(crate) fn file(&self, document: &Document) -> Result<(Layer, Vec<Remark>), Error> {
        let file = serve_config::from_file(document)?;
        let layers = [&file, &self.environment.layer, &self.command_line];
        let remarks = layers.into_iter().flat_map(Layer::remarks).cloned().collect();
        Ok((file, remarks))
    }

    /// Whether flag or variable ask for a daemon; the file may, too.
    pub(crate) fn daemon(&self) -> bool {
        self.foreknown().is_ok_and(|settings| settings.daemon)
    }

    /// Relative paths in the settings are relative to `chdir`, as in gunicorn,
    /// and new files get what `umask` leaves them.
    pub(crate) fn enter(&self, settings: &Settings) -> Result<(), String> {
        let place = match &settings.chdir {
            Some(chdir) => self.directory.join(chdir),
            None => self.directory.clone(),
        };
        env::set_current_dir(&place).map_err(|error| {
            format!("{}: cannot change to {}: {error}", settings.place("chdir"), place.display())
        })?;
        umask(settings.umask.map_or(self.mask, Mode::from_bits_truncate));
        Ok(())
    }
}

/// The names of this process's variables. One that is empty counts as not set.
fn variables() -> impl Iterator<Item = String> {
    let set = env::vars_os().filter(|(_, value)| !value.is_empty());
    set.filter_map(|(name, _)| name.into_string().ok())
}

/// The mask that this process was started with. It can be read only by setting
/// it; there is no second thread yet that could make a file meanwhile.
fn mask() -> Mode {
    let mask = umask(Mode::empty());
    umask(mask);
    mask
}
