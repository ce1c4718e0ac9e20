//! The only way out of a workspace: whitelist, credential injection, rules.
//!
//! The life of a request, and the modules in the order it meets them:
//!
//! 1. a listener accepts it ([`server`]), its raw head is checked ([`strict`]) and an audit record
//!    begins ([`service`], [`audit`]);
//! 2. its head becomes a target in canonical form, or is refused ([`classify`], [`host`]);
//! 3. the policy decides and hands out a permit ([`policy`]);
//! 4. the permit is turned into a connection: resolve, judge every address, dial ([`upstream`]);
//! 5. a tunnel is relayed ([`tunnel`], [`relay`]), a request goes out cleaned and with its
//!    credentials ([`forward`]; [`reverse`] with [`rules`], [`credential`] and [`aws`]; [`hop`]), and
//!    its answer streams back ([`answer`], [`stream_body`], [`websocket`]);
//! 6. every refusal becomes an answer in one place ([`refusal`]), and the record is written.
//!
//! Beside it runs the management plane ([`admin`]), which replaces the rules.

pub mod admin;
pub mod answer;
pub mod audit;
pub mod aws;
pub mod classify;
pub mod cli;
pub mod client;
pub mod config;
pub mod context;
pub mod credential;
pub mod explain;
pub mod forward;
pub mod gauges;
pub mod hop;
pub mod host;
pub mod limits;
pub mod metrics;
pub mod policy;
pub mod refusal;
pub mod relay;
pub mod reverse;
pub mod rules;
pub mod server;
pub mod service;
pub mod stream_body;
pub mod strict;
pub mod tunnel;
pub mod upstream;
pub mod websocket;
