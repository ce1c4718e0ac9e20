//! Error answers as `application/problem+json` (RFC 9457), each with a stable `code`.

use http::{Response, StatusCode, header};
use serde_json::json;

use crate::body::{self, Body};

/// What went wrong, in the form a caller reads it. `code` is part of the API; `detail` is for
/// people and says which value was wrong and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// HTTP status of the answer.
    pub status: StatusCode,
    /// Stable identifier that programs may match on.
    pub code: &'static str,
    /// What was wrong with this request.
    pub detail: String,
}

impl Problem {
    /// A problem with its status, its code and its explanation.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into() }
    }

    /// 400, for requests that cannot be understood.
    pub fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 401, for callers without the token.
    pub fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "this listener needs the header 'Authorization: Bearer TOKEN' with the right token",
        )
    }

    /// 404, for paths that this API does not have.
    pub fn no_such_endpoint(path: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "no_such_endpoint", format!("there is no {path} here"))
    }

    /// The answer to send.
    pub fn response(&self) -> Response<Body> {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let content = json!({
            "type": "about:blank",
            "status": self.status.as_u16(),
            "title": title,
            "code": self.code,
            "detail": self.detail,
        });
        let mut response = Response::new(body::json(&content));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            http::HeaderValue::from_static("application/problem+json"),
        );
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, http::HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_problem_is_answered_with_its_status_code_and_detail() {
        let response = Problem::bad_request("bad_cwd", "cwd 'x' does not exist").response();
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let content: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(content["code"], "bad_cwd");
        assert_eq!(content["status"], 400);
        assert_eq!(content["detail"], "cwd 'x' does not exist");
    }
}
