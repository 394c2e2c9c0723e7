//! What the book lets run next, and how a trial ends.
//!
//! What a stranger gets wrong: moments here are times since boot, and another boot makes them shorter.

use super::*;

fn version(text: &str) -> Version {
    Version::try_from(text.to_owned()).unwrap()
}

fn trial(text: &str) -> Book {
    let trial = Trial { version: version(text), starts: 0, began: Duration::ZERO, heard: 3 };
    Book { trial: Some(trial), ..Book::default() }
}

/// The installed version, soon after another start.
fn own(text: &str, second: u64) -> (Version, Duration) {
    (version(text), Duration::from_secs(100 + second))
}

#[test]
fn versions_are_compared_by_their_numbers() {
    assert!(version("0.10.0") > version("0.9.12"));
    for bad in ["1.2", "1.2.3.4", "1.2.x", "v1.2.3", "", "1.2.-3"] {
        assert!(Version::try_from(bad.to_owned()).is_err(), "{bad}");
    }
    assert_eq!(Version::own().to_string(), env!("CARGO_PKG_VERSION"));
}

#[test]
fn a_trial_that_ends_twice_is_undone_and_the_last_kept_one_runs() {
    let mut book = Book { kept: Some(version("0.2.0")), ..trial("0.3.0") };
    for start in 1..=TRIES {
        assert_eq!(book.next(own("0.1.0", start.into()), |_| true), Some(version("0.3.0")));
        assert_eq!(book.trial.as_ref().unwrap().starts, start);
    }
    assert_eq!(book.next(own("0.1.0", 3), |_| true), Some(version("0.2.0")));
    assert_eq!(book.undone, Some((version("0.3.0"), Failing::Ended)));
    assert_eq!(book.next(own("0.1.0", 4), |_| true), Some(version("0.2.0")), "and stays");
}

#[test]
fn a_trial_that_ends_late_gets_no_second_start_unless_the_power_went() {
    for (later, runs) in [(5, "0.3.0"), (20, "0.3.0"), (21, "0.2.0")] {
        let mut book = Book { kept: Some(version("0.2.0")), ..trial("0.3.0") };
        assert_eq!(book.next(own("0.1.0", 0), |_| true), Some(version("0.3.0")));
        assert_eq!(book.next(own("0.1.0", later), |_| true), Some(version(runs)), "{later} s");
    }
    // Another boot: the time since it is shorter than when the trial began.
    let mut book = trial("0.3.0");
    assert_eq!(book.next(own("0.1.0", 900), |_| true), Some(version("0.3.0")));
    assert_eq!(book.next(own("0.1.0", 0), |_| true), Some(version("0.3.0")));
}

#[test]
fn what_is_not_signed_never_runs_and_the_one_before_it_does() {
    let mut book = trial("0.3.0");
    assert_eq!(book.next(own("0.1.0", 0), |_| false), None);
    assert_eq!(book.undone, Some((version("0.3.0"), Failing::Damaged)));
    let (kept, before) = (Some(version("0.4.0")), Some(version("0.2.0")));
    let both = Book { kept, before, highest: kept, ..Book::default() };
    let mut book = both.clone();
    let older = |version: Version| Some(version) == before;
    assert_eq!(book.next(own("0.1.0", 0), older), before);
    assert_eq!(book.undone, Some((version("0.4.0"), Failing::Damaged)));
    assert_eq!(book.floor(), version("0.4.0"), "damage opens no way for an older one");
    let mut book = both.clone();
    assert_eq!(book.next(own("0.1.0", 0), |_| false), None);
    // A person goes back one, and no further than to the installed one.
    let mut book = both;
    assert_eq!([0, 1, 2].map(|_| book.undo_last()), [kept, before, None]);
    assert_eq!(book.next(own("0.1.0", 0), |_| true), None);
}

#[test]
fn an_installed_version_that_is_newer_runs_itself() {
    let mut book = Book { kept: Some(version("0.2.0")), ..trial("0.3.0") };
    assert_eq!(book.next(own("0.3.0", 0), |_| true), None);
    assert_eq!((book.trial, book.undone), (None, None));
}

#[test]
fn the_book_of_a_later_version_is_read_all_the_same() {
    let state = tempfile::tempdir().unwrap();
    fs::create_dir(folder(state.path())).unwrap();
    let text = r#"{"kept": "0.2.0", "undone": ["0.3.0", "did_not_like_it"], "moon": 3}"#;
    fs::write(folder(state.path()).join(BOOK), text).unwrap();
    let mut book = Book::open(state.path()).unwrap();
    assert_eq!(book.undone, Some((version("0.3.0"), Failing::Other)));
    assert_eq!(book.next(own("0.1.0", 0), |_| true), Some(version("0.2.0")));
}

#[test]
fn where_the_start_cannot_be_counted_what_is_kept_runs() {
    let state = tempfile::tempdir().unwrap();
    fs::create_dir(folder(state.path())).unwrap();
    let newer = |patch: u32| Version([Version::own().0[0] + 1, 0, patch]);
    let mut book = Book { kept: Some(newer(0)), ..trial("0.3.0") };
    book.trial.as_mut().unwrap().version = newer(1);
    book.keep(state.path()).unwrap();
    // A folder where the fresh book would be written.
    fs::create_dir(folder(state.path()).join("book.json.new")).unwrap();
    assert_eq!(choose(state.path(), |_| true).unwrap(), [newer(0)]);
    fs::remove_dir(folder(state.path()).join("book.json.new")).unwrap();
    assert_eq!(choose(state.path(), |_| true).unwrap(), [newer(1), newer(0)]);
}

#[test]
fn what_is_proven_is_kept_and_what_another_update_overtook_is_left_to_that() {
    let state = tempfile::tempdir().unwrap();
    fs::create_dir(folder(state.path())).unwrap();
    for is_proven in [true, false] {
        let book = trial("0.3.0");
        book.keep(state.path()).unwrap();
        assert_eq!(settle(state.path(), &book.trial.unwrap(), is_proven), is_proven);
        let book = Book::open(state.path()).unwrap();
        assert_eq!(book.kept, is_proven.then(|| version("0.3.0")));
        assert_eq!(book.undone.is_some(), !is_proven);
        assert_eq!(book.trial, None);
    }
    let newer = trial("0.4.0");
    newer.keep(state.path()).unwrap();
    for is_proven in [true, false] {
        assert!(settle(state.path(), &trial("0.3.0").trial.unwrap(), is_proven));
        assert_eq!(Book::open(state.path()).unwrap(), newer);
    }
}

/// After how many decisions a release is proven that has to hear one device.
async fn proven_after(hears_from: u32) -> Option<u32> {
    let (tell, hear) = watch::channel(None);
    let hears = |heard: &usize| *heard;
    let mut proof = std::pin::pin!(proven(1, hear, hears));
    for decision in 1..=60 {
        tell.send_replace(Some(Arc::new(usize::from(decision >= hears_from))));
        let seen = tokio::time::timeout(Duration::ZERO, &mut proof);
        if seen.await.is_ok() {
            return Some(decision);
        }
    }
    None
}

#[tokio::test]
async fn twenty_decisions_prove_a_release_once_every_device_is_heard() {
    for (hears_from, after) in [(1, Some(20)), (20, Some(20)), (35, Some(35)), (61, None)] {
        assert_eq!(proven_after(hears_from).await, after, "heard from {hears_from} on");
    }
}
