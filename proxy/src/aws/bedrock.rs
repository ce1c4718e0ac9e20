//! Which Bedrock endpoint a path belongs to. Pure; it decides nothing about permission.
//!
//! Clients that take one base URL for Bedrock send control-plane calls (`/inference-profiles`) and
//! runtime calls (`/model/...`) to it alike, while AWS serves them from two hosts.

use std::fmt;

use http::Method;

use super::region::{Region, Service};

/// The two Bedrock endpoints of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BedrockPlane {
    /// Inference: `bedrock-runtime.<region>`.
    Runtime,
    /// Catalogue and configuration, of which only listings are mapped: `bedrock.<region>`.
    Control,
}

/// Where a request to the Bedrock route goes and how it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BedrockTarget {
    /// Which of the two endpoints serves the path.
    pub plane: BedrockPlane,
    /// The AWS host name of that endpoint.
    pub host: String,
    /// The region of the credential scope.
    pub region: Region,
    /// The signing name, the same for both endpoints.
    pub service: Service,
}

impl BedrockPlane {
    /// The endpoint that serves `path`, or `None` for a path that is no Bedrock call this proxy
    /// maps. The first segment decides, and it is compared as it is written: an encoded spelling
    /// of it is no Bedrock path.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        let mut segments = path.strip_prefix('/')?.split('/');
        let first = segments.next()?;
        let nested = segments.next().is_some_and(|second| !second.is_empty());
        match first {
            "model" | "guardrail" if nested => Some(Self::Runtime),
            "async-invoke" => Some(Self::Runtime),
            "inference-profiles" | "foundation-models" => Some(Self::Control),
            _ => None,
        }
    }

    /// Whether a method is mapped: the control plane is there to look things up, and a workspace is
    /// not to make or delete anything in the account through it.
    #[must_use]
    pub fn serves(self, method: &Method) -> bool {
        match self {
            Self::Runtime => true,
            Self::Control => matches!(*method, Method::GET | Method::HEAD),
        }
    }

    /// The first label of the endpoint's host name.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Runtime => "bedrock-runtime",
            Self::Control => "bedrock",
        }
    }
}

impl BedrockTarget {
    /// Maps a path of the Bedrock route to its endpoint in `region`.
    #[must_use]
    pub fn of_path(path: &str, region: &Region) -> Option<Self> {
        let plane = BedrockPlane::of_path(path)?;
        Some(Self {
            plane,
            host: format!("{}.{region}.{}", plane.label(), region.dns_suffix()),
            region: region.clone(),
            service: Service::bedrock(),
        })
    }
}

impl fmt::Display for BedrockTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_map_to_the_endpoint_that_serves_them() {
        let rows = [
            (
                "/model/anthropic.claude-v1:0/invoke",
                Some("bedrock-runtime.us-east-1.amazonaws.com"),
            ),
            ("/model/a%3A0/converse-stream", Some("bedrock-runtime.us-east-1.amazonaws.com")),
            ("/guardrail/g/version/1/apply", Some("bedrock-runtime.us-east-1.amazonaws.com")),
            ("/async-invoke", Some("bedrock-runtime.us-east-1.amazonaws.com")),
            ("/async-invoke/arn", Some("bedrock-runtime.us-east-1.amazonaws.com")),
            ("/inference-profiles", Some("bedrock.us-east-1.amazonaws.com")),
            ("/inference-profiles/x", Some("bedrock.us-east-1.amazonaws.com")),
            ("/foundation-models/x", Some("bedrock.us-east-1.amazonaws.com")),
            ("/model", None),
            ("/model/", None),
            ("/models/x/invoke", None),
            ("/MODEL/x/invoke", None),
            ("/%6dodel/x/invoke", None),
            ("/async-invoke-job", None),
            ("//model/x/invoke", None),
            ("/", None),
            ("", None),
        ];
        let region = Region::parse("us-east-1").unwrap();
        for (path, host) in rows {
            let target = BedrockTarget::of_path(path, &region);
            assert_eq!(target.as_ref().map(|t| t.host.as_str()), host, "{path}");
        }
    }

    #[test]
    fn the_partition_of_the_region_decides_the_suffix() {
        let region = Region::parse("cn-north-1").unwrap();
        let target = BedrockTarget::of_path("/model/m/invoke", &region).unwrap();
        assert_eq!(target.host, "bedrock-runtime.cn-north-1.amazonaws.com.cn");
        assert_eq!(target.service.as_str(), "bedrock");
    }

    #[test]
    fn the_control_plane_is_only_looked_at() {
        for (method, runtime, control) in [
            (Method::GET, true, true),
            (Method::HEAD, true, true),
            (Method::POST, true, false),
            (Method::PUT, true, false),
            (Method::DELETE, true, false),
        ] {
            assert_eq!(BedrockPlane::Runtime.serves(&method), runtime, "{method}");
            assert_eq!(BedrockPlane::Control.serves(&method), control, "{method}");
        }
    }
}
