//! tidy
#[test] fn t() {}
