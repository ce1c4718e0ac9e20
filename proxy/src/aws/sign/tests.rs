use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use proptest::prelude::*;

use super::oracle::Received;
use super::*;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

fn target(service: &str) -> SigningTarget {
    SigningTarget {
        authority: format!("{service}.us-east-1.amazonaws.com"),
        region: Region::parse("us-east-1").unwrap(),
        service: Service::parse(service).unwrap(),
    }
}

fn credentials(token: Option<&str>) -> Credentials {
    Credentials::new("AKIDEXAMPLE".into(), SECRET.into(), token.map(Into::into), None).unwrap()
}

fn noon() -> SystemTime {
    // 2015-08-30T12:36:00Z, the moment of AWS's own examples.
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160)
}

struct Signed {
    parts: Parts,
    digest: String,
}

fn signed(request: Request<&str>, service: &str, token: Option<&str>) -> Result<Signed, SignError> {
    let (mut parts, content) = request.into_parts();
    let payload = Payload::of_bytes(Bytes::copy_from_slice(content.as_bytes()));
    sign(&mut parts, &payload, &target(service), &credentials(token), noon())?;
    Ok(Signed { parts, digest: payload.digest().to_owned() })
}

impl Signed {
    fn header(&self, name: &str) -> &str {
        self.parts.headers[name].to_str().unwrap()
    }

    /// The three parameters of `Authorization`.
    fn authorization(&self) -> HashMap<&str, &str> {
        assert_eq!(self.parts.headers.get_all("authorization").iter().count(), 1);
        let text = self.header("authorization").strip_prefix("AWS4-HMAC-SHA256 ").unwrap();
        text.split(", ").map(|part| part.split_once('=').unwrap()).collect()
    }

    /// Judges the request from its wire form.
    fn verify(&self) {
        let authorization = self.authorization();
        let (key, scope) = authorization["Credential"].split_once('/').unwrap();
        assert_eq!(key, "AKIDEXAMPLE");
        let headers = self.parts.headers.iter().map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8(value.as_bytes().to_vec()).unwrap())
        });
        let received = Received {
            method: self.parts.method.as_str(),
            path: self.parts.uri.path(),
            query: self.parts.uri.query().unwrap_or_default(),
            headers: headers.collect(),
            signed: authorization["SignedHeaders"].split(';').collect(),
            payload_hash: &self.digest,
            scope,
        };
        assert_eq!(received.signature(SECRET), authorization["Signature"], "{:?}", self.parts.uri);
    }
}

#[test]
fn the_oracle_agrees_with_a_published_signature() {
    // "get-vanilla" of the SigV4 test suite that AWS publishes.
    let received = Received {
        method: "GET",
        path: "/",
        query: "",
        headers: vec![
            ("host".into(), "example.amazonaws.com".into()),
            ("x-amz-date".into(), "20150830T123600Z".into()),
        ],
        signed: vec!["host", "x-amz-date"],
        payload_hash: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        scope: "20150830/us-east-1/service/aws4_request",
    };
    assert_eq!(
        received.signature(SECRET),
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
    );
}

#[test]
fn bedrock_paths_leave_unchanged_and_verify() {
    for path in [
        "/model/anthropic.claude-v1:0/invoke",
        "/model/anthropic.claude-v1%3A0/invoke",
        "/model/arn%3Aaws%3Abedrock%2Fx/converse-stream",
        "/inference-profiles?type=SYSTEM_DEFINED",
        "/inference-profiles?b=&a=1&a=0&c",
        "/",
    ] {
        let request = Request::post(path).header("content-type", "application/json");
        let signed = signed(request.body("{\"a\":1}").unwrap(), "bedrock", Some("token")).unwrap();
        assert_eq!(signed.parts.uri.to_string(), path);
        assert_eq!(signed.header("host"), "bedrock.us-east-1.amazonaws.com");
        assert_eq!(signed.header("x-amz-date"), "20150830T123600Z");
        assert_eq!(signed.header("x-amz-security-token"), "token");
        assert_eq!(signed.header("content-length"), "7");
        signed.verify();
    }
}

#[test]
fn object_keys_verify_and_carry_their_hash() {
    for path in
        ["/b/a%20b/c+d=e:f(1)%c3%a9'*!~", "/b//x", "/b/../x", "/b?uploads", "/b?prefix=a+b%2f"]
    {
        let signed = signed(Request::get(path).body("").unwrap(), "s3", None).unwrap();
        assert_eq!(signed.header("x-amz-content-sha256"), signed.digest);
        signed.verify();
    }
}

