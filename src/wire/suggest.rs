//! "Did you mean": names that look like one that was not found.

/// More than this many suggestions help nobody.
const SUGGESTIONS_MAX: usize = 3;
/// Names less alike than this (Jaro-Winkler, 0 to 1) are not suggested.
const LIKENESS_MIN: f64 = 0.8;

/// Longest name that is compared, in bytes. No known one is that long, and the comparison takes the square of the length.
const NAME_MAX: usize = 64;

/// The candidates most like `name`, best first, at most three.
pub(crate) fn similar(name: &str, candidates: impl IntoIterator<Item = &'static str>) -> Vec<&'static str> {
    if name.len() > NAME_MAX {
        return Vec::new();
    }
    let wanted = name.to_ascii_uppercase();
    let mut scored: Vec<(f64, &'static str)> = candidates
        .into_iter()
        .map(|candidate| (likeness(&wanted, &candidate.to_ascii_uppercase()), candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    let mut names: Vec<&'static str> = scored.into_iter().map(|(_, candidate)| candidate).collect();
    names.dedup();
    names.truncate(SUGGESTIONS_MAX);
    names
}

/// Jaro-Winkler, except that one slip in three letters always counts as alike: it rates `nmu` and `num` too low.
fn likeness(wanted: &str, candidate: &str) -> f64 {
    let slips_max = candidate.chars().count() / 3;
    let floor = if strsim::damerau_levenshtein(wanted, candidate) <= slips_max {
        LIKENESS_MIN
    } else {
        0.0
    };
    strsim::jaro_winkler(wanted, candidate).max(floor)
}

/// `; did you mean A or B?`, or nothing.
pub(crate) fn did_you_mean(suggestions: &[&str]) -> String {
    match suggestions {
        [] => String::new(),
        some => format!("; did you mean {}?", some.join(" or ")),
    }
}
