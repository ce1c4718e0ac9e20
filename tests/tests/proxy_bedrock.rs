//! Amazon Bedrock: signed by the proxy with credentials from IRSA, verified by botocore.

use std::{fs, process::Command};

use anyhow::{Result, ensure};
use serde_json::json;
use tempfile::TempDir;
use workspace_tests::{
    ca::Ca,
    peer::{self, Peer},
    process::free_address,
    proxy::{Proxy, Setup},
    require,
    wait::eventually,
};

const REGION: &str = "us-east-1";
const ROLE: &str = "arn:aws:iam::123456789012:role/workspace";

/// STS by moto and a verifying upstream behind TLS.
struct Aws {
    upstream: Peer,
    ca: Ca,
    token: TempDir,
}

impl Aws {
    fn start() -> Result<Self> {
        let ca = Ca::new()?;
        let files = ca.server("bedrock.test")?;
        let (certificate, key) = (files.certificate.to_string_lossy(), files.key.to_string_lossy());
        let arguments = [
            "--certificate",
            &certificate,
            "--key",
            &key,
            "--static",
            "AKIASTATICKEY:static-secret",
        ];
        let upstream = Peer::start(&peer::python(), "aws_upstream.py", &arguments)?;
        let token = tempfile::tempdir()?;
        fs::write(token.path().join("token"), "projected-web-identity-token")?;
        Ok(Self { upstream, ca, token })
    }

    fn sts(&self) -> String {
        format!("http://127.0.0.1:{}", self.upstream.ready["sts_port"])
    }

    fn token_file(&self) -> String {
        self.token.path().join("token").to_string_lossy().into_owned()
    }

    /// A proxy that reaches the upstream as Bedrock, without credentials yet.
    fn proxy(&self) -> Result<Setup> {
        let endpoint = format!("https://bedrock.test:{}", self.upstream.port());
        Ok(Setup::new()?
            .local_host("bedrock.test", self.upstream.port())
            .policy(|policy| {
                policy["bedrock"] =
                    json!({ "region": REGION, "catchall": true, "endpoint": endpoint })
            })
            .args(&["--upstream-ca", &self.ca.certificate().to_string_lossy()])
            .env("AWS_REGION", REGION))
    }

    fn with_irsa(&self, setup: Setup, sts: &str) -> Setup {
        setup
            .env("AWS_ROLE_ARN", ROLE)
            .env("AWS_WEB_IDENTITY_TOKEN_FILE", &self.token_file())
            .env("AWS_ENDPOINT_URL_STS", sts)
    }

    fn verdicts(&self) -> Vec<String> {
        let record = self.upstream.record();
        record.iter().filter_map(|line| line["verdict"].as_str().map(str::to_owned)).collect()
    }
}

const MODEL: &str = "/model/anthropic.claude-3-haiku-20240307-v1:0/invoke";
const MODEL_ENCODED: &str = "/model/anthropic.claude-3-haiku-20240307-v1%3A0/invoke";
const PROFILE_ARN: &str =
    "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fx/invoke";

fn invoke(proxy: &Proxy, path: &str) -> Result<workspace_tests::http::Response> {
    proxy.client().send_json("POST", path, &json!({ "prompt": "grüße" }))
}

#[test]
fn requests_are_signed_with_credentials_from_irsa() -> Result<()> {
    require!(Openssl, PythonPackages);
    let aws = Aws::start()?;
    let proxy = aws.with_irsa(aws.proxy()?, &aws.sts()).start()?;
    for path in [
        MODEL,
        MODEL_ENCODED,
        PROFILE_ARN,
        &format!("/bedrock{MODEL}"),
        &format!("{MODEL}?a=b%20c&d"),
    ] {
        let answer = invoke(&proxy, path)?;
        assert_eq!(answer.status(), 200, "{path}: {}", answer.text());
    }
    assert_eq!(aws.verdicts(), ["ok"; 5]);
    for seen in aws.upstream.record() {
        assert_eq!(
            (&seen["service"], &seen["region"]),
            (&json!("bedrock"), &json!(REGION)),
            "{seen}"
        );
        ensure!(seen["access_key"].as_str().is_some_and(|key| key.starts_with("ASIA")), "{seen}");
    }
    let line = proxy.audited(|line| line["mode"] == "aws")?;
    assert_eq!(
        (&line["aws_service"], &line["aws_region"]),
        (&json!("bedrock"), &json!(REGION)),
        "{line}"
    );
    for secret in ["projected-web-identity-token", "AWS4-HMAC", "ASIA"] {
        ensure!(!proxy.daemon.output().contains(secret), "an output holds {secret}");
    }
    Ok(())
}

#[test]
fn requests_are_signed_with_static_keys_of_the_environment() -> Result<()> {
    require!(Openssl, PythonPackages);
    let aws = Aws::start()?;
    let setup = aws
        .proxy()?
        .env("AWS_ACCESS_KEY_ID", "AKIASTATICKEY")
        .env("AWS_SECRET_ACCESS_KEY", "static-secret");
    let proxy = setup.start()?;
    let answer = invoke(&proxy, MODEL)?;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(aws.upstream.record()[0]["access_key"], "AKIASTATICKEY");
    ensure!(!proxy.daemon.output().contains("static-secret"), "an output holds the secret key");
    Ok(())
}

