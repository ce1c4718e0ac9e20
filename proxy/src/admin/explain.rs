//! `/policy` and `/explain`: the policy in force, for those who hold the management token.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use http_body::Body as HttpBody;
use serde::Deserialize;
use serde_json::Value;
use workspace_common::body::{self, Body, BoxError};
use workspace_common::problem::Problem;

use super::PolicyView;
use crate::explain::Asked;

/// Largest question.
const MAX_QUESTION: usize = 16 * 1024;

/// What is asked of `/explain`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    /// GET, POST, CONNECT, …
    method: String,
    /// A URL, or `HOST:PORT` for CONNECT.
    url: String,
    /// Whether the name is looked up and its addresses are judged.
    #[serde(default)]
    resolve: bool,
}

/// What the policy in force decides about a request.
pub(super) async fn explain<B>(
    view: &dyn PolicyView,
    request: Request<B>,
) -> Result<Response<Body>, Problem>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let content = body::collect_limited(request.into_body(), MAX_QUESTION)
        .await
        .map_err(|_error| Problem::bad_request("bad_body", "the question is cut or too large"))?;
    let wire: Wire = serde_json::from_slice(&content)
        .map_err(|error| Problem::bad_request("bad_json", error.to_string()))?;
    let asked = Asked::parse(&wire.method, &wire.url)
        .map_err(|error| Problem::bad_request("bad_question", error.to_string()))?;
    Ok(answer(&view.explain(asked, wire.resolve).await))
}

/// The policy in force, in numbers.
pub(super) fn show(view: &dyn PolicyView) -> Response<Body> {
    answer(&view.summary())
}

fn answer(content: &Value) -> Response<Body> {
    let mut response = Response::new(body::json(content));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
