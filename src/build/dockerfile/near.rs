//! `did you mean …?`

/// The candidate that is nearest to what was typed, where one is near enough for a slip of the finger.
pub fn nearest<'c>(typed: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let letters: Vec<char> = typed.chars().take(64).flat_map(char::to_lowercase).collect();
    let most = (letters.len() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(&letters, candidate), candidate))
        .filter(|&(steps, candidate)| steps <= most && steps < candidate.chars().count())
        .min_by_key(|&(steps, _)| steps)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours that lead from one to the other; case does not count.
fn distance(from: &[char], to: &str) -> usize {
    let to: Vec<char> = to.chars().take(64).flat_map(char::to_lowercase).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (row, &letter) in from.iter().enumerate() {
        let mut line = vec![row + 1];
        for (column, &wanted) in to.iter().enumerate() {
            let replaced = last[column] + usize::from(letter != wanted);
            let mut best = replaced.min(last[column + 1] + 1).min(line[column] + 1);
            let swapped = row > 0 && column > 0 && from[row - 1] == wanted && letter == to[column - 1];
            if swapped {
                best = best.min(before[column - 1] + 1);
            }
            line.push(best);
        }
        before = std::mem::replace(&mut last, line);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_mended_and_another_word_is_not() {
        let names = ["RUN", "FROM", "COPY", "HEALTHCHECK", "ENTRYPOINT"];
        for (typed, meant) in [
            ("RNU", Some("RUN")),
            ("run", Some("RUN")),
            ("FRM", Some("FROM")),
            ("coppy", Some("COPY")),
            ("HEALTCHEK", Some("HEALTHCHECK")),
            ("ENTRYPIONT", Some("ENTRYPOINT")),
            ("INCLUDE", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, names), meant, "{typed}");
        }
    }
}
