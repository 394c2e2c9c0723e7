//! The door of a camera: HTTP with a user, where the camera asks for one.
//!
//! What a stranger gets wrong: a camera says only with its refusal how it wants to be answered, and its challenge
//! grows old. So a refusal is answered once with the challenge that came with it; a second one means that user or
//! password is wrong, and then nothing is kept: cameras lock a user out after a few wrong answers, so there is one
//! for each question and not two. The password itself (Basic) is never sent. And it is the door of a machine on this
//! site: no proxy that the environment names stands before it.

use std::borrow::Cow;
use std::path::Path;

use http_auth::{PasswordClient, PasswordParams};
use ureq::config::ConfigBuilder;
use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::typestate::AgentScope;
use ureq::{Agent, Body};

/// Who we are to a camera that asks.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub username: String,
    /// The password; never shown.
    pub password: String,
}

impl Login {
    /// A user whose password is the first line of a file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn from_file(username: &str, password_file: &Path) -> std::io::Result<Login> {
        let text = std::fs::read_to_string(password_file)?;
        let password = text.lines().next().unwrap_or_default().to_owned();
        Ok(Login { username: username.to_owned(), password })
    }
}

/// Why nothing came through.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// No connection, or no answer in time.
    #[error(transparent)]
    Http(#[from] ureq::Error),
    /// User or password are missing or wrong.
    #[error("http status: {0}: user or password are missing or wrong")]
    Refused(u16),
    /// It takes the password only in clear text.
    #[error(
        "it wants the password in clear text (Basic), which is not sent: switch Digest on in the camera"
    )]
    ClearText,
    /// Another status than success.
    #[error("http status: {0}")]
    Status(u16),
}

/// A camera's HTTP; keeps its connection and the answer to the camera's challenge.
pub struct Door {
    agent: Agent,
    login: Option<Login>,
    digest: Option<PasswordClient>,
    /// Whether the last question was asked with an answer to a challenge.
    has_answered: bool,
}

impl Door {
    /// Nothing is asked yet. `times` has the time-outs and nothing else.
    #[must_use]
    pub fn new(times: ConfigBuilder<AgentScope>, login: Option<Login>) -> Door {
        let config = times.proxy(None).max_redirects(0).http_status_as_error(false).build();
        Door { agent: config.new_agent(), login, digest: None, has_answered: false }
    }

    /// Whether the last question told the camera who we are.
    #[must_use]
    pub fn has_answered(&self) -> bool {
        self.has_answered
    }

    /// A successful answer to a GET.
    ///
    /// # Errors
    /// When there is none.
    pub fn get(&mut self, url: &str) -> Result<Response<Body>, DoorError> {
        let answer = self.ask(url, None)?;
        match answer.status() {
            status if status.is_success() => Ok(answer),
            StatusCode::UNAUTHORIZED if self.login.is_some() && wants_clear(answer.headers()) => {
                Err(DoorError::ClearText)
            }
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                Err(DoorError::Refused(status.as_u16()))
            }
            status => Err(DoorError::Status(status.as_u16())),
        }
    }

    /// The answer, of whatever status, to a GET, or to a POST of a body of this type.
    ///
    /// # Errors
    /// When there is none.
    pub fn ask(
        &mut self,
        url: &str,
        body: Option<(&str, &[u8])>,
    ) -> Result<Response<Body>, ureq::Error> {
        let first = self.send(url, body)?;
        if first.status() != StatusCode::UNAUTHORIZED || self.login.is_none() {
            return Ok(first);
        }
        self.digest = challenge(first.headers());
        if self.digest.is_none() {
            return Ok(first);
        }
        let second = self.send(url, body)?;
        if second.status() == StatusCode::UNAUTHORIZED {
            self.digest = None;
        }
        Ok(second)
    }

    /// The answer to the challenge, where there was one. The body is not counted in (`auth-int`), even where the
    /// camera offers that: none asks for it, and the crate would hash the body itself instead of its hash.
    fn answer(&mut self, url: &str, method: &str) -> Option<String> {
        let (digest, login) = self.digest.as_mut().zip(self.login.as_ref())?;
        let (Login { username, password }, uri) = (login, &path(url));
        digest.respond(&PasswordParams { username, password, uri, method, body: None }).ok()
    }

    fn send(
        &mut self,
        url: &str,
        body: Option<(&str, &[u8])>,
    ) -> Result<Response<Body>, ureq::Error> {
        let method = if body.is_some() { "POST" } else { "GET" };
        let answer = self.answer(url, method);
        self.has_answered = answer.is_some();
        match body {
            Some((kind, bytes)) => {
                let mut request = self.agent.post(url).header("content-type", kind);
                if let Some(answer) = answer {
                    request = request.header("authorization", answer);
                }
                request.send(bytes)
            }
            None => {
                let mut request = self.agent.get(url);
                if let Some(answer) = answer {
                    request = request.header("authorization", answer);
                }
                request.call()
            }
        }
    }
}

