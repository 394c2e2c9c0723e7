//! Profile files of any content: a profile or faults with places inside the file, never a panic; and what was
//! accepted compiles into reads that the device allows and that hold every value.
#![no_main]

use house::config::{Report, read_profile};
use house::io::modbus;
use house::texts::Lang;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut faults = Vec::new();
    let profile = read_profile(text, &mut faults);
    assert!(faults.iter().all(|fault| fault.at.is_none_or(|at| at <= text.len())));
    let report = Report { text: text.to_owned(), faults: faults.clone(), ..Report::default() };
    for lang in [Lang::En, Lang::Zh] {
        assert_eq!(report.render(lang).is_empty(), faults.is_empty());
    }
    let Some(profile) = profile else {
        assert!(!faults.is_empty(), "refused without a word");
        return;
    };
    assert!((1..=125).contains(&profile.max_registers));
    let requests = modbus::requests(&profile);
    assert!(profile.points.is_empty() == (requests == 0), "{requests} requests");
    assert!(requests <= profile.points.len());
});
