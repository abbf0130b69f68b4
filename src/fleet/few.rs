//! Lists that hold one element most of the time: it is kept in place, without an allocation of its own.

use std::fmt;
use std::ops::{Deref, DerefMut};

/// A list of fixed length; read as a slice.
#[derive(Clone)]
pub struct Few<T>(List<T>);

#[derive(Clone)]
enum List<T> {
    One(T),
    /// None, or more than one.
    Other(Box<[T]>),
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            List::One(one) => std::slice::from_ref(one),
            List::Other(all) => all,
        }
    }
}

impl<T> DerefMut for Few<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.0 {
            List::One(one) => std::slice::from_mut(one),
            List::Other(all) => all,
        }
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Few<T> {
        let mut elements = elements.into_iter();
        match (elements.next(), elements.next()) {
            (Some(one), None) => Few(List::One(one)),
            (first, second) => Few(List::Other(first.into_iter().chain(second).chain(elements).collect())),
        }
    }
}

impl<T> From<Vec<T>> for Few<T> {
    fn from(elements: Vec<T>) -> Few<T> {
        elements.into_iter().collect()
    }
}

impl<T, const N: usize> From<[T; N]> for Few<T> {
    fn from(elements: [T; N]) -> Few<T> {
        elements.into_iter().collect()
    }
}

impl<T> From<Few<T>> for Vec<T> {
    fn from(few: Few<T>) -> Vec<T> {
        match few.0 {
            List::One(one) => vec![one],
            List::Other(all) => all.into_vec(),
        }
    }
}

impl<T> Default for Few<T> {
    fn default() -> Few<T> {
        Few(List::Other(Box::default()))
    }
}

impl<'a, T> IntoIterator for &'a Few<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: PartialEq> PartialEq for Few<T> {
    fn eq(&self, other: &Few<T>) -> bool {
        self[..] == other[..]
    }
}

impl<T: PartialEq, const N: usize> PartialEq<[T; N]> for Few<T> {
    fn eq(&self, other: &[T; N]) -> bool {
        self[..] == other[..]
    }
}

impl<T: fmt::Debug> fmt::Debug for Few<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_a_slice() {
        for length in 0..4 {
            let all: Vec<u32> = (0..length).collect();
            let mut few = Few::from(all.clone());
            assert_eq!(few[..], all[..]);
            assert_eq!(few, (0..length).collect::<Few<u32>>());
            assert_eq!(matches!(few.0, List::One(_)), length == 1);
            few.iter_mut().for_each(|element| *element += 1);
            assert_eq!((&few).into_iter().sum::<u32>(), (1..=length).sum::<u32>());
            assert_eq!(Vec::from(few), (1..=length).collect::<Vec<_>>());
        }
        assert!(Few::<u32>::default().is_empty());
    }
}
