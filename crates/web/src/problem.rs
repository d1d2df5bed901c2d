//! Errors as the client gets them (RFC 9457), each with the id of its request.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// Id of a request: in the answer's header, in its problem, in the log.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) String);

tokio::task_local! {
    static CURRENT: RequestId;
}

impl RequestId {
    /// Runs a request under its id.
    pub(crate) async fn within<T>(self, work: impl Future<Output = T>) -> T {
        CURRENT.scope(self, work).await
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    kind: &'static str,
    detail: String,
    more: Vec<(&'static str, Value)>,
    retry_after_s: Option<u32>,
    /// Where to go instead.
    elsewhere: Option<&'static str>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Problem {
        Problem { status, kind, detail: detail.into(), more: Vec::new(), retry_after_s: None, elsewhere: None }
    }

    /// A request that does not follow the rules: where, which rule.
    pub(crate) fn bad(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }

    /// Too much is asked of this server, or of this key's share of it.
    pub(crate) fn later(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem { retry_after_s: Some(1), ..Problem::new(status, "busy", detail) }
    }

    /// The same, to come again after so many seconds.
    pub(crate) fn after(self, seconds: u32) -> Problem {
        Problem { retry_after_s: Some(seconds), ..self }
    }

    /// Not here: the way is shown, and nothing else is said.
    pub(crate) fn elsewhere(path: &'static str) -> Problem {
        Problem { elsewhere: Some(path), ..Problem::new(StatusCode::SEE_OTHER, "elsewhere", "") }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Problem {
        self.more.push((name, value.into()));
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        if let Some(path) = self.elsewhere {
            return (self.status, [(header::LOCATION, path)]).into_response();
        }
        let mut body = json!({
            "type": format!("urn:candor:problem:{}", self.kind),
            "title": self.status.canonical_reason().unwrap_or("Problem"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let Ok(id) = CURRENT.try_with(|id| id.0.clone()) {
            body["request_id"] = id.into();
        }
        for (name, value) in self.more {
            body[name] = value;
        }
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"candor\""));
        }
        response
    }
}

impl From<reads::error::Error> for Problem {
    fn from(error: reads::error::Error) -> Problem {
        use reads::error::{Error, Kind};
        match (&error, error.kind()) {
            (Error::NoSuchThing, _) => Problem::new(
                StatusCode::NOT_FOUND,
                "no-such-thing",
                "there is nothing of this id in this register, or was not at that time",
            ),
            _ if error.is_missing() => {
                Problem::new(StatusCode::NOT_FOUND, "no-such-entry", "there is no entry of this index")
            }
            (Error::Denied(action, why), _) => Problem::new(StatusCode::FORBIDDEN, "denied", error.to_string())
                .with("action", action.name())
                .with("rules", why.rules.iter().map(|(rule, _)| rule.clone()).collect::<Vec<_>>())
                .with("instead", why.instead.clone())
                .with("roles", access::role::Role::names(&why.roles)),
            (Error::Refused(why), _) => Problem::new(StatusCode::FORBIDDEN, "refused", *why),
            (Error::Views(_), _) if error.is_behind() => Problem::later(
                StatusCode::SERVICE_UNAVAILABLE,
                "the lists are behind the trail for a moment: ask again",
            ),
            (Error::NotRecorded(_), _) => Problem::later(
                StatusCode::SERVICE_UNAVAILABLE,
                "the read could not be recorded, so nothing was read: try again, or look at the server's log",
            ),
            (_, Kind::Denied | Kind::Retry) => internal(&error),
        }
    }
}

/// A failure of ours: the cause goes to the server's log, under the id that the client gets.
#[expect(clippy::print_stderr, reason = "standard error is the server's log")]
pub(crate) fn internal(cause: &dyn std::fmt::Display) -> Problem {
    let id = CURRENT.try_with(|id| id.0.clone()).unwrap_or_default();
    eprintln!("candor: request {id}: {cause}");
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "something failed here: the server's log says what, under this request's id",
    )
}
