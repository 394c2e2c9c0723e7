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
    a_charger_is_switched_by_a_button(&demo, &browser);
}

/// Opens the dialog of pile1, chooses a mode, fills what is given and sends it.
fn choose(browser: &Browser, mode: &str, code: &str, target: Option<(&str, &str)>) {
    browser.eval("document.querySelector('[data-test=change-pile1]').click()");
    browser.wait_for("document.getElementById('charge').open");
    let (energy, stay) = target.unwrap_or_default();
    browser.eval(&format!(
        "const put = (id, value) => {{ document.getElementById(id).value = value; }};
         put('charge-mode', '{mode}');
         document.getElementById('charge-mode').dispatchEvent(new Event('change'));
         put('charge-energy', '{energy}'); put('charge-stay', '{stay}'); put('charge-code', '{code}');
         document.getElementById('charge-send').click();"
    ));
}

/// Only who knows the code; what is shown is what the controller has taken, with its reason, in both languages.
fn a_charger_is_switched_by_a_button(demo: &Demo, browser: &Browser) {
    until("writing", PATIENCE, || demo.overview().filter(|d| d["overview"]["writing"] == true));
    let code = until("the code", PATIENCE, || demo.code());
    browser.open(&format!("{}/?lang=en", demo.page));
    let row = "document.querySelector('[data-test=charging-pile1]')";
    browser.wait_for(&format!("{row} && {row}.dataset.value === 'departure'"));
    choose(browser, "off", "wrong", None);
    browser.wait_for("document.getElementById('charge-answer').textContent.includes('code')");
    assert_eq!(browser.eval(&format!("return {row}.dataset.value")), "departure");
    let hidden = "document.getElementById('charge-target').hidden";
    assert_eq!(browser.eval(&format!("return {hidden}")), true, "off asks for no target");
    browser.eval("document.getElementById('charge-cancel').click()");
    choose(browser, "off", &code, None);
    let closed = "!document.getElementById('charge').open";
    browser.wait_for(&format!("{closed} && {row}.dataset.value === 'off'"));
    browser.wait_for(&format!("{row}.dataset.reason === 'mode_off'"));
    browser.open(&format!("{}/?lang=zh", demo.page));
    browser.wait_for(&format!("{row} && {row}.innerText.includes('已关闭')"));
    // Ready at departure takes both, what is needed and by when, or none of them.
    choose(browser, "departure", &code, Some(("12", "")));
    browser.wait_for("document.getElementById('charge-answer').textContent.includes('未采用')");
    assert_eq!(browser.eval(&format!("return {hidden}")), false);
    assert_eq!(browser.eval(&format!("return {row}.dataset.value")), "off", "nothing is taken");
    browser.eval("document.getElementById('charge-cancel').click()");
    choose(browser, "departure", &code, Some(("12", "3")));
    browser.wait_for(&format!("{closed} && {row}.dataset.value === 'departure'"));
    browser.wait_for(&format!("{row}.dataset.reason !== 'mode_off'"));
    let words = browser.eval("return document.body.innerText");
    assert!(!words.as_str().unwrap().contains('⟦'), "a text is missing: {words}");
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
