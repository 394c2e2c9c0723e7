//! The door of a camera: HTTP with a user, where the camera asks for one.
//!
//! What a stranger gets wrong: a camera says only with its refusal how it wants to be answered, and its challenge
//! grows old. So a refusal is answered once with the challenge that came with it; a second one means that user or
//! password is wrong, and then nothing is kept: cameras lock a user out after a few wrong answers, so there is one
//! for each question and not two. The password itself (Basic) is never sent.

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
}

impl Door {
    /// Nothing is asked yet. `times` has the time-outs and nothing else.
    #[must_use]
    pub fn new(times: ConfigBuilder<AgentScope>, login: Option<Login>) -> Door {
        let config = times.max_redirects(0).http_status_as_error(false).build();
        Door { agent: config.new_agent(), login, digest: None }
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

    fn send(
        &mut self,
        url: &str,
        body: Option<(&str, &[u8])>,
    ) -> Result<Response<Body>, ureq::Error> {
        let method = if body.is_some() { "POST" } else { "GET" };
        let answer = self.digest.as_mut().zip(self.login.as_ref()).and_then(|(digest, login)| {
            let Login { username, password } = login;
            let bytes = Some(body.map_or(&[][..], |(_, bytes)| bytes));
            let uri = path(url);
            digest.respond(&PasswordParams { username, password, uri, method, body: bytes }).ok()
        });
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
fn path(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.find('/').map_or("/", |at| &rest[at..]);
    path.split('#').next().unwrap_or(path)
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
        ] {
            assert_eq!(path(url), wanted, "{url}");
        }
    }

    #[test]
    fn only_a_digest_is_answered() {
        let headers = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("www-authenticate", value.parse().unwrap());
            }
            headers
        };
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
