//! The page in a real browser, and the manners of its API.

use serde_json::Value;

use crate::browser::Browser;
use crate::gateway::{Demo, PATIENCE, until};

const GRID: &str = "document.querySelector('[data-test=grid-power]')";

#[test]
fn the_page_speaks_both_languages_on_any_screen_and_asks_nobody_else() {
    let demo = Demo::start();
    until("the first decision", PATIENCE, || demo.overview());
    let browser = Browser::start();
    for (lang, word, heading) in [("en", "Bays", "Power flow"), ("zh", "车位", "功率流")] {
        browser.open(&format!("{}/?lang={lang}", demo.page));
        browser.wait_for(&format!("{GRID} && {GRID}.dataset.value !== ''"));
        let words = browser.eval("return document.body.innerText");
        let words = words.as_str().unwrap();
        assert!(words.contains(word) && words.contains(heading), "{lang}: {words}");
        assert!(!words.contains('⟦'), "{lang}: a text is missing: {words}");
        // Half past ten at the site, wherever the reader is.
        let clock = browser.eval("return document.getElementById('clock').textContent");
        assert!(clock.as_str().unwrap().starts_with("10:"), "{lang}: {clock}");
    }
    browser.wait_for("document.querySelectorAll('polygon[data-bay]').length === 4");
    browser.wait_for("document.querySelector('polygon[data-bay=bay2].free')");
    browser.wait_for("document.querySelector('.still img').naturalWidth > 100");
    browser.resize(360, 800);
    let overflow = browser.eval("return document.documentElement.scrollWidth - innerWidth");
    assert!(overflow.as_i64().unwrap() <= 0, "scrolls sideways by {overflow} px");
    let foreign = browser.eval(
        "return performance.getEntriesByType('resource').map(r => new URL(r.name).host).filter(h => h !== location.host)",
    );
    assert_eq!(foreign, Value::Array(Vec::new()));
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

fn status(request: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> u16 {
    match request {
        Ok(answer) => answer.status().as_u16(),
        Err(ureq::Error::StatusCode(status)) => status,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn sec3_the_api_is_read_only_and_serves_only_its_own_name() {
    let demo = Demo::start();
    until("the page", PATIENCE, || demo.overview());
    let url = format!("{}/api/v1/overview", demo.page);
    assert_eq!(status(ureq::get(&url).call()), 200);
    assert_eq!(status(ureq::post(&url).send("{}")), 405);
    assert_eq!(status(ureq::get(&url).header("host", "evil.example").call()), 403);
    assert_eq!(status(ureq::get(format!("{}/nothing", demo.page)).call()), 404);
    let still = format!("{}/api/v1/cameras/none/still.jpg", demo.page);
    assert_eq!(status(ureq::get(&still).call()), 404);
}
