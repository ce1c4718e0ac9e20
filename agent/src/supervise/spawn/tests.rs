use std::{fs, os::unix::fs::PermissionsExt};

use super::*;

fn c(text: impl AsRef<[u8]>) -> CString {
    CString::new(text.as_ref()).unwrap()
}

fn refusal(dir: &Path, program: &str, path: &str) -> StartError {
    let spec = CommandSpec {
        argv: vec![c(program)],
        cwd: dir.to_owned(),
        env: vec![c(format!("PATH={path}"))],
        ..CommandSpec::default()
    };
    // A runtime is there for the pipes of commands that do start.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let _inside = runtime.enter();
    spawn(&spec, None).expect_err("must not start")
}

fn script(dir: &Path, name: &str, content: &str, mode: u32) {
    let path = dir.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn each_reason_not_to_start_has_its_own_error() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    script(dir, "no-exec-bit", "#!/bin/sh\n", 0o644);
    script(dir, "no-shebang", "echo hi\n", 0o755);
    script(dir, "bad-interpreter", "#!/nonexistent/sh\n", 0o755);
    let path = dir.to_str().unwrap();
    for name in ["missing", "", "./missing"] {
        let error = refusal(dir, name, path);
        assert!(matches!(error, StartError::CommandNotFound { .. }), "{name}: {error}");
    }
    for name in ["no-exec-bit", "./no-exec-bit", "/"] {
        let error = refusal(dir, name, path);
        assert!(matches!(error, StartError::PermissionDenied(_)), "{name}: {error}");
    }
    assert!(matches!(refusal(dir, "no-shebang", path), StartError::ExecFormat(_)));
    assert!(matches!(refusal(dir, "bad-interpreter", path), StartError::BadInterpreter(_)));
    for cwd in ["gone", "no-exec-bit"] {
        let error = refusal(&dir.join(cwd), "/bin/true", path);
        assert!(matches!(error, StartError::BadCwd { .. }), "{cwd}: {error}");
    }
}

#[test]
fn the_search_path_of_the_command_is_named_when_nothing_is_found() {
    let error = refusal(Path::new("/"), "nope", "/usr/bin:/bin").to_string();
    assert_eq!(error, "there is no program 'nope' in PATH=/usr/bin:/bin");
}

#[test]
fn environment_entries_are_checked() {
    assert_eq!(env_entry("A".as_ref(), "b=c".as_ref()), Ok(c("A=b=c")));
    for (name, value) in [("", "x"), ("A=B", "x"), ("A", "x\0y"), ("A\0", "x")] {
        assert!(env_entry(name.as_ref(), value.as_ref()).is_err(), "{name:?}={value:?}");
    }
}
