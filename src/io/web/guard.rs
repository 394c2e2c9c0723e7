//! What every answer carries and what every request must be: strict content policy, and a host name
//! that is ours, so that a foreign page cannot read this one through a rebound name.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::api::problem;

const HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (header::X_FRAME_OPTIONS, "DENY"),
];

pub async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Only `localhost` and plain addresses may name this page.
pub async fn own_host(State(_): State<SocketAddr>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if host.is_none_or(is_ours) {
        return next.run(request).await;
    }
    problem(StatusCode::FORBIDDEN, "this host name is not served; use the address itself")
}

fn is_ours(host: &str) -> bool {
    if host.parse::<SocketAddr>().is_ok() || host.parse::<IpAddr>().is_ok() {
        return true;
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::is_ours;

    #[test]
    fn only_addresses_and_localhost_are_ours() {
        for host in ["127.0.0.1:8080", "localhost", "localhost:8080", "[::1]:8080", "10.0.0.5"] {
            assert!(is_ours(host), "{host}");
        }
        for host in ["evil.example", "evil.example:8080", "localhost.evil.example:80"] {
            assert!(!is_ours(host), "{host}");
        }
    }
}
