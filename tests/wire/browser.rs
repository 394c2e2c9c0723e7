//! Chromium over WebDriver, by plain HTTP to Debian's chromedriver.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::gateway::until;

const PATIENCE: Duration = Duration::from_secs(40);

pub struct Browser {
    driver: Child,
    session: String,
    _profile: tempfile::TempDir,
}

fn ask(method: &str, url: &str, body: &Value) -> Option<Value> {
    let answer = match method {
        "POST" => ureq::post(url).header("content-type", "application/json").send(body.to_string()),
        _ => ureq::delete(url).call(),
    };
    let text = answer.ok()?.body_mut().read_to_string().ok()?;
    serde_json::from_str::<Value>(&text).ok().map(|v| v["value"].clone())
}

impl Browser {
    pub fn start() -> Browser {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver (tests/run installs it)");
        let profile = tempfile::tempdir().unwrap();
        let base = format!("http://127.0.0.1:{port}");
        let arguments = [
            "--headless".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-quic".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-sync".to_owned(),
            format!("--user-data-dir={}", profile.path().display()),
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let created = until("a browser session", PATIENCE, || {
            ask("POST", &format!("{base}/session"), &wanted)
        });
        let id = created["sessionId"].as_str().expect("session id").to_owned();
        Browser { driver, session: format!("{base}/session/{id}"), _profile: profile }
    }

    fn command(&self, path: &str, body: &Value) -> Value {
        ask("POST", &format!("{}/{path}", self.session), body).expect(path)
    }

    pub fn open(&self, url: &str) {
        self.command("url", &json!({"url": url}));
    }

    pub fn eval(&self, script: &str) -> Value {
        self.command("execute/sync", &json!({"script": script, "args": []}))
    }

    /// Waits until a JavaScript expression is true.
    pub fn wait_for(&self, expression: &str) {
        until(expression, PATIENCE, || {
            (self.eval(&format!("return !!({expression})")) == json!(true)).then_some(())
        });
    }

    pub fn resize(&self, width: u32, height: u32) {
        self.command("window/rect", &json!({"width": width, "height": height}));
    }

    /// What the page complained about.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.command("se/log", &json!({"type": "browser"}));
        let entries = log.as_array().cloned().unwrap_or_default();
        entries
            .iter()
            .filter(|e| e["level"] == "SEVERE")
            .map(|e| e["message"].to_string())
            .collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = ask("DELETE", &self.session, &Value::Null);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
