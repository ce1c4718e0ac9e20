use super::*;

fn unix(dir: &tempfile::TempDir, options: &str) -> ListenAddr {
    format!("unix:{}{options}", dir.path().join("s.sock").display()).parse().unwrap()
}

#[test]
fn addresses_parse_or_name_what_is_wrong() {
    assert_eq!("tcp:127.0.0.1:80".parse(), Ok(ListenAddr::Tcp("127.0.0.1:80".parse().unwrap())));
    assert_eq!(
        "unix:/run/a.sock,mode=0600".parse(),
        Ok(ListenAddr::Unix { path: "/run/a.sock".into(), mode: UnixMode(0o600) })
    );
    for (text, expected) in [
        ("/run/a.sock", "write unix:/path"),
        ("tcp:localhost:80", "is not IP:PORT"),
        ("unix:run/a.sock", "must be absolute"),
        ("unix:", "must be absolute"),
        ("unix:/a,mode=999", "is not a mode"),
        ("unix:/a,mode=7777", "is not a mode"),
        ("unix:/a,mode=+66", "is not a mode"),
        ("unix:/a,owner=me", "is not a socket option"),
    ] {
        let error = text.parse::<ListenAddr>().unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let long = format!("unix:/{}", "x".repeat(MAX_UNIX_PATH));
    assert!(matches!(
        long.parse::<ListenAddr>(),
        Err(ListenAddrError::TooLong { length: 108, .. })
    ));
}

#[test]
fn the_socket_file_has_the_mode_asked_for_and_goes_with_the_listener() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let listener = unix(&dir, ",mode=0600").bind().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    drop(listener);
    assert!(!path.exists());
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    drop(UnixListener::bind(dir.path().join("s.sock")).unwrap());
    let live = unix(&dir, "").bind().unwrap();
    assert!(matches!(unix(&dir, "").bind(), Err(BindError::InUse(_))));
    drop(live);
}

#[test]
fn a_live_socket_with_a_full_queue_is_recognised_without_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    listen(&socket, 0).unwrap();
    let mut waiting = Vec::new();
    loop {
        let flags = SocketFlags::NONBLOCK;
        let client = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        let full = connect(&client, &SocketAddrUnix::new(&path).unwrap()).is_err();
        waiting.push(client);
        if full {
            break;
        }
    }
    assert!(matches!(unix(&dir, "").bind(), Err(BindError::InUse(_))));
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("s.sock"), "precious").unwrap();
    assert!(matches!(unix(&dir, "").bind(), Err(BindError::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(dir.path().join("s.sock")).unwrap(), "precious");
}

#[test]
fn a_successor_keeps_its_socket_when_the_old_listener_goes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let old = unix(&dir, "").bind().unwrap();
    std::fs::remove_file(&path).unwrap();
    let _successor = UnixListener::bind(&path).unwrap();
    drop(old);
    assert!(path.exists());
}

#[test]
fn a_taken_port_is_reported_as_in_use() {
    let taken = ListenAddr::Tcp("127.0.0.1:0".parse().unwrap()).bind().unwrap();
    assert!(matches!(taken.address().bind(), Err(BindError::InUse(_))));
}

#[test]
fn only_a_client_that_hung_up_is_passed_over_without_a_pause() {
    for (errno, expected) in [
        (Errno::CONNABORTED, true),
        (Errno::CONNRESET, true),
        (Errno::INTR, true),
        (Errno::MFILE, false),
        (Errno::NFILE, false),
        (Errno::NOBUFS, false),
        (Errno::NOMEM, false),
    ] {
        assert_eq!(is_the_clients_doing(&errno.into()), expected, "{errno}");
    }
}
