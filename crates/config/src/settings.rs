//! The settings as the rest of the program reads them: typed, complete, and
//! without magic values ("0 means never" is an `Option` here).
//!
//! [`Settings`] is read by serde from the canonical values that the table's
//! kinds let through, field by name. Nobody passes the whole of it around: the
//! wiring copies what a crate needs into that crate's own options.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::error::Error;
use crate::kind::{duration, mode, mode_text, seconds, size, size_text};
use crate::merge::Origin;
use crate::table::FACILITIES;

/// Every setting, resolved. What each means is in the table, and from there in
/// `docs/reference/settings.md`; here are only the types and their units.
///
/// There is no `Default`: `resolve(&[])` gives the defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each field is the table's row of that name, documented there")]
pub struct Settings {
    pub wsgi_app: Option<String>,
    pub python: Option<String>,
    pub chdir: Option<String>,
    pub pythonpath: Vec<String>,
    /// Each `NAME=VALUE`.
    pub raw_env: Vec<String>,
    pub preload_app: bool,

    /// At least one address, none empty; not parsed yet.
    pub bind: Vec<String>,
    /// As listen(2) takes it.
    pub backlog: i32,
    /// Permission bits, at most `0o777`.
    #[serde(with = "canonical")]
    pub unix_socket_mode: u32,

    pub workers: Workers,
    /// From 1.
    pub max_surge: u16,

    /// `None`: as many as it lives for.
    #[serde(with = "canonical")]
    pub max_requests: Option<usize>,
    /// The most that is added to `max_requests`.
    pub max_requests_jitter: usize,
    /// `None`: as old as it gets.
    #[serde(with = "canonical")]
    pub max_worker_age: Option<Duration>,
    /// Bytes; `None`: as much as it takes.
    #[serde(with = "canonical")]
    pub max_rss: Option<u64>,
    /// As it was set: [`Settings::class`] is what it comes to.
    pub worker_class: WorkerClass,
    /// From 1.
    pub threads: u16,
    /// Bytes; `None`: as the system has it.
    #[serde(with = "canonical")]
    pub thread_stack_size: Option<u64>,
    /// From 1.
    pub worker_connections: usize,
    pub proc_name: Option<String>,
    pub pidfile: Option<String>,
    pub daemon: bool,

    /// A name or a number.
    pub user: Option<String>,
    /// A name or a number.
    pub group: Option<String>,
    pub initgroups: bool,
    /// Permission bits; `None`: as the server was started.
    #[serde(with = "canonical")]
    pub umask: Option<u32>,

    /// `None`: a worker is never considered stuck.
    #[serde(with = "canonical")]
    pub timeout: Option<Duration>,
    /// `None`: a request may take for ever.
    #[serde(with = "canonical")]
    pub request_timeout: Option<Duration>,
    /// Zero: requests in flight are not waited for.
    #[serde(with = "canonical")]
    pub graceful_timeout: Duration,
    /// Zero: the stop begins at once.
    #[serde(with = "canonical")]
    pub drain_delay: Duration,
    /// `None`: every connection is closed after its response.
    #[serde(with = "canonical")]
    pub keepalive: Option<Duration>,
    #[serde(with = "canonical")]
    pub header_timeout: Duration,
    #[serde(with = "canonical")]
    pub write_timeout: Duration,
    #[serde(with = "canonical")]
    pub boot_timeout: Duration,

    /// Bytes; `None`: bounded by the whole head alone.
    #[serde(with = "canonical")]
    pub limit_request_line: Option<usize>,
    /// `None`: bounded by the whole head alone.
    #[serde(with = "canonical")]
    pub limit_request_fields: Option<usize>,
    /// Bytes; `None`: bounded by the whole head alone.
    #[serde(with = "canonical")]
    pub limit_request_field_size: Option<usize>,
    /// Bytes; `None`: unlimited.
    #[serde(with = "canonical")]
    pub max_body_size: Option<u64>,
    /// `None`: unlimited.
    #[serde(with = "canonical")]
    pub queue_limit: Option<usize>,
    /// `None`: unlimited.
    #[serde(with = "canonical")]
    pub queue_timeout: Option<Duration>,

    /// A file.
    pub certfile: Option<String>,
    /// A file; `None`: the key is in `certfile`.
    pub keyfile: Option<String>,
    /// A file.
    pub ca_certs: Option<String>,
    /// Whether clients need a certificate: 0 no, 1 optional, 2 yes.
    pub cert_reqs: u8,

    /// Not parsed yet.
    pub forwarded_allow_ips: Vec<String>,
    pub trust_forwarded: usize,
    pub forwarded_style: ForwardedStyle,
    /// Each `NAME=VALUE`, neither empty.
    pub secure_scheme_headers: Vec<String>,
    pub forwarder_headers: Vec<String>,
    pub header_map: HeaderMap,
    pub request_id: bool,
    pub proxy_protocol: ProxyProtocol,
    /// Not parsed yet.
    pub proxy_allow_ips: Vec<String>,

