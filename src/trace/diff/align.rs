//! Two sequences brought side by side: the longest common subsequence of their keys.

/// Cells of the table, at most; beyond that the middle is not compared.
const CELLS_MAX: usize = 16_000_000;

/// What stands side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pair {
    First(usize),
    Second(usize),
    Both(usize, usize),
    /// So many are left in each, too many.
    TooLong([usize; 2]),
}

pub(super) fn align(a: &[&str], b: &[&str]) -> Vec<Pair> {
    let head = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let rest = a.len().min(b.len()) - head;
    let tail = a
        .iter()
        .rev()
        .zip(b.iter().rev())
        .take(rest)
        .take_while(|(x, y)| x == y)
        .count();
    let (middle_a, middle_b) = (&a[head..a.len() - tail], &b[head..b.len() - tail]);
    let mut pairs: Vec<Pair> = (0..head).map(|i| Pair::Both(i, i)).collect();
    pairs.extend(middle(middle_a, middle_b).into_iter().map(|pair| match pair {
        Pair::First(i) => Pair::First(i + head),
        Pair::Second(j) => Pair::Second(j + head),
        Pair::Both(i, j) => Pair::Both(i + head, j + head),
        Pair::TooLong(left) => Pair::TooLong(left),
    }));
    pairs.extend((0..tail).rev().map(|n| Pair::Both(a.len() - 1 - n, b.len() - 1 - n)));
    pairs
}

fn middle(a: &[&str], b: &[&str]) -> Vec<Pair> {
    let width = b.len() + 1;
    if (a.len() + 1).saturating_mul(width) > CELLS_MAX {
        return vec![Pair::TooLong([a.len(), b.len()])];
    }
    // longest[i][j]: common to a[i..] and b[j..]
    let mut longest = vec![0u32; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            longest[i * width + j] = if a[i] == b[j] {
                longest[(i + 1) * width + j + 1] + 1
            } else {
                longest[(i + 1) * width + j].max(longest[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut pairs) = (0, 0, Vec::new());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            pairs.push(Pair::Both(i, j));
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && longest[(i + 1) * width + j] >= longest[i * width + j + 1]) {
            pairs.push(Pair::First(i));
            i += 1;
        } else {
            pairs.push(Pair::Second(j));
            j += 1;
        }
    }
    pairs
}
