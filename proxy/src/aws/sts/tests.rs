use super::answer::AnswerError;
use super::fake::{FakeSts, Step};
use super::*;

#[tokio::test]
async fn a_role_is_assumed_with_the_trimmed_token_and_encoded_names() {
    let sts = FakeSts::start(vec![Step::Credentials("ONE", 3600)]);
    let credentials = sts.client().assume_role().await.unwrap();
    assert_eq!(credentials.access_key_id().expose(), "ASIAONE");
    assert_eq!(credentials.session_token().unwrap().expose(), "session-ONE");
    assert_eq!(
        sts.calls(),
        ["Action=AssumeRoleWithWebIdentity&Version=2011-06-15\
          &RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fa%20b\
          &RoleSessionName=tenant%401&WebIdentityToken=first-token"]
    );
}

#[tokio::test]
async fn a_token_file_swapped_by_symlink_is_read_anew() {
    let sts = FakeSts::start(vec![Step::Credentials("ONE", 3600)]);
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("token");
    std::os::unix::fs::symlink(sts.token_file(), &link).unwrap();
    let client = sts.client_of(&link);
    client.assume_role().await.unwrap();

    std::fs::write(dir.path().join("second"), "second-token").unwrap();
    std::os::unix::fs::symlink(dir.path().join("second"), dir.path().join("next")).unwrap();
    std::fs::rename(dir.path().join("next"), &link).unwrap();
    client.assume_role().await.unwrap();
    let calls = sts.calls();
    assert!(calls[0].ends_with("first-token") && calls[1].ends_with("second-token"), "{calls:?}");
}

#[tokio::test]
async fn an_expired_token_is_read_again_and_tried_once_more() {
    let expired = || Step::Error(400, "ExpiredTokenException");
    let sts = FakeSts::start(vec![expired(), Step::Credentials("ONE", 3600)]);
    assert!(sts.client().assume_role().await.is_ok());
    assert_eq!(sts.calls().len(), 2);

    let sts = FakeSts::start(vec![expired()]);
    let error = sts.client().assume_role().await.unwrap_err();
    assert!(matches!(error, StsError::Answer(AnswerError::ExpiredToken)));
    assert_eq!(sts.calls().len(), 2, "once more, not for ever");
}

#[tokio::test]
async fn token_files_without_a_token_are_named_and_never_shown() {
    let sts = FakeSts::start(vec![Step::Credentials("ONE", 3600)]);
    let missing = sts.client_of(Path::new("/nonexistent/token")).assume_role().await.unwrap_err();
    assert!(missing.to_string().contains("/nonexistent/token"), "{missing}");
    for content in ["", "\n", "to ken", &"t".repeat(20_001)] {
        std::fs::write(sts.token_file(), content).unwrap();
        let error = sts.client().assume_role().await.unwrap_err();
        assert!(matches!(error, StsError::TokenShape(_)), "{error}");
        assert!(!error.to_string().contains("to ken"));
    }
    assert!(sts.calls().is_empty());
}

#[tokio::test]
async fn answers_that_are_too_large_or_foreign_are_typed_errors() {
    let rows = [
        Step::Raw(200, "x".repeat(5 << 20)),
        Step::Raw(200, "<html><body>login</body></html>".into()),
        Step::Raw(503, "Service Unavailable".into()),
        Step::Error(403, "AccessDenied"),
    ];
    for step in rows {
        let sts = FakeSts::start(vec![step]);
        let error = sts.client().assume_role().await.unwrap_err();
        assert!(!error.to_string().contains("first-token"), "{error}");
        assert!(!format!("{error:?}").contains("first-token"), "{error:?}");
    }
}

#[tokio::test]
async fn nobody_listening_is_worth_another_attempt() {
    let sts = FakeSts::start(vec![Step::Credentials("ONE", 3600)]);
    let mut client = sts.client();
    // Port 1 of loopback is closed unless somebody runs tcpmux.
    client.identity.endpoint = "http://127.0.0.1:1/".parse().unwrap();
    let error = client.assume_role().await.unwrap_err();
    assert_eq!(error.retry(), Retry::Soon);
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}

#[tokio::test]
async fn names_are_looked_up_by_the_given_resolver_only() {
    let sts = FakeSts::start(vec![Step::Credentials("ONE", 3600)]);
    let mut client = sts.client();
    client.identity.endpoint = "http://sts.test/".parse().unwrap();
    let error = client.assume_role().await.unwrap_err();
    assert!(error.to_string().contains("sts.test was not looked up"), "{error}");
}