    /// `None`: requests are not logged. `Standard` is stdout.
    pub accesslog: Option<LogFile>,
    /// Not parsed yet.
    pub access_log_format: String,
    /// Not parsed yet.
    pub access_log_skip: Vec<String>,
    /// From 1.
    pub access_log_sample: u64,
    /// `Standard` is stderr.
    pub errorlog: LogFile,
    pub loglevel: LogLevel,
    pub log_format: LogForm,
    pub capture_output: bool,
    /// A file.
    pub logconfig: Option<String>,
    /// A file; outweighs `logconfig`.
    pub logconfig_json: Option<String>,
    /// As far as JSON can hold it; outweighs `logconfig_json`.
    pub logconfig_dict: Option<Map<String, Json>>,
    pub syslog: bool,
    /// Not parsed yet.
    pub syslog_addr: String,
    pub syslog_prefix: Option<String>,
    /// One of syslog's words: [`Settings::facility`].
    pub syslog_facility: String,
    pub disable_redirect_access_to_syslog: bool,
    /// `None`: there are no metrics. Not resolved yet.
    pub statsd_host: Option<String>,
    pub statsd_prefix: Option<String>,
    pub dogstatsd_tags: Option<String>,

    pub reload: bool,
    pub reload_extra_files: Vec<String>,

    /// Where each value came from that is not the default.
    pub(crate) origins: BTreeMap<String, Origin>,
}

impl Settings {
    /// The class of the workers: several threads are more than `sync` has.
    pub fn class(&self) -> WorkerClass {
        match self.worker_class {
            WorkerClass::Sync if self.threads > 1 => WorkerClass::Threads,
            class => class,
        }
    }

    /// Where the value of the setting called `name` came from.
    pub fn origin(&self, name: &str) -> &Origin {
        self.origins.get(name).unwrap_or(&Origin::Default)
    }

    /// Where to look for the setting called `name`, to begin a message.
    pub fn place(&self, name: &str) -> String {
        self.origin(name).place(name)
    }

    /// The number of `syslog_facility` (RFC 5424 section 6.2.1).
    pub fn facility(&self) -> usize {
        FACILITIES.iter().position(|name| *name == self.syslog_facility).unwrap_or(1)
    }

    /// For another process of the same program: [`Settings::from_json`] gives
    /// back an equal value.
    pub fn to_json(&self) -> String {
        self.to_value().to_string()
    }

    /// The other end of [`Settings::to_json`].
    ///
    /// # Errors
    /// [`Error::Foreign`] if `json` was made by anything else.
    pub fn from_json(json: &str) -> Result<Self, Error> {
        serde_json::from_str(json).map_err(|error| Error::Foreign(error.to_string()))
    }

    /// The canonical values by name, and `origins`.
    pub(crate) fn to_value(&self) -> Json {
        serde_json::to_value(self).expect("texts, numbers, lists and text keys always serialise")
    }
}

/// How many worker processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Workers {
    /// As many as suit the CPUs: [`crate::Cores::workers`].
    Auto,
    /// As many as was said, from 1 to [`Workers::MOST`].
    #[serde(untagged)]
    Count(u16),
}

impl Workers {
    /// The most that can be asked for.
    pub const MOST: u16 = 500;
}

/// How a worker runs the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerClass {
    /// One request at a time, on the worker's main thread.
    Sync,
    /// Several at a time, each in a thread.
    Threads,
    /// Many at a time, each in a greenlet.
    Async,
    /// As `Async`, and never without gevent.
    Gevent,
}

impl fmt::Display for WorkerClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WorkerClass::Sync => "sync",
            WorkerClass::Threads => "threads",
            WorkerClass::Async => "async",
            WorkerClass::Gevent => "gevent",
        })
    }
}

/// In which headers proxies say who the client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the table's words")]
pub enum ForwardedStyle {
    XForwarded,
    Forwarded,
}

/// Whether connections begin with the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the table's words")]
pub enum ProxyProtocol {
    Off,
    V1,
    V2,
    Auto,
}

/// What becomes of headers with an underscore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the table's words")]
pub enum HeaderMap {
    Drop,
    Refuse,
    Dangerous,
}

/// Where a log goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogFile {
    /// `-`: the process's own stream, stdout or stderr as the setting says.
    #[serde(rename = "-")]
    Standard,
    /// A file to append to.
    #[serde(untagged)]
    File(String),
}

/// The form of the server's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the table's words")]
pub enum LogForm {
    Text,
    Json,
}

/// The least important kind of line that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "Python's level names, plus trace")]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

/// A type whose canonical value is not what serde would write by itself.
trait Canonical: Sized {
    fn to_canonical(&self) -> Json;
    fn from_canonical(value: &Json) -> Option<Self>;
}

impl Canonical for Duration {
    fn to_canonical(&self) -> Json {
        seconds(*self)
    }

    fn from_canonical(value: &Json) -> Option<Self> {
        duration(value)
    }
}

/// 0 is `None`.
impl Canonical for Option<Duration> {
    fn to_canonical(&self) -> Json {
        seconds(self.unwrap_or_default())
    }

    fn from_canonical(value: &Json) -> Option<Self> {
        duration(value).map(|span| Some(span).filter(|span| !span.is_zero()))
    }
}

