//! Windows of a delivery, in turn with those of the one it is compared with.

use super::group::Group;
use crate::sys::clock::Moment;

/// Length of a window.
const WINDOW_MS: u64 = 20;
/// How long a delivery moves before its window begins.
const SETTLE_MS: u64 = 2;

/// Whose turn it is, and since when.
#[derive(Debug, Default)]
pub(super) struct Windows {
    rates: Vec<Vec<f64>>,
    /// Turns taken so far.
    turns: usize,
    /// The group that moves, where its count stood and when; none before its window begins.
    began: Option<(Moment, u64)>,
    next: Option<Moment>,
}

impl Windows {
    /// Windows from now on; if there are two groups, the first of them moves.
    pub(super) fn begin(now: Moment, groups: &[Group]) -> Self {
        let windows = Self {
            rates: vec![Vec::new(); groups.len()],
            turns: 0,
            began: None,
            next: Some(now.plus_ms(SETTLE_MS)),
        };
        for (at, group) in groups.iter().enumerate() {
            group.let_move(at == windows.whose(groups.len()));
        }
        windows
    }

    /// First, second, second, first, and so on: a machine that gets slower favours neither.
    fn whose(&self, groups: usize) -> usize {
        match groups {
            2 => usize::from(matches!(self.turns % 4, 1 | 2)),
            _ => 0,
        }
    }

    pub(super) fn next_turn(&self) -> Option<Moment> {
        self.next
    }

    /// A window begins or ends.
    pub(super) fn turn(&mut self, now: Moment, groups: &[Group]) {
        let whose = self.whose(groups.len());
        let Some(group) = groups.get(whose) else { return };
        let count = group.received();
        let Some((since, before)) = self.began.take() else {
            self.began = Some((now, count));
            self.next = Some(now.plus_ms(WINDOW_MS));
            return;
        };
        let seconds = now.ns.saturating_sub(since.ns).max(1) as f64 / 1e9;
        self.rates[whose].push(count.saturating_sub(before) as f64 / seconds);
        self.turns += 1;
        let next = self.whose(groups.len());
        if next == whose {
            self.began = Some((now, count));
            self.next = Some(now.plus_ms(WINDOW_MS));
        } else {
            group.let_move(false);
            groups[next].let_move(true);
            self.next = Some(now.plus_ms(SETTLE_MS));
        }
    }

    /// No further windows; everything moves, so that it can come to its end.
    pub(super) fn stop(&mut self, groups: &[Group]) {
        self.next = None;
        if groups.len() > 1 {
            groups.iter().for_each(|group| group.let_move(true));
        }
    }

    pub(super) fn take(&mut self) -> Vec<Vec<f64>> {
        self.next = None;
        let mut rates = std::mem::take(&mut self.rates);
        rates.resize(2, Vec::new());
        rates
    }
}
