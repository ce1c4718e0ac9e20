//! The JSON of exec.

use std::{path::Path, time::Duration};

use super::bytes;
use crate::{
    environment::Environment,
    exec::{
        query::StartQuery,
        request::{Defaults, Face, MAX_KILL_GRACE_MS, parse},
    },
    supervise::{Request, Stdin, process::ChosenId, spawn::Stdio},
};

fn is_runnable(request: &Request) {
    let week = Duration::from_secs(7 * 24 * 3600);
    let spec = &request.spec;
    assert!(!spec.argv.is_empty());
    assert!(spec.cwd.is_absolute());
    assert!(
        spec.env.iter().all(|entry| entry.as_bytes().iter().position(|b| *b == b'=') > Some(0))
    );
    let ending = request.ending;
    assert!(ending.timeout.is_none_or(|time| time > Duration::ZERO && time <= week));
    assert!(ending.kill_grace <= Duration::from_millis(MAX_KILL_GRACE_MS));
    assert!(request.keeping.keep.head + request.keeping.keep.tail <= 32 << 20);
    let conditions = spec.conditions;
    assert!(conditions.nice.is_none_or(|nice| (-20..=19).contains(&nice)));
    assert!(conditions.oom_score_adj.is_none_or(|score| (-1000..=1000).contains(&score)));
    assert!(conditions.umask.is_none_or(|umask| umask <= 0o777));
    match spec.stdio {
        Stdio::Terminal(size) => {
            assert!(size.rows > 0 && size.cols > 0 && matches!(request.stdin, Stdin::Open));
        }
        Stdio::Pipes { stdin } => assert_eq!(stdin, !matches!(request.stdin, Stdin::Null)),
    }
}

#[test]
fn requests() {
    let environment = Environment::base(std::iter::empty(), None);
    let defaults = Defaults { root: Path::new("/workspace").into(), environment, spool: None };
    bytes("requests", |input| {
        let parsed = |face| parse(input, face, StartQuery::default(), &defaults);
        for face in [Face::Buffered, Face::Streamed, Face::Detached] {
            match parsed(face) {
                Ok(request) => {
                    is_runnable(&request);
                    let Some((id, digest)) = request.id else { continue };
                    let value: serde_json::Value = serde_json::from_slice(input).unwrap();
                    assert_eq!(ChosenId::parse(value["id"].as_str().unwrap().to_owned()), Some(id));
                    // The same request with other white space is the same.
                    let pretty = serde_json::to_vec_pretty(&value).unwrap();
                    let again = parse(&pretty, face, StartQuery::default(), &defaults).unwrap();
                    assert_eq!(again.id.map(|(_, digest)| digest), Some(digest));
                }
                Err(problem) => assert_eq!(problem.status.as_u16(), 400, "{}", problem.code),
            }
        }
    });
}