#[test]
fn the_clients_own_signature_and_keys_are_removed() -> Result<()> {
    require!(Openssl, PythonPackages);
    let aws = Aws::start()?;
    let proxy = aws.with_irsa(aws.proxy()?, &aws.sts()).start()?;
    let client = proxy
        .client()
        .with("authorization", "AWS4-HMAC-SHA256 Credential=AKIAATTACKER/20261121/us-east-1/bedrock/aws4_request, SignedHeaders=host, Signature=00")
        .with("x-amz-security-token", "attacker")
        .with("x-amz-date", "20200101T000000Z");
    let answer = client.send_json("POST", MODEL, &json!({}))?;
    // Signing it anew and refusing it are both safe; sending it on is not.
    ensure!(matches!(answer.status(), 200 | 403), "{}: {}", answer.status(), answer.text());
    for seen in aws.upstream.record() {
        assert_eq!(seen["verdict"], "ok", "{seen}");
        ensure!(!seen.to_string().contains("ATTACKER"), "{seen}");
    }
    Ok(())
}

#[test]
fn the_aws_sdk_for_python_works_unmodified_with_dummy_keys() -> Result<()> {
    require!(Openssl, PythonPackages);
    let aws = Aws::start()?;
    let proxy = aws.with_irsa(aws.proxy()?, &aws.sts()).start()?;
    let program = "
import boto3, json, sys
client = boto3.client('bedrock-runtime', endpoint_url=sys.argv[1], region_name='us-east-1',
                      aws_access_key_id='dummy', aws_secret_access_key='dummy')
answer = client.invoke_model(modelId='anthropic.claude-3-haiku-20240307-v1:0', body=b'{}')
print(json.loads(answer['body'].read())['verdict'])
";
    for base in [proxy.url(), format!("{}/bedrock", proxy.url())] {
        let output = Command::new(peer::python()).args(["-c", program, &base]).output()?;
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "ok\n",
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

#[test]
fn without_credentials_nothing_is_sent() -> Result<()> {
    require!(Openssl, PythonPackages);
    let aws = Aws::start()?;
    let nobody = format!("http://{}", free_address()?);
    let proxy = aws.with_irsa(aws.proxy()?, &nobody).start()?;
    let answer = invoke(&proxy, MODEL)?;
    assert_eq!(
        (answer.status(), answer.header("x-proxy-error")),
        (502, Some("credentials_unavailable"))
    );
    ensure!(aws.upstream.record().is_empty(), "a request went out without credentials");
    Ok(())
}

#[test]
fn a_token_file_that_appears_later_is_found_without_a_restart() -> Result<()> {
    require!(Openssl, PythonPackages);
    let aws = Aws::start()?;
    fs::remove_file(aws.token_file())?;
    let proxy = aws.with_irsa(aws.proxy()?, &aws.sts()).start()?;
    assert_eq!(invoke(&proxy, MODEL)?.status(), 502);
    fs::write(aws.token_file(), "projected-web-identity-token")?;
    eventually("the credentials are there", || {
        invoke(&proxy, MODEL).is_ok_and(|answer| answer.status() == 200).then_some(())
    })
}

#[test]
fn paths_that_are_no_bedrock_path_are_not_signed() -> Result<()> {
    require!(Openssl, PythonPackages);
    let aws = Aws::start()?;
    let proxy = aws.with_irsa(aws.proxy()?, &aws.sts()).start()?;
    for path in ["/", "/anything", "/model/../x", "/model/%2e%2e/x", "/model/a/..%2f..%2fb/invoke"]
    {
        let answer = invoke(&proxy, path)?;
        ensure!((400..500).contains(&answer.status()), "{path}: {}", answer.status());
    }
    ensure!(aws.upstream.record().is_empty(), "{:?}", aws.upstream.record());
    Ok(())
}

#[test]
fn the_catch_all_is_off_unless_the_policy_turns_it_on() -> Result<()> {
    require!(Openssl, PythonPackages);
    let aws = Aws::start()?;
    let setup = aws.proxy()?.policy(|policy| policy["bedrock"]["catchall"] = json!(false));
    let proxy = aws.with_irsa(setup, &aws.sts()).start()?;
    assert_eq!(invoke(&proxy, MODEL)?.status(), 404);
    assert_eq!(invoke(&proxy, &format!("/bedrock{MODEL}"))?.status(), 200);
    Ok(())
}

#[test]
fn credentials_in_the_environment_alone_open_no_route() -> Result<()> {
    let setup = Setup::new()?.policy(|policy| drop(policy["bedrock"].take()));
    let proxy = setup
        .env("AWS_REGION", REGION)
        .env("AWS_ACCESS_KEY_ID", "AKIASTATICKEY")
        .env("AWS_SECRET_ACCESS_KEY", "static-secret")
        .start()?;
    assert_eq!(invoke(&proxy, &format!("/bedrock{MODEL}"))?.status(), 404);
    Ok(())
}

#[test]
fn there_is_no_tunnel_to_the_hosts_that_the_route_signs_for() -> Result<()> {
    // Inside it, requests could be signed with keys that the workspace brought along.
    let setup = Setup::new()?
        .args(&["--allow", "**.amazonaws.com", "--aws-region", REGION])
        .env("AWS_ACCESS_KEY_ID", "AKIASTATICKEY")
        .env("AWS_SECRET_ACCESS_KEY", "static-secret");
    let proxy = setup.start()?;
    for name in ["bedrock-runtime", "bedrock", "BEDROCK-runtime"] {
        let target = format!("{name}.{REGION}.amazonaws.com:443");
        let mut connection = proxy.connect()?;
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        connection.send(request.as_bytes())?;
        let answer = connection.read_response("CONNECT")?;
        assert_eq!(answer.header("x-proxy-error"), Some("use_route"), "{target}");
        ensure!(answer.text().contains("/bedrock"), "{}", answer.text());
    }
    Ok(())
}
