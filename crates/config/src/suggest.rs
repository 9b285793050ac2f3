//! "Did you mean?": the known word nearest to a mistyped one.

/// The candidate nearest to `word`, if it is near enough to be a slip of the
/// fingers: at most one edit in three letters.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= candidate.len().div_ceil(3))
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// As [`nearest`], but only what can hardly be anything else: at most two edits,
/// and one in three letters.
pub(crate) fn slip<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    nearest(word, candidates)
        .filter(|candidate| distance(word, candidate) <= (candidate.len() / 3).min(2))
}

/// Levenshtein: how many letters must be put in, left out or changed.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.chars().enumerate() {
            let change = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[row.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest, slip};

    #[test]
    fn counts_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "bind"), 4);
        assert_eq!(distance("bind", "bind"), 0);
    }

    #[test]
    fn suggests_slips_and_nothing_else() {
        let names = ["workers", "worker_class", "timeout", "bind"];
        assert_eq!(nearest("wrokers", names), Some("workers"));
        assert_eq!(nearest("time_out", names), Some("timeout"));
        assert_eq!(nearest("database_url", names), None);
        assert_eq!(nearest("threads", names), None);
    }

    #[test]
    fn a_slip_is_nearer() {
        let names = ["workers", "chdir", "statsd_host"];
        assert_eq!(slip("wrokers", names), Some("workers"));
        for other in ["dir", "static_root", "token"] {
            assert_eq!(slip(other, names), None, "{other}");
        }
    }
}
