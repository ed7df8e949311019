//! `*` and `?` over whole words. `*` also crosses `/`, so that `backend/*` means everything below `backend`.

/// Whether all of `text` matches `pattern`: `*` is any run of characters, `?` any one of them.
pub fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    // where to take up again if what follows the last star does not fit: linear in memory, at worst |pattern| * |text| steps
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((star_p, star_t)) => {
                    star = Some((star_p, star_t + 1));
                    p = star_p + 1;
                    t = star_t + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    /// Broken: a filter chooses other scenarios than its pattern says.
    #[test]
    fn stars_and_question_marks() {
        for (pattern, text) in [
            ("*", ""),
            ("a*", "a"),
            ("*-*", "a-b-c"),
            ("a/?/c", "a/b/c"),
            ("*b*d", "abcbd"),
            ("", ""),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("?", ""),
            ("a", "ab"),
            ("*b", "abc"),
            ("a*c*e", "abcd"),
            ("", "a"),
            ("A", "a"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    /// Broken: a hostile pattern makes the harness hang.
    #[test]
    fn many_stars_are_cheap() {
        assert!(!matches(&"*a".repeat(200), &"b".repeat(2000)));
    }
}
