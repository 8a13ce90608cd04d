//! Rules of a protocol by name: all of them hold, but a test or a simulation can switch one off, to see that it is
//! noticed.

/// Which of the rules `R` hold. Without the feature `mutants` (and outside tests): all of them, at no cost.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Rules<R> {
    /// The rule that does not hold.
    #[cfg(any(test, feature = "mutants"))]
    pub broken: Option<R>,
    #[cfg(not(any(test, feature = "mutants")))]
    kind: std::marker::PhantomData<R>,
}

impl<R> Default for Rules<R> {
    fn default() -> Self {
        Self {
            #[cfg(any(test, feature = "mutants"))]
            broken: None,
            #[cfg(not(any(test, feature = "mutants")))]
            kind: std::marker::PhantomData,
        }
    }
}

#[cfg(any(test, feature = "mutants"))]
impl<R> Rules<R> {
    /// All but `rule`.
    #[must_use]
    pub const fn without(rule: R) -> Self {
        Self { broken: Some(rule) }
    }
}

impl<R: Copy + PartialEq> Rules<R> {
    /// True if `rule` holds.
    #[cfg(any(test, feature = "mutants"))]
    pub(crate) fn hold(self, rule: R) -> bool {
        self.broken != Some(rule)
    }

    /// True if `rule` holds.
    #[cfg(not(any(test, feature = "mutants")))]
    pub(crate) fn hold(self, _: R) -> bool {
        true
    }

    /// True if none is switched off: what a broken rule breaks is not to be asserted.
    #[cfg(debug_assertions)]
    pub(crate) fn all_hold(self) -> bool {
        #[cfg(any(test, feature = "mutants"))]
        return self.broken.is_none();
        #[cfg(not(any(test, feature = "mutants")))]
        true
    }
}
