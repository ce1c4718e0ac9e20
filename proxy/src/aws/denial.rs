//! Refusals in the shape that AWS SDKs read, so that they show the reason and do not retry in vain.
//!
//! The head of the answer, `x-proxy-error` with it, stays what [`Refusal::response`] makes; only the
//! body and its type change.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use serde_json::json;
use workspace_common::body::{self, Body};

use crate::refusal::Refusal;

/// Where the AWS JSON protocols name the error.
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// The answer to a request on an AWS route that speaks a JSON protocol, as Bedrock does.
#[must_use]
pub fn response(refusal: Refusal) -> Response<Body> {
    let kind = kind(refusal.status());
    let message = format!("{} ({})", refusal.detail(), refusal.code());
    let content = json!({ "__type": kind, "message": message });
    let (mut head, _) = refusal.response().into_parts();
    head.headers.remove(CONTENT_LENGTH);
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    head.headers.insert(ERROR_TYPE, HeaderValue::from_static(kind));
    Response::from_parts(head, body::json(&content))
}

/// SDKs decide by this name, and by the status, whether they try again: never after a 4xx.
fn kind(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "UnknownOperationException",
        StatusCode::PAYLOAD_TOO_LARGE => "RequestEntityTooLargeException",
        StatusCode::NOT_IMPLEMENTED => "UnsupportedOperationException",
        StatusCode::BAD_REQUEST => "ValidationException",
        status if status.is_client_error() => "AccessDeniedException",
        _ => "ServiceUnavailableException",
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn sdks_find_the_reason_where_they_look_for_it() {
        let rows = [
            (Refusal::NotAllowed, 403, "AccessDeniedException"),
            (Refusal::CredentialsUnavailable, 502, "ServiceUnavailableException"),
            (Refusal::BodyTooLarge, 413, "RequestEntityTooLargeException"),
            (Refusal::BadPath, 400, "ValidationException"),
            (Refusal::AwsUnsupported, 501, "UnsupportedOperationException"),
        ];
        for (refusal, status, kind) in rows {
            let response = response(refusal);
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()["x-proxy-error"], refusal.code());
            assert_eq!(response.headers()["x-amzn-errortype"], kind);
            assert_eq!(response.headers()["content-type"], "application/json");
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            let content: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(content["__type"], kind);
            assert!(content["message"].as_str().unwrap().contains(refusal.code()));
        }
    }
}
