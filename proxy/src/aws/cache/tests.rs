use super::*;
use crate::aws::sts::fake::{FakeSts, Step};

/// Pauses of milliseconds; upstreams may ask for a refresh at any time.
const QUICK: Pace = Pace { pause_unit: Duration::from_millis(4), early_interval: Duration::ZERO };

fn start(sts: &FakeSts) -> CredentialCache {
    let (cache, mut refresher) = CredentialCache::refreshed(sts.client());
    refresher.pace = QUICK;
    sts.drain.spawn_background(refresher.run());
    cache
}

async fn key(cache: &CredentialCache) -> Result<String, Unavailable> {
    cache.current().await.map(|held| held.access_key_id().expose().clone())
}

/// Waits until the cache holds `wanted`.
async fn holds(cache: &CredentialCache, wanted: &str) {
    let mut snapshot = cache.snapshot.clone();
    let held = |seen: &Snapshot| {
        seen.credentials.as_ref().is_some_and(|held| held.access_key_id().expose() == wanted)
    };
    snapshot.wait_for(held).await.unwrap();
}

async fn failed(cache: &CredentialCache, times: u64) {
    cache.snapshot.clone().wait_for(|seen| seen.failures >= times).await.unwrap();
}

#[tokio::test]
async fn a_hundred_first_requests_make_one_call() {
    let sts = FakeSts::start(vec![Step::Credentials("ONE", 3600)]);
    sts.hold(true);
    let cache = start(&sts);
    let waiters: Vec<_> = (0..100)
        .map(|_| {
            let cache = cache.clone();
            sts.drain.spawn(async move { key(&cache).await })
        })
        .collect();
    sts.called(1).await;
    sts.hold(false);
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().unwrap(), "ASIAONE");
    }
    assert_eq!(sts.calls().len(), 1);
    assert!(cache.is_ready(SystemTime::now()));
    assert!(cache.expires().unwrap() > SystemTime::now());
}

#[tokio::test]
async fn without_credentials_a_failure_is_told_at_once_and_mended_without_restart() {
    let sts = FakeSts::start(vec![Step::Error(500, "InternalFailure")]);
    let cache = start(&sts);
    failed(&cache, 1).await;
    assert!(!cache.is_ready(SystemTime::now()));
    sts.now_answer(vec![Step::Credentials("ONE", 3600)]);
    holds(&cache, "ASIAONE").await;
    assert_eq!(key(&cache).await.unwrap(), "ASIAONE");
}

#[tokio::test]
async fn a_missing_token_file_is_waited_for() {
    let sts = FakeSts::start(vec![Step::Credentials("ONE", 3600)]);
    std::fs::rename(sts.token_file(), sts.token_file().with_extension("later")).unwrap();
    let cache = start(&sts);
    failed(&cache, 2).await;
    assert!(sts.calls().is_empty());
    std::fs::rename(sts.token_file().with_extension("later"), sts.token_file()).unwrap();
    holds(&cache, "ASIAONE").await;
}

#[tokio::test]
async fn held_credentials_serve_through_an_outage() {
    let sts = FakeSts::start(vec![Step::Credentials("ONE", 3600)]);
    let cache = start(&sts);
    holds(&cache, "ASIAONE").await;
    sts.now_answer(vec![Step::Error(400, "IDPCommunicationError")]);
    cache.rejected_by_upstream();
    failed(&cache, 3).await;
    assert_eq!(key(&cache).await.unwrap(), "ASIAONE");
    sts.now_answer(vec![Step::Credentials("TWO", 3600)]);
    holds(&cache, "ASIATWO").await;
}

#[tokio::test]
async fn a_garbled_answer_leaves_the_old_credentials_in_place() {
    let sts = FakeSts::start(vec![Step::Credentials("ONE", 3600)]);
    let cache = start(&sts);
    holds(&cache, "ASIAONE").await;
    sts.now_answer(vec![Step::Raw(200, "<R><Credentials/></R>".into())]);
    cache.rejected_by_upstream();
    failed(&cache, 1).await;
    assert_eq!(key(&cache).await.unwrap(), "ASIAONE");
}

#[tokio::test]
async fn credentials_in_their_last_half_minute_sign_nothing() {
    let sts =
        FakeSts::start(vec![Step::Credentials("ONE", 20), Step::Error(500, "InternalFailure")]);
    let cache = start(&sts);
    holds(&cache, "ASIAONE").await;
    assert!(!cache.is_ready(SystemTime::now()));
    assert_eq!(key(&cache).await, Err(Unavailable));
}

#[tokio::test]
async fn a_role_that_is_refused_is_not_asked_for_again_in_a_hurry() {
    let sts = FakeSts::start(vec![Step::Error(400, "MalformedPolicyDocument")]);
    let (cache, refresher) = CredentialCache::refreshed(sts.client());
    let pause = {
        let error = StsError::Answer(crate::aws::sts::answer::AnswerError::Refused {
            status: http::StatusCode::BAD_REQUEST,
            code: "MalformedPolicyDocument".into(),
        });
        refresher.note_failure(&error, 1)
    };
    assert!(pause >= Duration::from_secs(60), "{pause:?}");
    assert_eq!(cache.failures(), 1);
}

#[tokio::test]
async fn fixed_credentials_are_always_there() {
    let credentials = Credentials::new("AKID".into(), "s".into(), None, None).unwrap();
    let cache = CredentialCache::fixed(credentials);
    assert_eq!(key(&cache).await.unwrap(), "AKID");
    assert!(cache.is_ready(SystemTime::now()));
    assert_eq!(cache.expires(), None);
}