/// What the camera wants to be answered by a digest; nothing where it wants something else.
fn challenge(headers: &HeaderMap) -> Option<PasswordClient> {
    let asked = headers.get_all("www-authenticate").iter().filter_map(|value| value.to_str().ok());
    let builder = asked.fold(PasswordClient::builder(), |builder, text| builder.challenges(text));
    builder.build().ok().filter(|client| matches!(client, PasswordClient::Digest(_)))
}

fn wants_clear(headers: &HeaderMap) -> bool {
    let asked = headers.get_all("www-authenticate").iter().filter_map(|value| value.to_str().ok());
    asked.into_iter().any(|text| text.trim_start().to_ascii_lowercase().starts_with("basic"))
        && challenge(headers).is_none()
}

/// What stands in the request's first line.
fn path(url: &str) -> Cow<'_, str> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split('#').next().unwrap_or(rest);
    match rest.find(['/', '?']).map(|at| &rest[at..]) {
        None => Cow::Borrowed("/"),
        Some(path) if path.starts_with('/') => Cow::Borrowed(path),
        Some(query) => Cow::Owned(format!("/{query}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_what_the_request_says() {
        for (url, wanted) in [
            ("http://10.0.0.9", "/"),
            ("http://10.0.0.9:81/a/b?c=d/e#f", "/a/b?c=d/e"),
            ("http://10.0.0.9/", "/"),
            ("http://10.0.0.9?x=1", "/?x=1"),
            ("http://10.0.0.9?x=a/b#c", "/?x=a/b"),
            ("http://10.0.0.9#/x", "/"),
        ] {
            assert_eq!(path(url), wanted, "{url}");
        }
    }

    fn headers(values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("www-authenticate", value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_digest_never_counts_the_body_in() {
        let login = Login { username: "viewer".to_owned(), password: "a word".to_owned() };
        let mut door = Door::new(Agent::config_builder(), Some(login));
        assert_eq!(door.answer("http://10.0.0.9/x", "POST"), None, "nobody asked who we are");
        for (offered, wanted) in [
            ("Digest realm=\"cam\", nonce=\"8f3a\", qop=\"auth\"", Some("qop=auth,")),
            ("Digest realm=\"cam\", nonce=\"8f3a\", qop=\"auth,auth-int\"", Some("qop=auth,")),
            ("Digest realm=\"cam\", nonce=\"8f3a\", qop=\"auth-int, auth\"", Some("qop=auth,")),
            ("Digest realm=\"cam\", nonce=\"8f3a\"", Some("uri=\"/x\"")),
            ("Digest realm=\"cam\", nonce=\"8f3a\", qop=\"auth-int\"", None),
        ] {
            door.digest = challenge(&headers(&[offered]));
            for method in ["GET", "POST"] {
                let answer = door.answer("http://10.0.0.9/x", method);
                let fits = |part| answer.as_deref().is_some_and(|answer| answer.contains(part));
                assert_eq!(answer.is_some(), wanted.is_some(), "{offered}");
                assert!(wanted.is_none_or(fits), "{method} {offered}: {answer:?}");
            }
        }
    }

    #[test]
    fn only_a_digest_is_answered() {
        let digest = "Digest realm=\"cam\", nonce=\"8f3a\", qop=\"auth\"";
        assert!(challenge(&headers(&[digest])).is_some());
        assert!(challenge(&headers(&["Basic realm=\"cam\"", digest])).is_some());
        for values in [&["Basic realm=\"cam\""][..], &["Negotiate"], &["\"=,,"], &[]] {
            assert!(challenge(&headers(values)).is_none(), "{values:?}");
        }
        assert!(wants_clear(&headers(&["Basic realm=\"cam\""])));
        assert!(!wants_clear(&headers(&["Basic realm=\"cam\"", digest])));
    }
}
