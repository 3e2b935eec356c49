//! Whether two patterns of paths have a path in common.

/// A part of a pattern.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// This character.
    One(char),
    /// Any one within a name: `?`.
    Any,
    /// Any number of them within a name: `*`.
    Many,
    /// Any number of any: `**`.
    All,
}

impl Part {
    fn takes(self, c: char) -> bool {
        match self {
            Self::One(own) => own == c,
            Self::Any | Self::Many => c != '/',
            Self::All => true,
        }
    }

    /// Whether both can take one and the same character.
    fn meets(self, other: Self) -> bool {
        match (self, other) {
            (Self::One(c), part) | (part, Self::One(c)) => part.takes(c),
            _ => true,
        }
    }

    fn repeats(self) -> bool {
        matches!(self, Self::Many | Self::All)
    }
}

fn parts(pattern: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    for c in pattern.chars() {
        match (c, parts.last().copied()) {
            ('*', Some(Part::Many)) => *parts.last_mut().expect("there is one") = Part::All,
            // `**/` stands for no folder too.
            ('*' | '/', Some(Part::All)) => {}
            ('*', _) => parts.push(Part::Many),
            ('?', _) => parts.push(Part::Any),
            (c, _) => parts.push(Part::One(c)),
        }
    }
    parts
}

/// Whether there is a path that both patterns stand for. `a/**/b` counts as `a/**b`, so some pairs that have none count too: steps are
/// rather held back than let overlap.
pub(super) fn overlap(a: &str, b: &str) -> bool {
    let (a, b) = (parts(a), parts(b));
    // `met[i][j]`: whether what is left of both from there on can be the same; filled from the end.
    let mut met = vec![vec![false; b.len() + 1]; a.len() + 1];
    for i in (0..=a.len()).rev() {
        for j in (0..=b.len()).rev() {
            let (left, right) = (a.get(i), b.get(j));
            met[i][j] = match (left, right) {
                (None, None) => true,
                (Some(one), None) => one.repeats() && met[i + 1][j],
                (None, Some(other)) => other.repeats() && met[i][j + 1],
                (Some(one), Some(other)) => {
                    (one.repeats() && met[i + 1][j])
                        || (other.repeats() && met[i][j + 1])
                        || (one.meets(*other)
                            && (met[i + 1][j + 1]
                                || (one.repeats() && met[i][j + 1])
                                || (other.repeats() && met[i + 1][j])))
                }
            };
        }
    }
    met[0][0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_overlap_when_a_path_fits_both() {
        for (a, b) in [
            ("out/*", "out/a.txt"),
            ("out/*", "out/*"),
            ("out/a*", "out/*b"),
            ("out/**", "out/x/y.json"),
            ("**/y.json", "y.json"),
            ("a?c", "abc"),
            ("**", "x/y"),
        ] {
            assert!(overlap(a, b) && overlap(b, a), "{a} {b}");
        }
        for (a, b) in
            [("out/*", "out/x/y"), ("out/a*", "out/b*"), ("*.txt", "*.json"), ("a?c", "ac"), ("in/**", "out/**")]
        {
            assert!(!overlap(a, b) && !overlap(b, a), "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn two_patterns_of_one_path_overlap(a in "[ab/*?]{0,6}", b in "[ab/*?]{0,6}", path in "[ab/]{0,6}") {
            let fits = |pattern: &str| {
                let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
                glob::Pattern::new(pattern).is_ok_and(|known| known.matches_with(&path, options))
            };
            if fits(&a) && fits(&b) {
                prop_assert!(overlap(&a, &b), "{a} {b} {path}");
            }
            prop_assert_eq!(overlap(&a, &b), overlap(&b, &a));
        }
    }
}