#[test]
fn nothing_of_a_clients_own_proof_leaves() {
    let request = Request::get("/model/m/invoke?X-Amz-Signature=MINE&X-Amz-Credential=MINE&a=1")
        .header("authorization", "AWS4-HMAC-SHA256 Credential=MINE")
        .header("authorization", "Bearer MINE")
        .header("x-amz-security-token", "MINE")
        .header("x-amz-date", "MINE")
        .header("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
        .header("cookie", "MINE")
        .header("x-forwarded-for", "MINE")
        .header("expect", "100-continue")
        .header("host", "MINE.test")
        .body("")
        .unwrap();
    let signed = signed(request, "bedrock", None).unwrap();
    let shown: String = signed
        .parts
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    assert!(!shown.contains("MINE") && !shown.contains("expect"), "{shown}");
    assert!(!signed.parts.headers.contains_key("x-amz-security-token"), "ours has no token");
    assert!(!signed.parts.headers.contains_key("x-amz-content-sha256"), "it contradicts the hash");
    assert_eq!(signed.parts.uri.to_string(), "/model/m/invoke?a=1");
    assert_eq!(signed.parts.version, Version::HTTP_11);
    signed.verify();
}

#[test]
fn exactly_the_headers_that_aws_needs_are_signed() {
    let request = Request::post("/model/m/invoke")
        .header("content-type", "application/json")
        .header("content-md5", "x")
        .header("x-amz-target", "T.Op")
        .header("x-amz-meta-a", "  two   spaces ")
        .header("x-amz-meta-b", "one")
        .header("x-amz-meta-b", "two")
        .header("user-agent", "sdk/1")
        .header("accept", "*/*")
        .header("amz-sdk-request", "attempt=1")
        .header("x-amzn-trace-id", "Root=1")
        .body("{}")
        .unwrap();
    let signed = signed(request, "bedrock", Some("token")).unwrap();
    assert_eq!(
        signed.authorization()["SignedHeaders"],
        "content-md5;content-type;host;x-amz-date;x-amz-meta-a;x-amz-meta-b;x-amz-security-token;x-amz-target"
    );
    assert_eq!(signed.header("user-agent"), "sdk/1");
    signed.verify();
}

#[test]
fn secrets_in_the_signed_head_are_marked() {
    let signed =
        signed(Request::get("/").body("").unwrap(), "bedrock", Some("t0ken-value")).unwrap();
    assert!(signed.parts.headers["authorization"].is_sensitive());
    assert!(signed.parts.headers["x-amz-security-token"].is_sensitive());
    let shown = format!("{:?}", signed.parts);
    assert!(!shown.contains("t0ken-value") && !shown.contains("AKIDEXAMPLE"), "{shown}");
}

#[test]
fn what_cannot_be_signed_without_guessing_is_refused() {
    for path in ["/model/../x", "/model/%2e%2e/x", "/model//x", "/model/m?a=%FF"] {
        let error = signed(Request::get(path).body("").unwrap(), "bedrock", None).err().unwrap();
        assert!(matches!(error, SignError::Url(_)), "{path}: {error}");
    }
    let binary = Request::get("/")
        .header("x-amz-meta-a", HeaderValue::from_bytes(b"caf\xe9").unwrap())
        .body("")
        .unwrap();
    assert!(matches!(signed(binary, "s3", None), Err(SignError::HeaderText(_))));
}

#[test]
fn metadata_in_utf8_is_signed_as_it_is() {
    let text = HeaderValue::from_bytes("caf\u{e9}".as_bytes()).unwrap();
    let request = Request::get("/").header("x-amz-meta-a", text).body("").unwrap();
    signed(request, "s3", None).unwrap().verify();
}

#[test]
fn the_uri_keeps_its_origin() {
    let request = Request::get("http://127.0.0.1:9/model/m/invoke").body("").unwrap();
    let signed = signed(request, "bedrock", None).unwrap();
    assert_eq!(signed.parts.uri.to_string(), "http://127.0.0.1:9/model/m/invoke");
    assert_eq!(signed.header("host"), "bedrock.us-east-1.amazonaws.com");
}

proptest! {
    /// Whatever can be signed verifies from its wire form alone.
    #[test]
    fn signatures_verify(
        segments in prop::collection::vec("([A-Za-z0-9_~:@!$'()*,;=+-]|%3A|%2F|%20|%c3%a9){1,8}", 0..4),
        query in prop::collection::vec(("[a-zA-Z0-9+-]{0,4}", prop::option::of("([a-z+=:/]|%2f|%20|%25){0,6}")), 0..5),
        meta in prop::collection::vec("[!-~]{0,6}( {1,3}[!-~]{1,6}){0,2}", 0..4),
        service in prop::sample::select(vec!["bedrock", "s3", "dynamodb"]),
        token in prop::option::of("[A-Za-z0-9/+=]{1,40}"),
        content in "[ -~]{0,40}",
    ) {
        let query: Vec<String> = query
            .into_iter()
            .map(|(name, value)| value.map_or_else(|| name.clone(), |value| format!("{name}={value}")))
            .collect();
        let uri = format!("/{}?{}", segments.join("/"), query.join("&"));
        let mut request = Request::post(uri);
        for value in &meta {
            request = request.header("x-amz-meta-value", value);
        }
        let request = request.body(content.as_str()).unwrap();
        signed(request, service, token.as_deref()).unwrap().verify();
    }
}
