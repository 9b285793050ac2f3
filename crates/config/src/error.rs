//! What is wrong with a setting, in one sentence for whoever wrote it.

use std::fmt;

use serde_json::Value as Json;

/// Why settings cannot be used. Always the user's to repair: exit code 2.
#[derive(Debug, Clone, PartialEq)]
pub enum Error {
    /// The command line cannot be read: an unknown option, a missing value.
    Usage(String),
    /// A value is not one that its setting takes.
    Value {
        /// Where it was written: a flag, a variable, or `FILE: name`.
        place: String,
        /// What was written there.
        value: Json,
        /// What is wrong with it and what is expected; continues the sentence
        /// that the value begins.
        complaint: String,
    },
    /// What a config file gave is not a set of settings.
    File {
        /// The file's name.
        origin: String,
        /// The line of the mistake, from 1, if that is known.
        line: Option<usize>,
        /// What is wrong with it.
        reason: String,
    },
    /// Settings from another process do not fit this version's table.
    Foreign(String),
}

impl Error {
    pub(crate) fn file(origin: &str, line: Option<usize>, reason: String) -> Self {
        Error::File { origin: origin.into(), line, reason }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Usage(sentence) => f.write_str(sentence),
            Error::Value { place, value, complaint } => {
                write!(f, "{place}: {} {complaint}", quote(value))
            }
            Error::File { origin, line: Some(line), reason } => {
                write!(f, "{origin}, line {line}: {reason}")
            }
            Error::File { origin, line: None, reason } => write!(f, "{origin}: {reason}"),
            Error::Foreign(reason) => {
                write!(f, "settings from another process cannot be read: {reason}")
            }
        }
    }
}

impl std::error::Error for Error {}

/// The value as the user will recognise it, in one line of bearable length.
fn quote(value: &Json) -> String {
    const ENOUGH: usize = 60;
    // What a Python file has that JSON has not.
    if let Some(text) = value.get("a Python object").and_then(Json::as_str) {
        return format!("the Python object <{}>", text.escape_debug());
    }
    let text = match value {
        Json::String(text) => format!("'{}'", text.escape_debug().to_string().replace("\\'", "'")),
        other => other.to_string(),
    };
    match text.char_indices().nth(ENOUGH) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::quote;

    #[test]
    fn values_are_quoted_in_one_short_line() {
        assert_eq!(quote(&json!("two")), "'two'");
        assert_eq!(quote(&json!("o'clock\n\u{1b}[31m")), r"'o'clock\n\u{1b}[31m'");
        assert_eq!(quote(&json!([1, true, null])), "[1,true,null]");
        assert_eq!(quote(&json!("x".repeat(500))), format!("'{}...", "x".repeat(59)));
    }
}
