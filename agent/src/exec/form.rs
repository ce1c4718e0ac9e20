//! The forms in which a command's output is sent, by the header `Accept`. Pure.

use http::{HeaderMap, StatusCode, header};
use workspace_common::problem::Problem;

use super::frame::FRAMES;

/// The media type of events, one a line.
pub(crate) const NDJSON: &str = "application/x-ndjson";

/// How the answer looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// One JSON object at the end.
    Buffered,
    /// Events as they happen.
    Stream(Encoding),
}

/// How a stream of events is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// JSON, one event a line.
    Lines,
    /// Binary frames.
    Frames,
}

impl Encoding {
    /// The media type.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Lines => NDJSON,
            Self::Frames => FRAMES,
        }
    }
}

/// The form of an exec: the first that is offered; buffered when the client does not care.
pub(crate) fn of_exec(headers: &HeaderMap) -> Result<Form, Problem> {
    pick(headers, Form::Buffered, |media_type| match media_type {
        "application/json" | "application/*" | "*/*" => Some(Form::Buffered),
        other => encoding(other).map(Form::Stream),
    })
}

/// The encoding of output that is streamed in any case: lines when the client does not care.
pub(crate) fn of_output(headers: &HeaderMap) -> Result<Encoding, Problem> {
    pick(headers, Encoding::Lines, |media_type| match media_type {
        "application/*" | "*/*" => Some(Encoding::Lines),
        other => encoding(other),
    })
}

fn encoding(media_type: &str) -> Option<Encoding> {
    [Encoding::Lines, Encoding::Frames].into_iter().find(|known| known.media_type() == media_type)
}

fn pick<T>(
    headers: &HeaderMap,
    default: T,
    offered: impl Fn(&str) -> Option<T>,
) -> Result<T, Problem> {
    let Some(accept) = headers.get(header::ACCEPT) else { return Ok(default) };
    let accept = accept.to_str().unwrap_or_default();
    let types = accept.split(',').map(|range| range.split(';').next().unwrap_or_default().trim());
    types.filter_map(offered).next().map(Ok).unwrap_or_else(|| {
        let detail = format!(
            "'{accept}' is not offered here: accept application/json where the answer is one \
             object, {NDJSON} or {FRAMES}"
        );
        Err(Problem::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", detail))
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn accepting(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(value))])
    }

    #[test]
    fn the_form_of_exec_follows_the_accept_header() {
        assert_eq!(of_exec(&HeaderMap::new()), Ok(Form::Buffered));
        for (accept, form) in [
            ("*/*", Form::Buffered),
            ("application/json; q=1", Form::Buffered),
            ("application/x-ndjson, */*", Form::Stream(Encoding::Lines)),
            ("text/html, application/vnd.workspace.frames", Form::Stream(Encoding::Frames)),
        ] {
            assert_eq!(of_exec(&accepting(accept)), Ok(form), "{accept}");
        }
        assert_eq!(of_exec(&accepting("text/html")).unwrap_err().status, 406);
    }

    #[test]
    fn output_is_always_a_stream() {
        assert_eq!(of_output(&HeaderMap::new()), Ok(Encoding::Lines));
        assert_eq!(of_output(&accepting("*/*")), Ok(Encoding::Lines));
        assert_eq!(of_output(&accepting("application/vnd.workspace.frames")), Ok(Encoding::Frames));
        assert_eq!(of_output(&accepting("application/json")).unwrap_err().status, 406);
    }
}
