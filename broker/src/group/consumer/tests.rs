//! A group alone, driven by hand.
