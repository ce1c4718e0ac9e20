//! Requests as bytes on real sockets, against a proxy in this process.

mod answers;
mod harness;
mod http2;
mod panics;
mod requests;
mod routes;
mod tunnels;
