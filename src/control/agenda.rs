//! Which layouts are to be judged again at which time, though nothing else happens to them.

use std::collections::{BTreeSet, HashMap};

use crate::steering::LayoutId;
use crate::time::Tick;

/// One time at most for each layout.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    in_order: BTreeSet<(Tick, LayoutId)>,
    of: HashMap<LayoutId, Tick>,
}

impl Agenda {
    /// Notes when a layout is due, in place of what was noted; `None` = never.
    pub(super) fn set(&mut self, layout: LayoutId, due: Option<Tick>) {
        let before = match due {
            Some(due) => self.of.insert(layout, due),
            None => self.of.remove(&layout),
        };
        if let Some(before) = before {
            self.in_order.remove(&(before, layout));
        }
        if let Some(due) = due {
            self.in_order.insert((due, layout));
        }
    }

    /// Notes when a layout is due, unless it is due before.
    pub(super) fn hasten(&mut self, layout: LayoutId, due: Tick) {
        if self.of.get(&layout).is_none_or(|&before| due < before) {
            self.set(layout, Some(due));
        }
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Option<Tick> {
        self.in_order.first().map(|(due, _)| *due)
    }

    /// Takes one out that is due.
    pub(super) fn pop(&mut self, now: Tick) -> Option<LayoutId> {
        let (_, layout) = *self.in_order.first().filter(|(due, _)| *due <= now)?;
        self.set(layout, None);
        Some(layout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_time_for_each_layout() {
        let mut agenda = Agenda::default();
        for (layout, due) in [(1, Some(30)), (2, Some(20)), (1, Some(10)), (3, Some(5)), (3, None), (4, None)] {
            agenda.set(LayoutId(layout), due.map(Tick));
        }
        assert_eq!((agenda.next(), agenda.pop(Tick(9))), (Some(Tick(10)), None));
        assert_eq!(agenda.pop(Tick(25)), Some(LayoutId(1)));
        assert_eq!(agenda.pop(Tick(25)), Some(LayoutId(2)));
        assert_eq!((agenda.pop(Tick(99)), agenda.next()), (None, None));
    }
}
