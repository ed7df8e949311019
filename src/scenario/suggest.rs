//! "Did you mean": the known name that is nearest to an unknown one.

/// Longest name that is compared, in bytes. No known one is that long, and the comparison takes the square of the length.
const NAME_MAX: usize = 64;

/// The nearest of `known` if it is near enough to be a slip: at most a third of the letters differ.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if wrong.len() > NAME_MAX {
        return None;
    }
    let folded = fold(wrong);
    let limit = (folded.chars().count() / 3).max(1);
    known
        .into_iter()
        .filter(|name| name.len() <= 2 * NAME_MAX)
        .map(|name| (strsim::damerau_levenshtein(&folded, &fold(name)), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// The sentence for a help line.
pub fn did_you_mean<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(wrong, known).map(|name| format!("did you mean `{name}`?"))
}

fn fold(name: &str) -> String {
    name.to_lowercase().replace('-', "_")
}
