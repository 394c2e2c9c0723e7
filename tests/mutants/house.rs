//! The floors that think and nothing else, for `tests/run mutants`. Every line of them is the product's own file.

pub mod logic;
pub mod units;