/// A number, of which 0 is `None`.
impl Canonical for Option<usize> {
    fn to_canonical(&self) -> Json {
        Json::from(self.unwrap_or_default())
    }

    fn from_canonical(value: &Json) -> Option<Self> {
        let number = usize::try_from(value.as_u64()?).ok()?;
        Some(Some(number).filter(|number| *number > 0))
    }
}

/// A size in bytes, of which 0 is `None`.
impl Canonical for Option<u64> {
    fn to_canonical(&self) -> Json {
        Json::from(size_text(self.unwrap_or_default()))
    }

    fn from_canonical(value: &Json) -> Option<Self> {
        size(value).map(|bytes| Some(bytes).filter(|bytes| *bytes > 0))
    }
}

/// A file's permission bits.
impl Canonical for u32 {
    fn to_canonical(&self) -> Json {
        Json::from(mode_text(*self))
    }

    fn from_canonical(value: &Json) -> Option<Self> {
        mode(value)
    }
}

/// A mode; null is `None`.
impl Canonical for Option<u32> {
    fn to_canonical(&self) -> Json {
        self.map_or(Json::Null, |bits| bits.to_canonical())
    }

    fn from_canonical(value: &Json) -> Option<Self> {
        if value.is_null() { Some(None) } else { mode(value).map(Some) }
    }
}

/// For `#[serde(with = "canonical")]`.
mod canonical {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::Value as Json;

    use super::Canonical;

    pub(super) fn serialize<T: Canonical, S: Serializer>(
        value: &T,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        value.to_canonical().serialize(to)
    }

    pub(super) fn deserialize<'de, T: Canonical, D: Deserializer<'de>>(
        from: D,
    ) -> Result<T, D::Error> {
        let value = Json::deserialize(from)?;
        T::from_canonical(&value)
            .ok_or_else(|| D::Error::custom(format!("{value} does not fit its field")))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::merge::{from_json, resolve};
    use crate::table::TABLE;

    #[test]
    fn every_row_has_its_field_and_every_field_its_row() {
        let rows: BTreeSet<_> = TABLE.iter().map(|row| row.name).chain(["origins"]).collect();
        let value = resolve(&[]).unwrap().to_value();
        let fields: BTreeSet<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(rows, fields);
    }

    /// What a kind accepts, its field can hold, and gives back as it was.
    #[test]
    fn every_row_fits_its_field() {
        // A file cannot say which Python reads it.
        for row in TABLE.iter().filter(|row| row.name != "python") {
            for sample in row.kind.samples() {
                let json = json!({ row.name: sample }).to_string();
                let (layer, _) = from_json("test", &json).unwrap();
                let settings = resolve(&[layer]).expect(&json);
                assert_eq!(
                    settings.to_value()[row.name],
                    row.kind.check(&json!(sample)).unwrap(),
                    "{json}"
                );
                assert_eq!(Settings::from_json(&settings.to_json()), Ok(settings), "{json}");
            }
        }
    }

    #[test]
    fn defaults_are_what_the_design_says() {
        let settings = resolve(&[]).unwrap();
        let seconds = Duration::from_secs;
        assert_eq!(settings.bind, ["127.0.0.1:8000"]);
        assert_eq!(settings.workers, Workers::Auto);
        assert_eq!(settings.worker_class, WorkerClass::Sync);
        assert_eq!(settings.timeout, Some(seconds(30)));
        assert_eq!(settings.graceful_timeout, seconds(30));
        assert_eq!(settings.keepalive, Some(seconds(75)));
        assert_eq!(settings.unix_socket_mode, 0o660);
        assert_eq!(settings.max_body_size, None);
        assert_eq!((settings.accesslog, settings.errorlog), (None, LogFile::Standard));
        assert_eq!(settings.loglevel, LogLevel::Info);
    }

    #[test]
    fn zero_switches_off_where_it_may() {
        let json = r#"{"timeout": 0, "keepalive": "0ms", "graceful_timeout": 0, "max_body_size": 0,
                       "limit_request_line": 0, "limit_request_fields": "0"}"#;
        let (layer, _) = from_json("test", json).unwrap();
        let settings = resolve(&[layer]).unwrap();
        assert_eq!((settings.timeout, settings.keepalive), (None, None));
        assert_eq!(settings.graceful_timeout, Duration::ZERO);
        assert_eq!(settings.max_body_size, None);
        assert_eq!((settings.limit_request_line, settings.limit_request_fields), (None, None));
    }

    #[test]
    fn settings_of_another_program_are_refused() {
        for json in ["", "{}", "[1]", r#"{"bind": "x"}"#] {
            assert!(matches!(Settings::from_json(json), Err(Error::Foreign(_))), "{json}");
        }
        let mut value = resolve(&[]).unwrap().to_value();
        value["keepalive"] = json!("often");
        let error = Settings::from_json(&value.to_string()).unwrap_err().to_string();
        assert!(error.contains("\"often\" does not fit"), "{error}");
        value["keepalive"] = json!(1);
        value["later"] = json!(1);
        assert!(Settings::from_json(&value.to_string()).is_err());
    }
}
