//! What the attacker wants to reach.

use std::{
    io::{Read, Write},
    net::{TcpListener, UdpSocket},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as UnixAddr, UnixListener},
    },
    thread,
};

use workspace_tests::isolation::{ABSTRACT, NEIGHBOUR_PORT};

/// Serves every service of the lab on all addresses of its namespace, until it is ended.
pub(crate) fn serve() {
    for port in [80, 443, 6379] {
        let listener = TcpListener::bind(("0.0.0.0", port)).expect("a port of the world");
        thread::spawn(move || answer(&listener));
    }
    for port in [53, 4444] {
        let socket = UdpSocket::bind(("0.0.0.0", port)).expect("a port of the world");
        thread::spawn(move || echo(&socket));
    }
    ready();
}

/// Listens as another container of the pod would, until it is ended.
pub(crate) fn neighbour() {
    let listener = TcpListener::bind(("127.0.0.1", NEIGHBOUR_PORT)).expect("the neighbour's port");
    thread::spawn(move || answer(&listener));
    let address = UnixAddr::from_abstract_name(ABSTRACT).expect("a name");
    let listener = UnixListener::bind_addr(&address).expect("the neighbour's socket");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            drop(stream.write_all(b"reached\n"));
        }
    });
    ready();
}

fn ready() {
    println!("ready");
    loop {
        thread::park();
    }
}

fn answer(listener: &TcpListener) {
    let body = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\nreached\n";
    for mut stream in listener.incoming().flatten() {
        // A client that goes away early is the client's affair.
        thread::spawn(move || {
            let mut request = [0; 4096];
            let read = stream.read(&mut request);
            drop(read.and_then(|_| stream.write_all(body.as_bytes())));
        });
    }
}

fn echo(socket: &UdpSocket) {
    let mut question = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut question) {
        drop(socket.send_to(&question[..length], from));
    }
}
