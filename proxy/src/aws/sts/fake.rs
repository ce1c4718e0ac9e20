//! A stand-in for STS on a loopback socket: it answers from a script and remembers what it was asked.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use http::{Request, Response, StatusCode};
use tokio::sync::watch;
use workspace_common::body::{self, Body};
use workspace_common::drain::{self, Drain, DrainTrigger};
use workspace_common::listen::ListenAddr;
use workspace_common::serve::{ServeOptions, serve};

use super::Sts;
use super::transport::{Dns, Transport};
use crate::aws::environment::WebIdentity;

/// One answer of the script. When it is used up, the last one is given again.
#[derive(Clone)]
pub(crate) enum Step {
    /// Credentials `ASIA{name}` that live so many seconds.
    Credentials(&'static str, u64),
    /// An error answer.
    Error(u16, &'static str),
    /// Any answer.
    Raw(u16, String),
}

/// The running stand-in.
pub(crate) struct FakeSts {
    dir: tempfile::TempDir,
    port: u16,
    shared: Arc<Shared>,
    pub(crate) drain: Drain,
    _stop: DrainTrigger,
}

struct Shared {
    script: Mutex<VecDeque<Step>>,
    calls: watch::Sender<Vec<String>>,
    gate: watch::Sender<bool>,
}

impl FakeSts {
    pub(crate) fn start(script: Vec<Step>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), "first-token\n").unwrap();
        let bound = "tcp:127.0.0.1:0".parse::<ListenAddr>().unwrap().bind().unwrap();
        let ListenAddr::Tcp(address) = bound.address().clone() else { panic!("TCP was asked for") };
        let shared = Arc::new(Shared {
            script: Mutex::new(script.into()),
            calls: watch::Sender::new(Vec::new()),
            gate: watch::Sender::new(true),
        });
        let (stop, drain) = drain::channel();
        let answering = Arc::clone(&shared);
        let options = ServeOptions::new(64, Duration::from_secs(10));
        let listener = bound.into_async().unwrap();
        drain.spawn(serve(listener, options, drain.clone(), move |request, _peer| {
            let shared = Arc::clone(&answering);
            async move { answer(&shared, request).await }
        }));
        Self { dir, port: address.port(), shared, drain, _stop: stop }
    }

    pub(crate) fn token_file(&self) -> PathBuf {
        self.dir.path().join("token")
    }

    pub(crate) fn client(&self) -> Sts {
        self.client_of(&self.token_file())
    }

    pub(crate) fn client_of(&self, token_file: &Path) -> Sts {
        let identity = WebIdentity {
            role_arn: "arn:aws:iam::123456789012:role/a b".into(),
            token_file: token_file.to_owned(),
            session_name: "tenant@1".into(),
            endpoint: format!("http://127.0.0.1:{}/sts/", self.port).parse().unwrap(),
        };
        Sts::new(identity, transport())
    }

    /// What was asked so far: the form bodies.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.shared.calls.borrow().clone()
    }

    /// Waits until so many calls have come in.
    pub(crate) async fn called(&self, times: usize) {
        let mut calls = self.shared.calls.subscribe();
        calls.wait_for(|calls| calls.len() >= times).await.unwrap();
    }

    /// Holds answers back, or lets them go.
    pub(crate) fn hold(&self, held: bool) {
        self.shared.gate.send_replace(!held);
    }

    /// Replaces the script.
    pub(crate) fn now_answer(&self, script: Vec<Step>) {
        *self.shared.script.lock().unwrap() = script.into();
    }
}

/// A transport that reaches loopback addresses only.
pub(crate) fn transport() -> Transport {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Transport::new(tls, Dns::none())
}

async fn answer(
    shared: &Shared,
    request: Request<workspace_common::linger::Received>,
) -> Response<Body> {
    assert_eq!(request.uri().path(), "/sts/");
    assert!(!request.headers().contains_key("authorization"));
    let form = body::collect_limited(request.into_body(), 1 << 20).await.unwrap();
    let form = String::from_utf8(form.to_vec()).unwrap();
    shared.calls.send_modify(|calls| calls.push(form));
    shared.gate.subscribe().wait_for(|open| *open).await.unwrap();
    let step = {
        let mut script = shared.script.lock().unwrap();
        if script.len() > 1 { script.pop_front().unwrap() } else { script[0].clone() }
    };
    let (status, content) = render(&step);
    let mut response = Response::new(body::full(content));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

fn render(step: &Step) -> (u16, String) {
    match step {
        Step::Credentials(name, life) => {
            let end = SystemTime::now() + Duration::from_secs(*life);
            let end = humantime::format_rfc3339_micros(end);
            (
                200,
                format!(
                    "<R xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><S><Credentials><AccessKeyId>ASIA{name}</AccessKeyId>\
                 <SecretAccessKey>secret-{name}</SecretAccessKey><SessionToken>session-{name}</SessionToken>\
                 <Expiration>{end}</Expiration></Credentials></S></R>"
                ),
            )
        }
        Step::Error(status, code) => (
            *status,
            format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>first-token</Message></Error></ErrorResponse>"
            ),
        ),
        Step::Raw(status, content) => (*status, content.clone()),
    }
}
