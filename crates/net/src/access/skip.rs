//! Which requests have no line: rules such as `path=/healthz status=2xx`.

use super::Entry;

/// A rule; it applies to a request for which all of its tests hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip(Vec<Test>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Test {
    subject: Subject,
    /// What it must be; with `*` at its end, what it must begin with.
    pattern: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Method,
    Path,
    Status,
    Agent,
}

impl Skip {
    /// Reads tests with white space between them: `path=/healthz`,
    /// `path=/static/*`, `method=OPTIONS`, `agent=kube-probe/*`, `status=304`,
    /// `status=2xx`.
    ///
    /// # Errors
    /// What is wrong with it; continues a sentence that the rule begins.
    pub fn parse(text: &str) -> Result<Self, String> {
        let tests = text.split_whitespace().map(Test::parse).collect::<Result<Vec<_>, _>>()?;
        if tests.is_empty() {
            return Err("says nothing: expected a test such as path=/healthz".into());
        }
        Ok(Self(tests))
    }

    pub(super) fn matches(&self, entry: &Entry<'_>) -> bool {
        self.0.iter().all(|test| test.holds(entry))
    }
}

impl Test {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "has '{text}': expected path=, method=, agent= or status= and what to leave out, \
                 as in path=/healthz or status=2xx"
            )
        };
        let (subject, pattern) = text.split_once('=').ok_or_else(wrong)?;
        let subject = match subject {
            "method" => Subject::Method,
            "path" => Subject::Path,
            "agent" => Subject::Agent,
            "status" => Subject::Status,
            _ => return Err(wrong()),
        };
        let pattern = match (subject, pattern.strip_suffix("xx")) {
            (_, _) if pattern.is_empty() => return Err(wrong()),
            (Subject::Status, Some(class)) => format!("{class}*"),
            _ => pattern.to_owned(),
        };
        let is_status = |text: &str| matches!(text.len(), 1 | 3) && text.parse::<u16>().is_ok();
        if subject == Subject::Status && !is_status(pattern.trim_end_matches('*')) {
            return Err(wrong());
        }
        Ok(Self { subject, pattern: pattern.into_bytes() })
    }

    fn holds(&self, entry: &Entry<'_>) -> bool {
        match self.subject {
            Subject::Method => self.fits(entry.head.method()),
            Subject::Path => self.fits(entry.head.path()),
            Subject::Agent => self.fits(entry.head.field(b"user-agent").unwrap_or_default()),
            Subject::Status => self.fits(entry.status.to_string().as_bytes()),
        }
    }

    fn fits(&self, text: &[u8]) -> bool {
        match self.pattern.strip_suffix(b"*") {
            Some(start) => text.starts_with(start),
            None => text == self.pattern,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_whole_or_a_start() {
        let fits = |test: &str, text: &str| Test::parse(test).unwrap().fits(text.as_bytes());
        assert!(fits("path=/healthz", "/healthz") && !fits("path=/healthz", "/healthz/x"));
        assert!(fits("path=/static/*", "/static/a") && !fits("path=/static/*", "/stat"));
        assert!(fits("status=2xx", "204") && !fits("status=2xx", "304"));
        assert!(fits("status=304", "304") && !fits("status=304", "200"));
    }

    #[test]
    fn a_rule_that_cannot_be_read_is_told() {
        for text in ["", "/healthz", "path=", "host=x", "status=ok", "status=20", "status=2000"] {
            assert!(Skip::parse(text).is_err(), "{text}");
        }
        assert_eq!(Skip::parse("path=/a  status=2xx").unwrap().0.len(), 2);
    }
}
