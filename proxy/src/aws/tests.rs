use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use workspace_common::body::BoxError;
use workspace_common::{body, drain};

use super::environment::WebIdentity;
use super::region::Service;
use super::sts::fake::{FakeSts, Step, transport};
use super::*;

fn aws_with_keys() -> Aws {
    let credentials =
        credentials::Credentials::new("AKID".into(), "secret".into(), None, None).unwrap();
    let region = Region::parse("us-east-1").unwrap();
    let config = AwsConfig { region, identity: Identity::Static(credentials) };
    Aws::start(config, transport(), 8, &drain::channel().1)
}

fn aws_with_role(sts: &FakeSts, endpoint: &str) -> Aws {
    let identity = WebIdentity {
        role_arn: "arn:aws:iam::123456789012:role/r".into(),
        token_file: sts.token_file(),
        session_name: "s1".into(),
        endpoint: endpoint.parse().unwrap(),
    };
    let region = Region::parse("us-east-1").unwrap();
    let config = AwsConfig { region, identity: Identity::WebIdentity(identity) };
    Aws::start(config, transport(), 1024, &sts.drain)
}

fn bedrock() -> SigningTarget {
    SigningTarget {
        authority: "bedrock-runtime.us-east-1.amazonaws.com".into(),
        region: Region::parse("us-east-1").unwrap(),
        service: Service::bedrock(),
    }
}

fn request(content: &'static str) -> Request<Body> {
    Request::post("/model/m/invoke").body(body::full(content)).unwrap()
}

#[tokio::test]
async fn a_signed_request_carries_its_body_unchanged() {
    let signed = aws_with_keys().sign(request("12345678"), &bedrock()).await.unwrap();
    let authorization = signed.headers()["authorization"].to_str().unwrap().to_owned();
    assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKID/"), "{authorization}");
    assert!(authorization.contains("/us-east-1/bedrock/aws4_request"), "{authorization}");
    assert_eq!(signed.into_body().collect().await.unwrap().to_bytes(), "12345678");
}

#[tokio::test]
async fn bodies_over_the_limit_and_odd_paths_are_refused() {
    let aws = aws_with_keys();
    let refusal = aws.sign(request("123456789"), &bedrock()).await.unwrap_err();
    assert_eq!(refusal, Refusal::BodyTooLarge);
    let odd = Request::get("/model/../x").body(body::empty()).unwrap();
    assert_eq!(aws.sign(odd, &bedrock()).await.unwrap_err(), Refusal::BadPath);
}

#[tokio::test]
async fn a_path_that_cannot_be_signed_is_refused_before_the_body_is_read() {
    // A body that never comes: reading it would wait for ever.
    let (_sender, receiver) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, BoxError>>(1);
    let stalled = StreamBody::new(futures_util::stream::unfold(receiver, |mut from| async {
        from.recv().await.map(|frame| (frame, from))
    }));
    let request = Request::post("/model/%2e%2e/x").body(stalled.boxed_unsync()).unwrap();
    assert_eq!(aws_with_keys().sign(request, &bedrock()).await.unwrap_err(), Refusal::BadPath);
}

#[tokio::test]
async fn without_credentials_nothing_leaves() {
    let sts = FakeSts::start(vec![Step::Error(403, "AccessDenied")]);
    // Port 1 of loopback is closed unless somebody runs tcpmux.
    let aws = aws_with_role(&sts, "http://127.0.0.1:1/");
    let refusal = aws.sign(request("{}"), &bedrock()).await.unwrap_err();
    assert_eq!(refusal, Refusal::CredentialsUnavailable);
    assert!(!aws.credentials().is_ready(SystemTime::now()));
}

#[tokio::test]
async fn only_complaints_about_credentials_count_as_such() {
    let rows = [
        (403, "ExpiredTokenException", true),
        (403, "UnrecognizedClientException:http://internal.amazon.com/coral/", true),
        (403, "AccessDeniedException", false),
        (400, "ExpiredToken", true),
        (400, "ExpiredTokenExceptional", false),
        (200, "ExpiredTokenException", false),
    ];
    for (status, kind, counts) in rows {
        let aws = aws_with_keys();
        let mut headers = HeaderMap::new();
        headers.insert("x-amzn-errortype", kind.parse().unwrap());
        aws.observe(StatusCode::from_u16(status).unwrap(), &headers);
        assert_eq!(aws.credentials().has_complaint().await, counts, "{status} {kind}");
    }
}
