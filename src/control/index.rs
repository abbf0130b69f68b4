//! Which numbers belong to a number: the services of a layout, the layouts of a target, in two arrays however many there are.

/// Number → numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// Where those of each number begin in `values`; they end where those of the next begin.
    starts: Box<[u32]>,
    values: Box<[u32]>,
}

impl Index {
    /// From (key, value) pairs, whose keys are below `keys`; values stay in the order given.
    pub(super) fn new(keys: usize, pairs: impl Iterator<Item = (u32, u32)> + Clone) -> Index {
        let mut starts = vec![0; keys + 1];
        pairs.clone().for_each(|(key, _)| starts[key as usize + 1] += 1);
        for key in 0..keys {
            starts[key + 1] += starts[key];
        }
        let mut next = starts.clone();
        let mut values = vec![0; starts[keys] as usize];
        for (key, value) in pairs {
            values[next[key as usize] as usize] = value;
            next[key as usize] += 1;
        }
        Index { starts: starts.into(), values: values.into() }
    }

    /// The values of a key; none when it is not known.
    pub(super) fn get(&self, key: u32) -> &[u32] {
        let key = key as usize;
        match self.starts.get(key..key + 2) {
            Some(&[start, end]) => &self.values[start as usize..end as usize],
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_in_order() {
        let index = Index::new(4, [(2, 7), (0, 5), (2, 1), (3, 9)].into_iter());
        let all: Vec<&[u32]> = (0..5).map(|key| index.get(key)).collect();
        assert_eq!(all, [&[5][..], &[], &[7, 1], &[9], &[]]);
        assert!(Index::default().get(0).is_empty());
    }
}
