use std::collections::HashMap;

use super::*;

const ROLE: (&str, &str) = ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/workspace");
const FILE: (&str, &str) = ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/token");
const REGION: (&str, &str) = ("AWS_REGION", "us-east-1");

fn read_from(pairs: &[(&str, &str)]) -> Result<Option<AwsConfig>, EnvironmentError> {
    let variables: HashMap<_, _> = pairs.iter().copied().collect();
    read(|name| variables.get(name).map(|value| (*value).to_owned()))
}

fn web_identity(extra: &[(&str, &str)]) -> WebIdentity {
    let mut pairs = vec![ROLE, FILE, REGION];
    pairs.extend(extra);
    match read_from(&pairs).unwrap().unwrap().identity {
        Identity::WebIdentity(identity) => identity,
        Identity::Static(_) => panic!("static keys were chosen"),
    }
}

#[test]
fn nothing_set_means_no_aws() {
    assert!(read_from(&[]).unwrap().is_none());
    assert!(read_from(&[REGION]).unwrap().is_none());
    assert!(read_from(&[("AWS_ROLE_ARN", ""), ("AWS_ACCESS_KEY_ID", " ")]).unwrap().is_none());
}

#[test]
fn half_a_setting_is_an_error_and_never_falls_back() {
    let keys = [("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s")];
    let error = read_from(&[ROLE, REGION, keys[0], keys[1]]).unwrap_err();
    assert_eq!(
        error,
        EnvironmentError::Half { present: "AWS_ROLE_ARN", missing: "AWS_WEB_IDENTITY_TOKEN_FILE" }
    );
    let error = read_from(&[REGION, keys[1]]).unwrap_err();
    assert!(error.to_string().contains("AWS_ACCESS_KEY_ID is not"), "{error}");
    assert_eq!(read_from(&keys).unwrap_err(), EnvironmentError::NoRegion);
    assert_eq!(read_from(&[ROLE, FILE]).unwrap_err(), EnvironmentError::NoRegion);
}

#[test]
fn web_identity_wins_over_static_keys() {
    let identity = web_identity(&[("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s")]);
    assert_eq!(identity.role_arn, ROLE.1);
    assert_eq!(identity.token_file, PathBuf::from(FILE.1));
    assert_eq!(identity.session_name, "workspace-proxy");
}

#[test]
fn the_endpoint_of_sts_follows_region_flags_and_overrides() {
    let rows: [(&[(&str, &str)], &str); 9] = [
        (&[], "https://sts.us-east-1.amazonaws.com/"),
        (&[("AWS_REGION", "cn-north-1")], "https://sts.cn-north-1.amazonaws.com.cn/"),
        (&[("AWS_USE_FIPS_ENDPOINT", "true")], "https://sts-fips.us-east-1.amazonaws.com/"),
        (
            &[("AWS_USE_FIPS_ENDPOINT", "true"), ("AWS_REGION", "us-gov-west-1")],
            "https://sts.us-gov-west-1.amazonaws.com/",
        ),
        (&[("AWS_USE_FIPS_ENDPOINT", "false")], "https://sts.us-east-1.amazonaws.com/"),
        (&[("AWS_USE_DUALSTACK_ENDPOINT", "true")], "https://sts.us-east-1.api.aws/"),
        (&[("AWS_ENDPOINT_URL", "http://127.0.0.1:5000")], "http://127.0.0.1:5000/"),
        (
            &[("AWS_ENDPOINT_URL", "http://x.test"), ("AWS_ENDPOINT_URL_STS", "http://y.test/sts")],
            "http://y.test/sts/",
        ),
        (&[("AWS_REGION", " us-west-2 ")], "https://sts.us-west-2.amazonaws.com/"),
    ];
    for (extra, expected) in rows {
        assert_eq!(web_identity(extra).endpoint.to_string(), expected, "{extra:?}");
    }
}

#[test]
fn unusable_endpoints_and_roles_are_named() {
    for value in ["ftp://x.test", "x.test", "http://u:pw@x.test", "http://x.test/?a=1"] {
        let error = read_from(&[ROLE, FILE, REGION, ("AWS_ENDPOINT_URL_STS", value)]).unwrap_err();
        assert!(error.to_string().contains("AWS_ENDPOINT_URL_STS"), "{error}");
        assert!(!error.to_string().contains("pw"), "{error}");
    }
    let error = read_from(&[("AWS_ROLE_ARN", "workspace"), FILE, REGION]).unwrap_err();
    assert_eq!(error, EnvironmentError::RoleArn("workspace".into()));
}

#[test]
fn session_names_are_made_acceptable() {
    let rows = [
        ("tenant-1", "tenant-1"),
        ("a b/c:d", "a-b-c-d"),
        ("x", "x-"),
        ("", "--"),
        ("a@b.c=d,e+f_g", "a@b.c=d,e+f_g"),
    ];
    for (wanted, expected) in rows {
        assert_eq!(session_name(wanted), expected);
    }
    assert_eq!(session_name(&"n".repeat(100)).len(), 64);
}

#[test]
fn errors_and_debug_hide_static_keys() {
    let pairs = [REGION, ("AWS_ACCESS_KEY_ID", "AKIDHIDE"), ("AWS_SECRET_ACCESS_KEY", "hide-me")];
    let shown = format!("{:?}", read_from(&pairs).unwrap());
    assert!(!shown.contains("HIDE") && !shown.contains("hide-me"), "{shown}");
    let broken = [REGION, ("AWS_ACCESS_KEY_ID", "AKIDHIDE"), ("AWS_SECRET_ACCESS_KEY", "hide me")];
    let shown = read_from(&broken).unwrap_err().to_string();
    assert!(!shown.contains("hide me"), "{shown}");
}
